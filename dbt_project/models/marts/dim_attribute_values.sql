with

items as (
    select * from {{ staged('items') }}
),

users as (
    select * from {{ staged('users') }}
),

known_items as (
    select * from {{ ref('dim_items') }}
),

known_users as (
    select * from {{ ref('dim_users') }}
),

cutoffs as (
    select * from {{ ref('int_cutoffs') }}
    where is_serving
),

described as (
    {% for entity, name in attributes() %}
    select
        '{{ entity }}' as entity,
        '{{ escape_single_quotes(name) }}' as attribute,
        known_{{ entity }}s.{{ entity }}_index as entity_index,
        nullif(trim({{ entity }}s.{{ adapter.quote(name) }}::string), '') as value,
        {{ 'items.available_from' if entity == 'item' else 'null::timestamp' }} as available_from,
        {{ entity }}s.valid_from
    from {{ entity }}s
    inner join known_{{ entity }}s on {{ entity }}s.{{ entity }}_id = known_{{ entity }}s.{{ entity }}_id
    {% if not loop.last %} union all {% endif %}
    {% endfor %}
),

final as (
    select
        -- ids
        described.entity::string as entity,
        described.attribute::string as attribute,
        described.entity_index::int as entity_index,
        -- strings
        described.value::string as value,
        -- numbers
        {{ number('described.value') }}::double as number,
        -- times
        described.valid_from::timestamp as valid_from,
        (lead(described.valid_from) over (
            partition by described.entity, described.attribute, described.entity_index
            order by described.valid_from nulls first
        ))::timestamp as valid_to
    from described
    inner join cutoffs on coalesce(described.valid_from < cutoffs.cutoff, true)
        and coalesce(described.available_from < cutoffs.cutoff, true)
    -- a missing value only matters from a certain time on
    where described.value is not null or described.valid_from is not null
)

select * from final
