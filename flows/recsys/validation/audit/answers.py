"""The lists of users before and after what perturbations.py does to them, and what can be measured on them."""

import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from recsys.features import State
from recsys.recommenders import popularity_order
from recsys.validation.audit import perturbations
from recsys.validation.check_input import CheckInput


@dataclass(frozen=True)
class Answers:
    """Lists of `rows` of users, each of one group: by what is known; after the user's own perturbation, with the items as they
    were, so that nobody answers for what others did; and in the whole perturbed world.

    cost: CPU seconds of ranking in the world with the giant, in units of those without.
    """

    state: State
    world: State
    rows: NDArray[np.int64]
    group: NDArray[np.str_]
    before: NDArray[np.int32]
    after: NDArray[np.int32]
    crowd: NDArray[np.int32]
    cost: float

    @classmethod
    def of(cls, inputs: CheckInput) -> Self:
        state, world = inputs.state, inputs.bad_days[perturbations.WORLD].state(inputs.features.as_of)
        groups = perturbations.groups(state)
        rows = np.concatenate(list(groups.values()))

        def ranked(known: State) -> tuple[NDArray[np.int32], float]:
            start = time.process_time()
            lists = inputs.model.recommend(state.user_ids[rows], inputs.settings.lists.length, known)
            return lists.items, time.process_time() - start

        (after, _), (before, once), (crowd, again) = map(ranked, (replace(world, items=state.items), state, world))
        names = np.repeat(list(groups), [len(group) for group in groups.values()])
        return cls(state, world, rows, names, before, after, crowd, again / max(once, 0.1))

    def kept(self, group: str, k: int) -> list[float]:
        """For each user of a group, the share of the first k items that a perturbation leaves among the first k."""
        return _overlap(self.before[self.group == group], self.after[self.group == group], k)

    def kept_in_crowd(self, k: int) -> list[float]:
        """The same for those to whom nothing was done, in a world of others' perturbations; the item that was withdrawn apart."""
        mine = self.group == "untouched"
        before = [items[items != self.withdrawn] for items in self.before[mine]]
        return _overlap(before, self.crowd[mine], k)

    @property
    def withdrawn(self) -> int:
        """The item that is not for sale in the perturbed world."""
        return int(popularity_order(self.state)[0]) if self.state.items["is_available"].any() else -2

    def falls(self) -> list[float]:
        """Places by which each item of a dropped basket falls, of those that are listed before or after."""
        found, history = [], self.state.history
        for row in np.flatnonzero(self.group == "dropped_basket"):
            mine = history["user_index"] == self.rows[row]
            last = mine & (history["basket_number"] == history["basket_number"][mine].max())
            old, new = (_places(lists[row], history["item_index"][last]) for lists in (self.before, self.after))
            listed = np.minimum(old, new) < self.before.shape[1]
            found += (new - old)[listed].tolist()
        return found

    def rises(self) -> list[float]:
        """Places by which the items of a category rise on average, for each user who is given a first target event in it."""
        found, category = [], self.state.items["category"]
        owned, owned_after = self.state.owned(), self.world.owned()
        for row in np.flatnonzero(self.group == "new_category"):
            user = self.rows[row]
            for item in np.setdiff1d(owned_after[user].indices, owned[user].indices):
                alike = np.flatnonzero((category == category[item]) & self.state.items["is_available"])
                found.append(float((_places(self.before[row], alike) - _places(self.after[row], alike)).mean()))
        return found


def _overlap(before: Iterable[NDArray], after: Iterable[NDArray], k: int) -> list[float]:
    """Share of the first k items of each list that are among the first k of the other; of lists that hold any."""
    pairs = [(set(old[:k].tolist()) - {-1}, set(new[:k].tolist())) for old, new in zip(before, after, strict=True)]
    return [len(old & new) / len(old) for old, new in pairs if old]


def _places(ranked: NDArray, items: NDArray) -> NDArray[np.int64]:
    """Place of each item in a list, from 0; its length for those that are not in it."""
    found = ranked[None, :] == items[:, None]
    return np.where(found.any(1), found.argmax(1), len(ranked))
