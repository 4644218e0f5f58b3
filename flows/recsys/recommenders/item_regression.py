"""Item regression: predicts each item from the other items of a user's history."""

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from threadpoolctl import threadpool_limits

from recsys.features import State, matrix
from recsys.recommenders.item_to_item import ItemToItem
from recsys.settings import Count, Positive

BATCH = 16  # regressions solved at a time; more of them have more different items, so that their dense matrix grows
DENSE = 8_000  # number of items up to which one dense matrix has all counts: 256 MB


class ItemRegression(ItemToItem):
    """Ridge regression of each item on its `neighbours` most similar items: a local EASE (Steck 2019,
    doi:10.1145/3308558.3313710), whose cost is linear in the number of items instead of cubic.

    similarity_: (items, items) CSR of the positive weights; row: item in the history, column: predicted item.
    """

    name = "item_regression"

    def __init__(self, neighbours: Count = 150, ridge: Positive = 100.0, half_life_days: Positive = 60.0):
        super().__init__(neighbours=neighbours, half_life_days=half_life_days)
        self.ridge = ridge

    def _fit(self, state: State) -> None:
        bought = state.bought()
        with threadpool_limits(1):  # with more threads, sums depend on their order
            self.similarity_ = self._regress(self._similarity(bought), bought.T.tocsr())

    def _regress(self, near: sparse.csr_matrix, buyers: sparse.csr_matrix) -> sparse.csr_matrix:
        """near: (items, items), the items by which each is predicted. buyers: (items, users), 1 for the users of each item."""
        lengths = np.diff(near.indptr)
        by_length = np.argsort(-lengths, kind="stable")  # similar lengths are solved together, so that there is little padding
        whole = _count_together(buyers, np.arange(len(lengths))) if len(lengths) <= DENSE else None
        targets, sources, weights = [], [], []
        for start in range(0, np.count_nonzero(lengths), BATCH):
            target = by_length[start : start + BATCH]
            width = lengths[target[0]]
            columns, is_item = _padded(near[target], width)
            known, together = whole or _count_together(buyers, np.unique(np.column_stack([columns, target])))
            place, own = np.searchsorted(known, columns), np.searchsorted(known, target)[:, None]
            gram = together[place[:, :, None], place[:, None, :]].astype(np.float64)
            counts = together[place, own].astype(np.float64)
            if not is_item.all():
                gram *= is_item[:, :, None] & is_item[:, None, :]
                counts *= is_item
            gram[:, np.arange(width), np.arange(width)] += self.ridge
            solved = np.linalg.solve(gram, counts[:, :, None])[:, :, 0]
            row, column = np.nonzero(is_item & (solved > 0))
            targets.append(target[row])
            sources.append(columns[row, column])
            weights.append(solved[row, column])
        if not weights:
            return sparse.csr_matrix(near.shape, dtype=np.float32)
        return matrix(np.concatenate(weights), np.concatenate(sources), np.concatenate(targets), near.shape)


def _count_together(buyers: sparse.csr_matrix, items: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Returns some items, in order, and for all pairs of them the number of users who have both. The matrix is dense, since a
    search in a sparse one takes several times as long as a look-up."""
    chosen = buyers[items]
    return items, (chosen @ chosen.T).toarray()


def _padded(rows: sparse.csr_matrix, width: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Column numbers of each row in an array of fixed width, and a mask of its elements that are not padding."""
    is_item = np.arange(width) < np.diff(rows.indptr)[:, None]
    columns = np.zeros(is_item.shape, np.int64)
    columns[is_item] = rows.indices
    return columns, is_item
