"""Freshness: do events still come in, and is the last day of data whole? The only check that asks what day it is."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date

from recsys.checks.subject import Subject
from recsys.verdicts import Verdict


@dataclass(frozen=True)
class Limits:
    block_days: int


def check(subject: Subject, limits: Limits) -> Iterator[Verdict]:
    last, normal = date.fromisoformat(subject.features.counts()["last_day"]), subject.settings.dataset.max_age_days
    age = (subject.today - last).days
    if not normal:
        yield Verdict(
            "freshness", age, "any", "warn", True, f"the last event is of {last}; closed histories are not asked to be fresh"
        )
        return
    words = f"the last event is of {last}, {age} days before {subject.today}; {normal} are normal (max_age_days)"
    severe = age > normal + limits.block_days
    yield Verdict("freshness", age, normal, "block" if severe else "warn", age <= normal, words)
