"""Families of checks. One is a file here with `Limits` and `check(subject, limits)`, its line below, and its section [checks.*] in
config.toml, where every threshold says why it is what it is. A fork deletes all three of what it does not want."""

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
from recsys.validation.check_input import Subject
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
from recsys.validation_report import Verdict

log = logging.getLogger(__name__)

__all__ = ["FAMILIES", "Family", "Subject", "complete_raw", "examine", "limits", "required"]


@dataclass(frozen=True)
class Family:
    """`on` says what its verdicts are bound to: the model, or this run's data and lists. `when` says where it runs: in every run,
    in audits only (`make audit`, scheduled training), or at the border, when raw data lands. `suspect` is what a failure speaks
    against, where that is not `on`."""

    module: Any
    on: Literal["model", "data"]
    when: Literal["always", "audit", "landing"] = "always"
    suspect: str = ""


FAMILIES: dict[str, Family] = {
    "raw": Family(raw, "data", "landing"),
    "freshness": Family(freshness, "data"),
    "lists": Family(lists, "data", suspect="lists"),
    "released": Family(released, "data", suspect="lists"),
    "simpler": Family(baseline, "model"),
    "champion": Family(champion, "model"),
    "seeds": Family(seeds, "model", "audit"),
    "stress": Family(robustness, "model", "audit"),
    "slices": Family(slices, "model"),
    "breadth": Family(diversity, "data", suspect="lists"),
    "health": Family(health, "model"),
    "drift": Family(drift, "data"),
    "history": Family(history, "data"),
    "seen": Family(seen, "data"),
    "churn": Family(list_stability, "data", suspect="lists"),
    "leaks": Family(leaks, "model"),
    "cases": Family(cases, "data", suspect="lists"),
    "time_travel": Family(time_travel, "model", "audit"),
    "behaviour": Family(behaviour, "model", "audit"),
}


def limits(name: str, settings: Settings) -> Any:
    """A family's thresholds; raises naming the one that is missing or not known."""
    found = build(FAMILIES[name].module.Limits, settings.checks.get(name, {}), f"checks.{name}")
    for key, value in vars(found).items():
        block = getattr(found, key.replace("warn_", "block_", 1), value)
        if key.startswith("warn_") and value > block:
            raise RecsysError(
                f"config: checks.{name}.{key} is {value:g}, above {key.replace('warn_', 'block_', 1)} = {block:g}; a warning comes"
                " before a block, so lower it"
            )
    return found


def check_config(settings: Settings) -> None:
    """Raises on a threshold that is missing or misspelt, in a family that is registered or not."""
    for unknown in settings.checks.keys() - FAMILIES.keys():
        raise RecsysError(f"config: [checks.{unknown}] is no family of checks; known are {', '.join(FAMILIES)}")
    for name in FAMILIES:
        limits(name, settings)


def required(audit: bool) -> list[str]:
    """Families without which nothing is published."""
    return [name for name, family in FAMILIES.items() if audit or family.when != "audit"]


def examine(subject: Subject, audit: bool, on: Sequence[str] = ("model", "data")) -> dict[str, list[Verdict]]:
    """Every family's check results on a release, those of the border apart, which spoke before it was made. Where a change of the
    data was expected, checks that would block for it only warn."""
    advisor = _advisor(subject)
    return {
        name: _complete(advisor, name, _ask(name, subject))
        for name in required(audit)
        if FAMILIES[name].when != "landing" and FAMILIES[name].on in on
    }


def _ask(name: str, subject: Subject) -> Iterator[Verdict]:
    """A family's check results. One that stops with an error blocks, and the others still speak: a release whose files are broken
    may break a check."""
    asked = limits(name, subject.settings)
    try:
        yield from FAMILIES[name].module.check(subject, asked)
    except Exception as error:
        log.exception("the checks of %s stopped", name)
        words = (
            f"the checks of {name} stopped with {type(error).__name__}: {error}; the log says where, and other checks may say why"
        )
        yield Verdict(f"{name}_ran", type(error).__name__, "no error", "block", False, words)


def complete_raw(verdicts: Iterable[Verdict], store: Store, settings: Settings, today: date) -> list[Verdict]:
    """The check results on raw data with their settings and advice."""
    return _complete(Advisor(store, settings, settings.as_of or today, today, today), "raw", verdicts)


def _advisor(subject: Subject) -> Advisor:
    as_of, live, release = subject.features.as_of, subject.champion, subject.release.manifest
    known = expected_changes.known(subject.store, subject.settings)
    good_day = releases.as_of(live) if live else as_of
    good_day = good_day if good_day < as_of else as_of - timedelta(days=7)
    daily = "release" in release.parents
    return Advisor(subject.store, subject.settings, as_of, subject.today, good_day, release.id, daily, live is not None, known)


def _complete(advisor: Advisor, name: str, verdicts: Iterable[Verdict]) -> list[Verdict]:
    family = FAMILIES[name]
    return [advisor.complete(verdict, name, family.module, family.suspect or family.on) for verdict in verdicts]
