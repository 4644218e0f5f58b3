with

events as (
    select * from {{ ref('int_events_checked') }}
),

final as (
    select
        -- ids
        event_id,
        user_id,
        item_id,
        session_id,
        -- strings
        event_type,
        (case
            {% for reason in rejection_reasons() %}
            when ',' || reasons || ',' like '%,{{ reason }},%' then '{{ reason }}'
            {% endfor %}
        end)::string as reason,
        reasons,
        unreadable,
        -- numbers
        quantity,
        price,
        -- times
        event_at
    from events
    where reasons <> ''
)

select * from final
