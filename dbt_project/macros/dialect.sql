{# The few things that DuckDB and Spark spell differently, one line each. #}

{% macro seconds_between(earlier, later) %}{{ return(adapter.dispatch('seconds_between')(earlier, later)) }}{% endmacro %}
{% macro default__seconds_between(earlier, later) %}date_diff('second', {{ earlier }}, {{ later }}){% endmacro %}
{% macro spark__seconds_between(earlier, later) %}(unix_timestamp({{ later }}) - unix_timestamp({{ earlier }})){% endmacro %}

{% macro days_between(earlier, later) %}({{ seconds_between(earlier, later) }} / 86400.0)::float{% endmacro %}

{# Missing where there is nothing to divide by. #}
{% macro ratio(part, whole) %}(({{ part }})::double / nullif({{ whole }}, 0)::double)::float{% endmacro %}

{% macro matches(text, pattern) %}{{ return(adapter.dispatch('matches')(text, pattern)) }}{% endmacro %}
{% macro default__matches(text, pattern) %}regexp_matches({{ text }}, '{{ pattern }}'){% endmacro %}
{% macro spark__matches(text, pattern) %}({{ text }} rlike r'{{ pattern }}'){% endmacro %}

{% macro has_control_characters(text) %}{{ matches(text, '[\\x00-\\x1F\\x7F-\\x9F]') }}{% endmacro %}

{# Time of a text or timestamp in UTC, which a value without a zone is taken to be in; null where it is none. #}
{% macro utc(value) %}{{ return(adapter.dispatch('utc')(value)) }}{% endmacro %}
{% macro default__utc(value) %}(nullif(try_cast({{ value }} as timestamptz), '-infinity') at time zone 'UTC')::timestamp{% endmacro %}
{% macro spark__utc(value) %}try_cast(try_cast({{ value }} as timestamp) as timestamp_ntz){% endmacro %}
