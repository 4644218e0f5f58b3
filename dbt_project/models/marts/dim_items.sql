with

events as (
    select * from {{ ref('int_events_accepted') }}
),

items as (
    select * from {{ staged('items') }}
),

cutoffs as (
    select * from {{ ref('int_cutoffs') }}
    where is_serving
),

seen as (
    select
        events.item_id,
        min(events.event_at) as first_event_at
    from events
    inner join cutoffs on events.event_at < cutoffs.cutoff
    group by 1
),

-- The newest row of each item that is valid at the cutoff. A later withdrawal is not known yet.
catalogued as (
    select
        items.*,
        coalesce(items.withdrawn_at > cutoffs.cutoff, false) as is_withdrawn_later
    from items
    inner join cutoffs on coalesce(items.available_from < cutoffs.cutoff, true) and coalesce(items.valid_from < cutoffs.cutoff, true)
    where trim(items.item_id) <> '' and not {{ has_control_characters('items.item_id') }}
    qualify row_number() over (partition by items.item_id order by items.valid_from desc nulls last) = 1
),

final as (
    select
        -- ids
        coalesce(seen.item_id, catalogued.item_id)::string as item_id,
        (row_number() over (order by coalesce(seen.item_id, catalogued.item_id)) - 1)::int as item_index,
        -- strings
        coalesce(catalogued.title, seen.item_id, catalogued.item_id)::string as title,
        coalesce(catalogued.category, 'unknown')::string as category,
        -- numbers
        catalogued.price::decimal(18, 4) as price,
        -- booleans: an item that is not in the catalogue counts as available
        coalesce(catalogued.is_available or catalogued.is_withdrawn_later, true)::boolean as is_available,
        -- times
        least(catalogued.available_from, seen.first_event_at)::timestamp as available_from,
        (case when not catalogued.is_withdrawn_later then catalogued.withdrawn_at end)::timestamp as withdrawn_at
    from seen
    full join catalogued on seen.item_id = catalogued.item_id
)

select * from final
