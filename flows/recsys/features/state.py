"""State: what is known at a cutoff, as NumPy arrays. Recommenders learn from one and rank another."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

Table = dict[str, NDArray]


@dataclass(frozen=True)
class Attribute:
    """A text attribute of items or of users, as it is valid at a cutoff. Its subjects are the others: users of an item's attribute,
    items of a user's.

    entity: "item" or "user", which it describes.
    values: the distinct values, in order; rare ones are one, `other`.
    value_index: (items or users) row of each one's value; -1 where it is not known.
    recent: (values,) how many pairs of user and item with the value had their first target event in the last weeks.
    pairs: (subjects, values) how many others with the value each subject has had a target event with: each counts once, so that
        one busy user does not outweigh all others.
    """

    entity: str
    name: str
    values: NDArray[np.str_]
    value_index: NDArray[np.int32]
    recent: NDArray[np.int32]
    pairs: sparse.csr_matrix


@dataclass(frozen=True)
class State:
    """Users and items are rows 0, 1, 2, ... in the order of their ids; tables hold `user_index` and `item_index` into them.

    users: segment, is_sampled, the columns of feat_users and numeric attributes as `attribute_<name>`, one row per user.
    items: title, category, is_available, the columns of feat_items and numeric attributes, one row per item; an item that was
        not known before the cutoff is not available.
    user_items: the columns of feat_user_items, one row per pair with an event before the cutoff (before the last cutoff
        only of the sampled users).
    history: user_index, item_index, basket_number and days (before the cutoff) of each user's most recent target events.
    looks: user_index, item_index and whole days (before the cutoff) of what a user viewed or put in the cart, once a day, in
        the last months; empty where the source has none.
    attributes: the text attributes, in the order of the settings.
    Models feat_* of a fork's own add their columns to users, items or user_items, by the indexes that they have.
    """

    cutoff: date
    user_ids: NDArray[np.str_]
    item_ids: NDArray[np.str_]
    users: Table
    items: Table
    user_items: Table
    history: Table
    looks: Table
    attributes: tuple[Attribute, ...] = ()

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.user_ids), len(self.item_ids)

    def rows(self, user_ids: NDArray[np.str_]) -> NDArray[np.int64]:
        """Row of each user; -1 for those never seen."""
        return places(self.user_ids, user_ids)

    def bought(self, half_life_days: float = 0.0, within_days: float = 0.0) -> sparse.csr_matrix:
        """Items of users' most recent target events: (users, items), each event a 1 that halves every `half_life_days`,
        or without one 1 for any number of them; only of the days `within_days` before the cutoff, if given."""
        days = self.history["days"]
        recent = days <= (within_days or np.inf)
        weights = 0.5 ** (days[recent] / half_life_days) if half_life_days else np.ones(recent.sum())
        bought = matrix(weights, self.history["user_index"][recent], self.history["item_index"][recent], self.shape)
        if not half_life_days:
            bought.data[:] = 1
        return bought

    def owned(self) -> sparse.csr_matrix:
        """Baskets of each user that held each item: (users, items), 0 without a target event."""
        bought = self.user_items["baskets"] > 0
        return matrix(
            self.user_items["baskets"][bought],
            self.user_items["user_index"][bought],
            self.user_items["item_index"][bought],
            self.shape,
        )


def places(ids: NDArray[np.str_], wanted: NDArray[np.str_]) -> NDArray[np.int64]:
    """Place of each wanted id among sorted ids; -1 for those that are not there."""
    if not len(ids):
        return np.full(len(wanted), -1)
    found = np.searchsorted(ids, wanted).clip(0, len(ids) - 1)
    return np.where(ids[found] == wanted, found, -1)


def matrix(values: NDArray, rows: NDArray, columns: NDArray, shape: tuple[int, int]) -> sparse.csr_matrix:
    """A float32 CSR matrix; values of the same place are added up."""
    return sparse.csr_matrix((values.astype(np.float32), (rows, columns)), shape=shape)


def matrix_of_file(parts: Mapping[str, NDArray], shape: Sequence[int]) -> sparse.csr_matrix:
    """A CSR matrix from the arrays `data`, `indices` and `indptr` of a file. Raises ValueError if one points outside another,
    which scipy's compiled code would follow."""
    made = sparse.csr_matrix((parts["data"], parts["indices"], parts["indptr"]), shape=tuple(shape))
    made.check_format(full_check=True)
    return made


@dataclass(frozen=True)
class TrainingWindow:
    """An earlier cutoff whose horizon is over: what was known then, and the users and items of the target events after it.
    Read when asked for."""

    key: tuple[str, date]
    state: Callable[[], State]
    labels: Callable[[], tuple[NDArray[np.int32], NDArray[np.int32]]]

    @property
    def cutoff(self) -> date:
        return self.key[1]
