"""Item to item: people who bought this also bought that."""

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from recsys.features import State, Table, matrix
from recsys.recommenders.base import Recommender, Scorer
from recsys.recommenders.top_k import top
from recsys.settings import Count, NotNegative, Positive

MOST_TOGETHER = 500  # items of one basket or session


class ItemToItem(Recommender):
    """Similarity of items by the users who bought both, c_ij / (n_i n_j)^damping with each user weighted by its number of
    items to the power of -user_damping, shrunk where few bought (Deshpande and Karypis 2004, doi:10.1145/963770.963776;
    Sarwar et al. 2001, doi:10.1145/371920.372071); summed over a user's history, which halves every `half_life_days`.
    Similarities are raised to `power`: 0 counts a user's similar items, a high one comes close to the most similar one.
    Only target events of the last `within_days` are learned from, if given: what goes together changes with the season.

    similarity_: (items, items) CSR with the `neighbours` most similar items of each row, without itself.
    """

    name = "item_to_item"
    together: ClassVar = "target events of one user"  # what two items must share to be similar

    def __init__(
        self,
        neighbours: Count = 200,
        damping: NotNegative = 0.5,
        user_damping: NotNegative = 0.5,
        shrinkage: NotNegative = 0.5,
        half_life_days: Positive = 60.0,
        within_days: NotNegative = 0.0,
        power: NotNegative = 1.0,
    ):
        self.neighbours = neighbours
        self.damping = damping
        self.user_damping = user_damping
        self.shrinkage = shrinkage
        self.half_life_days = half_life_days
        self.within_days = within_days
        self.power = power

    def _fit(self, state: State) -> None:
        self.similarity_ = self._similarity(self._together(state))
        self.similarity_.data **= self.power

    def _lack(self, state: State) -> str:
        return "" if self.similarity_.nnz else f"no two items stand together among the {self.together}"

    def _together(self, state: State) -> sparse.csr_matrix:
        """What goes together, a row each: here the target events of one user."""
        return state.bought(within_days=self.within_days)

    def _similarity(self, bought: sparse.csr_matrix) -> sparse.csr_matrix:
        sizes = np.maximum(np.diff(bought.indptr), 1)
        together = (bought.T @ (sparse.diags(sizes**-self.user_damping) @ bought)).tocsr()
        count = np.asarray(bought.sum(0)).ravel() ** self.damping
        rows = np.repeat(np.arange(together.shape[0]), np.diff(together.indptr))
        together.data = (together.data / (count[rows] * count[together.indices] + self.shrinkage)).astype(np.float32)
        together.data[rows == together.indices] = 0
        return top(together, self.neighbours)

    def scorer(self, state: State) -> Scorer:
        history, similar = self._history(state), self.similar(state)
        return lambda rows: history[rows] @ similar

    def _history(self, state: State) -> sparse.csr_matrix:
        """What speaks for a user: (users, items)."""
        return state.bought(half_life_days=self.half_life_days)

    def similar(self, state: State) -> sparse.csr_matrix:
        """What was learned, in the items of this state: (items, items)."""
        columns = self.columns(state)
        learned = self.similarity_.tocoo()
        here = (columns[learned.row] >= 0) & (columns[learned.col] >= 0)
        items = state.shape[1]
        return matrix(learned.data[here], columns[learned.row[here]], columns[learned.col[here]], (items, items))


class SameBasket(ItemToItem):
    """The same over baskets: items that are bought in one go."""

    name = "same_basket"
    together = "target events of one basket"

    def _together(self, state: State) -> sparse.csr_matrix:
        return _grouped(state.history, state.history["basket_number"], state)


class SameSession(ItemToItem):
    """The same over sessions: items that a user looks at on one day, for those who lately looked at one of them (Ludewig and
    Jannach 2018, doi:10.1007/s11257-018-9209-6). Learns nothing where the source has no views."""

    name = "same_session"
    together = "views and carts of one user and day"

    def _together(self, state: State) -> sparse.csr_matrix:
        return _grouped(state.looks, state.looks["days"], state)

    def _history(self, state: State) -> sparse.csr_matrix:
        looks = state.looks
        return matrix(0.5 ** (looks["days"] / self.half_life_days), looks["user_index"], looks["item_index"], state.shape)


def _grouped(table: Table, group: NDArray, state: State) -> sparse.csr_matrix:
    """A row of ones for each group of a user's rows; a group of more items than MOST_TOGETHER is no human's and left out."""
    _, rows = np.unique(table["user_index"].astype(np.int64) << 32 | group, return_inverse=True)
    together = matrix(np.ones(len(rows)), rows, table["item_index"], (int(rows.max(initial=-1)) + 1, state.shape[1]))
    together.data[:] = 1
    return together[np.diff(together.indptr) <= MOST_TOGETHER]
