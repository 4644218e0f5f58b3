{# The staging model of the source that this run reads. A database lands the tables of `events`, and is staged as they are. #}
{% macro staged(entity) %}
    {%- set staging = {'database': 'events'}.get(var('source'), var('source')) -%}
    {{ return(ref('stg_' ~ staging ~ '__' ~ entity)) }}
{%- endmacro %}

{# Why an event can be rejected; the first that applies is the one it is counted under. #}
{% macro rejection_reasons() %}
    {{ return([
        'duplicate', 'no_user', 'no_item', 'no_product', 'control_characters', 'long_id', 'ambiguous_date', 'bad_time',
        'too_early', 'future', 'unknown_type', 'bad_quantity', 'bad_price', 'bad_rating', 'bot'
    ]) }}
{% endmacro %}

{# Name of a row that came without one: rows that agree in these columns are one. #}
{% macro row_key(columns) %}
    {%- set texts = [] -%}
    {%- for column in columns -%}{%- do texts.append("coalesce(" ~ column ~ "::string, '')") -%}{%- endfor -%}
    md5(concat_ws(chr(31), {{ texts | join(', ') }}))::string
{%- endmacro %}

{# A text of the settings as a literal, whatever quotes it holds. #}
{% macro text(value) %}{{ return(dbt.string_literal(dbt.escape_single_quotes(value))) }}{% endmacro %}

{# The data's own event type in the words of the models; the type itself where the settings do not map it. #}
{% macro mapped_type(own_type) %}
    {%- if var('event_types') -%}
    case {{ own_type }}
        {%- for own, known in var('event_types').items() %}
        when {{ text(own) }} then {{ text(known) }}
        {%- endfor %}
        else {{ own_type }}
    end
    {%- else -%}{{ own_type }}{%- endif -%}
{% endmacro %}
