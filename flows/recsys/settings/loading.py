"""config.toml as checked settings, so that a wrong value stops a run at its start and is named.

`parse` reads the file, `resolve` lays a run's parameters over it and returns `Settings`, `restore` takes up those that a release
kept, `read_operations` returns the settings of deployed flows.
"""

import json
import tomllib
from collections.abc import Mapping
from dataclasses import fields
from datetime import date, time
from typing import Any

from recsys import RecsysError
from recsys.settings.deployment import SECTIONS, AlertSettings, Cloud, MonitorSettings, Operations, Resources, Schedule
from recsys.settings.deployment import read as read_operations
from recsys.settings.run import Dataset, Settings
from recsys.settings.validation import build, check_parameters, parse_date, section

__all__ = [
    "AlertSettings",
    "Cloud",
    "Dataset",
    "MonitorSettings",
    "Operations",
    "Resources",
    "Schedule",
    "Settings",
    "build",
    "check_parameters",
    "parse",
    "parse_day",
    "read_operations",
    "resolve",
    "restore",
    "section",
]


TABLES = {*SECTIONS, "cloud", "datasets", *(one.name for one in fields(Settings))} - {"dataset", "seed"}


def parse(text: str) -> dict[str, Any]:
    """config.toml as plain values (dates as ISO text), the form in which it travels with a deployed flow."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [plain(inner) for inner in value]
        return value.isoformat() if isinstance(value, date | time) else value

    try:
        values = plain(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise RecsysError(f"config.toml cannot be read: {error}; mend that line") from None
    for name in TABLES & values.keys():
        _table(values[name], name)
    return values


def resolve(
    config: Mapping[str, Any], dataset: str = "", as_of: str = "", sample: float = 1.0, inputs: Mapping[str, str] = {}
) -> Settings:
    """Lays a run's parameters over the config; empty ones leave what is there. `inputs` are source settings of the source.

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
        raise RecsysError(f"SAMPLE {sample} is no share of the users; pass a number above 0 and up to 1")
    chosen = dict(_table(datasets[dataset], f"datasets.{dataset}"))
    own = _table(chosen.get("source_settings", {}), f"datasets.{dataset}.source_settings")
    chosen["source_settings"] = dict(own) | {name: path for name, path in inputs.items() if path}
    build(Dataset, chosen, f"datasets.{dataset}")  # names a wrong key as config.toml does
    name = dataset if sample == 1 else f"{dataset}-sample-{sample:g}"
    values |= {
        "name": name,
        "cases": [case for case in values["cases"] if case["dataset"] == name],
        "expected": [change for change in values["expected"] if change["dataset"] == dataset],  # of its samples too
        "dataset": chosen,
        "as_of": parse_day("AS_OF", as_of).isoformat() if as_of else None,
        "sample": sample,
    }
    return build(Settings, values, "")


def restore(values: Mapping[str, Any]) -> Settings:
    """Settings as a release's manifest keeps them. Raises RecsysError if they are those of other code."""
    return build(Settings, dict(values), "")


def parse_day(name: str, text: str) -> date:
    """An ISO date given by a person."""
    try:
        return parse_date(text)
    except ValueError as error:
        raise RecsysError(f'{name} is "{text}"; {error}') from None


def _table(value: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise RecsysError(f"config: {where} is {json.dumps(value)}; it must be a table")
    return value
