with

events as (
    select * from {{ staged('events') }}
    {% if var('sample_below') %} where md5(user_id) < '{{ var('sample_below') }}' {% endif %}
),

-- An event without a type is a target event.
cleaned as (
    select
        *,
        coalesce(nullif(lower(trim(event_type)), ''), {{ text(var('target')) }}) as own_type
    from events
),

mapped as (
    select
        *,
        {{ mapped_type('own_type') }} as mapped_type
    from cleaned
),

-- A target event with a rating below min_rating, or without one, counts as a view.
rated as (
    select
        *,
        {% if var('min_rating') is not none %}
        case
            when mapped_type = {{ text(var('target')) }} and not coalesce(rating >= {{ var('min_rating') }}, false) then 'view'
            else mapped_type
        end as rated_type
        {% else %}
        mapped_type as rated_type
        {% endif %}
    from mapped
),

-- Returns often have negative quantities or prices, though their type already says that they are returns.
final as (
    select
        -- ids
        event_id::string as event_id,
        user_id::string as user_id,
        item_id::string as item_id,
        session_id::string as session_id,
        -- strings
        rated_type::string as event_type,
        source_reasons::string as source_reasons,
        unreadable::string as unreadable,
        -- numbers
        (case when rated_type = 'return' then abs(quantity) else quantity end)::decimal(18, 4) as quantity,
        (case when rated_type = 'return' then abs(price) else price end)::decimal(18, 4) as price,
        -- booleans
        (rated_type = {{ text(var('target')) }})::boolean as is_target,
        -- times
        event_at::timestamp as event_at
    from rated
    where rated_type <> 'ignore'
)

select * from final
