with

users as (
    select * from {{ source('events', 'users') }}
    where user_id is not null
),

cast_to_types as (
    select
        -- ids
        user_id::string as user_id,
        -- strings
        {{ shortened('segment') }} as segment,
        {{ attribute_columns('user', source('events', 'users')) }}
        -- times
        {{ valid_from(source('events', 'users')) }} as valid_from
    from users
),

final as (
    select *
    from cast_to_types
    qualify row_number() over (partition by user_id, valid_from order by segment{{ attribute_names('user') }}) = 1
)

select * from final
