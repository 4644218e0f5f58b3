"""Scores answers to live sessions: which item comes next, given the items so far. A session is the views, carts and target events
of a user on one day."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from recsys.features import Features, State, Table, matrix
from recsys.recommenders import ItemToItem, popularity_order, rank, top
from recsys.releases import DECAY, session_items
from recsys.settings import Settings

K = 20
MAX_SESSIONS = 2_000  # sessions of a cutoff that are scored
MAX_PAST = 50_000  # most recent earlier sessions that session kNN searches
PAST_DAYS = 91  # days of earlier sessions
LENGTH = 50  # last items of a session that count
NEIGHBOURS = 200  # similar sessions whose items are counted
CHUNK = 500  # beginnings that are ranked at a time, which limits memory
FIRST = 1e6  # added to the score of an earlier item of the session, so that it comes first

Scorer = Callable[[sparse.csr_matrix], sparse.csr_matrix]  # from weights of a session's items to scores of the next one


@dataclass(frozen=True)
class ScoredSessions:
    """The mean of hr@20 and mrr@20 over the next items of each user's sessions. users: rows of users."""

    users: NDArray[np.int32]
    scores: dict[str, NDArray[np.float64]]


@dataclass(frozen=True)
class Beginnings:
    """Beginnings of sessions. weights: (beginnings, items), 1 for the last item and less for earlier ones. users: of the sessions.
    next_items: what came next."""

    weights: sparse.csr_matrix
    users: NDArray[np.int32]
    next_items: NDArray[np.int32]


def score_sessions(features: Features, settings: Settings, cutoff: date) -> dict[str, ScoredSessions]:
    """Scores ways to answer sessions on those in the horizon after a cutoff, by name; empty if there are none of two items.

    same_session is what the service answers by, without the user's own list: similarity counted over sessions. item_to_item counts
    it over users, session_knn searches earlier sessions. Names that end in ", repeats" list the last `lists.session_repeats` items
    of the session again, before all others. The very last item is never listed.
    """
    state = features.state(cutoff)
    after = features.sessions(cutoff, cutoff + timedelta(settings.dataset.horizon_days))
    beginnings = _beginnings(after, state, settings.seed)
    if not len(beginnings.users):
        return {}
    users, places = np.unique(beginnings.users, return_inverse=True)
    found = {}
    for name, scorer in _scorers(features, state, settings).items():
        for repeats in dict.fromkeys((0, settings.lists.session_repeats)):
            ranks = np.concatenate([*_ranks(scorer, beginnings, state, repeats)])
            values = {f"hr@{K}": np.isfinite(ranks).astype(float), f"mrr@{K}": 1 / (ranks + 1)}
            means = {metric: np.bincount(places, value) / np.bincount(places) for metric, value in values.items()}
            found[f"{name}, repeats" if repeats else name] = ScoredSessions(users, means)
    return found


def _scorers(features: Features, state: State, settings: Settings) -> dict[str, Scorer]:
    by_users = ItemToItem(neighbours=settings.lists.length).learn(state).similarity_
    by_sessions = session_items(settings).learn(state).similarity_
    return {
        "popularity": lambda weights: sparse.csr_matrix(weights.shape, dtype=np.float32),  # rank fills up by popularity
        "item_to_item": lambda weights: (weights @ by_users).tocsr(),
        "same_session": lambda weights: (weights @ by_sessions).tocsr(),
        "session_knn": _session_knn(features.sessions(state.cutoff - timedelta(PAST_DAYS), state.cutoff), state.shape[1]),
    }


def _session_knn(past: Table, item_count: int) -> Scorer:
    """Earlier sessions that share items with this one, by cosine similarity with the weights of its items, and the items of the
    most similar ones (Ludewig and Jannach 2018, doi:10.1007/s11257-018-9209-6)."""
    number = past["session"] - max(0, int(past["session"].max(initial=-1)) + 1 - MAX_PAST)
    recent = number >= 0
    shape = int(number.max(initial=-1)) + 1, item_count
    items = matrix(np.ones(recent.sum()), number[recent], past["item_index"][recent], shape)
    items.data[:] = 1
    lengths = np.sqrt(np.maximum(np.diff(items.indptr), 1)).astype(np.float32)
    cosine = (sparse.diags(1 / lengths) @ items).T.tocsr()
    return lambda weights: (top((weights @ cosine).tocsr(), NEIGHBOURS) @ items).tocsr()


def _beginnings(sessions: Table, state: State, seed: int) -> Beginnings:
    """The beginnings of a sample of sessions. Events at the same time have no order, so an item at the time of the one before it is
    not a next item; neither is one that is not available, or that repeats the one before it."""
    number, items, seconds, users = (sessions[name] for name in ("session", "item_index", "second", "user_index"))
    count = int(number.max(initial=-1)) + 1
    starts = np.searchsorted(number, np.arange(count + 1))
    rows: list[int] = []
    columns: list[int] = []
    weights: list[float] = []
    owners: list[int] = []
    next_items: list[int] = []
    for session in np.sort(np.random.default_rng(seed).permutation(count)[:MAX_SESSIONS]).tolist():
        start, end = starts[session], starts[session + 1]
        for place in range(start + 1, end):
            item, last = items[place], items[place - 1]
            if seconds[place] > seconds[place - 1] and item != last and state.items["is_available"][item]:
                seen = [*dict.fromkeys(reversed(items[start:place].tolist()))][:LENGTH]
                rows += [len(next_items)] * len(seen)
                columns += seen
                weights += [DECAY**age for age in range(len(seen))]
                owners.append(users[place])
                next_items.append(item)
    shape = len(next_items), state.shape[1]
    known = matrix(np.array(weights), np.array(rows, np.int64), np.array(columns, np.int64), shape)
    return Beginnings(known, np.array(owners, np.int32), np.array(next_items, np.int32))


def _ranks(scorer: Scorer, beginnings: Beginnings, state: State, repeats: int) -> Iterator[NDArray[np.float64]]:
    """The rank of each next item, from 0; infinite if it is not among the first K."""
    popular = popularity_order(state)
    for start in range(0, len(beginnings.users), CHUNK):
        weights = beginnings.weights[start : start + CHUNK]
        hidden = np.tile(~state.items["is_available"], (weights.shape[0], 1))
        is_earlier = (weights.data < 1) & (weights.data > DECAY ** (repeats + 0.5))
        rows = np.repeat(np.arange(weights.shape[0]), np.diff(weights.indptr))
        hidden[rows[~is_earlier], weights.indices[~is_earlier]] = True
        first = weights.copy()
        first.data = np.where(is_earlier, FIRST * first.data, 0).astype(np.float32)
        lists, *_ = rank((scorer(weights) + first).tocsr(), hidden, K, popular)
        hits = lists == beginnings.next_items[start : start + CHUNK, None]
        yield np.where(hits.any(1), hits.argmax(1), np.inf)
