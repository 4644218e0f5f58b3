with

invoices as (
    select * from {{ source('online_retail', 'invoices') }}
),

described as (
    select
        upper(trim(StockCode)) as item_id,
        Description as title,
        count(*) as lines,
        min(InvoiceDate) as first_seen_at
    from invoices
    where UnitPrice > 0 and Description is not null
    group by 1, 2
    having {{ matches('item_id', '^[0-9]{5}[A-Z]*$') }}
),

most_used as (
    select
        item_id,
        title,
        min(first_seen_at) over (partition by item_id) as first_seen_at
    from described
    qualify row_number() over (partition by item_id order by lines desc, title) = 1
),

final as (
    select
        -- ids
        item_id::string as item_id,
        -- strings
        title::string as title,
        null::string as category,
        {{ attribute_columns('item', none) }}
        -- numbers
        null::decimal(18, 4) as price,
        -- booleans
        true::boolean as is_available,
        -- times: no catalogue came with the invoices, so an item is known from its first line
        first_seen_at::timestamp as available_from,
        null::timestamp as withdrawn_at,
        {{ valid_from(none) }} as valid_from
    from most_used
)

select * from final
