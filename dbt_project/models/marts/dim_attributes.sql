with

attribute_values as (
    select * from {{ ref('dim_attribute_values') }}
),

described as (
    select
        entity,
        attribute,
        count(distinct case when value is not null then entity_index end) as described,
        count(distinct value) as distinct_values,
        count(value) as present,
        count(number) as numbers,
        count(case when value is not null then valid_from end) as dated
    from attribute_values
    group by entity, attribute
),

listed as (
    {% for entity, name in attributes() %}
    select
        {{ loop.index }} as position,
        '{{ entity }}' as entity,
        '{{ escape_single_quotes(name) }}' as attribute,
        {{ name in var('text_attributes') }} as is_text
    {% if not loop.last %} union all {% endif %}
    {% endfor %}
),

final as (
    select
        -- ids
        listed.entity::string as entity,
        listed.attribute::string as attribute,
        -- numbers
        listed.position::int as position,
        coalesce(described.described, 0)::int as described,
        coalesce(described.distinct_values, 0)::int as distinct_values,
        -- booleans: a few other values, such as "n/a", do not turn a column of prices into text
        (not listed.is_text and coalesce(100 * described.numbers >= 99 * described.present, false))::boolean as is_number,
        coalesce(described.dated = described.present, false)::boolean as is_dated
    from listed
    left join described on listed.entity = described.entity and listed.attribute = described.attribute
)

select * from final
