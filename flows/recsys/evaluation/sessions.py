"""Scores answers to live sessions: which item comes next, given the items so far. A session is the views, carts and target events
of a user on one day."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from recsys.evaluation.holdout import unbeaten
from recsys.evaluation.metrics import Scores
from recsys.features import Features, State, Table, matrix
from recsys.recommenders import SESSION_DAYS, popularity_order, rank, top
from recsys.releases import DECAY, SIMILARITIES, SessionAnswers, similar_items
from recsys.settings import Settings

K = 20
METRIC = f"mrr@{K}"  # decides how sessions are answered
REPEATS = 5  # items that are listed again where that is better; 10 add .003 to hr@20, and leave nothing else in a list of ten
MAX_SESSIONS = 2_000  # sessions of a cutoff that are scored
MAX_PAST = 50_000  # most recent earlier sessions that session kNN searches
LENGTH = 50  # last items of a session that count
NEIGHBOURS = 1_000  # similar sessions whose items are counted
CHUNK = 500  # beginnings that are ranked at a time, which limits memory
FIRST = 1e6  # added to the score of an earlier item of the session, so that it comes first

Scorer = Callable[[sparse.csr_matrix], sparse.csr_matrix]  # from weights of a session's items to scores of the next one


@dataclass(frozen=True)
class ScoredSessions:
    """The mean of hr@20 and mrr@20 over the next items of each user's sessions. users: ids of users."""

    users: NDArray[np.str_]
    scores: Scores


@dataclass(frozen=True)
class Beginnings:
    """Beginnings of sessions. weights: (beginnings, items), 1 for the last item and less for earlier ones. users: rows of the
    sessions' users. next_items: what came next."""

    weights: sparse.csr_matrix
    users: NDArray[np.int32]
    next_items: NDArray[np.int32]


def select_sessions(features: Features, settings: Settings) -> SessionAnswers:
    """Selects how sessions are answered: the simplest way that no other beats beyond noise on the selection windows, without the
    holdout. Uses as many windows as `evaluate` does, by the settings selection_windows and selection_users. Without sessions there,
    the simplest way is selected. Repeats are as `lists.session_repeats` says, if it is set."""
    own = settings.lists.session_repeats
    repeats = (0, REPEATS) if own is None else (own,)
    windows: dict[SessionAnswers, list[ScoredSessions]] = {
        SessionAnswers(similarity, number): [] for number in repeats for similarity in SIMILARITIES
    }
    users: set[str] = set()
    for place, cutoff in enumerate(features.evaluated[1:]):
        if place >= settings.evaluation.selection_windows and len(users) >= settings.evaluation.selection_users:
            break
        state = features.state(cutoff)
        beginnings = _beginnings(features, state, settings)
        if len(beginnings.users):
            for similarity in SIMILARITIES:
                for number, scored in _score(_scorer(similarity, state, settings), beginnings, state, repeats).items():
                    windows[SessionAnswers(similarity, number)].append(scored)
                    users.update(scored.users.tolist())
    return unbeaten(windows, METRIC, settings)[0]


def score_sessions(features: Features, settings: Settings, cutoff: date, answers: SessionAnswers) -> dict[str, ScoredSessions]:
    """Scores ways to answer sessions on those in the horizon after a cutoff, by `session_name`; empty if there are none of two
    items.

    The ways are those of SIMILARITIES, which a release can answer by, popularity, and session_knn, which searches earlier sessions;
    each without and with repeats, as many as in `answers` or, if these are none, REPEATS. The user's own list, which the service
    adds, is left out. The very last item is never listed.
    """
    state = features.state(cutoff)
    beginnings = _beginnings(features, state, settings)
    if not len(beginnings.users):
        return {}
    scorers = {
        "popularity": lambda weights: sparse.csr_matrix(weights.shape, dtype=np.float32),  # rank fills up by popularity
        **{similarity: _scorer(similarity, state, settings) for similarity in SIMILARITIES},
        "session_knn": _session_knn(features.sessions(cutoff - timedelta(SESSION_DAYS), cutoff), state.shape[1]),
    }
    return {
        session_name(name, number): scored
        for name, scorer in scorers.items()
        for number, scored in _score(scorer, beginnings, state, (0, answers.repeats or REPEATS)).items()
    }


def session_name(way: str, repeats: int) -> str:
    """The name of a way to answer sessions, such as "item_to_item" or "item_to_item, repeats"."""
    return f"{way}, repeats" if repeats else way


def _scorer(similarity: str, state: State, settings: Settings) -> Scorer:
    similar = similar_items(similarity, settings).learn(state).similarity_
    return lambda weights: (weights @ similar).tocsr()


def _score(scorer: Scorer, beginnings: Beginnings, state: State, repeats: Sequence[int]) -> dict[int, ScoredSessions]:
    """Scores by number of repeats."""
    rows, places = np.unique(beginnings.users, return_inverse=True)
    found = {}
    for number, ranks in zip(repeats, np.hstack([*_ranks(scorer, beginnings, state, repeats)]), strict=True):
        values = {f"hr@{K}": np.isfinite(ranks).astype(float), METRIC: 1 / (ranks + 1)}
        means = {metric: np.bincount(places, value) / np.bincount(places) for metric, value in values.items()}
        found[number] = ScoredSessions(state.user_ids[rows], means)
    return found


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


def _beginnings(features: Features, state: State, settings: Settings) -> Beginnings:
    """The beginnings of a sample of the sessions in the horizon after a state's cutoff. Events at the same time have no order, so
    an item at the time of the one before it is not a next item; neither is one that is not available, that repeats the one before
    it or, where seen items are excluded, that the user had a target event with before the cutoff."""
    sessions = features.sessions(state.cutoff, state.cutoff + timedelta(settings.dataset.horizon_days))
    number, items, seconds, users = (sessions[name] for name in ("session", "item_index", "second", "user_index"))
    count = int(number.max(initial=-1)) + 1
    starts = np.searchsorted(number, np.arange(count + 1))
    is_next = np.zeros(len(items), bool)
    is_next[1:] = (number[1:] == number[:-1]) & (seconds[1:] > seconds[:-1]) & (items[1:] != items[:-1])
    is_next &= state.items["is_available"][items]
    if settings.dataset.exclude_seen and len(items):
        is_next &= np.asarray(state.owned()[users, items]).ravel() == 0
    rows: list[int] = []
    columns: list[int] = []
    weights: list[float] = []
    owners: list[int] = []
    next_items: list[int] = []
    for session in np.sort(np.random.default_rng(settings.seed).permutation(count)[:MAX_SESSIONS]).tolist():
        start = starts[session]
        for place in (start + np.flatnonzero(is_next[start : starts[session + 1]])).tolist():
            seen = [*dict.fromkeys(reversed(items[start:place].tolist()))][:LENGTH]
            rows += [len(next_items)] * len(seen)
            columns += seen
            weights += [DECAY**age for age in range(len(seen))]
            owners.append(users[place])
            next_items.append(items[place])
    shape = len(next_items), state.shape[1]
    known = matrix(np.array(weights), np.array(rows, np.int64), np.array(columns, np.int64), shape)
    return Beginnings(known, np.array(owners, np.int32), np.array(next_items, np.int32))


def _ranks(scorer: Scorer, beginnings: Beginnings, state: State, repeats: Sequence[int]) -> Iterator[NDArray[np.float64]]:
    """Chunks of a (number of repeats, beginnings) array of the rank of each next item, from 0; infinite if it is not among the
    first K."""
    popular = popularity_order(state)
    for start in range(0, len(beginnings.users), CHUNK):
        weights, ranks = beginnings.weights[start : start + CHUNK], []
        rows, scores = np.repeat(np.arange(weights.shape[0]), np.diff(weights.indptr)), scorer(weights)
        for number in repeats:
            hidden = np.tile(~state.items["is_available"], (weights.shape[0], 1))
            is_earlier = (weights.data < 1) & (weights.data > DECAY ** (number + 0.5))
            hidden[rows[~is_earlier], weights.indices[~is_earlier]] = True
            first = weights.copy()
            first.data = np.where(is_earlier, FIRST * first.data, 0).astype(np.float32)
            lists, *_ = rank((scores + first).tocsr(), hidden, K, popular)
            hits = lists == beginnings.next_items[start : start + CHUNK, None]
            ranks.append(np.where(hits.any(1), hits.argmax(1), np.inf))
        yield np.array(ranks)
