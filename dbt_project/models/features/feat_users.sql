with

cutoffs as (
    select * from {{ ref('int_cutoffs') }}
),

events as (
    select * from {{ ref('fct_events') }}
),

final as (
    select
        -- ids
        cutoffs.cutoff::timestamp as cutoff,
        events.user_index::int as user_index,
        -- numbers
        coalesce(max(events.basket_number), 0)::int as baskets,
        coalesce(max(events.purchase_number), 0)::int as purchases,
        (count(*) filter (where events.event_type = 'view'))::int as views,
        (count(*) filter (where events.event_type = 'cart'))::int as carts,
        (count(*) filter (where events.event_type = 'return'))::int as returns,
        {{ days_between('min(events.event_at)', 'cutoffs.cutoff') }} as days_since_first_event,
        {{ days_between('max(events.event_at)', 'cutoffs.cutoff') }} as days_since_last_event
    from cutoffs
    inner join events on events.event_at < cutoffs.cutoff
    group by events.user_index, cutoffs.cutoff
)

select * from final
