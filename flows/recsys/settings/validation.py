"""Validates settings with pydantic, and explains a wrong value in one sentence."""

import inspect
import json
import re
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import date
from difflib import get_close_matches
from functools import cache
from typing import Annotated, Any, TypeVar, dataclass_transform

from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError, create_model
from pydantic.dataclasses import dataclass

from recsys import RecsysError

Kind = TypeVar("Kind")


def parse_date(text: str) -> date:
    """Parses an ISO date. Raises ValueError with what to write."""
    if re.fullmatch(r"\d{4}-\d\d-\d\d", text):
        with suppress(ValueError):
            return date.fromisoformat(text)
    raise ValueError("it is not a date; write it as YYYY-MM-DD")


def _refuse_repeats(names: list[str]) -> list[str]:
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated:
        raise ValueError(f'it names "{repeated[0]}" twice; name it once')
    return names


def _is_day(text: str) -> str:
    parse_date(text)
    return text


# Every number has a smallest and a largest value, so that a typing error such as 1e300 is refused. A test checks all settings.
Count = Annotated[int, Field(ge=1, le=1_000_000_000)]
Days = Annotated[int, Field(ge=0, le=36_500)]
PositiveDays = Annotated[int, Field(ge=1, le=36_500)]
Share = Annotated[float, Field(ge=0, le=1)]
PositiveShare = Annotated[float, Field(gt=0, le=1)]
Positive = Annotated[float, Field(gt=0, le=1_000_000)]
NotNegative = Annotated[float, Field(ge=0, le=1_000_000)]
Seconds = Annotated[float, Field(gt=0, le=86_400)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Text = Annotated[str, Field(min_length=1)]
Names = Annotated[list[Text], AfterValidator(_refuse_repeats)]
Day = Annotated[str, AfterValidator(_is_day)]

# Strict: "3" is not accepted as a number, nor true as 1. inf and nan are refused.
CONFIG = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


@dataclass_transform(frozen_default=True, field_specifiers=(Field,))
def section(kind: type[Kind]) -> type[Kind]:
    """Class decorator for a section of config.toml: a frozen dataclass that checks its values when it is made or replaced."""
    return dataclass(kind, frozen=True, config=CONFIG)  # type: ignore[return-value]


def build(kind: type[Kind], values: Any, where: str) -> Kind:
    """Builds a section from plain values, as parsed from TOML or JSON.

    where: the section's key in config.toml, for messages. Raises RecsysError with the key, the value and what is allowed.
    """
    try:
        return _adapter(kind).validate_json(json.dumps(values))  # type: ignore[arg-type]  # strict mode refuses dicts but not JSON
    except ValidationError as error:
        raise RecsysError(f"config: {_explain(error, schema_of(kind), where)}") from None


def check_parameters(function: Callable[..., Any], values: Mapping[str, Any], where: str) -> None:
    """Checks keyword arguments against the annotations of a function or constructor, without calling it.

    where: the section's key in config.toml, for messages. Raises RecsysError with the key, the value and what is allowed.
    """
    build(_model_of(function), dict(values), where)


def schema_of(kind: Any) -> dict[str, Any]:
    """Returns the JSON schema of a section, or of the keyword arguments of a function."""
    return _adapter(kind if isinstance(kind, type) and hasattr(kind, "__pydantic_core_schema__") else _model_of(kind)).json_schema()


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


@cache
def _model_of(function: Callable[..., Any]) -> Any:
    parameters = inspect.signature(function, eval_str=True).parameters.values()
    fields: dict[str, Any] = {
        parameter.name: (parameter.annotation, ... if parameter.default is inspect.Parameter.empty else parameter.default)
        for parameter in parameters
    }
    return create_model(getattr(function, "__name__", "parameters"), __config__=CONFIG, **fields)


# Types of errors of pydantic.
MISSING = ("missing", "missing_argument")
UNKNOWN = ("extra_forbidden", "unexpected_keyword_argument")


def _explain(error: ValidationError, schema: dict[str, Any], where: str) -> str:
    first, *others = error.errors()
    path = [part for part in first["loc"] if part != "[key]"]
    key = ".".join([where, *map(str, path)] if where else map(str, path))
    if first["type"] in MISSING:
        unknown = [other["loc"] for other in others if other["type"] in UNKNOWN and other["loc"][:-1] == first["loc"][:-1]]
        also = f"; {_explain_unknown(list(unknown[0]), schema, where)}" if unknown else ""
        return f"{key} is missing; add it to config.toml{also}"
    if first["type"] in UNKNOWN:
        return _explain_unknown(path, schema, where)
    shown = shorten(first["input"])
    if first["type"] == "value_error":
        reason = str(first["ctx"]["error"])
        return f"{key} is {shown}; {reason}" if path else f"{where}: {reason}" if where else reason
    return f"{key} is {shown}; it must be {_describe(_find(schema, path), schema)}"


def _explain_unknown(path: list[Any], schema: dict[str, Any], where: str) -> str:
    known = list(_find(schema, path[:-1]).get("properties", {}))
    close = get_close_matches(str(path[-1]), known, 1)
    key = ".".join(map(str, [where, *path] if where else path))
    return f"{key} is not a setting; " + (f"did you mean {close[0]}?" if close else f"known are {', '.join(known)}")


def shorten(value: Any) -> str:
    """Returns a value as JSON of at most 80 characters, for messages."""
    shown = json.dumps(value, default=str, ensure_ascii=False)
    return shown if len(shown) <= 80 else f"{shown[:77]}..."


def _find(schema: dict[str, Any], path: list[Any]) -> dict[str, Any]:
    """The part of a schema at a path of keys; an empty dict where the schema allows anything."""
    part = schema
    for key in path:
        part = resolve_reference(part, schema)
        inner = part.get("properties", {}).get(key)
        if inner is None:
            inner = part.get("items") if isinstance(key, int) else part.get("additionalProperties")
        part = inner if isinstance(inner, dict) else {}
    return resolve_reference(part, schema)


def resolve_reference(part: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    """Follows a `$ref`, and the one alternative to null of an `anyOf`, to the part of the schema that describes the value."""
    name = part.get("$ref", "").rpartition("/")[2]
    part = schema["$defs"][name] if name else part
    options = [option for option in part.get("anyOf", []) if option.get("type") != "null"]
    return resolve_reference(options[0], schema) if len(options) == 1 else part


TYPE_NAMES = {
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "string": "a text",
    "object": "a table",
}


def _describe(part: dict[str, Any], schema: dict[str, Any]) -> str:
    """Describes what a schema allows: `a whole number from 1 to 100`."""
    if "enum" in part:
        return "one of " + ", ".join(json.dumps(value) for value in part["enum"])
    if part.get("type") == "array":
        texts = resolve_reference(part.get("items", {}), schema).get("type") == "string"
        return 'a list of texts, such as ["a", "b"]' if texts else "a list of values, such as [1, 2]"
    minimum, maximum = part.get("minimum"), part.get("maximum")
    above, below = part.get("exclusiveMinimum"), part.get("exclusiveMaximum")
    limits = [
        f"from {minimum:g} to {maximum:,}" if minimum is not None and maximum is not None else "",
        f"of {minimum:g} or more" if minimum is not None and maximum is None else "",
        f"of {maximum:,} or less" if maximum is not None and minimum is None and above is None else "",
        f"above {above:g}" if above is not None else "",
        f"and up to {maximum:,}" if maximum is not None and above is not None else "",
        f"below {below:,}" if below is not None else "",
    ]
    words = [TYPE_NAMES.get(part.get("type", ""), "a value of another type"), *(limit for limit in limits if limit)]
    return " ".join(words) + (f" like {part['examples'][0]}" if part.get("examples") else "")
