"""Similar items for answers to live sessions."""

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from recsys.features import State
from recsys.recommenders.item_to_item import ItemToItem, grouped
from recsys.recommenders.top_k import cell_values, cells, top
from recsys.settings import Count, NotNegative

SESSION_DAYS = 91  # days of sessions, as many as a state has of views and carts


class SessionItems(ItemToItem):
    """Item-to-item similarity counted over sessions: the views, carts and target events of a user on one day.

    The similarity of items i and j is (c_ij + prior * q_ij) / (((n_i + prior) n_j)^damping + shrinkage). c_ij counts the sessions
    with both, n_i those with item i; in c_ij a session weighs its number of items to the power of -user_damping. q_ij is the mean
    c_lj per session with an item l of the category of item i: what is known of an item with few sessions is filled up with what
    goes with its category (a Dirichlet prior, as in Zhai and Lafferty 2004, doi:10.1145/984321.984322). prior: number of sessions
    that it counts for; 0 for none. neighbours: number of similar items kept per item.
    """

    name = "session_items"
    together = "events of one user and day"

    def __init__(
        self,
        neighbours: Count = 100,
        damping: NotNegative = 0.2,
        user_damping: NotNegative = 0.5,
        shrinkage: NotNegative = 0.5,
        prior: NotNegative = 0.0,
    ):
        super().__init__(neighbours, damping, user_damping, shrinkage)
        self.prior = prior

    def _fit(self, state: State) -> None:
        sessions = self._together(state)
        together, count = self._count(sessions), np.asarray(sessions.sum(0), np.float64).ravel()
        if self.prior:
            together.eliminate_zeros()
            together = self._fill(together, count, state.items["category"])
        self.similarity_ = self._scale(together, count)

    def _together(self, state: State) -> sparse.csr_matrix:
        views, targets = state.views_and_carts, state.history
        recent = targets["days"] <= SESSION_DAYS
        table = {name: np.concatenate([views[name], targets[name][recent]]) for name in ("user_index", "item_index")}
        days = np.concatenate([views["days"], np.ceil(targets["days"][recent]).astype(np.int64)])
        return grouped(table, days, state)

    def _fill(self, together: sparse.csr_matrix, count: NDArray[np.float64], categories: NDArray[np.str_]) -> sparse.csr_matrix:
        """Adds the prior: to every stored pair, and for each item to as many of the best items of its category as can be kept."""
        items = len(count)
        category = np.unique(categories, return_inverse=True)[1]
        members = sparse.csr_matrix((np.ones(items), (category, np.arange(items))))
        prior = (sparse.diags(self.prior / np.maximum(members @ count, 1)) @ members @ together).tocsr()
        prior.sort_indices()
        rows = np.repeat(np.arange(items), np.diff(together.indptr))
        known, values = cells(prior), prior.data
        best = prior.copy()
        best.data = best.data / np.maximum(count, 1)[best.indices] ** self.damping
        best = top(best.astype(np.float32), self.neighbours + 1)  # one more, since an item is not similar to itself
        best.sort_indices()
        best.data = cell_values(known, values, cells(best))
        filled = (members.T @ best).tocsr()
        filled.setdiag(0)
        new = filled - filled.multiply(together != 0)
        together.data = together.data + cell_values(known, values, category[rows] * items + together.indices)
        total = (together + new).tocsr()
        total.eliminate_zeros()
        return total
