with

events as (
    select * from {{ ref('int_events_accepted') }}
),

users as (
    select * from {{ staged('users') }}
),

cutoffs as (
    select * from {{ ref('int_cutoffs') }}
    where is_serving
),

seen as (
    select distinct events.user_id
    from events
    inner join cutoffs on events.event_at < cutoffs.cutoff
),

final as (
    select
        -- ids
        seen.user_id::string as user_id,
        (row_number() over (order by seen.user_id) - 1)::int as user_index,
        -- strings
        coalesce(users.segment, 'unknown')::string as segment,
        -- booleans: md5 makes a sample that any engine agrees on
        (row_number() over (order by md5(seen.user_id), seen.user_id) <= {{ var('sample_users') }})::boolean as is_sampled
    from seen
    left join users on seen.user_id = users.user_id
)

select * from final
