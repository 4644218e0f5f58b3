"""Good on the mean is not good for all: the winner's holdout, slice by slice of users and of the items they took."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from recsys.evaluation import Interval, bootstrap, relevant
from recsys.recommenders import LIST_KINDS
from recsys.settings import Count, Share, section
from recsys.validation.check_input import CheckInput
from recsys.validation.distributions import thirds
from recsys.validation_report import CheckResult

ERROR = 0.05  # of a rule's intervals together: each takes its share (Bonferroni), or one of many would be bad by luck
Values = dict[str, NDArray[np.float64]]  # of the users in each slice, and of everybody under ""


@section
class SlicesLimits:
    min_users: Count
    min_share: Share
    min_item_share: Share


SETTINGS: dict[str, str | tuple[str, str]] = {"slices_floor": "min_share", "item_slices_floor": "min_item_share"}


def check(inputs: CheckInput, limits: SlicesLimits) -> Iterator[CheckResult]:
    for list_kind in LIST_KINDS:
        if not len(inputs.holdout(inputs.winner, list_kind).users):
            words = f"{list_kind}: nobody can be judged, so there are no slices of users"
            yield CheckResult(f"{list_kind}_slices_not_worse", "no users", 0.0, "warn", True, words)
            continue
        mine, popular = (inputs.holdout(name, list_kind).scores[inputs.metric] for name in (inputs.winner, "popularity"))
        yield _not_worse(inputs, list_kind, by_user(inputs, list_kind, mine - popular), limits)
        if list_kind == inputs.repeat:
            yield _floor("slices_floor", inputs, inputs.metric, by_user(inputs, list_kind, mine), limits.min_share, limits)
    recall = f"recall of {inputs.settings.dataset.target} events"
    yield _floor("item_slices_floor", inputs, recall, by_item(inputs, inputs.winner), limits.min_item_share, limits)


def by_user(inputs: CheckInput, list_kind: str, values: NDArray[np.float64]) -> Values:
    """What the holdout's users have, cut by their activity, tenure and segment; a slice that holds everybody is none."""
    rows = inputs.holdout_state.rows(inputs.holdout(inputs.winner, list_kind).users)
    users = {name: inputs.holdout_state.users[name][rows] for name in ("baskets", "days_since_first_event", "segment")}
    found = thirds("activity", users["baskets"]) | thirds("tenure", users["days_since_first_event"])
    found |= {f"segment {name}": users["segment"] == name for name in np.unique(users["segment"])}
    return {"": values} | {name: values[part] for name, part in found.items() if not part.all()}


def by_item(inputs: CheckInput, name: str) -> Values:
    """Each user's recall of labels by a recommender's lists, cut by the items' popularity and age."""
    state, window = inputs.holdout_state, inputs.holdout(name)
    _, rows, items = relevant(*inputs.features.labels(state.cutoff), state, LIST_KINDS[inputs.repeat])
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
    kept = {name: part for name, part in values.items() if name and len(part) >= limits.min_users}
    how = (inputs.settings.evaluation.bootstraps, inputs.settings.seed, ERROR / max(len(kept), 1))
    return {name: bootstrap({"": part}, *how)[""] for name, part in kept.items()}


def _not_worse(inputs: CheckInput, list_kind: str, gains: Values, limits: SlicesLimits) -> CheckResult:
    found = _intervals(inputs, gains, limits)
    worst = min(found, key=lambda name: found[name].high, default="none is large enough")
    high = found[worst].high if found else 0.0
    words = f"{inputs.winner} against popularity, {list_kind}, worst of {len(found)} slices of users: {worst}"
    words += f", {inputs.metric} differs by {found[worst]}" if found else ""
    return CheckResult(
        f"{list_kind}_slices_not_worse", high, 0.0, "block" if list_kind == inputs.repeat else "warn", high >= 0, words
    )


def _floor(name: str, inputs: CheckInput, what: str, values: Values, least: float, limits: SlicesLimits) -> CheckResult:
    """The mean of the worst slice as a share of everybody's."""
    found, whole = _intervals(inputs, values, limits), float(values[""].mean())
    worst = min(found, key=lambda slice: found[slice].mean, default="none is large enough")
    share = found[worst].mean / whole if found and whole else 1.0
    words = f"{inputs.winner}, {inputs.repeat}, {what} {whole:.3f}; worst of {len(found)} slices: {worst}"
    said = f"{words} with {found[worst]}, {share:.0%} of that; at least {least:.0%} is expected" if found else words
    return CheckResult(name, share, least, "warn", share >= least, said)
