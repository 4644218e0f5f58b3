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
from recsys.validation.check_input import Subject
from recsys.validation_report import Verdict, grade

USERS = 2_000  # whose lists are made by simple recommenders at a first release


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
        yield from _first(subject, limits)
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
    yield from _breadth({"the live release": _listed(subject, live)}, _listed(subject, subject.release), subject, limits)


def _first(subject: Subject, limits: Limits) -> Iterator[Verdict]:
    """Where nothing is live yet, lists of some users are held against those that simple recommenders make of them."""
    users, lists = subject.lists[subject.repeat]
    some, k = slice(None, None, -(-len(users) // USERS) or 1), subject.settings.evaluation.k
    names = [subject.winner] if subject.winner in SIMPLE else SIMPLE
    was = {}
    for name in names:
        model = create(name, subject.settings.recommenders.get(name, {})).learn(subject.state)
        was[name] = subject.rank(model, users[some])[subject.repeat].items[:, :k]
    yield from _breadth(was, lists.items[some, :k], subject, limits)


def _listed(subject: Subject, release: Snapshot) -> NDArray[np.int32]:
    """The first k items of every user, as items of this run's state; -1 where there is none."""
    item_ids, lists = top(release, subject.repeat, subject.settings.evaluation.k)[1:]
    return np.append(places(subject.state.item_ids, item_ids), -1).astype(np.int32)[lists]


def _breadth(was: Mapping[str, NDArray[np.int32]], now: NDArray[np.int32], subject: Subject, limits: Limits) -> Iterator[Verdict]:
    """`was`: lists by whose they are. Lists may cover as many items as the broadest of them, and be as popular as any of them."""
    most, whose = int(subject.state.items["is_available"].sum()), " and ".join(was)
    before, after = max(float(coverage(lists, most)) for lists in was.values()), float(coverage(now, most))
    words = f"{after:.1%} of as many items as are available are listed, {before:.1%} by {whose}"
    block = math.inf if subject.winner == "popularity" else limits.block_narrower  # which rightly gives everybody the same
    yield grade("churn_coverage", _times(before, after), limits.warn_narrower, block, words)
    shares = target_share(subject.state)
    *others, after = (float(shares[lists[lists >= 0]].mean()) for lists in (*was.values(), now))
    a_target, theirs = subject.settings.dataset.a_target, " and ".join(f"{other:.2%}" for other in others)
    words = f"of the users with {a_target}, {after:.2%} have one on a listed item on average, {theirs} on one of {whose}"
    times = max(_times(min(others), after), _times(after, max(others)), 1.0)
    block = limits.block_popularity if after < min(others) else math.inf  # a novelty that everybody wants may stand in all lists
    yield grade("churn_popularity", times, limits.warn_popularity, block, words)


def _times(a: float, b: float) -> float:
    return a / b if b else math.inf
