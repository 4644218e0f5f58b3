"""Checks that events still arrive and that the model is not too old. The only check that depends on today's date."""

import math
from collections.abc import Iterator
from datetime import date

from recsys.features import Features
from recsys.settings import Days, Settings, section
from recsys.validation.check_input import CheckInput
from recsys.validation_report import CheckResult, Severity


@section
class FreshnessLimits:
    block_days: Days
    block_model_days: Days = 90


SETTINGS: dict[str, str | tuple[str, str]] = {
    "freshness": ("dataset.max_age_days", "dataset.max_age_days block_days"),
    "model_age": ("validation.max_model_age_days", "validation.max_model_age_days block_model_days"),
}


def check(inputs: CheckInput, limits: FreshnessLimits) -> Iterator[CheckResult]:
    yield _model(inputs, limits)
    yield event_age("freshness", inputs.features, inputs.today, inputs.settings, limits.block_days)


def event_age(name: str, features: Features, today: date, settings: Settings, block_days: float = math.inf) -> CheckResult:
    """The age of the last event. Blocks if it is above `max_age_days` by more than `block_days`."""
    last, normal = date.fromisoformat(features.counts()["last_day"]), settings.dataset.max_age_days
    age = (today - last).days
    message = f"the last event is of {last}, {age} days before {today}"
    if not normal:
        message += "; with max_age_days = 0 the history is closed: its age is not checked, and releases are dated by their data"
        return CheckResult(name, age, "any", "warn", True, message)
    severity: Severity = "block" if age > normal + block_days else "warn"
    return CheckResult(name, age, normal, severity, age <= normal, f"{message}; up to {normal} days are normal (max_age_days)")


def _model(inputs: CheckInput, limits: FreshnessLimits) -> CheckResult:
    """Daily lists rely on the checks that the model passed when it was trained. Lists of an old model are better than no lists, so
    this warns first and blocks much later."""
    trained, maximum = inputs.trained_as_of, inputs.settings.validation.max_model_age_days
    age, block = (inputs.features.as_of - trained).days, maximum + limits.block_model_days
    message = f"the model was trained on events before {trained}, {age} days before {inputs.features.as_of}; up to {maximum} days"
    message += " are normal" if age <= maximum else f" are normal and more than {block} block: train a new one with `make run`"
    return CheckResult("model_age", age, maximum, "block" if age > block else "warn", age <= maximum, message, suspect="model")
