with

cutoffs as (
    select * from {{ ref('int_cutoffs') }}
),

events as (
    select * from {{ ref('fct_events') }}
    where target_number is not null
),

items as (
    select * from {{ ref('dim_items') }}
),

users as (
    select * from {{ ref('dim_users') }}
),

attributes as (
    select * from {{ ref('dim_attributes') }}
    where not is_number
),

attribute_values as (
    select * from {{ ref('dim_attribute_values') }}
    where value is not null
),

item_features as (
    select * from {{ ref('feat_items') }}
),

user_item_features as (
    select * from {{ ref('feat_user_items') }}
    where baskets > 0
),

entities as (
    select
        'item' as entity,
        item_index as entity_index,
        available_from as known_from
    from items
    union all
    select
        'user' as entity,
        user_index as entity_index,
        first_event_at as known_from
    from users
),

valid_values as (
    select
        cutoffs.cutoff,
        attributes.position,
        attribute_values.entity,
        attribute_values.entity_index,
        attribute_values.value
    from attribute_values
    inner join attributes
        on attribute_values.entity = attributes.entity and attribute_values.attribute = attributes.attribute
    inner join entities
        on attribute_values.entity = entities.entity and attribute_values.entity_index = entities.entity_index
    inner join cutoffs on entities.known_from < cutoffs.cutoff
        and coalesce(attribute_values.valid_from < cutoffs.cutoff, true)
        and coalesce(attribute_values.valid_to >= cutoffs.cutoff, true)
),

frequent_values as (
    select
        cutoff,
        position,
        value
    from valid_values
    group by 1, 2, 3
    qualify row_number() over (partition by cutoff, position order by count(*) desc, value) <= {{ var('attribute_values') }}
),

capped_values as (
    select
        valid_values.cutoff,
        valid_values.position,
        valid_values.entity,
        valid_values.entity_index,
        coalesce(frequent_values.value, 'other') as value
    from valid_values
    left join frequent_values on valid_values.cutoff = frequent_values.cutoff
        and valid_values.position = frequent_values.position and valid_values.value = frequent_values.value
),

item_values_by_user as (
    select
        capped_values.cutoff,
        capped_values.position,
        capped_values.value,
        user_item_features.user_index as subject_index,
        sum(user_item_features.baskets) as target_events,
        count(*) as target_pairs,
        count(*) filter (where user_item_features.days_since_first_target <= 28) as target_pairs_28d,
        min(user_item_features.days_since_last_target) as days_since_last_target
    from capped_values
    inner join user_item_features on capped_values.entity = 'item' and capped_values.cutoff = user_item_features.cutoff
        and capped_values.entity_index = user_item_features.item_index
    group by 1, 2, 3, 4
),

item_values_of_all as (
    select
        capped_values.cutoff,
        capped_values.position,
        capped_values.value,
        -1 as subject_index,
        sum(item_features.target_events) as target_events,
        sum(item_features.target_users) as target_pairs,
        sum(item_features.new_target_users_28d) as target_pairs_28d,
        min(item_features.days_since_last_target) as days_since_last_target
    from capped_values
    inner join item_features on capped_values.entity = 'item' and capped_values.cutoff = item_features.cutoff
        and capped_values.entity_index = item_features.item_index
    group by 1, 2, 3
),

user_values_by_item as (
    select
        capped_values.cutoff,
        capped_values.position,
        capped_values.value,
        events.item_index as subject_index,
        count(*) as target_events,
        count(*) filter (where events.is_new_to_user) as target_pairs,
        count(*) filter (
            where events.is_new_to_user and events.event_at >= capped_values.cutoff - interval 28 day
        ) as target_pairs_28d,
        {{ days_between('max(events.event_at)', 'capped_values.cutoff') }} as days_since_last_target
    from capped_values
    inner join events on capped_values.entity = 'user' and capped_values.entity_index = events.user_index
        and events.event_at < capped_values.cutoff
    group by 1, 2, 3, 4
),

user_values_of_all as (
    select
        cutoff,
        position,
        value,
        -1 as subject_index,
        sum(target_events) as target_events,
        sum(target_pairs) as target_pairs,
        sum(target_pairs_28d) as target_pairs_28d,
        min(days_since_last_target) as days_since_last_target
    from user_values_by_item
    group by 1, 2, 3
),

counted as (
    select * from item_values_by_user
    union all
    select * from item_values_of_all
    union all
    select * from user_values_by_item
    union all
    select * from user_values_of_all
),

final as (
    select
        -- ids
        counted.cutoff::timestamp as cutoff,
        attributes.entity::string as entity,
        attributes.attribute::string as attribute,
        counted.subject_index::int as subject_index,
        -- strings
        counted.value::string as value,
        -- numbers
        counted.target_events::int as target_events,
        counted.target_pairs::int as target_pairs,
        counted.target_pairs_28d::int as target_pairs_28d,
        {{ ratio(
            'counted.target_events',
            'sum(counted.target_events) over (partition by counted.cutoff, counted.position, counted.subject_index)'
        ) }} as target_share,
        counted.days_since_last_target::float as days_since_last_target
    from counted
    inner join attributes on counted.position = attributes.position
)

select * from final
