with

users as (
    select * from {{ source('shop', 'users') }}
),

final as (
    select
        -- ids
        user_id::string as user_id,
        -- strings
        segment::string as segment,
        -- times
        null::timestamp as valid_from
    from users
)

select * from final
