with

events as (
    select * from {{ source('events', 'events') }}
),

cast_to_types as (
    select
        *,
        {{ utc('event_at') }} as cast_event_at,
        case when quantity is null or quantity::string = '' then 1 else try_cast(quantity as decimal(18, 4)) end as cast_quantity,
        try_cast(price as decimal(18, 4)) as cast_price,
        try_cast(rating as decimal(18, 4)) as cast_rating
    from events
),

final as (
    select
        -- ids
        coalesce(nullif(event_id::string, ''), {{ row_key([
            'user_id', 'item_id', 'event_at', 'event_type', 'quantity', 'price', 'session_id', 'rating'
        ]) }}) as event_id,
        user_id::string as user_id,
        item_id::string as item_id,
        session_id::string as session_id,
        -- strings
        event_type::string as event_type,
        concat_ws(
            ',',
            case
                when cast_event_at is null and {{ matches("trim(event_at::string)", '^[0-9]{1,2}[-/.][0-9]{1,2}[-/.]([0-9]{2}|[0-9]{4})([^0-9].*)?$') }}
                then 'ambiguous_date' -- it is not clear which part is the day
            end,
            case when quantity is not null and cast_quantity is null then 'bad_quantity' end,
            case when price::string <> '' and cast_price is null then 'bad_price' end,
            case when {{ var('min_rating') is not none }} and rating::string <> '' and cast_rating is null then 'bad_rating' end
        )::string as source_reasons,
        concat_ws(
            ', ',
            case when event_at::string <> '' and cast_event_at is null then concat('event_at ', event_at::string) end,
            case when quantity::string <> '' and cast_quantity is null then concat('quantity ', quantity::string) end,
            case when price::string <> '' and cast_price is null then concat('price ', price::string) end,
            case when rating::string <> '' and cast_rating is null then concat('rating ', rating::string) end
        )::string as unreadable,
        -- numbers
        cast_quantity::decimal(18, 4) as quantity,
        cast_price::decimal(18, 4) as price,
        cast_rating::decimal(18, 4) as rating,
        -- times
        cast_event_at::timestamp as event_at
    from cast_to_types
)

select * from final
