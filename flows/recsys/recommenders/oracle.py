"""The oracle: ranks by the true expected events, which only a simulation knows. Recommenders are compared with it."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from recsys.features import State
from recsys.settings import Settings
from recsys.sources import Simulation

CELLS = 2_000_000  # number of users times items ranked at a time, to bound the memory

RankFunction = Callable[[NDArray, bool], NDArray[np.int32]]  # (rows of users, exclude_seen) -> (users, k) items


def rank_by_truth(source: Simulation, state: State, listed: NDArray[np.bool_], settings: Settings) -> RankFunction:
    """Returns a function that ranks the listed items by their expected target events, without items that expect none.

    Only by chance can a recommender beat these lists. Strictly, the best list for NDCG with binary relevance ranks by the chance of
    any target event; expected numbers give nearly the same order, and exactly the same for independent (Poisson) events.
    listed: (items,) mask of the items that may be listed.
    """
    owned = state.owned()

    def best(rows: NDArray, exclude_seen: bool) -> NDArray[np.int32]:
        expected = source.truth(state.user_ids[rows], state.item_ids, state.cutoff, settings.dataset.horizon_days)
        expected[:, ~listed] = 0
        if exclude_seen:
            expected[owned[rows].nonzero()] = 0
        order = np.argsort(-expected, 1, kind="stable")[:, : max(settings.evaluation.ks)]
        return np.where(np.take_along_axis(expected, order, 1) > 0, order, -1).astype(np.int32)

    def rank(rows: NDArray, exclude_seen: bool) -> NDArray[np.int32]:
        parts = np.array_split(rows, -(-len(rows) * state.shape[1] // CELLS) or 1)
        return np.concatenate([best(part, exclude_seen) for part in parts])

    return rank
