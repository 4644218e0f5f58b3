"""Simpler is not better: the winner against recent popularity and the simplest recommender, on the holdout, which chose nothing."""

from collections.abc import Iterator

from recsys.recommenders import LIST_KINDS
from recsys.settings import Count, section
from recsys.validation.check_input import CheckInput
from recsys.validation_report import CheckResult, Severity


@section
class BaselineLimits:
    min_users: Count


SETTINGS: dict[str, str | tuple[str, str]] = {"holdout_users": "min_users"}


def check(inputs: CheckInput, limits: BaselineLimits) -> Iterator[CheckResult]:
    users = len(inputs.holdout(inputs.winner).users)
    who = f"{users:,} users returned with {inputs.settings.dataset.a_target} in the holdout"
    words = f"{who}; {limits.min_users} are needed for an interval that means something"
    yield CheckResult("holdout_users", users, limits.min_users, "warn", users >= limits.min_users, words)
    for list_kind in LIST_KINDS:
        yield _not_worse(inputs, list_kind)
    yield _better(inputs)


def _not_worse(inputs: CheckInput, list_kind: str) -> CheckResult:
    """Recent popularity must not be better beyond noise: under the kind of list that is served it blocks."""
    severity: Severity = "block" if list_kind == inputs.repeat else "warn"
    difference = inputs.gain("popularity", list_kind)
    passed = difference.high >= 0
    words = f"{inputs.winner} against popularity, {list_kind}: {inputs.metric} differs by {difference}"
    said = f"{words}: {'not worse' if passed else 'worse beyond noise'}"
    return CheckResult(f"{list_kind}_not_worse_than_popularity", difference.mean, 0.0, severity, passed, said)


def _better(inputs: CheckInput) -> CheckResult:
    """A model that is not better than the simplest costs its upkeep for nothing."""
    simplest = next(iter(inputs.settings.recommenders))
    difference = inputs.gain(simplest, inputs.repeat)
    passed = inputs.winner != simplest and difference.low > 0
    words = f"{inputs.winner} against the simplest, {simplest}: {inputs.metric} differs by {difference}"
    said = f"{words}: {'better' if passed else 'not better beyond noise'}"
    return CheckResult("better_than_simplest", difference.mean, 0.0, "warn", passed, said)
