with

cutoffs as (
    select * from {{ ref('int_cutoffs') }}
    where horizon_end <= as_of
),

events as (
    select * from {{ ref('fct_events') }}
    where is_target
),

known_users as (
    select
        feat_users.cutoff,
        feat_users.user_index
    from {{ ref('feat_users') }} as feat_users
    inner join {{ ref('dim_users') }} as users on feat_users.user_index = users.user_index
    where users.is_sampled
),

known_items as (
    select
        cutoff,
        item_index
    from {{ ref('feat_items') }}
),

final as (
    select
        -- ids
        cutoffs.cutoff::timestamp as cutoff,
        events.user_index::int as user_index,
        events.item_index::int as item_index
    from cutoffs
    inner join events on events.event_at >= cutoffs.cutoff and events.event_at < cutoffs.horizon_end
    inner join known_users on cutoffs.cutoff = known_users.cutoff and events.user_index = known_users.user_index
    inner join known_items on cutoffs.cutoff = known_items.cutoff and events.item_index = known_items.item_index
    group by events.user_index, events.item_index, cutoffs.cutoff
)

select * from final
