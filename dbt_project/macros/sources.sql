{# Returns the staging model of this run's source. The source `database` lands the same tables as `events`, and shares its models. #}
{% macro staged(entity) %}
    {%- set staging = {'database': 'events'}.get(var('source'), var('source')) -%}
    {{ return(ref('stg_' ~ staging ~ '__' ~ entity)) }}
{%- endmacro %}

{# Reasons to reject an event, in order. An event is counted under the first that applies. #}
{% macro rejection_reasons() %}
    {{ return([
        'duplicate', 'no_user', 'no_item', 'no_product', 'control_characters', 'long_id', 'ambiguous_date', 'bad_time',
        'too_early', 'future', 'unknown_type', 'bad_quantity', 'bad_price', 'bad_rating', 'bot'
    ]) }}
{% endmacro %}

{# Makes an id for rows without one: a hash of these columns, so rows that are equal in them are the same. #}
{% macro row_key(columns) %}
    {%- set texts = [] -%}
    {%- for column in columns -%}{%- do texts.append("coalesce(" ~ column ~ "::string, '')") -%}{%- endfor -%}
    md5(concat_ws(chr(31), {{ texts | join(', ') }}))::string
{%- endmacro %}

{# Writes a text of the settings as a SQL literal, with its quotes escaped. #}
{% macro text(value) %}{{ return(dbt.string_literal(dbt.escape_single_quotes(value))) }}{% endmacro %}

{# Maps an event type of the data to ours by `event_types`; types that are not in it stay unchanged. #}
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
