"""A JSON schema of config.toml, by which editors complete keys and mark wrong values."""

from collections.abc import Callable, Mapping
from typing import Any

from recsys.settings.deployment import Cloud, Operations
from recsys.settings.run import Dataset, Settings
from recsys.settings.validation import schema_of

FROM_THE_RUN = ("name", "cases", "expected", "dataset", "as_of", "sample")  # fields of Settings that config.toml does not hold


def config_schema(recommenders: Mapping[str, Callable[..., Any]], checks: Mapping[str, type]) -> dict[str, Any]:
    """Schema of the whole file. `recommenders` and `checks` by name: classes whose parameters, and models whose fields, are the
    keys of their sections."""
    parts: dict[str, Any] = {}

    def part(kind: Any) -> dict[str, Any]:
        schema = schema_of(kind)
        parts.update(schema.pop("$defs", {}))
        return schema

    def table(sections: dict[str, Any]) -> dict[str, Any]:
        return {"type": "object", "properties": sections, "additionalProperties": False}

    run, operations = part(Settings), part(Operations)
    properties = {name: found for name, found in run["properties"].items() if name not in FROM_THE_RUN} | operations["properties"]
    properties |= {
        "dataset": {"type": "string", "description": "What DATASET= defaults to."},
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
