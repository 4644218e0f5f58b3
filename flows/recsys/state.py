"""State: what is known at a cutoff, as NumPy arrays. Recommenders learn from one and rank another."""

from dataclasses import dataclass
from datetime import date

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

Table = dict[str, NDArray]


@dataclass(frozen=True)
class State:
    """Users and items are rows 0, 1, 2, ... in the order of their ids; tables hold `user_index` and `item_index` into them.

    users: segment, one row per user.
    items: title, category, is_available and the columns of feat_items, one row per item; an item that was not known
        before the cutoff is not available.
    user_items: the columns of feat_user_items, one row per pair with an event before the cutoff (before the last cutoff
        only of the sampled users).
    history: user_index, item_index, basket_number and days (before the cutoff) of each user's most recent purchases.
    """

    cutoff: date
    user_ids: NDArray[np.str_]
    item_ids: NDArray[np.str_]
    users: Table
    items: Table
    user_items: Table
    history: Table

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.user_ids), len(self.item_ids)

    def rows(self, user_ids: NDArray[np.str_]) -> NDArray[np.int64]:
        """Row of each user; -1 for those never seen."""
        if not len(self.user_ids):
            return np.full(len(user_ids), -1)
        places = np.searchsorted(self.user_ids, user_ids).clip(0, len(self.user_ids) - 1)
        return np.where(self.user_ids[places] == user_ids, places, -1)

    def owned(self) -> sparse.csr_matrix:
        """Baskets of each user that held each item: (users, items), 0 where it was never bought."""
        bought = self.user_items["baskets"] > 0
        return matrix(
            self.user_items["baskets"][bought],
            self.user_items["user_index"][bought],
            self.user_items["item_index"][bought],
            self.shape,
        )


def matrix(values: NDArray, rows: NDArray, columns: NDArray, shape: tuple[int, int]) -> sparse.csr_matrix:
    """A float32 CSR matrix; values of the same place are added up."""
    return sparse.csr_matrix((values.astype(np.float32), (rows, columns)), shape=shape)
