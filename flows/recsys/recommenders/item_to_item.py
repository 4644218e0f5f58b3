"""Item to item: recommends items that are similar to those of a user's history."""

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from recsys.features import State, Table, matrix
from recsys.recommenders.base import Recommender, Scorer
from recsys.recommenders.top_k import top
from recsys.settings import Count, NotNegative, Positive

MAX_TOGETHER = 500  # items of one session


class ItemToItem(Recommender):
    """Similarity of items i and j: c_ij / ((n_i n_j)^damping + shrinkage), summed over the items of a user's history.

    c_ij counts the users with both items, n_i those with item i. In c_ij a user weighs their number of items to the power of
    -user_damping (Deshpande and Karypis 2004, doi:10.1145/963770.963776; Sarwar et al. 2001, doi:10.1145/371920.372071).
    neighbours: number of similar items kept per item. half_life_days: of the weights of a user's history.
    within_days: fit on target events of so many days only, since what is bought together changes with the season; 0 for all.
    power: exponent of the similarities. With 0 a score counts the similar items in the history; with a large one the most similar
    item dominates.

    similarity_: (items, items) CSR with the `neighbours` most similar items of each row, without the item itself.
    """

    name = "item_to_item"
    together: ClassVar = "target events of one user"  # for messages: what makes two items similar
    prior: float = 0.0  # added to n_i; only SessionItems has one

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
        return "" if self.similarity_.nnz else f"no two items occur together in the {self.together}"

    def _together(self, state: State) -> sparse.csr_matrix:
        """Matrix with a row for each set of items that occur together: here those of one user."""
        return state.bought(within_days=self.within_days)

    def _similarity(self, sets: sparse.csr_matrix) -> sparse.csr_matrix:
        return self._scale(self._count(sets), np.asarray(sets.sum(0)).ravel())

    def _count(self, sets: sparse.csr_matrix) -> sparse.csr_matrix:
        """c_ij of all pairs of items; 0 of an item and itself."""
        sizes = np.maximum(np.diff(sets.indptr), 1)
        together = (sets.T @ (sparse.diags(sizes**-self.user_damping) @ sets)).tocsr()
        rows = np.repeat(np.arange(together.shape[0]), np.diff(together.indptr))
        together.data[rows == together.indices] = 0
        return together

    def _scale(self, together: sparse.csr_matrix, count: NDArray) -> sparse.csr_matrix:
        """Divides c_ij by what is expected of items with these counts, and keeps the largest of each row."""
        expected = np.repeat((count + self.prior) ** self.damping, np.diff(together.indptr))
        expected *= (count**self.damping)[together.indices]
        expected += self.shrinkage
        together.data = (together.data / expected).astype(np.float32)
        return top(together, self.neighbours)

    def scorer(self, state: State) -> Scorer:
        history, similar = self._history(state), self.similar(state)
        return lambda rows: history[rows] @ similar

    def _history(self, state: State) -> sparse.csr_matrix:
        """Weights of the items in each user's history: (users, items)."""
        return state.bought(half_life_days=self.half_life_days)

    def similar(self, state: State) -> sparse.csr_matrix:
        """Returns the fitted similarities by the items of this state: (items, items)."""
        columns = self.columns(state)
        learned = self.similarity_.tocoo()
        here = (columns[learned.row] >= 0) & (columns[learned.col] >= 0)
        items = state.shape[1]
        return matrix(learned.data[here], columns[learned.row[here]], columns[learned.col[here]], (items, items))


class SameSession(ItemToItem):
    """Item-to-item similarity counted over sessions: the views and carts of a user on one day (Ludewig and Jannach 2018,
    doi:10.1007/s11257-018-9209-6). The history is a user's recent views and carts. Needs a source with views."""

    name = "same_session"
    together = "views and carts of one user and day"

    def _together(self, state: State) -> sparse.csr_matrix:
        return grouped(state.views_and_carts, state.views_and_carts["days"], state)

    def _history(self, state: State) -> sparse.csr_matrix:
        table = state.views_and_carts
        return matrix(0.5 ** (table["days"] / self.half_life_days), table["user_index"], table["item_index"], state.shape)


def grouped(table: Table, group: NDArray, state: State) -> sparse.csr_matrix:
    """Matrix with a row for each group of a user's rows, and 1 for its items. Groups with more than MAX_TOGETHER items, likely of
    bots, are left out."""
    _, rows = np.unique(table["user_index"].astype(np.int64) << 32 | group, return_inverse=True)
    together = matrix(np.ones(len(rows)), rows, table["item_index"], (int(rows.max(initial=-1)) + 1, state.shape[1]))
    together.data[:] = 1
    return together[np.diff(together.indptr) <= MAX_TOGETHER]
