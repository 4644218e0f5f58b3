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
        case when events.event_type = 'purchase' then events.quantity end as bought,
        case when events.event_type = 'purchase' then events.quantity * events.price end as paid,
        case when events.purchase_number is not null then events.price end as purchase_price,
        case when events.event_type = 'purchase' then events.event_at end as purchase_at,
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
        count(events.purchase_number) as purchases,
        count(*) filter (where events.is_new_to_user) as items_bought,
        count(*) filter (where events.event_type = 'view') as views,
        count(*) filter (where events.event_type = 'cart') as carts,
        count(*) filter (where events.event_type = 'return') as returns,
        sum(events.bought) as quantity,
        sum(events.paid) as amount,
        sum(events.purchase_price) as prices,
        count(events.purchase_price) as priced,
        min(events.event_at) as first_event_at,
        max(events.event_at) as last_event_at,
        min(events.purchase_at) as first_purchase_at,
        max(events.purchase_at) as last_purchase_at
    from cutoffs
    inner join events on events.event_at < cutoffs.cutoff and (cutoffs.is_serving or events.is_sampled)
    group by events.user_index, cutoffs.cutoff
),

timed as (
    select
        *,
        {{ days_between('first_event_at', 'cutoff') }} as days_since_first_event,
        {{ days_between('last_event_at', 'cutoff') }} as days_since_last_event,
        {{ days_between('last_purchase_at', 'cutoff') }} as days_since_last_purchase,
        {{ ratio(days_between('first_purchase_at', 'last_purchase_at'), 'baskets - 1') }} as days_between_baskets
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
        purchases::int as purchases,
        views::int as views,
        carts::int as carts,
        returns::int as returns,
        -- numbers: size and price of what is bought
        {{ ratio('purchases', 'baskets') }} as items_per_basket,
        {{ ratio('purchases - items_bought', 'purchases') }} as repeat_share,
        {{ ratio('quantity', 'purchases') }} as quantity_per_purchase,
        {{ ratio('amount', 'baskets') }} as amount_per_basket,
        {{ ratio('prices', 'priced') }} as mean_price,
        -- numbers: time
        days_since_first_event::float as days_since_first_event,
        days_since_last_event::float as days_since_last_event,
        days_since_last_purchase::float as days_since_last_purchase,
        days_between_baskets::float as days_between_baskets,
        {{ ratio('days_since_last_purchase', 'days_between_baskets') }} as lateness
    from timed
)

select * from final
