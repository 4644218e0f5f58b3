"""Item regression: which items foretell each item, given all others."""

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from threadpoolctl import threadpool_limits

from recsys.features import State, matrix
from recsys.recommenders.item_to_item import ItemToItem
from recsys.settings import Count, Positive

BATCH = 64  # regressions solved at a time


class ItemRegression(ItemToItem):
    """Each item regressed on its `neighbours` most similar items with a ridge penalty: EASE (Steck 2019,
    doi:10.1145/3308558.3313710) made local, so that its cost grows with the items and not with their cube.

    similarity_: (items, items) CSR of the positive weights, row: what was bought, column: what it foretells.
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
        with threadpool_limits(1):  # more threads add up in another order
            self.similarity_ = self._regress(near, together)

    def _regress(self, near: sparse.csr_matrix, together: sparse.csr_matrix) -> sparse.csr_matrix:
        items, lengths = near.shape[0], np.diff(near.indptr)
        by_length = np.argsort(-lengths, kind="stable")  # alike ones are solved together, so that little is padded
        codes = np.repeat(np.arange(items), np.diff(together.indptr)) * items + together.indices
        targets, sources, weights = [], [], []
        for start in range(0, items, BATCH):
            target = by_length[start : start + BATCH]
            width = lengths[target[0]]
            columns, there = _padded(near[target], width)
            gram = _look_up(columns[:, :, None] * items + columns[:, None, :], codes, together.data)
            gram *= there[:, :, None] & there[:, None, :]
            gram[:, np.arange(width), np.arange(width)] += self.ridge
            answer = _look_up(columns * items + target[:, None], codes, together.data) * there
            solved = np.linalg.solve(gram, answer[:, :, None])[:, :, 0]
            row, column = np.nonzero(there & (solved > 0))
            targets.append(target[row])
            sources.append(columns[row, column])
            weights.append(solved[row, column])
        return matrix(np.concatenate(weights), np.concatenate(sources), np.concatenate(targets), near.shape)


def _padded(rows: sparse.csr_matrix, width: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Column numbers of each row in an array of fixed width, and where there are any."""
    there = np.arange(width) < np.diff(rows.indptr)[:, None]
    columns = np.zeros(there.shape, np.int64)
    columns[there] = rows.indices
    return columns, there


def _look_up(wanted: NDArray[np.int64], codes: NDArray[np.int64], values: NDArray) -> NDArray[np.float64]:
    """Values of a sparse matrix at places given as row * columns + column; 0 where it holds none."""
    found = np.searchsorted(codes, wanted).clip(0, len(codes) - 1)
    return np.where(codes[found] == wanted, values[found], 0.0).astype(np.float64)
