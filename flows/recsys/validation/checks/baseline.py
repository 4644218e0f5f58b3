"""Compares the winner with the other recommenders on the holdout, which was not used for selection."""

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
    message = (
        f"{users:,} users have {inputs.settings.dataset.a_target} in the holdout; a reliable interval needs {limits.min_users}"
    )
    yield CheckResult("holdout_users", users, limits.min_users, "warn", users >= limits.min_users, message)
    for list_kind in LIST_KINDS:
        yield _not_worse(inputs, list_kind)
        yield from _unbeaten(inputs, list_kind)
    yield _better(inputs)


def _not_worse(inputs: CheckInput, list_kind: str) -> CheckResult:
    """Blocks if recent popularity is better than the winner beyond noise, for the kind of list that is served by default."""
    severity: Severity = "block" if list_kind == inputs.served_kind else "warn"
    difference = inputs.gain("popularity", list_kind)
    passed = difference.high >= 0
    message = (
        f"{inputs.winner} minus popularity, {list_kind}: {inputs.metric} {difference}:"
        f" {'not worse' if passed else 'worse beyond noise'}"
    )
    return CheckResult(f"{list_kind}_not_worse_than_popularity", difference.mean, 0.0, severity, passed, message)


def _unbeaten(inputs: CheckInput, list_kind: str) -> Iterator[CheckResult]:
    """Warns if any recommender but popularity is better than the winner beyond noise. Selection looks at the kind of list that is
    served by default, so the winner may be a bad choice for the other kind."""
    gains = {name: inputs.gain(name, list_kind) for name in inputs.evaluations if name not in (inputs.winner, "popularity")}
    if gains:
        best = min(gains, key=lambda name: gains[name].high)
        difference = gains[best]
        passed = difference.high >= 0
        message = f"{inputs.winner} minus {best}, {list_kind}: {inputs.metric} {difference}: "
        message += "not worse" if passed else f"worse beyond noise; a page of {list_kind} can show {best} (lists.alternatives)"
        yield CheckResult(f"{list_kind}_not_worse_than_others", difference.mean, 0.0, "warn", passed, message)


def _better(inputs: CheckInput) -> CheckResult:
    """Warns if the winner is not better than the simplest recommender, which costs less to run and maintain."""
    simplest = next(iter(inputs.settings.recommenders))
    difference = inputs.gain(simplest, inputs.served_kind)
    passed = inputs.winner != simplest and difference.low > 0
    message = (
        f"{inputs.winner} minus {simplest}, the simplest recommender: {inputs.metric} {difference}:"
        f" {'better' if passed else 'not better beyond noise'}"
    )
    return CheckResult("better_than_simplest", difference.mean, 0.0, "warn", passed, message)
