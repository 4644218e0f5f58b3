with

users as (
    select * from {{ source('events', 'users') }}
),

first_rows as (
    select *
    from users
    where user_id is not null
    qualify row_number() over (partition by user_id order by segment) = 1
),

final as (
    select
        -- ids
        user_id::string as user_id,
        -- strings
        segment::string as segment,
        -- times
        null::timestamp as valid_from
    from first_rows
)

select * from final
