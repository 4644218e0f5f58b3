"""Copies of a state and a model with users and items in other rows. Code that confuses rows with ids makes other lists from
them."""

import copy
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from recsys.features import State, Table, places
from recsys.recommenders import Lists, Recommender
from recsys.releases import BusinessRules
from recsys.settings import Settings


class Permuted:
    """A copy of a state with new ids in a random order. users, items: the new row of each user and item of the old state."""

    def __init__(self, state: State, settings: Settings, seed: int):
        draw = np.random.default_rng(seed)
        self.users, self.items = (draw.permutation(size) for size in state.shape)
        self._old = np.append(np.argsort(self.items), -1).astype(np.int32)
        self._ids = state.item_ids, _ids(state.shape[1])[self.items]
        self.state = self._permute(state)
        blocked = self._renamed(np.array(settings.rules.blocked, str)).tolist()
        self._rules = BusinessRules(self.state, replace(settings, rules=replace(settings.rules, blocked=blocked)))

    def rank(self, recommender: Recommender, rows: NDArray[np.int64]) -> Mapping[str, Lists]:
        """Lists of some users by kind of list. `rows`, and the items of the lists, are rows of the old state."""
        renamed = self._rename(recommender)
        (ranked,) = (ruled for _, ruled in self._rules.rank(renamed, self.state.user_ids[self.users[rows]], len(rows)))
        return {list_kind: Lists(self._old[ruled.lists.items], ruled.lists.scores) for list_kind, ruled in ranked.items()}

    def _rename(self, recommender: Recommender) -> Recommender:
        """A copy of a recommender, and of the recommenders inside it, with the new item ids."""
        renamed = copy.copy(recommender)
        for name, value in vars(recommender).items():
            if name == "item_ids_":
                renamed.item_ids_ = self._renamed(value)
            elif isinstance(value, Recommender):
                setattr(renamed, name, self._rename(value))
            elif isinstance(value, dict):
                parts = {key: self._rename(part) if isinstance(part, Recommender) else part for key, part in value.items()}
                setattr(renamed, name, parts)
        return renamed

    def _renamed(self, item_ids: NDArray[np.str_]) -> NDArray[np.str_]:
        """New ids of items; "" for items that are not in the state."""
        old, new = self._ids
        return np.append(new, "")[places(old, item_ids)]

    def _permute(self, state: State) -> State:
        users, items = np.argsort(self.users), np.argsort(self.items)  # the old row of each new row
        attributes = []
        for attribute in state.attributes:
            described, subjects = (items, users) if attribute.entity == "item" else (users, items)
            attributes.append(
                replace(attribute, value_index=attribute.value_index[described], pairs=attribute.pairs[subjects].tocsr())
            )
        return State(
            state.cutoff,
            _ids(state.shape[0]),
            _ids(state.shape[1]),
            {name: column[users] for name, column in state.users.items()},
            {name: column[items] for name, column in state.items.items()},
            self._moved(state.user_items, "item_index"),
            self._moved(state.history),
            self._moved(state.views_and_carts, "item_index", "days"),
            tuple(attributes),
        )

    def _moved(self, table: Table, *keys: str) -> Table:
        """A table with new rows of users and items, sorted by user and then by keys; ties keep their order."""
        moved = table | {
            name: rows[table[name]].astype(table[name].dtype)
            for name, rows in (("user_index", self.users), ("item_index", self.items))
        }
        order = np.lexsort([moved[key] for key in (*reversed(keys), "user_index")])
        return {name: column[order] for name, column in moved.items()}


def _ids(count: int) -> NDArray[np.str_]:
    """Ids of rows, which sort in the order of the rows."""
    return np.char.zfill(np.arange(count).astype(str), len(str(count)))
