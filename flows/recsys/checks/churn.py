"""How much of the shop would people find changed? New lists against the live ones. A collapse is far out; a new winner is not."""

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from recsys.checks.subject import Subject
from recsys.comparing import compare_lists, top
from recsys.evaluation import target_share
from recsys.metrics import coverage
from recsys.settings.validation import Count, Positive, Share, section
from recsys.state import places
from recsys.store import Snapshot
from recsys.verdicts import Verdict, grade


@section
class Limits:
    min_users: Count
    warn_changed: Share
    block_changed: Share
    warn_narrower: Positive
    block_narrower: Positive
    warn_popularity: Positive
    block_popularity: Positive


SETTINGS: dict[str, str | tuple[str, str]] = {
    "churn_users": "min_users",
    "churn_items": ("warn_changed", "block_changed"),
    "churn_coverage": ("warn_narrower", "block_narrower"),
    "churn_popularity": ("warn_popularity", "block_popularity"),
}


def check(subject: Subject, limits: Limits) -> Iterator[Verdict]:
    live, k = subject.champion, subject.settings.evaluation.k
    if live is None:
        yield Verdict("churn", "none", "none", "warn", True, "nothing is live yet, so no list can change")
        return
    change = compare_lists(live, subject.release, subject.repeat, k)
    words = (
        f"of {change.users:,} users of both, {change.came:,} who came and {change.went:,} who went, {limits.min_users} are needed"
    )
    yield Verdict("churn_users", change.users, limits.min_users, "warn", change.users >= limits.min_users, words)
    if change.users < limits.min_users:
        return
    gone = 1 - change.overlap
    words = f"{gone:.1%} of the first {k} items of {change.users:,} users are others than in the live release"
    yield grade("churn_items", gone, limits.warn_changed, limits.block_changed, words)
    yield from _breadth(_listed(subject, live), _listed(subject, subject.release), subject, limits)


def _listed(subject: Subject, release: Snapshot) -> NDArray[np.int32]:
    """The first k items of every user, as items of this run's state; -1 where there is none."""
    item_ids, lists = top(release, subject.repeat, subject.settings.evaluation.k)[1:]
    return np.append(places(subject.state.item_ids, item_ids), -1).astype(np.int32)[lists]


def _breadth(was: NDArray[np.int32], now: NDArray[np.int32], subject: Subject, limits: Limits) -> Iterator[Verdict]:
    most = int(subject.state.items["is_available"].sum())
    before, after = (float(coverage(lists, most)) for lists in (was, now))
    words = f"{after:.1%} of as many items as are available are listed, {before:.1%} in the live release"
    block = math.inf if subject.winner == "popularity" else limits.block_narrower  # which rightly gives everybody the same
    yield grade("churn_coverage", _times(before, after), limits.warn_narrower, block, words)
    shares = target_share(subject.state)
    before, after = (float(shares[lists[lists >= 0]].mean()) for lists in (was, now))
    a_target = subject.settings.dataset.a_target
    words = (
        f"of the users with {a_target}, {after:.2%} have one on a listed item on average, {before:.2%} on one of the live release"
    )
    yield grade(
        "churn_popularity",
        max(_times(before, after), _times(after, before)),
        limits.warn_popularity,
        limits.block_popularity,
        words,
    )


def _times(a: float, b: float) -> float:
    return a / b if b else math.inf
