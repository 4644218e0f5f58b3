with

rejected as (
    select
        reason,
        ',' || reasons || ',' as reasons,
        count(*) as events
    from {{ ref('int_events_rejected') }}
    group by 1, 2
),

sent as (
    select count(*) as events
    from {{ ref('int_events_checked') }}
),

final as (
    {% for reason in rejection_reasons() %}
    select
        -- strings
        '{{ reason }}'::string as reason,
        -- numbers: an event is rejected under its first reason, but counts as affected under each
        coalesce(sum(case when reason = '{{ reason }}' then events end), 0)::bigint as events_rejected,
        coalesce(sum(case when reasons like '%,{{ reason }},%' then events end), 0)::bigint as events_affected,
        (select events from sent)::bigint as events_sent
    from rejected
    {% if not loop.last %} union all {% endif %}
    {% endfor %}
)

select * from final
