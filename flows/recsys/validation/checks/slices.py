"""Checks that no slice of users or items is served much worse than average, on the winner's holdout."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from recsys.evaluation import Interval, bootstrap, relevant
from recsys.recommenders import LIST_KINDS
from recsys.settings import Count, Share, section
from recsys.validation.check_input import CheckInput
from recsys.validation.distributions import thirds
from recsys.validation_report import CheckResult, Severity

ERROR = 0.05  # error probability of all intervals of a check result together, divided among them (Bonferroni)
Values = dict[str, NDArray[np.float64]]  # values of the users in each slice; those of all users under ""


@section
class SlicesLimits:
    min_users: Count
    min_share: Share
    min_item_share: Share


SETTINGS: dict[str, str | tuple[str, str]] = {"slices_floor": "min_share", "item_slices_floor": "min_item_share"}


def check(inputs: CheckInput, limits: SlicesLimits) -> Iterator[CheckResult]:
    for list_kind in LIST_KINDS:
        if not len(inputs.holdout(inputs.winner, list_kind).users):
            message = f"{list_kind}: the holdout has no users, so there are no slices"
            yield CheckResult(f"{list_kind}_slices_not_worse", "no users", 0.0, "warn", True, message)
            continue
        mine, popular = (inputs.holdout(name, list_kind).scores[inputs.metric] for name in (inputs.winner, "popularity"))
        yield _not_worse(inputs, list_kind, by_user(inputs, list_kind, mine - popular), limits)
        if list_kind == inputs.served_kind:
            yield _floor("slices_floor", inputs, inputs.metric, by_user(inputs, list_kind, mine), limits.min_share, limits)
    recall = f"recall of {inputs.settings.dataset.target} events"
    yield _floor("item_slices_floor", inputs, recall, by_item(inputs, inputs.winner), limits.min_item_share, limits)


def by_user(inputs: CheckInput, list_kind: str, values: NDArray[np.float64]) -> Values:
    """Values of the holdout's users by activity, tenure and segment. A slice that would hold all users is left out."""
    rows = inputs.holdout_state.rows(inputs.holdout(inputs.winner, list_kind).users)
    users = {name: inputs.holdout_state.users[name][rows] for name in ("baskets", "days_since_first_event", "segment")}
    found = thirds("activity", users["baskets"]) | thirds("tenure", users["days_since_first_event"])
    found |= {f"segment {name}": users["segment"] == name for name in np.unique(users["segment"])}
    return {"": values} | {name: values[part] for name, part in found.items() if not part.all()}


def by_item(inputs: CheckInput, name: str) -> Values:
    """Each user's recall of items by a recommender's lists, by popularity and age of the items."""
    state, window = inputs.holdout_state, inputs.holdout(name)
    _, rows, items = relevant(*inputs.features.labels(state.cutoff), state, LIST_KINDS[inputs.served_kind])
    hits = (window.lists[rows, : inputs.settings.evaluation.k] == items[:, None]).any(1)
    found = thirds("popularity", state.items["target_events_28d"][items]) | thirds(
        "age", state.items["days_since_available"][items]
    )
    recalls = {}
    for name, part in ({"": np.ones(len(items), bool)} | found).items():
        labels = np.bincount(rows[part])
        recalls[name] = np.bincount(rows[part], hits[part])[labels > 0] / labels[labels > 0]
    return recalls


def _intervals(inputs: CheckInput, values: Values, limits: SlicesLimits) -> dict[str, Interval]:
    slices = {name: part for name, part in values.items() if name and len(part) >= limits.min_users}
    options = (inputs.settings.evaluation.bootstraps, inputs.settings.seed, ERROR / max(len(slices), 1))
    return {name: bootstrap({"": part}, *options)[""] for name, part in slices.items()}


def _not_worse(inputs: CheckInput, list_kind: str, gains: Values, limits: SlicesLimits) -> CheckResult:
    intervals = _intervals(inputs, gains, limits)
    worst = min(intervals, key=lambda name: intervals[name].high, default="none is large enough")
    high = intervals[worst].high if intervals else 0.0
    message = f"{inputs.winner} minus popularity, {list_kind}, worst of {len(intervals)} slices of users: {worst}"
    message += f", {inputs.metric} {intervals[worst]}" if intervals else ""
    severity: Severity = "block" if list_kind == inputs.served_kind else "warn"
    return CheckResult(f"{list_kind}_slices_not_worse", high, 0.0, severity, high >= 0, message)


def _floor(name: str, inputs: CheckInput, metric: str, values: Values, minimum: float, limits: SlicesLimits) -> CheckResult:
    """The mean of the worst slice as a share of the mean of all users."""
    intervals, mean = _intervals(inputs, values, limits), float(values[""].mean())
    worst = min(intervals, key=lambda slice: intervals[slice].mean, default="none is large enough")
    share = intervals[worst].mean / mean if intervals and mean else 1.0
    message = f"{inputs.winner}, {inputs.served_kind}, {metric} {mean:.3f}; worst of {len(intervals)} slices: {worst}"
    if intervals:
        message += f" with {intervals[worst]}, {share:.0%} of the mean; at least {minimum:.0%} is expected"
    return CheckResult(name, share, minimum, "warn", share >= minimum, message)
