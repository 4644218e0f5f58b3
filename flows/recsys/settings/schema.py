"""The JSON schema of config.toml, with which editors complete keys and mark wrong values."""

from collections.abc import Callable, Mapping
from typing import Any

from recsys.settings.deployment import Cloud, Operations
from recsys.settings.run import Dataset, Settings
from recsys.settings.validation import schema_of

RUN_FIELDS = ("name", "cases", "expected", "dataset", "as_of", "sample")  # fields of Settings that are not sections of config.toml


def config_schema(recommenders: Mapping[str, Callable[..., Any]], checks: Mapping[str, type]) -> dict[str, Any]:
    """Returns the JSON schema of config.toml.

    recommenders: classes by name; the parameters of each are the keys of its section.
    checks: settings models by name; the fields of each are the keys of its section.
    """
    parts: dict[str, Any] = {}

    def part(kind: Any) -> dict[str, Any]:
        schema = schema_of(kind)
        parts.update(schema.pop("$defs", {}))
        return schema

    def table(sections: dict[str, Any]) -> dict[str, Any]:
        return {"type": "object", "properties": sections, "additionalProperties": False}

    run, operations = part(Settings), part(Operations)
    properties = {name: field for name, field in run["properties"].items() if name not in RUN_FIELDS} | operations["properties"]
    properties |= {
        "dataset": {"type": "string", "description": "Default of DATASET=."},
        "datasets": {"type": "object", "additionalProperties": part(Dataset)},
        "recommenders": table({name: part(kind) for name, kind in recommenders.items()}),
        "checks": table({name: part(kind) for name, kind in checks.items()}),
        "cloud": part(Cloud),
    }
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "config.toml",
        **table(properties),
        "required": sorted(properties.keys() - {"tune", "cloud"}),
        "$defs": parts,
    }
