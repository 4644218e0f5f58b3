"""Tuning: compares changes of one parameter at a time with a recommender's present parameters, and describes the results."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from recsys import RecsysError
from recsys.evaluation.holdout import ScoredWindow, compare
from recsys.evaluation.limits import Costs
from recsys.evaluation.metrics import Interval
from recsys.recommenders import LIST_KINDS, create
from recsys.settings import Settings
from recsys.validation_report import Limits


@dataclass(frozen=True)
class Variant:
    """A recommender's present parameters with one of them changed, or the base, in which none is changed."""

    parameters: dict[str, Any]
    changed: str = ""  # name of the changed parameter, empty for the base
    present: Any = None  # its value in config.toml, or its default

    def __str__(self) -> str:
        return self.change if self.changed else "as it is"

    @property
    def line(self) -> str:
        """The change as a line of config.toml, such as `leaves = 15`."""
        return f"{self.changed} = {json.dumps(self.parameters[self.changed])}"

    @property
    def change(self) -> str:
        return f"{self.line}, not {json.dumps(self.present)}"


@dataclass(frozen=True)
class Trial:
    """The evaluation of a variant: its scored windows by kind of list and its CPU seconds, or the error that ended it."""

    variant: Variant
    windows: dict[str, list[ScoredWindow]] = field(default_factory=dict)
    cpu_seconds: float = 0.0
    error: str = ""


@dataclass(frozen=True)
class TuningResult:
    """Comparison of a variant with the base. differences: of NDCG@k by kind of list. cost: CPU seconds divided by those of the
    base. word: `better`, `worse`, `within noise`, or `failed` with an error."""

    variant: Variant
    differences: dict[str, Interval]
    cost: float
    word: str
    error: str = ""


def variants(settings: Settings, name: str) -> list[Variant]:
    """The base, and a variant for each value of [tune.<name>] that is not the present one. Raises RecsysError naming a recommender
    or parameter that is unknown, and if there is nothing to try."""
    if name not in settings.tune or name not in settings.recommenders:
        known = ", ".join(section for section in settings.tune if section in settings.recommenders)
        raise RecsysError(
            f'RECOMMENDER "{name}" cannot be tuned: it needs [recommenders.{name}] and [tune.{name}] in config.toml;'
            f" those that have both: {known or 'none'}"
        )
    own = settings.recommenders[name]
    present = create(name, own, settings.seed).parameters()
    for parameter in settings.tune[name].keys() - present.keys():
        raise RecsysError(f"config: tune.{name}.{parameter} is unknown: {name} has no such parameter; it has {', '.join(present)}")
    changes = [(parameter, value) for parameter, values in settings.tune[name].items() for value in values]
    tried = [Variant(own | {key: value}, key, present[key]) for key, value in changes if value != present[key]]
    if not tried:
        raise RecsysError(f"config: [tune.{name}] lists only the present parameters; add the values to try")
    return [Variant(own), *tried]


def findings(trials: Iterable[Trial], settings: Settings) -> list[TuningResult]:
    """Compares each variant with the base, paired by user over the windows that both have. Raises RecsysError if the base
    failed."""
    base, *others = sorted(trials, key=lambda trial: trial.variant.changed != "")  # the base first; the others keep their order
    if base.error:
        raise RecsysError(f"the present parameters cannot be scored: {base.error}; without them there is nothing to compare with")
    return [judge(trial, base, settings) for trial in others]


def judge(trial: Trial, base: Trial, settings: Settings) -> TuningResult:
    if trial.error:
        return TuningResult(trial.variant, {}, 0.0, "failed", trial.error)
    shared = min(len(windows[settings.list_kind]) for windows in (trial.windows, base.windows))
    metric = settings.evaluation.metric
    differences = {
        list_kind: compare(trial.windows[list_kind][:shared], base.windows[list_kind][:shared], metric, settings)
        for list_kind in LIST_KINDS
    }
    served = differences[settings.list_kind]
    word = "better" if served.low > 0 else "worse" if served.high < 0 else "within noise"
    return TuningResult(trial.variant, differences, trial.cpu_seconds / base.cpu_seconds, word)


def log(results: Sequence[TuningResult], name: str, day: str, features_id: str, settings: Settings) -> list[str]:
    """Lines of tuning.md, one for each result."""
    where = f"{day} {settings.name}, features {features_id}, {name}"
    return [f"- {where}: {result.variant.change}: {measured(result, settings)}" for result in results]


def limits_log(
    found: Mapping[str, Limits], costs: Costs | None, name: str, day: str, features_id: str, settings: Settings
) -> list[str]:
    """Lines of tuning.md about the candidates and features of a recommender: two for each kind of list, and one about costs; none
    for a recommender without candidates."""
    where, metric = f"- {day} {settings.name}, features {features_id}, {name}", settings.evaluation.metric
    lines = []
    for list_kind, one in found.items():
        sources = "; ".join(
            f"{source} {part.recall:.3f} / {part.only:.3f} / {signed(Interval(*part.gain))}" for source, part in one.sources.items()
        )
        lines.append(
            f"{where}: candidates, {list_kind}: {one.recall[0]:.3f} of the relevant items; {metric} {one.ranked[0]:.3f}, and"
            f" {one.perfect[0]:.3f} if ranked perfectly; by source recall / of no other source / gain: {sources}"
        )
        helpful = {feature: drop for feature, drop in one.importance.items() if drop[1] > 0}
        drops = ", ".join(f"{feature} {signed(Interval(*drop))}" for feature, drop in helpful.items())
        rest = ", ".join(feature for feature in one.importance if feature not in helpful)
        lines.append(f"{where}: features, {list_kind}: {metric} lost by permuting {drops or 'none'}; within noise {rest or 'none'}")
    if costs:
        sources = ", ".join(f"{source} {seconds:.2f}" for source, seconds in costs.sources.items())
        lines.append(
            f"{where}: CPU seconds at one cutoff: to fit and score {sources}; to look up all other features {costs.features:.2f};"
            f" to fit the ranker {costs.ranker:.2f} per feature"
        )
    return lines


def measured(result: TuningResult, settings: Settings) -> str:
    """Such as `ndcg@10 all_items +0.0020 [-0.0031, +0.0069], new_items ...; 0.83 of the CPU; within noise`."""
    if result.error:
        return f"failed: {' '.join(result.error.split())[:300]}"
    differences = ", ".join(f"{list_kind} {signed(difference)}" for list_kind, difference in result.differences.items())
    return f"{settings.evaluation.metric} {differences}; {result.cost:.2f} of the CPU; {result.word}"


def signed(difference: Interval) -> str:
    return f"{difference.mean:+.4f} [{difference.low:+.4f}, {difference.high:+.4f}]"


def advice(results: Sequence[TuningResult], name: str, settings: Settings) -> list[str]:
    """The best change with the line of config.toml that makes it, or that no change is better."""
    served = settings.list_kind
    better = [result for result in results if result.word == "better"]
    if not better:
        return [f"no change beats the present {name} beyond noise; leave config.toml as it is"]
    best = max(better, key=lambda result: result.differences[served].mean)
    why = f"{settings.evaluation.metric} {signed(best.differences[served])} against {json.dumps(best.variant.present)}"
    return [
        f"best is {best.variant.line}, better beyond noise; to keep it, write in config.toml under [recommenders.{name}]:",
        f"{best.variant.line} # {why}",
    ]
