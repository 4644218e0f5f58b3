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
        {{ attribute_columns('user', source('shop', 'users')) }}
        -- times
        {{ valid_from(source('shop', 'users')) }} as valid_from
    from users
)

select * from final
