"""Tuning: one change at a time against a recommender's present parameters, and what was learned from it in words."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from recsys import RecsysError
from recsys.evaluation.holdout import ScoredWindow, compare
from recsys.evaluation.metrics import Interval
from recsys.recommenders import LIST_KINDS, create
from recsys.settings import Settings


@dataclass(frozen=True)
class Variant:
    """A recommender's present parameters with one of them changed; with none, the base."""

    parameters: dict[str, Any]
    changed: str = ""
    present: Any = None  # what the changed one is in config.toml, or by default

    def __str__(self) -> str:
        return self.change if self.changed else "as it is"

    @property
    def line(self) -> str:
        """The change as config.toml writes it: `leaves = 15`."""
        return f"{self.changed} = {json.dumps(self.parameters[self.changed])}"

    @property
    def change(self) -> str:
        return f"{self.line}, not {json.dumps(self.present)}"


@dataclass(frozen=True)
class Trial:
    """What came of a variant: its selection windows by kind of list and its CPU seconds, or the error that ended it."""

    variant: Variant
    windows: dict[str, list[ScoredWindow]] = field(default_factory=dict)
    cpu_seconds: float = 0.0
    error: str = ""


@dataclass(frozen=True)
class TuningResult:
    """A variant against the base: difference of NDCG@k by kind of list, CPU seconds as a ratio, and the word on it; or an error."""

    variant: Variant
    differences: dict[str, Interval]
    cost: float
    word: str
    error: str = ""


def variants(settings: Settings, name: str) -> list[Variant]:
    """The base, then a variant for every value of [tune.<name>] that is not the present one. Raises naming what is unknown."""
    if name not in settings.tune or name not in settings.recommenders:
        known = ", ".join(section for section in settings.tune if section in settings.recommenders)
        raise RecsysError(
            f'RECOMMENDER "{name}" cannot be tuned: it needs [recommenders.{name}] and [tune.{name}] in config.toml;'
            f" those that have both: {known or 'none'}"
        )
    own = settings.recommenders[name]
    present = create(name, own, settings.seed).parameters()
    for parameter in settings.tune[name].keys() - present.keys():
        raise RecsysError(f'config: "tune.{name}.{parameter}" is no parameter of {name}; it takes {", ".join(present)}')
    changes = [(parameter, value) for parameter, values in settings.tune[name].items() for value in values]
    tried = [Variant(own | {key: value}, key, present[key]) for key, value in changes if value != present[key]]
    if not tried:
        raise RecsysError(f"[tune.{name}] lists nothing but the present parameters; add the values to try to config.toml")
    return [Variant(own), *tried]


def findings(trials: Iterable[Trial], settings: Settings) -> list[TuningResult]:
    """Every variant against the base, paired by user over the selection windows. Raises if the base itself failed."""
    base, *others = sorted(trials, key=lambda trial: trial.variant.changed != "")  # the rest keep their order
    if base.error:
        raise RecsysError(f"the present parameters cannot be scored: {base.error}; nothing compares without them")
    return [judge(trial, base, settings) for trial in others]


def judge(trial: Trial, base: Trial, settings: Settings) -> TuningResult:
    if trial.error:
        return TuningResult(trial.variant, {}, 0.0, "failed", trial.error)
    both = min(len(one.windows[settings.list_kind]) for one in (trial, base))  # windows, the newest first
    differences = {
        list_kind: compare(
            trial.windows[list_kind][:both], base.windows[list_kind][:both], f"ndcg@{settings.evaluation.k}", settings
        )
        for list_kind in LIST_KINDS
    }
    return TuningResult(trial.variant, differences, trial.cpu_seconds / base.cpu_seconds, word(differences[settings.list_kind]))


def word(difference: Interval) -> str:
    if difference.low > 0:
        return "better"
    return "worse" if difference.high < 0 else "within noise"


def log(found: Sequence[TuningResult], name: str, day: str, features_id: str, settings: Settings) -> list[str]:
    """A line of tuning.md for each finding."""
    where = f"{day} {settings.name}, features {features_id}, {name}"
    return [f"- {where}: {finding.variant.change}: {measured(finding, settings)}" for finding in found]


def measured(finding: TuningResult, settings: Settings) -> str:
    """`ndcg@10 all_items +0.0020 [-0.0031, +0.0069], new_items ...; 0.83 of the CPU; within noise`."""
    if finding.error:
        return f"failed: {' '.join(finding.error.split())[:300]}"
    differences = ", ".join(f"{list_kind} {signed(difference)}" for list_kind, difference in finding.differences.items())
    return f"ndcg@{settings.evaluation.k} {differences}; {finding.cost:.2f} of the CPU; {finding.word}"


def signed(difference: Interval) -> str:
    return f"{difference.mean:+.4f} [{difference.low:+.4f}, {difference.high:+.4f}]"


def advice(found: Sequence[TuningResult], name: str, settings: Settings) -> list[str]:
    """Which change is best, and the line that makes it; or that none is better."""
    served = settings.list_kind
    better = [finding for finding in found if finding.word == "better"]
    if not better:
        return [f"nothing beats the present {name} beyond noise; config.toml stays as it is"]
    best = max(better, key=lambda finding: finding.differences[served].mean)
    why = f"ndcg@{settings.evaluation.k} {signed(best.differences[served])} against {json.dumps(best.variant.present)}"
    return [
        f"best is {best.variant.line}, by an interval that says it is more than noise; to keep it, write in config.toml"
        f" under [recommenders.{name}]:",
        f"{best.variant.line} # {why}",
    ]
