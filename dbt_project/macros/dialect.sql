{# Functions that are written differently in DuckDB and Spark. #}

{% macro seconds_between(earlier, later) %}{{ return(adapter.dispatch('seconds_between')(earlier, later)) }}{% endmacro %}
{% macro default__seconds_between(earlier, later) %}date_diff('second', {{ earlier }}, {{ later }}){% endmacro %}
{% macro spark__seconds_between(earlier, later) %}(unix_timestamp({{ later }}) - unix_timestamp({{ earlier }})){% endmacro %}

{% macro days_between(earlier, later) %}({{ seconds_between(earlier, later) }} / 86400.0)::float{% endmacro %}

{# Divides two numbers; NULL if the divisor is 0. #}
{% macro ratio(part, whole) %}(({{ part }})::double / nullif({{ whole }}, 0)::double)::float{% endmacro %}

{% macro matches(text, pattern) %}{{ return(adapter.dispatch('matches')(text, pattern)) }}{% endmacro %}
{% macro default__matches(text, pattern) %}regexp_matches({{ text }}, '{{ pattern }}'){% endmacro %}
{% macro spark__matches(text, pattern) %}({{ text }} rlike r'{{ pattern }}'){% endmacro %}

{% macro has_control_characters(text) %}{{ matches(text, '[\\x00-\\x1F\\x7F-\\x9F]') }}{% endmacro %}

{#
    Reads a column of instants or text as a time in UTC. NULL if it is none of these:
    - ISO 8601 with a zone, or without one, which is read in the dataset's `time_zone`. The year comes first; / is accepted for -, and
      a comma for the decimal point.
    - a number of seconds, milliseconds, microseconds or nanoseconds since 1970 that gives a time between 1990 and 2100.
    A local time that a clock change skips is read as an hour later; one that occurs twice is read as the later one.
#}
{% macro utc(value) %}
    {%- set text = "replace(replace(upper(trim(" ~ value ~ "::string)), '/', '-'), ',', '.')" -%}
    {%- set local = '[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}([ T][0-9]{1,2}:[0-9]{2}(:[0-9]{2}([.][0-9]+)?)?)?' -%}
    {%- set zoned = '[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}[ T][0-9]{1,2}:[0-9]{2}(:[0-9]{2}([.][0-9]+)?)? ?(Z|UTC|GMT|[+-][0-9]{2}(:?[0-9]{2})?)' -%}
    {%- set number = "try_cast(" ~ text ~ " as double)" -%}
    {%- set instant = namespace(text=text) -%}
    {%- for written, meant in [('UTC', 'Z'), ('GMT', 'Z'), (' Z', 'Z'), (' +', '+'), (' -', '-')] -%}
        {%- set instant.text = "replace(" ~ instant.text ~ ", '" ~ written ~ "', '" ~ meant ~ "')" -%}
    {%- endfor -%}
    (case
        when {{ is_instant(value) }} then {{ instant_to_utc(value) }}
        when {{ matches(text, '^' ~ local ~ '$') }} then {{ local_to_utc(text, var('time_zone')) }}
        when {{ matches(text, '^' ~ zoned ~ '$') }} then {{ instant_to_utc(instant.text) }}
        {%- for factor in ['1000000', '1000', '1', '0.001'] %}
        when {{ number }} * {{ factor }} between 631152000000000 and 4102444799999999 then {{ from_microseconds(number ~ ' * ' ~ factor) }}
        {%- endfor %}
    end)::timestamp
{%- endmacro %}

{% macro is_instant(value) %}{{ return(adapter.dispatch('is_instant')(value)) }}{% endmacro %}
{% macro default__is_instant(value) %}typeof({{ value }}) = 'TIMESTAMP WITH TIME ZONE'{% endmacro %}
{% macro spark__is_instant(value) %}typeof({{ value }}) = 'timestamp'{% endmacro %}

{% macro instant_to_utc(value) %}{{ return(adapter.dispatch('instant_to_utc')(value)) }}{% endmacro %}
{% macro default__instant_to_utc(value) %}(nullif(try_cast({{ value }} as timestamptz), '-infinity') at time zone 'UTC'){% endmacro %}
{% macro spark__instant_to_utc(value) %}try_cast(try_cast({{ value }} as timestamp) as timestamp_ntz){% endmacro %}

{% macro local_to_utc(text, zone) %}{{ return(adapter.dispatch('local_to_utc')(text, zone)) }}{% endmacro %}
{% macro default__local_to_utc(text, zone) %}(try_cast({{ text }} as timestamp) at time zone '{{ zone }}' at time zone 'UTC'){% endmacro %}
{% macro spark__local_to_utc(text, zone) %}convert_timezone('{{ zone }}', 'UTC', try_cast({{ text }} as timestamp_ntz)){% endmacro %}

{% macro from_microseconds(number) %}{{ return(adapter.dispatch('from_microseconds')(number)) }}{% endmacro %}
{% macro default__from_microseconds(number) %}make_timestamp(round({{ number }})::bigint){% endmacro %}
{% macro spark__from_microseconds(number) %}timestamp_micros(round({{ number }})::bigint)::timestamp_ntz{% endmacro %}
