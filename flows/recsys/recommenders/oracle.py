"""The oracle: lists by what a simulation alone knows. Nothing is learned; other recommenders are compared with it."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from recsys.features import State
from recsys.settings import Settings
from recsys.sources import Simulation

CELLS = 2_000_000  # users times items whose truth is held at a time: bounds the memory

RankFunction = Callable[[NDArray, bool], NDArray[np.int32]]  # rows of users, and whether seen items are left out -> items


def rank_by_truth(source: Simulation, state: State, listed: NDArray[np.bool_], settings: Settings) -> RankFunction:
    """Ranks by what a simulation alone knows. A recommender can beat these lists by luck only.

    Listed items are ranked by expected target events; those of which none is expected are left out. Where relevance is binary,
    the best list for NDCG is close to one by the chance of any target event; expected ones give nearly the same order, the
    very same where they come independently (Poisson).
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
