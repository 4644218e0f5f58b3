"""Recent popularity: the baseline, which also fills up short lists and is the fallback."""

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from recsys import RecsysError
from recsys.features import State
from recsys.recommenders.base import Recommender, Scorer
from recsys.settings import PositiveDays

MAX_ITEMS = 500  # number of items scored; popularity of a longer window fills the lists of users who had all of them


class Popularity(Recommender):
    """Ranks items by their target events in the last `days`. feat_items must have the column `target_events_<days>d`."""

    name = "popularity"

    def __init__(self, days: PositiveDays = 7):
        self.days = days

    def _fit(self, state: State) -> None:
        self._recent(state)  # only checks that the column exists, since the state has the counts

    def scorer(self, state: State) -> Scorer:
        recent = np.where(state.items["is_available"], self._recent(state), 0)
        best = np.argsort(-recent, kind="stable")[:MAX_ITEMS]
        best = best[recent[best] > 0]

        def score(rows: NDArray[np.int64]) -> sparse.csr_matrix:
            ends = np.arange(len(rows) + 1) * len(best)
            return sparse.csr_matrix((np.tile(recent[best], len(rows)), np.tile(best, len(rows)), ends), (len(rows), len(recent)))

        return score

    def _recent(self, state: State) -> NDArray[np.float32]:
        column = f"target_events_{self.days}d"
        if column not in state.items:
            raise RecsysError(
                f"popularity: days is {self.days}, but feat_items has no column {column}; add it there or change days"
            )
        return np.nan_to_num(state.items[column]).astype(np.float32)
