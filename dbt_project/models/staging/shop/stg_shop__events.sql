with

events as (
    select * from {{ source('shop', 'events') }}
),

final as (
    select
        -- ids
        event_id::string as event_id,
        user_id::string as user_id,
        item_id::string as item_id,
        session_id::string as session_id,
        -- strings
        event_type::string as event_type,
        ''::string as source_reasons,
        ''::string as unreadable,
        -- numbers
        quantity::decimal(18, 4) as quantity,
        price::decimal(18, 4) as price,
        null::decimal(18, 4) as rating,
        -- times
        event_at::timestamp as event_at
    from events
)

select * from final
