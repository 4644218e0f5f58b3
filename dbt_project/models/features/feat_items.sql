with

cutoffs as (
    select * from {{ ref('int_cutoffs') }}
),

items as (
    select * from {{ ref('dim_items') }}
),

events as (
    select * from {{ ref('fct_events') }}
),

counted as (
    select
        cutoffs.cutoff,
        events.item_index,
        count(events.purchase_number) as purchases,
        {% for days in [7, 28, 91] %}
        count(events.purchase_number) filter (
            where events.event_at >= cutoffs.cutoff - interval {{ days }} day
        ) as purchases_{{ days }}d,
        {% endfor %}
        max(events.event_at) as last_event_at
    from cutoffs
    inner join events on events.event_at < cutoffs.cutoff
    group by cutoffs.cutoff, events.item_index
),

final as (
    select
        -- ids
        cutoffs.cutoff::timestamp as cutoff,
        items.item_index::int as item_index,
        -- numbers
        coalesce(counted.purchases, 0)::int as purchases,
        coalesce(counted.purchases_7d, 0)::int as purchases_7d,
        coalesce(counted.purchases_28d, 0)::int as purchases_28d,
        coalesce(counted.purchases_91d, 0)::int as purchases_91d,
        {{ days_between('counted.last_event_at', 'cutoffs.cutoff') }} as days_since_last_event,
        {{ days_between('items.available_from', 'cutoffs.cutoff') }} as days_since_available,
        -- booleans: the catalogue's own flag is today's, so it speaks for the last cutoff only
        (
            coalesce(items.withdrawn_at > cutoffs.cutoff, true)
            and (items.is_available or items.withdrawn_at is not null or not cutoffs.is_serving)
        )::boolean as is_available
    from cutoffs
    inner join items on coalesce(items.available_from < cutoffs.cutoff, cutoffs.is_serving)
    left join counted on cutoffs.cutoff = counted.cutoff and items.item_index = counted.item_index
)

select * from final
