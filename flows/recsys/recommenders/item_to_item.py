"""Item to item: people who bought this also bought that."""

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from recsys.recommenders.base import Recommender, check_positive
from recsys.state import State, matrix


class ItemToItem(Recommender):
    """Cosine similarity of items by the users who bought them, shrunk where few did (Sarwar et al. 2001,
    doi:10.1145/371920.372071; Deshpande and Karypis 2004, doi:10.1145/963770.963776), summed over a user's history with a
    weight that halves every `half_life_days`.

    similarity_: (items, items) CSR with the `neighbours` most similar items of each row, without itself.
    """

    name = "item_to_item"

    def __init__(self, neighbours: int = 100, shrinkage: float = 10.0, half_life_days: float = 90.0):
        self.neighbours = neighbours
        self.shrinkage = shrinkage
        self.half_life_days = half_life_days

    def _fit(self, state: State) -> None:
        check_positive(neighbours=self.neighbours, half_life_days=self.half_life_days)
        bought = matrix(np.ones(len(state.history["days"])), state.history["user_index"], state.history["item_index"], state.shape)
        bought.data[:] = 1
        together = (bought.T @ bought).tocsr()
        users = np.asarray(bought.sum(0)).ravel()
        rows = np.repeat(np.arange(together.shape[0]), np.diff(together.indptr))
        together.data /= np.sqrt(users[rows] * users[together.indices]) + self.shrinkage
        together.setdiag(0)
        together.eliminate_zeros()
        self.similarity_ = top(together, self.neighbours)

    def _score(self, rows: NDArray[np.int64], state: State) -> sparse.csr_matrix:
        return self._recent(state)[rows] @ self.similar(state)

    def _recent(self, state: State) -> sparse.csr_matrix:
        weights = 0.5 ** (state.history["days"] / self.half_life_days)
        return matrix(weights, state.history["user_index"], state.history["item_index"], state.shape)

    def similar(self, state: State) -> sparse.csr_matrix:
        """What was learned, in the items of this state: (items, items)."""
        columns = self.columns(state)
        learned = self.similarity_.tocoo()
        here = (columns[learned.row] >= 0) & (columns[learned.col] >= 0)
        items = state.shape[1]
        return matrix(learned.data[here], columns[learned.row[here]], columns[learned.col[here]], (items, items))


def top(scores: sparse.csr_matrix, k: int) -> sparse.csr_matrix:
    """The k largest values of each row; ties go to the smaller column."""
    rows = np.repeat(np.arange(scores.shape[0]), np.diff(scores.indptr))
    order = np.lexsort((scores.indices, -scores.data, rows))
    kept = order[np.arange(len(order)) - scores.indptr[rows[order]] < k]
    return matrix(scores.data[kept], rows[kept], scores.indices[kept], scores.shape)
