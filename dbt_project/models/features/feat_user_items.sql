with

cutoffs as (
    select * from {{ ref('int_cutoffs') }}
),

users as (
    select * from {{ ref('dim_users') }}
),

user_features as (
    select * from {{ ref('feat_users') }}
),

events as (
    select
        events.*,
        users.is_sampled
    from {{ ref('fct_events') }} as events
    inner join users on events.user_index = users.user_index
),

counted as (
    select
        cutoffs.cutoff,
        events.user_index,
        events.item_index,
        count(events.target_number) as baskets,
        {% for days in [28, 91] %}
        count(events.target_number) filter (where events.event_at >= cutoffs.cutoff - interval {{ days }} day) as baskets_{{ days }}d,
        {% endfor %}
        count(events.target_number) filter (
            where events.event_at >= cutoffs.cutoff - interval 364 day and events.event_at < cutoffs.horizon_end - interval 364 day
        ) as baskets_last_year,
        {% for type in ['view', 'cart'] %}
        count(*) filter (where events.event_type = '{{ type }}' and not events.is_target) as {{ type }}s_91d,
        count(*) filter (
            where events.event_type = '{{ type }}' and not events.is_target and events.event_at >= cutoffs.cutoff - interval 14 day
        ) as {{ type }}s_14d,
        {% endfor %}
        count(*) filter (where events.event_type = 'return') as returns,
        min(events.basket_number) as first_basket_number,
        max(events.basket_number) as last_basket_number,
        sum(events.quantity) filter (where events.is_target) as quantity,
        sum(events.quantity * events.price) filter (where events.is_target) as amount,
        max(events.event_at) as last_event_at,
        min(events.event_at) filter (where events.is_target) as first_target_at,
        max(events.event_at) filter (where events.is_target) as last_target_at
    from cutoffs
    inner join events on events.event_at < cutoffs.cutoff and (cutoffs.is_serving or events.is_sampled)
        and (events.is_target or events.event_type not in ('view', 'cart') or events.event_at >= cutoffs.cutoff - interval 91 day)
    group by events.user_index, events.item_index, cutoffs.cutoff
),

timed as (
    select
        counted.*,
        user_features.baskets as user_baskets,
        {{ days_between('counted.last_target_at', 'counted.cutoff') }} as days_since_last_target,
        {{ ratio(days_between('counted.first_target_at', 'counted.last_target_at'), 'counted.baskets - 1') }}
            as days_between_targets
    from counted
    inner join user_features on counted.cutoff = user_features.cutoff and counted.user_index = user_features.user_index
),

final as (
    select
        -- ids
        cutoff::timestamp as cutoff,
        user_index::int as user_index,
        item_index::int as item_index,
        -- numbers: counts
        {% for name in ['baskets', 'baskets_28d', 'baskets_91d', 'baskets_last_year', 'views_14d', 'views_91d', 'carts_14d', 'carts_91d', 'returns'] %}
        {{ name }}::int as {{ name }},
        {% endfor %}
        -- numbers: habit
        (user_baskets - last_basket_number)::float as baskets_since_last,
        {{ ratio('baskets', 'user_baskets - first_basket_number + 1') }} as share_of_baskets,
        coalesce(quantity, 0)::float as quantity,
        amount::float as amount,
        -- numbers: time
        {{ days_between('last_event_at', 'cutoff') }} as days_since_last_event,
        days_since_last_target::float as days_since_last_target,
        {{ days_between('first_target_at', 'cutoff') }} as days_since_first_target,
        days_between_targets::float as days_between_targets,
        {{ ratio('days_since_last_target', 'days_between_targets') }} as lateness
    from timed
)

select * from final
