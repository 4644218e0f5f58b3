"""Freshness: do events still come in, and is the model still of these days? The only check that asks what day it is."""

from collections.abc import Iterator
from datetime import date

from recsys.checks.subject import Subject
from recsys.settings.validation import Days, section
from recsys.verdicts import Verdict


@section
class Limits:
    block_days: Days


def check(subject: Subject, limits: Limits) -> Iterator[Verdict]:
    yield _model(subject)
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


def _model(subject: Subject) -> Verdict:
    """What was proven of a model is taken over by later lists, for a while."""
    trained, most = subject.trained_as_of, subject.settings.evidence.max_model_age_days
    age = (subject.features.as_of - trained).days
    words = f"the model has learned up to {trained}, {age} days before {subject.features.as_of}; {most} are allowed"
    old = "" if age <= most else " (evidence.max_model_age_days): train, with `make run`"
    return Verdict("model_age", age, most, "block", age <= most, words + old)
