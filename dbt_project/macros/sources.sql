{# The staging model of the source that this run reads. A database lands the tables of `events`, and is staged as they are. #}
{% macro staged(entity) %}
    {%- set staging = {'database': 'events'}.get(var('source'), var('source')) -%}
    {{ return(ref('stg_' ~ staging ~ '__' ~ entity)) }}
{%- endmacro %}

{# Why an event can be rejected; the first that applies is the one it is counted under. #}
{% macro rejection_reasons() %}
    {{ return([
        'duplicate', 'no_user', 'no_item', 'no_product', 'control_characters', 'ambiguous_date', 'bad_time',
        'future', 'unknown_type', 'bad_quantity', 'bad_price', 'bot'
    ]) }}
{% endmacro %}

{# Name of a row that came without one: rows that agree in these columns are one. #}
{% macro row_key(columns) %}
    {%- set texts = [] -%}
    {%- for column in columns -%}{%- do texts.append("coalesce(" ~ column ~ "::string, '')") -%}{%- endfor -%}
    md5(concat_ws(chr(31), {{ texts | join(', ') }}))::string
{%- endmacro %}
