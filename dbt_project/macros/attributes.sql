{# Macros for attributes: columns of items and users that become features. #}

{# Returns the entity ("item" or "user") and the name of every attribute of this run. #}
{% macro attributes() %}
    {%- set pairs = [] -%}
    {%- for entity in ['item', 'user'] -%}
        {%- for name in var(entity ~ '_attributes') -%}{%- do pairs.append((entity, name)) -%}{%- endfor -%}
    {%- endfor -%}
    {{ return(pairs) }}
{% endmacro %}

{# For staging models: the attributes that are not standard columns, as text, each followed by a comma. NULL if `relation` (a raw
   table, or none) does not have the column. #}
{% macro attribute_columns(entity, relation) %}
    {%- set own = {'item': ['title', 'category', 'price', 'is_available', 'available_from', 'withdrawn_at'], 'user': ['segment']} -%}
    {%- for name in var(entity ~ '_attributes') if name not in own[entity] -%}
    {{ shortened(adapter.quote(name) if has_column(relation, name) else 'null') }} as {{ adapter.quote(name) }},
    {% endfor -%}
{% endmacro %}

{# For staging models: the first 500 characters of a text, since later arrays are as wide as the longest text. #}
{% macro shortened(text) %}substr({{ text }}::string, 1, 500)::string{% endmacro %}

{# For staging models: the names of all attributes, each after a comma, for an ORDER BY. #}
{% macro attribute_names(entity) %}
    {%- for name in var(entity ~ '_attributes') -%}, {{ adapter.quote(name) }}{%- endfor -%}
{% endmacro %}

{# For staging models: the time from which a row of items or users is valid. NULL if `relation` (a raw table, or none) has no column
   valid_from. #}
{% macro valid_from(relation) %}{{ utc('valid_from') if has_column(relation, 'valid_from') else 'null' }}::timestamp{% endmacro %}

{% macro has_column(relation, name) %}
    {%- set columns = adapter.get_columns_in_relation(relation) if execute and relation else [] -%}
    {{ return(name | lower in columns | map(attribute='name') | map('lower') | list) }}
{% endmacro %}

{# Casts a text to a number. NULL if it is not a number, or a code such as 007. #}
{% macro number(text) %}
    case when {{ matches(text, '^-?(0|[1-9][0-9]*)([.][0-9]+)?([eE][-+]?[0-9]+)?$') }} then try_cast({{ text }} as double) end
{% endmacro %}
