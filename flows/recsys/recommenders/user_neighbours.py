"""User neighbours: recommends what users with similar histories have bought recently."""

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from recsys.features import State
from recsys.recommenders.base import Recommender, Scorer
from recsys.recommenders.top_k import top
from recsys.settings import Count, Positive


class UserNeighbours(Recommender):
    """Sums the items that the `neighbours` most similar users bought in the last `within_days`, weighted by similarity.

    Similarity is the cosine of two users' histories, with half-life `half_life_days` and rare items weighted more (after TIFU-KNN:
    Hu et al. 2020, doi:10.1145/3397271.3401066). Neighbours are searched among the sampled users.
    """

    name = "user_neighbours"

    def __init__(self, neighbours: Count = 200, half_life_days: Positive = 90.0, within_days: Positive = 30.0):
        self.neighbours = neighbours
        self.half_life_days = half_life_days
        self.within_days = within_days

    def _fit(self, state: State) -> None:
        """Does nothing, since the state has the histories."""

    def _lack(self, state: State) -> str:
        users = np.unique(state.history["user_index"])
        return "" if len(users) > 1 else f"{len(users)} users have target events before the cutoff, 2 are needed"

    def scorer(self, state: State) -> Scorer:
        sampled = np.flatnonzero(state.users["is_sampled"])
        vectors = self._vectors(state)
        others, recent = vectors[sampled].T.tocsr(), state.bought(within_days=self.within_days)[sampled]

        def score(rows: NDArray[np.int64]) -> sparse.csr_matrix:
            alike = (vectors[rows] @ others).tocsr()
            own = np.repeat(rows, np.diff(alike.indptr)) == sampled[alike.indices]
            alike.data[own] = 0
            return top(alike, self.neighbours) @ recent

        return score

    def _vectors(self, state: State) -> sparse.csr_matrix:
        buyers = np.asarray(state.bought().sum(0)).ravel()
        rarity = np.log(max(state.shape[0], 2) / np.maximum(buyers, 1))
        vectors = state.bought(half_life_days=self.half_life_days) @ sparse.diags(rarity)
        lengths = np.sqrt(np.asarray(vectors.multiply(vectors).sum(1)).ravel())
        return (sparse.diags(1 / np.maximum(lengths, 1e-9)) @ vectors).tocsr().astype(np.float32)
