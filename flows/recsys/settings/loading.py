"""Reads config.toml: `parse` reads the text, `resolve` applies a run's parameters. Also writes its lines and its JSON schema."""

import json
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import fields
from datetime import date
from typing import Any

from recsys import RecsysError
from recsys.settings.deployment import SECTIONS, Cloud, Operations
from recsys.settings.run import Dataset, Settings
from recsys.settings.validation import build, parse_date, schema_of

TABLES = {*SECTIONS, "cloud", "datasets", *(one.name for one in fields(Settings))} - {"dataset", "seed"}
RUN_FIELDS = ("name", "cases", "expected", "dataset", "as_of", "sample")  # fields of Settings that are not sections of config.toml


def parse(text: str) -> dict[str, Any]:
    """Parses the text of config.toml to plain values, with dates as ISO text. Deployed flows carry them in this form."""
    try:
        values = json.loads(json.dumps(tomllib.loads(text), default=lambda day_or_time: day_or_time.isoformat()))
    except tomllib.TOMLDecodeError as error:
        raise RecsysError(f"config.toml cannot be read: {error}; correct that line") from None
    for name in TABLES & values.keys():
        _table(values[name], name)
    return values


def resolve(
    config: Mapping[str, Any], dataset: str = "", as_of: str = "", sample: float = 1.0, inputs: Mapping[str, str] = {}
) -> Settings:
    """Returns the settings of a run: the parsed config.toml with the run's parameters applied.

    dataset, as_of: empty for the values of config.toml. sample: share of the users, above 0 and up to 1.
    inputs: source settings that override those of the dataset, such as paths of files.
    Raises RecsysError naming the key, the value and what is allowed.
    """
    of_a_run = {name: value for name, value in config.items() if name not in (*SECTIONS, "cloud")}
    values = {"tune": {}, "cases": [], "expected": []} | of_a_run
    datasets = _table(values.pop("datasets", {}), "datasets")
    if dataset and dataset not in datasets:
        raise RecsysError(f'DATASET "{dataset}" is not in config.toml; choose one of {", ".join(datasets)}')
    dataset = dataset or values.get("dataset", "")
    if not isinstance(dataset, str) or dataset not in datasets:
        raise RecsysError(f"config: dataset is {json.dumps(dataset)}; it must be one of {', '.join(datasets)}")
    if not 0 < sample <= 1:
        raise RecsysError(f"SAMPLE {sample} is not a share of the users; pass a number above 0 and up to 1")
    chosen = dict(_table(datasets[dataset], f"datasets.{dataset}"))
    own = _table(chosen.get("source_settings", {}), f"datasets.{dataset}.source_settings")
    chosen["source_settings"] = dict(own) | {name: path for name, path in inputs.items() if path}
    build(Dataset, chosen, f"datasets.{dataset}")  # so that an error names the key as config.toml does
    name = dataset if sample == 1 else f"{dataset}-sample-{sample:g}"
    values |= {
        "name": name,
        "cases": [case for case in values["cases"] if case["dataset"] == name],
        "expected": [change for change in values["expected"] if change["dataset"] == dataset],  # for samples too
        "dataset": chosen,
        "as_of": parse_day("AS_OF", as_of).isoformat() if as_of else None,
        "sample": sample,
    }
    return build(Settings, values, "")


def parse_day(name: str, text: str) -> date:
    """Parses an ISO date that a person gave as the variable `name`. Raises RecsysError naming the variable and the text."""
    try:
        return parse_date(text)
    except ValueError as error:
        raise RecsysError(f'{name} is "{text}"; {error}') from None


def _table(value: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise RecsysError(f"config: {where} is {json.dumps(value)}; it must be a table")
    return value


def write_line(key: str, value: Any, comment: str = "") -> str:
    """Returns `key = value # comment` on one line."""
    written = key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else write_text(key)
    return f"{written} = {_write(value)}" + (f" # {comment}" if comment else "")


def write_text(text: str) -> str:
    """Returns a text as a TOML string, in quotes."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")  # the only control character that JSON does not escape


def _write(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(write_line(key, inner) for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_write, value)) + "]"
    return write_text(value) if isinstance(value, str) else json.dumps(value)


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
