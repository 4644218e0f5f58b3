"""Lists of users before and after the perturbations of perturbations.py, and measures of the difference."""

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
    """Lists of some users on original and perturbed data.

    state, world: the original and the perturbed state. rows: rows of the users. group: the perturbation of each user. before: lists
    from the original state. after: lists from the perturbed user side and the original item side, so that a user's list is not
    affected by the perturbations of others. crowd: lists from the whole perturbed state. cost: CPU time of ranking in the perturbed
    state, which has a user with very many events, divided by that in the original state.
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
        """For each user of a group, the share of the first k items that are still among the first k after the perturbation."""
        return _overlap(self.before[self.group == group], self.after[self.group == group], k)

    def kept_in_crowd(self, k: int) -> list[float]:
        """For each user who is not perturbed, the share of the first k items that stay there when all others are perturbed. The
        withdrawn item does not count."""
        mine = self.group == "untouched"
        before = [items[items != self.withdrawn] for items in self.before[mine]]
        return _overlap(before, self.crowd[mine], k)

    @property
    def withdrawn(self) -> int:
        """The item that is not available in the perturbed state; -2 if there is none."""
        return int(popularity_order(self.state)[0]) if self.state.items["is_available"].any() else -2

    def falls(self) -> list[float]:
        """Number of places by which each item of a dropped basket falls; only items that are listed before or after."""
        found, history = [], self.state.history
        for row in np.flatnonzero(self.group == "dropped_basket"):
            mine = history["user_index"] == self.rows[row]
            last = mine & (history["basket_number"] == history["basket_number"][mine].max())
            old, new = (_places(lists[row], history["item_index"][last]) for lists in (self.before, self.after))
            listed = np.minimum(old, new) < self.before.shape[1]
            found += (new - old)[listed].tolist()
        return found

    def rises(self) -> list[float]:
        """Number of places by which the items of a category rise on average, for each user who got a first target event in it."""
        found, category = [], self.state.items["category"]
        owned, owned_after = self.state.owned(), self.world.owned()
        for row in np.flatnonzero(self.group == "new_category"):
            user = self.rows[row]
            for item in np.setdiff1d(owned_after[user].indices, owned[user].indices):
                alike = np.flatnonzero((category == category[item]) & self.state.items["is_available"])
                found.append(float((_places(self.before[row], alike) - _places(self.after[row], alike)).mean()))
        return found


def _overlap(before: Iterable[NDArray], after: Iterable[NDArray], k: int) -> list[float]:
    """Share of the first k items of each list that are among the first k of the other list; empty lists are left out."""
    pairs = [(set(old[:k].tolist()) - {-1}, set(new[:k].tolist())) for old, new in zip(before, after, strict=True)]
    return [len(old & new) / len(old) for old, new in pairs if old]


def _places(ranked: NDArray, items: NDArray) -> NDArray[np.int64]:
    """Place of each item in a list, from 0; the list's length for items that are not in it."""
    found = ranked[None, :] == items[:, None]
    return np.where(found.any(1), found.argmax(1), len(ranked))
