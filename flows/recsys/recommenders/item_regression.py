"""Item regression: predicts each item from the other items of a user's history."""

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from threadpoolctl import threadpool_limits

from recsys.features import State, matrix
from recsys.recommenders.item_to_item import ItemToItem
from recsys.recommenders.top_k import cell_values, cells
from recsys.settings import Count, Positive

BATCH = 64  # regressions solved at a time


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
        near = self._similarity(bought)
        together = (bought.T @ bought).tocsr()
        together.sort_indices()
        with threadpool_limits(1):  # with more threads, sums depend on their order
            self.similarity_ = self._regress(near, together)

    def _regress(self, near: sparse.csr_matrix, together: sparse.csr_matrix) -> sparse.csr_matrix:
        items, lengths = near.shape[0], np.diff(near.indptr)
        by_length = np.argsort(-lengths, kind="stable")  # similar lengths are solved together, so that there is little padding
        known = cells(together)
        targets, sources, weights = [], [], []
        for start in range(0, items, BATCH):
            target = by_length[start : start + BATCH]
            width = lengths[target[0]]
            columns, is_item = _padded(near[target], width)
            gram = cell_values(known, together.data, columns[:, :, None] * items + columns[:, None, :]).astype(np.float64)
            gram *= is_item[:, :, None] & is_item[:, None, :]
            gram[:, np.arange(width), np.arange(width)] += self.ridge
            counts = cell_values(known, together.data, columns * items + target[:, None]).astype(np.float64) * is_item
            solved = np.linalg.solve(gram, counts[:, :, None])[:, :, 0]
            row, column = np.nonzero(is_item & (solved > 0))
            targets.append(target[row])
            sources.append(columns[row, column])
            weights.append(solved[row, column])
        return matrix(np.concatenate(weights), np.concatenate(sources), np.concatenate(targets), near.shape)


def _padded(rows: sparse.csr_matrix, width: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Column numbers of each row in an array of fixed width, and a mask of its elements that are not padding."""
    is_item = np.arange(width) < np.diff(rows.indptr)[:, None]
    columns = np.zeros(is_item.shape, np.int64)
    columns[is_item] = rows.indices
    return columns, is_item
