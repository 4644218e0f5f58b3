"""Recent popularity: what everybody buys now. The baseline, the filler of lists, and the fallback."""

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from recsys import RecsysError
from recsys.recommenders.base import Recommender
from recsys.state import State


class Popularity(Recommender):
    """Ranks items by their purchases in the last `days`; feat_items must count that window."""

    name = "popularity"

    def __init__(self, days: int = 7):
        self.days = days

    def _fit(self, state: State) -> None:
        self._recent(state)  # nothing to learn: what is popular is part of the state

    def _score(self, rows: NDArray[np.int64], state: State) -> sparse.csr_matrix:
        recent = self._recent(state)
        bought = np.flatnonzero(recent > 0)
        return sparse.csr_matrix(
            (np.tile(recent[bought], len(rows)), np.tile(bought, len(rows)), np.arange(len(rows) + 1) * len(bought)),
            shape=(len(rows), len(recent)),
        )

    def _recent(self, state: State) -> NDArray[np.float32]:
        column = f"purchases_{self.days}d"
        if column not in state.items:
            raise RecsysError(
                f"popularity: days is {self.days}, but feat_items has no column {column}; add it there or choose another"
            )
        return np.nan_to_num(state.items[column]).astype(np.float32)
