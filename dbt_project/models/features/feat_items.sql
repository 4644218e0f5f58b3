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
        case when purchase_number is not null then price end as purchase_price
    from {{ ref('fct_events') }}
),

counted as (
    select
        cutoffs.cutoff,
        events.item_index,
        count(events.purchase_number) as purchases,
        count(*) filter (where events.is_new_to_user) as buyers,
        {% for days in [3, 7, 14, 28, 91] %}
        count(events.purchase_number) filter (where events.event_at >= cutoffs.cutoff - interval {{ days }} day) as purchases_{{ days }}d,
        count(*) filter (
            where events.is_new_to_user and events.event_at >= cutoffs.cutoff - interval {{ days }} day
        ) as new_buyers_{{ days }}d,
        {% endfor %}
        count(events.purchase_number) filter (
            where events.event_at >= cutoffs.cutoff - interval 364 day and events.event_at < cutoffs.horizon_end - interval 364 day
        ) as purchases_last_year,
        {% for type in ['view', 'cart'] %}
        count(*) filter (where events.event_type = '{{ type }}') as {{ type }}s_28d,
        {% endfor %}
        count(*) filter (where events.event_type = 'return') as returns,
        sum(events.quantity) filter (where events.event_type = 'purchase') as quantity,
        sum(events.purchase_price) as prices,
        count(events.purchase_price) as priced,
        sum(events.purchase_price) filter (where events.event_at >= cutoffs.cutoff - interval 28 day) as prices_28d,
        count(events.purchase_price) filter (where events.event_at >= cutoffs.cutoff - interval 28 day) as priced_28d,
        max(events.event_at) filter (where events.event_type = 'purchase') as last_purchase_at
    from cutoffs
    -- looks are most of the events and count only for a while
    inner join events on events.event_at < cutoffs.cutoff
        and (events.event_type not in ('view', 'cart') or events.event_at >= cutoffs.cutoff - interval 28 day)
    group by events.item_index, cutoffs.cutoff
),

final as (
    select
        -- ids
        cutoffs.cutoff::timestamp as cutoff,
        items.item_index::int as item_index,
        -- numbers: counts
        coalesce(counted.purchases, 0)::int as purchases,
        coalesce(counted.buyers, 0)::int as buyers,
        {% for days in [3, 7, 14, 28, 91] %}
        coalesce(counted.purchases_{{ days }}d, 0)::int as purchases_{{ days }}d,
        coalesce(counted.new_buyers_{{ days }}d, 0)::int as new_buyers_{{ days }}d,
        {% endfor %}
        coalesce(counted.purchases_last_year, 0)::int as purchases_last_year,
        coalesce(counted.views_28d, 0)::int as views_28d,
        coalesce(counted.carts_28d, 0)::int as carts_28d,
        -- numbers: trends, 1 if as many as before; the added 1 keeps rare items near it
        {% for name in ['purchases', 'new_buyers'] %}
        {{ ratio('4 * coalesce(counted.' ~ name ~ '_7d, 0) + 1', 'coalesce(counted.' ~ name ~ '_28d, 0) + 1') }} as {{ name }}_trend,
        {% endfor %}
        {{ ratio('3.25 * coalesce(counted.purchases_28d, 0) + 1', 'coalesce(counted.purchases_91d, 0) + 1') }} as purchases_trend_28d,
        {{ ratio('counted.new_buyers_28d', 'counted.purchases_28d') }} as new_buyers_share_28d,
        -- numbers: how it is bought
        {{ ratio('counted.returns', 'counted.purchases') }} as returns_per_purchase,
        {{ ratio('counted.purchases - counted.buyers', 'counted.purchases') }} as repeat_share,
        {{ ratio('counted.quantity', 'counted.purchases') }} as quantity_per_purchase,
        {{ ratio('counted.prices', 'counted.priced') }} as mean_price,
        {{ ratio('counted.prices_28d::double * counted.priced', 'counted.priced_28d * counted.prices') }} as price_change,
        -- numbers: time
        {{ days_between('counted.last_purchase_at', 'cutoffs.cutoff') }} as days_since_last_purchase,
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
