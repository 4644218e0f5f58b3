"""Freshness: do events still come in, and is the model still of these days? The only check that asks what day it is."""

from collections.abc import Iterator
from datetime import date

from recsys.settings import Days, section
from recsys.validation.check_input import Subject
from recsys.validation_report import Verdict


@section
class Limits:
    block_days: Days
    block_model_days: Days = 90


SETTINGS: dict[str, str | tuple[str, str]] = {
    "freshness": ("dataset.max_age_days", "dataset.max_age_days block_days"),
    "model_age": ("evidence.max_model_age_days", "evidence.max_model_age_days block_model_days"),
}


def check(subject: Subject, limits: Limits) -> Iterator[Verdict]:
    yield _model(subject, limits)
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


def _model(subject: Subject, limits: Limits) -> Verdict:
    """Daily lists rely on what was proven of the model at its training. An old model makes better lists than none, so this
    warns first, and blocks much later."""
    trained, most = subject.trained_as_of, subject.settings.evidence.max_model_age_days
    age = (subject.features.as_of - trained).days
    words = f"the model was trained on events before {trained}, {age} days before {subject.features.as_of}; {most} days are normal"
    last = most + limits.block_model_days
    words += "" if age <= most else f", {last} the most: train a new one with `make run`"
    return Verdict("model_age", age, most, "block" if age > last else "warn", age <= most, words, suspect="model")
