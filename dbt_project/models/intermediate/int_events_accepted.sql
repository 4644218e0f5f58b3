with

events as (
    select * from {{ ref('int_events_checked') }}
),

final as (
    select
        -- ids
        user_id,
        item_id,
        session_id,
        -- strings
        event_type,
        -- numbers
        quantity,
        price,
        -- booleans
        is_target,
        -- times
        event_at
    from events
    where reasons = ''
)

select * from final
