with

items as (
    select * from {{ source('events', 'items') }}
),

first_rows as (
    select *
    from items
    where item_id is not null
    qualify row_number() over (partition by item_id order by title, category, price::string) = 1
),

final as (
    select
        -- ids
        item_id::string as item_id,
        -- strings
        title::string as title,
        category::string as category,
        -- numbers
        try_cast(price as decimal(18, 4)) as price,
        -- booleans
        coalesce(try_cast(is_available as boolean), true)::boolean as is_available,
        -- times
        {{ utc('available_from') }}::timestamp as available_from,
        {{ utc('withdrawn_at') }}::timestamp as withdrawn_at,
        null::timestamp as valid_from
    from first_rows
)

select * from final
