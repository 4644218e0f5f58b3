"""How much lists differ from the live release: a collapse blocks, a new winner does not. A first release is held against lists of
simple recommenders."""

import math
from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from recsys.evaluation import compare_lists, coverage, target_share, top
from recsys.features import places
from recsys.recommenders import SIMPLE, create
from recsys.settings import Count, Positive, Share, section
from recsys.store import Snapshot
from recsys.validation.check_input import CheckInput
from recsys.validation_report import CheckResult, grade

USERS = 2_000  # whose lists are made by simple recommenders at a first release


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
    live, k = inputs.champion, inputs.settings.evaluation.k
    if live is None:
        yield from _first(inputs, limits)
        return
    change = compare_lists(live, inputs.release, inputs.repeat, k)
    words = (
        f"of {change.users:,} users of both, {change.came:,} who came and {change.went:,} who went, {limits.min_users} are needed"
    )
    yield CheckResult("list_stability_users", change.users, limits.min_users, "warn", change.users >= limits.min_users, words)
    if change.users < limits.min_users:
        return
    gone = 1 - change.overlap
    words = f"{gone:.1%} of the first {k} items of {change.users:,} users are others than in the live release"
    yield grade("list_stability_items", gone, limits.warn_changed, limits.block_changed, words)
    yield from _diversity({"the live release": _listed(inputs, live)}, _listed(inputs, inputs.release), inputs, limits)


def _first(inputs: CheckInput, limits: ListStabilityLimits) -> Iterator[CheckResult]:
    """Where nothing is live yet, lists of some users are held against those that simple recommenders make of them."""
    users, lists = inputs.lists[inputs.repeat]
    some, k = slice(None, None, -(-len(users) // USERS) or 1), inputs.settings.evaluation.k
    names = [inputs.winner] if inputs.winner in SIMPLE else SIMPLE
    was = {}
    for name in names:
        model = create(name, inputs.settings.recommenders.get(name, {})).learn(inputs.state)
        was[name] = inputs.rank(model, users[some])[inputs.repeat].items[:, :k]
    yield from _diversity(was, lists.items[some, :k], inputs, limits)


def _listed(inputs: CheckInput, release: Snapshot) -> NDArray[np.int32]:
    """The first k items of every user, as items of this run's state; -1 where there is none."""
    item_ids, lists = top(release, inputs.repeat, inputs.settings.evaluation.k)[1:]
    return np.append(places(inputs.state.item_ids, item_ids), -1).astype(np.int32)[lists]


def _diversity(
    was: Mapping[str, NDArray[np.int32]], now: NDArray[np.int32], inputs: CheckInput, limits: ListStabilityLimits
) -> Iterator[CheckResult]:
    """`was`: lists by whose they are. Lists may cover as many items as the broadest of them, and be as popular as any of them."""
    most, whose = int(inputs.state.items["is_available"].sum()), " and ".join(was)
    before, after = max(float(coverage(lists, most)) for lists in was.values()), float(coverage(now, most))
    words = f"{after:.1%} of as many items as are available are listed, {before:.1%} by {whose}"
    block = math.inf if inputs.winner == "popularity" else limits.block_narrower  # which rightly gives everybody the same
    yield grade("list_stability_coverage", _times(before, after), limits.warn_narrower, block, words)
    shares = target_share(inputs.state)
    *others, after = (float(shares[lists[lists >= 0]].mean()) for lists in (*was.values(), now))
    a_target, theirs = inputs.settings.dataset.a_target, " and ".join(f"{other:.2%}" for other in others)
    words = f"of the users with {a_target}, {after:.2%} have one on a listed item on average, {theirs} on one of {whose}"
    times = max(_times(min(others), after), _times(after, max(others)), 1.0)
    block = limits.block_popularity if after < min(others) else math.inf  # a novelty that everybody wants may stand in all lists
    yield grade("list_stability_popularity", times, limits.warn_popularity, block, words)


def _times(a: float, b: float) -> float:
    return a / b if b else math.inf
