"""EASE: regresses every item on all others in closed form. For small catalogues; item_regression scales to large ones."""

import numpy as np
from scipy import sparse
from threadpoolctl import threadpool_limits

from recsys import RecsysError
from recsys.features import State
from recsys.recommenders.item_to_item import ItemToItem
from recsys.recommenders.top_k import top
from recsys.settings import Count, Positive

MAX_ITEMS = 10_000  # the inverse needs memory of their square and time of their cube


class Ease(ItemToItem):
    """Embarrassingly shallow autoencoder (Steck 2019, doi:10.1145/3308558.3313710): weights from the inverse of the items' Gram
    matrix with a ridge penalty. Each row keeps its `neighbours` largest positive weights.

    similarity_: (items, items) CSR; row: item in the history, column: predicted item.
    """

    name = "ease"

    def __init__(self, neighbours: Count = 200, ridge: Positive = 200.0, half_life_days: Positive = 60.0):
        super().__init__(neighbours=neighbours, half_life_days=half_life_days)
        self.ridge = ridge

    def _fit(self, state: State) -> None:
        if state.shape[1] > MAX_ITEMS:
            raise RecsysError(f"ease: {state.shape[1]:,} items are more than the {MAX_ITEMS:,} it can invert; use item_regression")
        bought = state.bought()
        gram = (bought.T @ bought).toarray().astype(np.float64)
        gram[np.diag_indices_from(gram)] += self.ridge
        with threadpool_limits(1):  # with more threads, sums depend on their order
            inverse = np.linalg.inv(gram)
        weights = -inverse / np.diag(inverse)
        np.fill_diagonal(weights, 0)
        self.similarity_ = top(sparse.csr_matrix(np.maximum(weights, 0).astype(np.float32)), self.neighbours)
