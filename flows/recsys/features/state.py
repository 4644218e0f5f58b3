"""State: what is known at a cutoff, as NumPy arrays. Recommenders are fitted on a state, and rank for the users of a state."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

Table = dict[str, NDArray]


@dataclass(frozen=True)
class Attribute:
    """A text attribute of items or of users, as valid at a cutoff. For an item attribute the subjects are the users, for a user
    attribute the items.

    entity: "item" or "user".
    values: the distinct values, in order; rare ones are merged into `other`.
    value_index: (items or users,) index of each one's value; -1 if unknown.
    recent: (values,) number of user-item pairs with the value whose first target event was in the last weeks.
    pairs: (subjects, values) number of items, or users, with the value that each subject has had a target event with. Each counts
        once, so that one very active user does not dominate.
    """

    entity: str
    name: str
    values: NDArray[np.str_]
    value_index: NDArray[np.int32]
    recent: NDArray[np.int32]
    pairs: sparse.csr_matrix


@dataclass(frozen=True)
class State:
    """Users and items known at a cutoff. They are numbered 0, 1, 2, ... in the order of their ids; the columns `user_index` and
    `item_index` of the tables are these numbers.

    users: segment, is_sampled, the columns of feat_users, and numeric attributes as `attribute_<name>`; one row per user.
    items: title, category, is_available, the columns of feat_items, and numeric attributes; one row per item. Items first seen
        after the cutoff are not available.
    user_items: the columns of feat_user_items, one row per pair with an event before the cutoff. At all but the last cutoff it has
        only the sampled users.
    history: user_index, item_index, basket_number and days (before the cutoff) of each user's most recent target events.
    views_and_carts: user_index, item_index and whole days (before the cutoff) of views and cart events in the last months, once
        per user, item and day; empty if the source has none.
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
    views_and_carts: Table
    attributes: tuple[Attribute, ...] = ()

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.user_ids), len(self.item_ids)

    def rows(self, user_ids: NDArray[np.str_]) -> NDArray[np.int64]:
        """Returns the row of each user; -1 for unknown users."""
        return places(self.user_ids, user_ids)

    def bought(self, half_life_days: float = 0.0, within_days: float = 0.0) -> sparse.csr_matrix:
        """Returns a (users, items) matrix of the most recent target events.

        half_life_days: events are weighted by 0.5 ** (days / half_life_days) and added up; 0 gives 1 for any number of events.
        within_days: only events of so many days before the cutoff; 0 for all.
        """
        days = self.history["days"]
        recent = days <= (within_days or np.inf)
        weights = 0.5 ** (days[recent] / half_life_days) if half_life_days else np.ones(recent.sum())
        bought = matrix(weights, self.history["user_index"][recent], self.history["item_index"][recent], self.shape)
        if not half_life_days:
            bought.data[:] = 1
        return bought

    def owned(self) -> sparse.csr_matrix:
        """Returns a (users, items) matrix of the number of baskets in which a user had a target event with an item."""
        bought = self.user_items["baskets"] > 0
        baskets, users, items = (self.user_items[name][bought] for name in ("baskets", "user_index", "item_index"))
        return matrix(baskets, users, items, self.shape)


def places(ids: NDArray, wanted: NDArray) -> NDArray[np.int64]:
    """Returns the index of each wanted id in an array of sorted ids (of any type); -1 for ids that are not in it."""
    if not len(ids):
        return np.full(len(wanted), -1)
    found = np.searchsorted(ids, wanted).clip(0, len(ids) - 1)
    return np.where(ids[found] == wanted, found, -1)


def matrix(values: NDArray, rows: NDArray, columns: NDArray, shape: tuple[int, int]) -> sparse.csr_matrix:
    """Returns a float32 CSR matrix. Values at the same row and column are added up."""
    return sparse.csr_matrix((values.astype(np.float32), (rows, columns)), shape=shape)


def matrix_of_file(parts: Mapping[str, NDArray], shape: Sequence[int]) -> sparse.csr_matrix:
    """Builds a CSR matrix from the arrays `data`, `indices` and `indptr` of a file. Raises ValueError if an index is out of range,
    since scipy's compiled code does not check it."""
    loaded = sparse.csr_matrix((parts["data"], parts["indices"], parts["indptr"]), shape=tuple(shape))
    loaded.check_format(full_check=True)
    return loaded


@dataclass(frozen=True)
class TrainingWindow:
    """An earlier cutoff whose horizon has ended, to train on.

    key: id of the feature snapshot, and the cutoff. state: reads what was known then. labels: reads the users and items of the
    target events in the horizon.
    """

    key: tuple[str, date]
    state: Callable[[], State]
    labels: Callable[[], tuple[NDArray[np.int32], NDArray[np.int32]]]

    @property
    def cutoff(self) -> date:
        return self.key[1]
