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
    select
        events.user_id,
        min(events.event_at) as first_event_at
    from events
    inner join cutoffs on events.event_at < cutoffs.cutoff
    group by 1
),

-- The newest row of each user that is valid at the cutoff.
described as (
    select users.*
    from users
    inner join cutoffs on coalesce(users.valid_from < cutoffs.cutoff, true)
    qualify row_number() over (partition by users.user_id order by users.valid_from desc nulls last) = 1
),

final as (
    select
        -- ids
        seen.user_id::string as user_id,
        (row_number() over (order by seen.user_id) - 1)::int as user_index,
        -- strings
        coalesce(described.segment, 'unknown')::string as segment,
        -- booleans: md5 gives the same sample in every engine
        (row_number() over (order by md5(seen.user_id), seen.user_id) <= {{ var('sample_users') }})::boolean as is_sampled,
        -- times
        seen.first_event_at::timestamp as first_event_at
    from seen
    left join described on seen.user_id = described.user_id
)

select * from final
