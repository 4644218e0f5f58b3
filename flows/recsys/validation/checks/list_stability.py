"""Checks how much lists differ from the live release. A collapse blocks; a normal change to another recommender does not.

A first release is compared with lists of simple recommenders.
"""

import math
from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from recsys.evaluation import compare_lists, coverage, target_share
from recsys.recommenders import SIMPLE, create
from recsys.releases import read_lists_for
from recsys.settings import Count, Positive, Share, section
from recsys.validation.check_input import CheckInput
from recsys.validation_report import CheckResult, grade

MAX_USERS = 2_000  # users for whom simple recommenders make lists at a first release


@section
class ListStabilityLimits:
    min_users: Count
    warn_changed: Share
    block_changed: Share
    warn_narrower: Positive
    block_narrower: Positive
    warn_popularity: Positive
    block_popularity: Positive


SETTINGS: dict[str, str | tuple[str, str]] = {
    "list_stability_users": "min_users",
    "list_stability_items": ("warn_changed", "block_changed"),
    "list_stability_coverage": ("warn_narrower", "block_narrower"),
    "list_stability_popularity": ("warn_popularity", "block_popularity"),
}


def check(inputs: CheckInput, limits: ListStabilityLimits) -> Iterator[CheckResult]:
    live, k = inputs.live, inputs.settings.evaluation.k
    if live is None:
        yield from _first(inputs, limits)
        return
    change = compare_lists(live, inputs.release, inputs.served_kind, k)
    message = (
        f"{change.users:,} users are in both releases, {change.came:,} are new and {change.went:,} are gone; a comparison"
        f" needs {limits.min_users} in both"
    )
    if change.users < limits.min_users:
        message += ". If the same people still use the shop, their ids have changed: compare user ids with earlier data"
    yield CheckResult("list_stability_users", change.users, limits.min_users, "warn", change.users >= limits.min_users, message)
    if change.users < limits.min_users:
        return
    changed = 1 - change.overlap
    message = f"{changed:.1%} of the first {k} items of {change.users:,} users differ from the live release"
    yield grade("list_stability_items", changed, limits.warn_changed, limits.block_changed, message)
    before, after = (read_lists_for(inputs.state, release, inputs.served_kind)[1][:, :k] for release in (live, inputs.release))
    yield from _diversity({"the live release": before}, after, inputs, limits)


def _first(inputs: CheckInput, limits: ListStabilityLimits) -> Iterator[CheckResult]:
    """At a first release, compares the lists of some users with those of simple recommenders."""
    users, lists = inputs.lists[inputs.served_kind]
    sample, k = slice(None, None, -(-len(users) // MAX_USERS) or 1), inputs.settings.evaluation.k
    names = [inputs.winner] if inputs.winner in SIMPLE else SIMPLE
    references = {}
    for name in names:
        model = create(name, inputs.settings.recommenders.get(name, {})).learn(inputs.state)
        references[name] = inputs.rank(model, users[sample])[inputs.served_kind].items[:, :k]
    yield from _diversity(references, lists.items[sample, :k], inputs, limits)


def _diversity(
    references: Mapping[str, NDArray[np.int32]], lists: NDArray[np.int32], inputs: CheckInput, limits: ListStabilityLimits
) -> Iterator[CheckResult]:
    """Compares coverage and popularity of lists with those of reference lists, given by name. With several references, the broadest
    one counts for coverage, and popularity may lie anywhere between them."""
    count, names = int(inputs.state.items["is_available"].sum()), " and ".join(references)
    before, after = max(float(coverage(items, count)) for items in references.values()), float(coverage(lists, count))
    message = f"lists show {after:.1%} of the catalogue; those of {names} show {before:.1%}"
    block = math.inf if inputs.winner == "popularity" else limits.block_narrower  # popularity rightly lists the same for everybody
    yield grade("list_stability_coverage", _ratio(before, after), limits.warn_narrower, block, message)
    recent = np.nan_to_num(inputs.state.items["target_events_28d"]) + 1  # one more, as few say little
    measures = {
        f"% of the users that ever had {inputs.settings.dataset.a_target} with it": target_share(inputs.state) * 100,
        "one more than its target events in the last 28 days": recent,
    }
    found = []  # new items are rightly listed before many have had them, so the measure counts by which the lists differ less
    for measure, popularity in measures.items():
        *others, after = (float(popularity[items[items >= 0]].mean()) for items in (*references.values(), lists))
        ratio = max(_ratio(min(others), after), _ratio(after, max(others)), 1.0)
        theirs = " and ".join(f"{other:.2f}" for other in others)
        message = f"the popularity of a listed item ({measure}) is {after:.2f} on average, in lists of {names} {theirs}"
        found.append((ratio, after < min(others), message))
    ratio, is_lower, message = min(found)
    block = limits.block_popularity if is_lower else math.inf  # more popular lists may be due to a new bestseller
    yield grade("list_stability_popularity", ratio, limits.warn_popularity, block, message)


def _ratio(a: float, b: float) -> float:
    return a / b if b else math.inf
