with

items as (
    select * from {{ source('events', 'items') }}
    where item_id is not null
),

cast_to_types as (
    select
        -- ids
        item_id::string as item_id,
        -- strings
        {{ shortened('title') }} as title,
        {{ shortened('category') }} as category,
        {{ attribute_columns('item', source('events', 'items')) }}
        -- numbers
        try_cast(price as decimal(18, 4)) as price,
        -- booleans
        coalesce(try_cast(is_available as boolean), true)::boolean as is_available,
        -- times
        {{ utc('available_from') }}::timestamp as available_from,
        {{ utc('withdrawn_at') }}::timestamp as withdrawn_at,
        {{ valid_from(source('events', 'items')) }} as valid_from
    from items
),

final as (
    select *
    from cast_to_types
    qualify row_number() over (
        partition by item_id, valid_from
        order by title, category, price, is_available, available_from, withdrawn_at{{ attribute_names('item') }}
    ) = 1
)

select * from final
