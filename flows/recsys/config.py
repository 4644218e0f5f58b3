"""Settings: config.toml as frozen dataclasses, checked once, so that a misspelt dial stops the run at its start."""

import dataclasses
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

from recsys import RecsysError


def at_least(least: int, **sections: Mapping[str, int]) -> None:
    """Refuses smaller values; `sections` by name, each with its dials."""
    for section, dials in sections.items():
        for name, value in dials.items():
            if value < least:
                raise RecsysError(f"config: {section}.{name} is {value}; it must be {least} or more")


OPERATIONS = ("recommend", "monitor", "alerts", "unattended", "schedule", "resources")  # operations.py reads them

HOST = re.compile(r"\*|[\w-]+(\.[\w-]+)*|\[[0-9a-fA-F:.]+\]", re.ASCII)
TAKES: dict[Any, Any] = {int: int, float: (int, float), str: str, bool: bool}


@dataclass(frozen=True)
class Store:
    root: str


@dataclass(frozen=True)
class Warehouse:
    memory_limit: str
    threads: int


@dataclass(frozen=True)
class Features:
    training_windows: int
    history_cap: int
    sample_users: int


@dataclass(frozen=True)
class Evaluation:
    k: int
    selection_windows: int
    bootstraps: int

    @property
    def ks(self) -> list[int]:
        """Depths down to which lists are scored; `k` is the one that decides and that tables show."""
        return sorted({5, 10, 20, self.k})

    def __post_init__(self) -> None:
        at_least(1, evaluation=vars(self))


def _take_texts(**dials: Any) -> None:
    for name, value in dials.items():
        if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
            raise RecsysError(f'config: {name} is {value!r}; give it a list of texts, such as ["a", "b"]')


@dataclass(frozen=True)
class Lists:
    length: int
    repeat: str
    beside: list[str]

    def __post_init__(self) -> None:
        _take_texts(**{"lists.beside": self.beside})
        if self.repeat not in ("allow", "novel"):
            raise RecsysError(f'config: lists.repeat is "{self.repeat}"; set it to "allow" or "novel"')


@dataclass(frozen=True)
class Rules:
    """What may be listed, whatever a recommender thinks of it; rules.py applies it."""

    blocked: list[str]
    blocked_categories: list[str]
    min_age_days: int
    max_age_days: int
    max_days_unsold: int
    max_category_share: float
    static: list[str]

    def __post_init__(self) -> None:
        _take_texts(**{f"rules.{name}": getattr(self, name) for name in ("blocked", "blocked_categories", "static")})
        at_least(0, rules={name: getattr(self, name) for name in ("min_age_days", "max_age_days", "max_days_unsold")})
        if 0 < self.max_age_days < self.min_age_days:
            raise RecsysError(
                f"config: rules.max_age_days = {self.max_age_days} is below min_age_days = {self.min_age_days}, so nothing could be"
                " listed; raise it, or set it to 0"
            )
        if not 0 < self.max_category_share <= 1:
            raise RecsysError(f"config: rules.max_category_share is {self.max_category_share}; set it above 0 and up to 1")


@dataclass(frozen=True)
class Serve:
    """`allowed_hosts`: names by which the service may be asked, without a port; "*" for any."""

    host: str
    port: int
    allowed_hosts: list[str]
    poll_seconds: float
    max_lag_seconds: float
    demo: bool
    exposures: bool
    flush_seconds: float
    canary_answers: int
    canary_failures: float

    def __post_init__(self) -> None:
        at_least(1, serve={"canary_answers": self.canary_answers})
        _take_texts(**{"serve.allowed_hosts": self.allowed_hosts})
        for host in self.allowed_hosts:
            if not HOST.fullmatch(host):
                raise RecsysError(
                    f'config: serve.allowed_hosts names "{host}"; write a name or an address without scheme and port, such as'
                    ' "recs.example.com", "10.0.0.7" or "[::1]", or "*" for any'
                )
        for name in ("poll_seconds", "max_lag_seconds", "flush_seconds"):
            if getattr(self, name) <= 0:
                raise RecsysError(f"config: serve.{name} is {getattr(self, name)}; it must be above 0")


@dataclass(frozen=True)
class Evidence:
    audit: bool
    seeds: int
    resamples: int
    max_model_age_days: int

    def __post_init__(self) -> None:
        at_least(2, evidence={"seeds": self.seeds})
        at_least(0, evidence={"resamples": self.resamples})


@dataclass(frozen=True)
class Dataset:
    source: str
    horizon_days: int
    step_days: int
    max_quarantine: float
    max_daily_events: int
    max_age_days: int
    dials: dict

    def __post_init__(self) -> None:
        if self.step_days < 1 or self.horizon_days < 1 or self.horizon_days % self.step_days:
            raise RecsysError(
                f"config: horizon_days = {self.horizon_days} is no multiple of step_days = {self.step_days};"
                " cutoffs lie on one grid, so make it one"
            )


@dataclass(frozen=True)
class Settings:
    """One run's settings: config.toml with the dataset chosen and the run's parameters laid over it."""

    name: str  # the dataset's folder in the store: its name, with the sample's share where there is one
    seed: int
    store: Store
    warehouse: Warehouse
    features: Features
    evaluation: Evaluation
    lists: Lists
    rules: Rules
    serve: Serve
    recommenders: dict[str, dict]
    tune: dict[str, dict]
    evidence: Evidence
    checks: dict[str, dict]
    cases: list[dict]  # of cases.jsonl, this dataset's
    dataset: Dataset
    as_of: date | None
    sample: float

    def __post_init__(self) -> None:
        if "popularity" not in self.recommenders:
            raise RecsysError("config: [recommenders.popularity] is missing; it is the baseline nothing may be worse than, add it")
        for name in self.lists.beside:
            if name not in self.recommenders:
                raise RecsysError(f'config: lists.beside names "{name}"; choose of {", ".join(self.recommenders)}')
        for name, space in self.tune.items():
            if not isinstance(space, dict) or not all(isinstance(values, list) for values in space.values()):
                raise RecsysError(f"config: [tune.{name}] is {space!r}; give each parameter a list of the values to try")

    @property
    def evaluated_days(self) -> list[int]:
        """Days before `as_of` of the holdout's cutoff and those of selection: horizons that do not overlap, newest first."""
        return [self.dataset.horizon_days * (window + 1) for window in range(self.evaluation.selection_windows + 1)]

    @property
    def cutoff_days(self) -> list[int]:
        """Days before `as_of` of every cutoff: serving, then a grid on which each evaluated cutoff, and serving, has its
        training windows behind it, horizons over."""
        step, horizon = self.dataset.step_days, self.dataset.horizon_days
        oldest = self.evaluated_days[-1] + horizon + (self.features.training_windows - 1) * step
        return [0, *range(horizon, oldest + 1, step)]


def parse(text: str) -> dict[str, Any]:
    """config.toml as plain values (dates as ISO text), the form in which it travels with a deployed flow."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(inner) for key, inner in value.items()}
        return value.isoformat() if isinstance(value, date) else value

    try:
        return plain(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise RecsysError(f"config.toml cannot be read: {error}; mend that line") from None


def resolve(
    config: Mapping[str, Any], dataset: str = "", as_of: str = "", sample: float = 1.0, inputs: Mapping[str, str] = {}
) -> Settings:
    """Lays a run's parameters over the config; empty ones leave what is there. `inputs` are dials of the source."""
    values = {"tune": {}, "cases": []} | {name: value for name, value in config.items() if name not in OPERATIONS}
    datasets = values.pop("datasets", {})
    dataset = dataset or values.pop("dataset", "")
    values.pop("dataset", None)
    values.pop("cloud", None)  # where a run takes place changes nothing of what it makes
    if dataset not in datasets:
        raise RecsysError(f'DATASET "{dataset}" is not in config.toml; choose one of {", ".join(datasets)}')
    if not 0 < sample <= 1:
        raise RecsysError(f"SAMPLE {sample} is no share of the users; pass a number above 0 and up to 1")
    chosen = dict(datasets[dataset])
    chosen["dials"] = dict(chosen.get("dials", {})) | {name: path for name, path in inputs.items() if path}
    values |= {
        "name": (name := dataset if sample == 1 else f"{dataset}-sample-{sample:g}"),
        "cases": [case for case in values["cases"] if case["dataset"] == name],
        "dataset": chosen,
        "as_of": day("AS_OF", as_of) if as_of else None,
        "sample": sample,
    }
    return build(Settings, values, "config")


def restore(values: Mapping[str, Any]) -> Settings:
    """Settings as a release's manifest keeps them; raises if they are those of other code."""
    as_of = values.get("as_of")
    return build(Settings, dict(values) | {"as_of": date.fromisoformat(as_of) if as_of else None}, "config")


def day(name: str, text: str) -> date:
    """An ISO date given by a person."""
    if re.fullmatch(r"\d{4}-\d\d-\d\d", text):
        try:
            return date.fromisoformat(text)
        except ValueError:
            pass
    raise RecsysError(f'{name} "{text}" is no date; write it as YYYY-MM-DD')


def build(kind: type, values: Mapping[str, Any], where: str) -> Any:
    """A dataclass from a mapping that has exactly its fields; errors name the dial."""
    types: dict[str, Any] = {field.name: field.type for field in dataclasses.fields(kind)}
    for wrong in values.keys() - types.keys():
        raise RecsysError(f'config: "{where}.{wrong}" is not a setting; known are {", ".join(types)}')
    for missing in types.keys() - values.keys():
        raise RecsysError(f'config: "{where}.{missing}" is missing; add it to config.toml')
    built = {}
    for name, type_ in types.items():
        value = values[name]
        if isinstance(type_, type) and dataclasses.is_dataclass(type_):
            value = build(type_, value, f"{where}.{name}")
        elif type_ in TAKES and (isinstance(value, bool) != (type_ is bool) or not isinstance(value, TAKES[type_])):
            raise RecsysError(f'config: "{where}.{name}" is {value!r}; it takes a value of type {type_.__name__}')
        built[name] = value
    return kind(**built)
