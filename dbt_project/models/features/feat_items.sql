with

cutoffs as (
    select * from {{ ref('int_cutoffs') }}
),

items as (
    select * from {{ ref('dim_items') }}
),

events as (
    select
        *,
        case when target_number is not null then price end as target_price
    from {{ ref('fct_events') }}
),

counted as (
    select
        cutoffs.cutoff,
        events.item_index,
        count(events.target_number) as target_events,
        count(*) filter (where events.is_new_to_user) as target_users,
        {% for days in [3, 7, 14, 28, 91] %}
        count(events.target_number) filter (where events.event_at >= cutoffs.cutoff - interval {{ days }} day) as target_events_{{ days }}d,
        count(*) filter (
            where events.is_new_to_user and events.event_at >= cutoffs.cutoff - interval {{ days }} day
        ) as new_target_users_{{ days }}d,
        {% endfor %}
        count(events.target_number) filter (
            where events.event_at >= cutoffs.cutoff - interval 364 day and events.event_at < cutoffs.horizon_end - interval 364 day
        ) as target_events_last_year,
        {% for type in ['view', 'cart'] %}
        count(*) filter (where events.event_type = '{{ type }}' and not events.is_target) as {{ type }}s_28d,
        {% endfor %}
        count(*) filter (where events.event_type = 'return') as returns,
        sum(events.quantity) filter (where events.is_target) as quantity,
        sum(events.target_price) as prices,
        count(events.target_price) as priced,
        sum(events.target_price) filter (where events.event_at >= cutoffs.cutoff - interval 28 day) as prices_28d,
        count(events.target_price) filter (where events.event_at >= cutoffs.cutoff - interval 28 day) as priced_28d,
        max(events.event_at) filter (where events.is_target) as last_target_at
    from cutoffs
    -- older views and carts are most of the events, and no column counts them
    inner join events on events.event_at < cutoffs.cutoff
        and (events.is_target or events.event_type not in ('view', 'cart') or events.event_at >= cutoffs.cutoff - interval 28 day)
    group by events.item_index, cutoffs.cutoff
),

final as (
    select
        -- ids
        cutoffs.cutoff::timestamp as cutoff,
        items.item_index::int as item_index,
        -- numbers: counts
        coalesce(counted.target_events, 0)::int as target_events,
        coalesce(counted.target_users, 0)::int as target_users,
        {% for days in [3, 7, 14, 28, 91] %}
        coalesce(counted.target_events_{{ days }}d, 0)::int as target_events_{{ days }}d,
        coalesce(counted.new_target_users_{{ days }}d, 0)::int as new_target_users_{{ days }}d,
        {% endfor %}
        coalesce(counted.target_events_last_year, 0)::int as target_events_last_year,
        coalesce(counted.views_28d, 0)::int as views_28d,
        coalesce(counted.carts_28d, 0)::int as carts_28d,
        -- numbers: trends, 1 for no change; the added 1 keeps those of rare items near 1
        {% for name, trend in [('target_events', 'target_trend'), ('new_target_users', 'new_target_users_trend')] %}
        {{ ratio('4 * coalesce(counted.' ~ name ~ '_7d, 0) + 1', 'coalesce(counted.' ~ name ~ '_28d, 0) + 1') }} as {{ trend }},
        {% endfor %}
        {{ ratio('3.25 * coalesce(counted.target_events_28d, 0) + 1', 'coalesce(counted.target_events_91d, 0) + 1') }} as target_trend_28d,
        {{ ratio('counted.new_target_users_28d', 'counted.target_events_28d') }} as new_target_users_share_28d,
        -- numbers: means over target events
        {{ ratio('counted.returns', 'counted.target_events') }} as returns_per_target,
        {{ ratio('counted.target_events - counted.target_users', 'counted.target_events') }} as repeat_share,
        {{ ratio('counted.quantity', 'counted.target_events') }} as quantity_per_target,
        {{ ratio('counted.prices', 'counted.priced') }} as mean_price,
        {{ ratio('counted.prices_28d::double * counted.priced', 'counted.priced_28d * counted.prices') }} as price_change,
        -- numbers: time
        {{ days_between('counted.last_target_at', 'cutoffs.cutoff') }} as days_since_last_target,
        {{ days_between('items.available_from', 'cutoffs.cutoff') }} as days_since_available,
        -- booleans: the catalogue's flag is that of today, so it is only used at the last cutoff
        (
            coalesce(items.withdrawn_at > cutoffs.cutoff, true)
            and (items.is_available or items.withdrawn_at is not null or not cutoffs.is_serving)
        )::boolean as is_available
    from cutoffs
    inner join items on coalesce(items.available_from < cutoffs.cutoff, cutoffs.is_serving)
    left join counted on cutoffs.cutoff = counted.cutoff and items.item_index = counted.item_index
)

select * from final
