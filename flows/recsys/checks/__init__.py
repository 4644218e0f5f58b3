"""Families of checks. One is a file here with `Limits` and `check(subject, limits)`, its line below, and its section [checks.*] in
config.toml, where every threshold says why it is what it is. A fork deletes all three of what it does not want."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from recsys import RecsysError
from recsys.checks import (
    behaviour,
    breadth,
    cases,
    champion,
    churn,
    drift,
    freshness,
    health,
    leaks,
    lists,
    raw,
    released,
    seeds,
    seen,
    simpler,
    slices,
    stress,
    time_travel,
)
from recsys.checks.subject import Subject
from recsys.settings import Settings, build
from recsys.verdicts import Verdict

__all__ = ["FAMILIES", "Family", "Subject", "examine", "limits", "required"]


@dataclass(frozen=True)
class Family:
    """`on` says what its verdicts are bound to: the model, or this run's data and lists. `when` says where it runs: in every run,
    in audits only (`make audit`, scheduled training), or at the border, when raw data lands."""

    module: Any
    on: Literal["model", "data"]
    when: Literal["always", "audit", "landing"] = "always"


FAMILIES: dict[str, Family] = {
    "raw": Family(raw, "data", "landing"),
    "freshness": Family(freshness, "data"),
    "lists": Family(lists, "data"),
    "released": Family(released, "data"),
    "simpler": Family(simpler, "model"),
    "champion": Family(champion, "model"),
    "seeds": Family(seeds, "model", "audit"),
    "stress": Family(stress, "model", "audit"),
    "slices": Family(slices, "model"),
    "breadth": Family(breadth, "data"),
    "health": Family(health, "model"),
    "drift": Family(drift, "data"),
    "seen": Family(seen, "data"),
    "churn": Family(churn, "data"),
    "leaks": Family(leaks, "model"),
    "cases": Family(cases, "data"),
    "time_travel": Family(time_travel, "model", "audit"),
    "behaviour": Family(behaviour, "model", "audit"),
}


def limits(name: str, settings: Settings) -> Any:
    """A family's thresholds; raises naming the one that is missing or not known."""
    return build(FAMILIES[name].module.Limits, settings.checks.get(name, {}), f"checks.{name}")


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
    """Every family's verdicts on a release, those of the border apart, which spoke before it was made."""
    return {
        name: list(FAMILIES[name].module.check(subject, limits(name, subject.settings)))
        for name in required(audit)
        if FAMILIES[name].when != "landing" and FAMILIES[name].on in on
    }
