with

invoices as (
    select * from {{ source('online_retail', 'invoices') }}
),

described as (
    select
        upper(trim(StockCode)) as item_id,
        Description as title,
        InvoiceDate as valid_from,
        count(*) as lines
    from invoices
    where UnitPrice > 0 and Description is not null and InvoiceDate is not null
    group by 1, 2, 3
    having {{ matches('item_id', '^[0-9]{5}[A-Z]*$') }}
),

counted as (
    select
        item_id,
        title,
        valid_from,
        sum(lines) over (partition by item_id, title order by valid_from) as lines_so_far
    from described
),

ranked as (
    select
        *,
        max(lines_so_far) over (partition by item_id order by valid_from) as most_lines_so_far,
        min(title) over (partition by item_id, lines_so_far order by valid_from) as first_title
    from counted
),

-- The most frequent title so far; of equally frequent ones the first in the alphabet.
most_used as (
    select
        *,
        lag(title) over (partition by item_id order by valid_from) as title_before,
        min(valid_from) over (partition by item_id) as first_seen_at
    from ranked
    where lines_so_far = most_lines_so_far and title = first_title
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
        -- times: there is no catalogue, so an item is available from its first invoice line
        first_seen_at::timestamp as available_from,
        null::timestamp as withdrawn_at,
        valid_from::timestamp as valid_from
    from most_used
    where title is distinct from title_before
)

select * from final
