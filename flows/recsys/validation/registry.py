"""The registry of checks.

A check is a module in checks/ with a limits class and a function `check(inputs, limits)`, a line in CHECKS below, and a section
[checks.<name>] in config.toml, where a comment gives the reason of each threshold. To remove a check, delete all three.

The module may also have `SETTINGS`: for a name or pattern of its check results, the settings that hold the threshold, so that a
failed result can name them. `"few many dataset.exclude_seen"` names three settings with spaces between them: two of the check's
section, and one of the dataset's. A tuple holds the setting that warns and the one that blocks. advice.py has the whole form.
"""

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, Literal

from recsys import RecsysError, releases
from recsys.settings import Settings, build
from recsys.store import Store
from recsys.validation import expected_changes
from recsys.validation.advice import Advisor
from recsys.validation.check_input import CheckInput
from recsys.validation.checks import (
    baseline,
    behaviour,
    cases,
    champion,
    diversity,
    drift,
    freshness,
    health,
    history,
    leaks,
    list_stability,
    lists,
    raw,
    released,
    robustness,
    seeds,
    seen,
    slices,
    time_travel,
)
from recsys.validation_report import CheckResult

log = logging.getLogger(__name__)

__all__ = ["CHECKS", "Check", "CheckInput", "complete_raw", "examine", "limits", "required"]


@dataclass(frozen=True)
class Check:
    """A registered check.

    on: what its results are about, the model or this run's data and lists. Results about a model stay valid for later daily lists.
    when: "always" runs in every run, "audit" in audits only (`make audit`, validation.audit = true), "landing" when raw data
        lands.
    suspect: what is probably at fault if the check fails; `on` if empty.
    """

    module: Any
    limits: type
    on: Literal["model", "data"]
    when: Literal["always", "audit", "landing"] = "always"
    suspect: str = ""


CHECKS: dict[str, Check] = {
    "raw": Check(raw, raw.RawLimits, "data", "landing"),
    "freshness": Check(freshness, freshness.FreshnessLimits, "data"),
    "lists": Check(lists, lists.ListsLimits, "data", suspect="lists"),
    "released": Check(released, released.ReleasedLimits, "data", suspect="lists"),
    "baseline": Check(baseline, baseline.BaselineLimits, "model"),
    "champion": Check(champion, champion.ChampionLimits, "model"),
    "seeds": Check(seeds, seeds.SeedsLimits, "model", "audit"),
    "robustness": Check(robustness, robustness.RobustnessLimits, "model", "audit"),
    "slices": Check(slices, slices.SlicesLimits, "model"),
    "diversity": Check(diversity, diversity.DiversityLimits, "data", suspect="lists"),
    "health": Check(health, health.HealthLimits, "model"),
    "drift": Check(drift, drift.DriftLimits, "data"),
    "history": Check(history, history.HistoryLimits, "data"),
    "seen": Check(seen, seen.SeenLimits, "data"),
    "list_stability": Check(list_stability, list_stability.ListStabilityLimits, "data", suspect="lists"),
    "leaks": Check(leaks, leaks.LeaksLimits, "model"),
    "cases": Check(cases, cases.CasesLimits, "data", suspect="lists"),
    "time_travel": Check(time_travel, time_travel.TimeTravelLimits, "model", "audit"),
    "behaviour": Check(behaviour, behaviour.BehaviourLimits, "model", "audit"),
}


def limits(name: str, settings: Settings) -> Any:
    """The thresholds of a check. Raises RecsysError naming a setting that is missing, unknown or inconsistent."""
    found: Any = build(CHECKS[name].limits, settings.checks.get(name, {}), f"checks.{name}")
    for key, value in vars(found).items():
        block = getattr(found, key.replace("warn_", "block_", 1), value)
        if key.startswith("warn_") and value > block:
            raise RecsysError(
                f"config: checks.{name}.{key} is {value:g}, above {key.replace('warn_', 'block_', 1)} = {block:g}; lower it, so"
                " that the check warns before it blocks"
            )
    return found


def check_config(settings: Settings) -> None:
    """Raises RecsysError naming a missing or misspelt threshold or a section of an unknown check."""
    for unknown in settings.checks.keys() - CHECKS.keys():
        raise RecsysError(f"config: [checks.{unknown}] belongs to no check; known checks are {', '.join(CHECKS)}")
    for name in CHECKS:
        limits(name, settings)


def required(audit: bool) -> list[str]:
    """Names of the checks that a release needs results of before it can be published."""
    return [name for name, check in CHECKS.items() if audit or check.when != "audit"]


def examine(inputs: CheckInput, audit: bool, on: Sequence[str] = ("model", "data")) -> dict[str, list[CheckResult]]:
    """Runs the checks on a release and returns their results by check. Checks of raw data are not included: they ran when the data
    landed. A check that would block because of an expected change only warns."""
    advisor = _advisor(inputs)
    return {
        name: _complete(advisor, name, _run(name, inputs))
        for name in required(audit)
        if CHECKS[name].when != "landing" and CHECKS[name].on in on
    }


def _run(name: str, inputs: CheckInput) -> Iterator[CheckResult]:
    """Runs one check. If it raises, for instance because a file of the release is broken, the error becomes a result that blocks,
    and the other checks still run."""
    thresholds = limits(name, inputs.settings)
    try:
        yield from CHECKS[name].module.check(inputs, thresholds)
    except Exception as error:
        log.exception("check %s stopped with an error", name)
        message = (
            f"check {name} stopped with {type(error).__name__}: {error}; the log shows where, other check results may explain why"
        )
        yield CheckResult(f"{name}_ran", type(error).__name__, "no error", "block", False, message)


def complete_raw(results: Iterable[CheckResult], store: Store, settings: Settings, today: date) -> list[CheckResult]:
    """Adds settings and advice to the check results on raw data."""
    return _complete(Advisor(store, settings, settings.as_of or today, today, today), "raw", results)


def _advisor(inputs: CheckInput) -> Advisor:
    as_of, live, release = inputs.features.as_of, inputs.live, inputs.release.manifest
    known = expected_changes.known(inputs.store, inputs.settings)
    good_day = releases.as_of(live) if live else as_of
    good_day = good_day if good_day < as_of else as_of - timedelta(days=7)
    daily = "release" in release.parents
    return Advisor(inputs.store, inputs.settings, as_of, inputs.today, good_day, release.id, daily, live is not None, known)


def _complete(advisor: Advisor, name: str, results: Iterable[CheckResult]) -> list[CheckResult]:
    check = CHECKS[name]
    return [advisor.complete(result, name, check.module, check.suspect or check.on) for result in results]
