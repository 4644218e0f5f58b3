with

items as (
    select * from {{ source('shop', 'items') }}
),

final as (
    select
        -- ids
        item_id::string as item_id,
        -- strings
        title::string as title,
        category::string as category,
        {{ attribute_columns('item', source('shop', 'items')) }}
        -- numbers
        price::decimal(18, 4) as price,
        -- booleans
        is_available::boolean as is_available,
        -- times
        available_from::timestamp as available_from,
        withdrawn_at::timestamp as withdrawn_at,
        {{ valid_from(source('shop', 'items')) }} as valid_from
    from items
)

select * from final
