"""Freshness: do events still come in, and is the model still of these days? The only check that asks what day it is."""

from collections.abc import Iterator
from datetime import date

from recsys.settings import Days, section
from recsys.validation.check_input import CheckInput
from recsys.validation_report import CheckResult


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
    last, normal = date.fromisoformat(inputs.features.counts()["last_day"]), inputs.settings.dataset.max_age_days
    age = (inputs.today - last).days
    if not normal:
        yield CheckResult(
            "freshness", age, "any", "warn", True, f"the last event is of {last}; closed histories are not asked to be fresh"
        )
        return
    words = f"the last event is of {last}, {age} days before {inputs.today}; {normal} are normal (max_age_days)"
    severe = age > normal + limits.block_days
    yield CheckResult("freshness", age, normal, "block" if severe else "warn", age <= normal, words)


def _model(inputs: CheckInput, limits: FreshnessLimits) -> CheckResult:
    """Daily lists rely on what was proven of the model at its training. An old model makes better lists than none, so this
    warns first, and blocks much later."""
    trained, most = inputs.trained_as_of, inputs.settings.validation.max_model_age_days
    age = (inputs.features.as_of - trained).days
    words = f"the model was trained on events before {trained}, {age} days before {inputs.features.as_of}; {most} days are normal"
    last = most + limits.block_model_days
    words += "" if age <= most else f", {last} the most: train a new one with `make run`"
    return CheckResult("model_age", age, most, "block" if age > last else "warn", age <= most, words, suspect="model")
