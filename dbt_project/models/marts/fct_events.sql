with

events as (
    select * from {{ ref('int_events_accepted') }}
),

users as (
    select * from {{ ref('dim_users') }}
),

items as (
    select * from {{ ref('dim_items') }}
),

cutoffs as (
    select * from {{ ref('int_cutoffs') }}
    where is_serving
),

indexed as (
    select
        users.user_index,
        items.item_index,
        events.event_type,
        events.is_target,
        events.quantity,
        events.price,
        events.event_at,
        date_trunc('day', events.event_at) as event_day,
        coalesce(events.session_id, '') as session_id
    from events
    inner join cutoffs on events.event_at < cutoffs.cutoff
    inner join users on events.user_id = users.user_id
    inner join items on events.item_id = items.item_id
),

-- A basket is the target events of a user in one session on one day, so no basket extends over a cutoff.
numbered_baskets as (
    select
        *,
        dense_rank() over (partition by user_index order by event_day, session_id) as basket_number,
        row_number() over (partition by user_index, item_index, event_day, session_id order by event_at, quantity, price) as line_number
    from indexed
    where is_target
),

numbered_lines as (
    select
        *,
        row_number() over (partition by user_index, line_number = 1 order by event_at, basket_number, item_index) as target_number,
        row_number() over (partition by user_index, item_index order by event_at, basket_number, line_number) as item_line_number,
        row_number() over (partition by user_index, basket_number order by event_at, item_index, line_number) as basket_line_number
    from numbered_baskets
),

final as (
    select
        -- ids
        user_index::int as user_index,
        item_index::int as item_index,
        -- strings
        event_type::string as event_type,
        -- numbers: an item counts once per basket, by its first line
        basket_number::int as basket_number,
        (case when line_number = 1 then target_number end)::int as target_number,
        quantity::decimal(18, 4) as quantity,
        price::decimal(18, 4) as price,
        -- booleans
        true::boolean as is_target,
        (item_line_number = 1)::boolean as is_new_to_user,
        (basket_line_number = 1)::boolean as is_new_basket,
        -- times
        event_at::timestamp as event_at
    from numbered_lines
    union all
    select
        user_index::int,
        item_index::int,
        event_type::string,
        null::int,
        null::int,
        quantity::decimal(18, 4),
        price::decimal(18, 4),
        false::boolean,
        false::boolean,
        false::boolean,
        event_at::timestamp
    from indexed
    where not is_target
)

select * from final
