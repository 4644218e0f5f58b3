"""Checks that events still arrive and that the model is not too old. The only check that depends on today's date."""

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
        message = f"the last event is of {last}; its age is not checked, because max_age_days = 0 says that the history is closed"
        yield CheckResult("freshness", age, "any", "warn", True, message)
        return
    message = f"the last event is of {last}, {age} days before {inputs.today}; up to {normal} days are normal (max_age_days)"
    severe = age > normal + limits.block_days
    yield CheckResult("freshness", age, normal, "block" if severe else "warn", age <= normal, message)


def _model(inputs: CheckInput, limits: FreshnessLimits) -> CheckResult:
    """Daily lists rely on the checks that the model passed when it was trained. Lists of an old model are better than no lists, so
    this warns first and blocks much later."""
    trained, maximum = inputs.trained_as_of, inputs.settings.validation.max_model_age_days
    age, block = (inputs.features.as_of - trained).days, maximum + limits.block_model_days
    message = f"the model was trained on events before {trained}, {age} days before {inputs.features.as_of}; up to {maximum} days"
    message += " are normal" if age <= maximum else f" are normal and more than {block} block: train a new one with `make run`"
    return CheckResult("model_age", age, maximum, "block" if age > block else "warn", age <= maximum, message, suspect="model")
