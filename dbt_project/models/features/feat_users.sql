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
        case when events.is_target then events.quantity end as target_quantity,
        case when events.is_target then events.quantity * events.price end as target_amount,
        case when events.target_number is not null then events.price end as target_price,
        case when events.is_target then events.event_at end as target_at,
        users.is_sampled
    from {{ ref('fct_events') }} as events
    inner join users on events.user_index = users.user_index
),

counted as (
    select
        cutoffs.cutoff,
        events.user_index,
        count(*) filter (where events.is_new_basket) as baskets,
        {% for days in [28, 91] %}
        count(*) filter (
            where events.is_new_basket and events.event_at >= cutoffs.cutoff - interval {{ days }} day
        ) as baskets_{{ days }}d,
        {% endfor %}
        count(events.target_number) as target_events,
        count(*) filter (where events.is_new_to_user) as target_items,
        count(*) filter (where events.event_type = 'view' and not events.is_target) as views,
        count(*) filter (where events.event_type = 'cart' and not events.is_target) as carts,
        count(*) filter (where events.event_type = 'return') as returns,
        sum(events.target_quantity) as quantity,
        sum(events.target_amount) as amount,
        sum(events.target_price) as prices,
        count(events.target_price) as priced,
        min(events.event_at) as first_event_at,
        max(events.event_at) as last_event_at,
        min(events.target_at) as first_target_at,
        max(events.target_at) as last_target_at
    from cutoffs
    inner join events on events.event_at < cutoffs.cutoff and (cutoffs.is_serving or events.is_sampled)
    group by events.user_index, cutoffs.cutoff
),

timed as (
    select
        *,
        {{ days_between('first_event_at', 'cutoff') }} as days_since_first_event,
        {{ days_between('last_event_at', 'cutoff') }} as days_since_last_event,
        {{ days_between('last_target_at', 'cutoff') }} as days_since_last_target,
        {{ ratio(days_between('first_target_at', 'last_target_at'), 'baskets - 1') }} as days_between_baskets
    from counted
),

final as (
    select
        -- ids
        cutoff::timestamp as cutoff,
        user_index::int as user_index,
        -- numbers: counts
        baskets::int as baskets,
        baskets_28d::int as baskets_28d,
        baskets_91d::int as baskets_91d,
        target_events::int as target_events,
        views::int as views,
        carts::int as carts,
        returns::int as returns,
        -- numbers: size and price of baskets
        {{ ratio('target_events', 'baskets') }} as items_per_basket,
        {{ ratio('target_events - target_items', 'target_events') }} as repeat_share,
        {{ ratio('quantity', 'target_events') }} as quantity_per_target,
        {{ ratio('amount', 'baskets') }} as amount_per_basket,
        {{ ratio('prices', 'priced') }} as mean_price,
        -- numbers: time
        days_since_first_event::float as days_since_first_event,
        days_since_last_event::float as days_since_last_event,
        days_since_last_target::float as days_since_last_target,
        days_between_baskets::float as days_between_baskets,
        {{ ratio('days_since_last_target', 'days_between_baskets') }} as lateness
    from timed
)

select * from final
