"""Compares our recommenders with those of the library `implicit`, on the same target events, users and metrics."""

import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from recsys.costs import cpu_seconds
from recsys.evaluation.holdout import judge
from recsys.evaluation.metrics import bootstrap
from recsys.features.snapshot import Features
from recsys.features.state import State
from recsys.pipeline import open_features
from recsys.recommenders.base import Recommender
from recsys.recommenders.registry import create
from recsys.settings.run import Settings
from recsys.store.snapshots import Store

Rank = Callable[[NDArray, bool], NDArray[np.int32]]


def compete(name: str, store: Store, features_id: str, settings: Settings) -> dict[str, Any]:
    """Fits one recommender before the holdout's cutoff and ranks both kinds of list, on one thread. Returns the CPU seconds and, by
    kind of list, the number of users and NDCG@k with its interval."""
    import sklearn.ensemble  # noqa: F401 - imported here, so that the clock does not count it

    warnings.simplefilter("ignore")  # implicit warns of its own conversions, and of threads, which are limited below
    features = open_features(store, features_id, settings)
    state = features.state(features.evaluated[0])
    model = PEERS[name](settings.seed) if name in PEERS else create(name, settings.recommenders[name], settings.seed)
    fit, depth, clock = fit_ours if isinstance(model, Recommender) else fit_peer, max(settings.evaluation.ks), Clock()
    with threadpool_limits(1):
        rank = clock(fit, model, state, features, depth)
        windows = judge(partial(clock, rank), state, features.labels(state.cutoff), settings)
    metric = settings.evaluation.metric
    found: dict[str, Any] = {"cpu_seconds": round(clock.seconds, 3)}
    for list_kind, window in windows.items():
        scores = {metric: window.scores[metric]}
        interval = bootstrap(scores, settings.evaluation.bootstraps, settings.seed)[metric]
        found[list_kind] = {"users": len(window.users), metric: [round(value, 4) for value in interval]}
    return found


class Clock:
    """Calls functions and adds up their CPU seconds."""

    seconds = 0.0

    def __call__(self, task: Callable, *arguments: Any) -> Any:
        start = cpu_seconds()
        value = task(*arguments)
        self.seconds += cpu_seconds() - start
        return value


def fit_ours(model: Recommender, state: State, features: Features, depth: int) -> Rank:
    """Fits one of our recommenders. Its time includes reading training windows from the snapshot, if it uses any."""
    model.fit(state, features.windows(state.cutoff))
    return lambda rows, exclude_seen: model.recommend(state.user_ids[rows], depth, state, exclude_seen).items


def fit_peer(model: Any, state: State, features: Features, depth: int) -> Rank:
    """Fits a recommender of `implicit` on the number of target events by user and item. As with ours, only available items are
    listed."""
    bought = state.bought(half_life_days=np.inf)
    hidden = np.flatnonzero(~state.items["is_available"])
    model.fit(bought, show_progress=False)
    return lambda rows, exclude_seen: model.recommend(rows, bought[rows], depth, exclude_seen, hidden)[0]


def bm25(seed: int) -> Any:
    from implicit.nearest_neighbours import BM25Recommender

    return BM25Recommender(K=100, num_threads=1)


def als(seed: int) -> Any:
    from implicit.als import AlternatingLeastSquares

    return AlternatingLeastSquares(factors=64, iterations=15, num_threads=1, random_state=seed, use_gpu=False)


PEERS: dict[str, Callable[[int], Any]] = {"implicit BM25": bm25, "implicit ALS": als}
