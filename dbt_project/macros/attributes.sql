{# Attributes: columns of items and users that become features. #}

{# Entity ("item" or "user") and name of every attribute of this run. #}
{% macro attributes() %}
    {%- set found = [] -%}
    {%- for entity in ['item', 'user'] -%}
        {%- for name in var(entity ~ '_attributes') -%}{%- do found.append((entity, name)) -%}{%- endfor -%}
    {%- endfor -%}
    {{ return(found) }}
{% endmacro %}

{# In staging: the attributes that are not columns of every source anyway, as text, each followed by a comma. Missing where the
   raw table, or `none`, has no such column. #}
{% macro attribute_columns(entity, relation) %}
    {%- set own = {'item': ['title', 'category', 'price', 'is_available', 'available_from', 'withdrawn_at'], 'user': ['segment']} -%}
    {%- for name in var(entity ~ '_attributes') if name not in own[entity] -%}
    {{ shortened(adapter.quote(name) if has_column(relation, name) else 'null') }} as {{ adapter.quote(name) }},
    {% endfor -%}
{% endmacro %}

{# In staging: a text of at most 500 characters. Titles and values are kept in columns as wide as the longest one. #}
{% macro shortened(text) %}substr({{ text }}::string, 1, 500)::string{% endmacro %}

{# In staging: the same names, each after a comma, by which rows are put in order. #}
{% macro attribute_names(entity) %}
    {%- for name in var(entity ~ '_attributes') -%}, {{ adapter.quote(name) }}{%- endfor -%}
{% endmacro %}

{# In staging: when a row of items or users becomes valid; missing where the raw table, or `none`, does not say so. #}
{% macro valid_from(relation) %}{{ utc('valid_from') if has_column(relation, 'valid_from') else 'null' }}::timestamp{% endmacro %}

{% macro has_column(relation, name) %}
    {%- set columns = adapter.get_columns_in_relation(relation) if execute and relation else [] -%}
    {{ return(name | lower in columns | map(attribute='name') | map('lower') | list) }}
{% endmacro %}

{# A number written as text; missing where it is none, such as 007, which is a code. #}
{% macro number(text) %}
    case when {{ matches(text, '^-?(0|[1-9][0-9]*)([.][0-9]+)?([eE][-+]?[0-9]+)?$') }} then try_cast({{ text }} as double) end
{% endmacro %}
