"""Repeat purchase: recommends the items that a user has bought most often. Hard to beat where items are used up."""

import numpy as np
from scipy import sparse

from recsys.features import State, matrix
from recsys.recommenders.base import Recommender, Scorer
from recsys.settings import NotNegative


class RepeatPurchase(Recommender):
    """Ranks by the number of the user's baskets with the item (personal top frequency: Hu et al. 2020,
    doi:10.1145/3397271.3401066).

    half_life_days: half-life of a basket's weight; 0 for no decay. period: if above 0, an item that is overdue by one mean interval
    between the user's purchases of it is weighted by exp(-period), since the habit may have ended (Bhagat et al. 2018,
    doi:10.1145/3219819.3219891).
    """

    name = "repeat_purchase"
    only_seen = True

    def __init__(self, half_life_days: NotNegative = 0.0, period: NotNegative = 0.0):
        self.half_life_days = half_life_days
        self.period = period

    def _fit(self, state: State) -> None:
        """Does nothing, since the state has the counts."""

    def _lack(self, state: State) -> str:
        return "" if state.owned().nnz else "no user has a target event before the cutoff"

    def scorer(self, state: State) -> Scorer:
        counts = state.bought(half_life_days=self.half_life_days) if self.half_life_days else state.owned()
        habit = counts.multiply(self._alive(state)).tocsr() if self.period else counts
        return lambda rows: habit[rows]

    def _alive(self, state: State) -> sparse.csr_matrix:
        pairs = state.user_items
        overdue = np.nan_to_num(pairs["lateness"] - 1).clip(0)
        return matrix(np.exp(-self.period * overdue), pairs["user_index"], pairs["item_index"], state.shape)
