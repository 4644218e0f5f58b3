with

events as (
    select * from {{ ref('int_events_typed') }}
),

parameters as (
    select * from {{ ref('stg_run__parameters') }}
),

-- Numbers only the events whose id occurs more than once, since sorting all events would cost as much as the rest of this model.
doubled_ids as (
    select event_id
    from events
    where event_id is not null
    group by event_id
    having count(*) > 1
),

counted_copies as (
    select
        *,
        row_number() over (partition by event_id order by source_reasons, event_at, user_id, item_id, event_type, quantity, price) as copy_number
    from events
    where event_id in (select event_id from doubled_ids)
    union all
    select
        *,
        1 as copy_number
    from events
    where coalesce(event_id not in (select event_id from doubled_ids), true)
),

-- Days with too many events of a user, likely of a bot or a broken client.
busy_days as (
    select
        user_id,
        date_trunc('day', event_at) as event_day
    from events
    group by 1, 2
    having count(*) > {{ var('max_daily_events') }}
),

final as (
    select
        -- ids
        event_id::string as event_id,
        substr(user_id, 1, {{ var('max_id_length') }})::string as user_id,
        substr(item_id, 1, {{ var('max_id_length') }})::string as item_id,
        session_id::string as session_id,
        -- strings
        event_type::string as event_type,
        concat_ws(
            ',',
            case when copy_number > 1 then 'duplicate' end,
            case when user_id is null or trim(user_id) = '' then 'no_user' end,
            case when item_id is null or trim(item_id) = '' then 'no_item' end,
            nullif(source_reasons, ''),
            case when {{ has_control_characters("concat_ws(' ', user_id, item_id, session_id)") }} then 'control_characters' end,
            case when greatest(length(user_id), length(item_id)) > {{ var('max_id_length') }} then 'long_id' end,
            case when event_at is null then 'bad_time' end,
            case when event_at < '{{ var('earliest_day') }}'::timestamp then 'too_early' end,
            case when event_at >= (select landed_before from parameters) then 'future' end,
            case when not is_target and event_type not in ('view', 'cart', 'return') then 'unknown_type' end,
            case when quantity <= 0 then 'bad_quantity' end,
            case when price < 0 then 'bad_price' end,
            case when (user_id, date_trunc('day', event_at)) in (select (user_id, event_day) from busy_days) then 'bot' end
        )::string as reasons,
        unreadable::string as unreadable,
        -- numbers
        quantity::decimal(18, 4) as quantity,
        price::decimal(18, 4) as price,
        -- booleans
        is_target::boolean as is_target,
        -- times
        event_at::timestamp as event_at
    from counted_copies
)

select * from final
