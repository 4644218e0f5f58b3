with

parameters as (
    select * from {{ source('run', 'parameters') }}
),

final as (
    select
        -- times
        as_of::timestamp as as_of,
        landed_before::timestamp as landed_before
    from parameters
)

select * from final
