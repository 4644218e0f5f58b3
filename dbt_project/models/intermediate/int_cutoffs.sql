with

events as (
    select * from {{ ref('int_events_accepted') }}
),

parameters as (
    select * from {{ ref('stg_run__parameters') }}
),

-- The day of landing is not over, so its start is the latest cutoff.
last_days as (
    select
        least(
            date_trunc('day', max(event_at)) + interval 1 day,
            (select landed_before from parameters) - interval 2 day
        )::timestamp as last_as_of
    from events
),

as_ofs as (
    select
        last_as_of,
        coalesce((select as_of from parameters), last_as_of) as as_of
    from last_days
),

final as (
    {% for days in var('cutoff_days') %}
    select
        -- numbers
        {{ days }}::int as days_before,
        -- booleans
        {{ days == 0 }} as is_serving,
        -- times
        (as_of - interval {{ days }} day)::timestamp as cutoff,
        (as_of - interval {{ days }} day + interval {{ var('horizon_days') }} day)::timestamp as horizon_end,
        as_of::timestamp as as_of,
        last_as_of::timestamp as last_as_of
    from as_ofs
    {% if not loop.last %} union all {% endif %}
    {% endfor %}
)

select * from final
