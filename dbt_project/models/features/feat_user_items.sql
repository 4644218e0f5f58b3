with

cutoffs as (
    select * from {{ ref('int_cutoffs') }}
),

users as (
    select * from {{ ref('dim_users') }}
),

events as (
    select
        events.*,
        users.is_sampled
    from {{ ref('fct_events') }} as events
    inner join users on events.user_index = users.user_index
),

final as (
    select
        -- ids
        cutoffs.cutoff::timestamp as cutoff,
        events.user_index::int as user_index,
        events.item_index::int as item_index,
        -- numbers
        count(events.purchase_number)::int as baskets,
        (count(*) filter (where events.event_type = 'view'))::int as views,
        (count(*) filter (where events.event_type = 'cart'))::int as carts,
        (count(*) filter (where events.event_type = 'return'))::int as returns,
        coalesce(sum(events.quantity) filter (where events.event_type = 'purchase'), 0)::decimal(18, 4) as quantity,
        {{ days_between('max(events.event_at)', 'cutoffs.cutoff') }} as days_since_last_event,
        {{ days_between("max(events.event_at) filter (where events.event_type = 'purchase')", 'cutoffs.cutoff') }}
            as days_since_last_purchase
    from cutoffs
    inner join events on events.event_at < cutoffs.cutoff and (cutoffs.is_serving or events.is_sampled)
    group by events.user_index, events.item_index, cutoffs.cutoff
)

select * from final
