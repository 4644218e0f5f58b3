"""Behavioural tests: how lists change when one thing in the input changes (RecList: Chia et al. 2022,
doi:10.1145/3487553.3524215). The changes are made in perturbations.py."""

import json
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from recsys.features import State
from recsys.recommenders import popularity_order
from recsys.settings import Positive, Share, section
from recsys.validation import perturbations
from recsys.validation.check_input import CheckInput
from recsys.validation_report import CheckResult, Severity


@section
class BehaviourLimits:
    repeated_basket: Share
    shuffled_day: Share
    swapped_item: Share
    dropped_basket: Share
    dropped_items_fall: Annotated[float, Field(ge=-1_000, le=1_000)]
    new_category_rises: Share
    others_stay: Share
    giant_cost: Positive


SETTINGS = {name: name for name in BehaviourLimits.__annotations__}  # each check result has the name of its setting

SMALL_CHANGES: dict[str, tuple[Severity, str]] = {  # perturbations after which most of the list must stay
    "repeated_basket": ("block", "if the last basket is sent again in the same session"),
    "shuffled_day": ("warn", "if events come in another order within their day"),
    "swapped_item": ("warn", "if the last item is replaced by its nearest neighbour"),
    "dropped_basket": ("warn", "if the last basket is missing"),
}


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


def check(inputs: CheckInput, limits: BehaviourLimits) -> Iterator[CheckResult]:
    answers, k = Answers.of(inputs), inputs.settings.evaluation.k
    stays, target = f"lists keep {{:.0%}} of their first {k} items", inputs.settings.dataset.target
    measured: dict[str, tuple[Sequence[float], Severity, str]] = {
        **{name: (answers.kept(name, k), severity, f"{change}, {stays}") for name, (severity, change) in SMALL_CHANGES.items()},
        "dropped_items_fall": (answers.falls(), "warn", "items of the last basket fall by {:.1f} places if that basket is missing"),
        "new_category_rises": (
            [rise > 0 for rise in answers.rises()],
            "warn",
            f"after a user's first {target} in a category, its items rise for {{:.0%}} of the users",
        ),
        "others_stay": (answers.kept_in_crowd(k), "warn", f"if only other users change, {stays}"),
    }
    for name, (values, severity, text) in measured.items():
        yield _mean(name, values, getattr(limits, name), severity, text)
    cost, max_cost = answers.cost, limits.giant_cost
    message = f"ranking takes {cost:.1f} times the CPU if one user has 20,000 events; at most {max_cost:g} is expected"
    yield CheckResult("giant_cost", cost, max_cost, "warn", cost <= max_cost, message)
    yield _withdrawn(answers)
    yield _stranger(inputs)


def _mean(name: str, values: Sequence[float], minimum: float, severity: Severity, text: str) -> CheckResult:
    """Compares a mean with its minimum. `text` is the message with a placeholder for the mean. Passes if there are no values."""
    if not values:
        return CheckResult(name, "no figure", minimum, severity, True, f"{name} is not applicable: there is no such user or item")
    mean = float(np.mean(values))
    message = f"{text.format(mean)}, on average over {len(values)} cases; at least {minimum:g} is expected"
    return CheckResult(name, mean, minimum, severity, mean >= minimum, message)


def _withdrawn(answers: Answers) -> CheckResult:
    before, after = ((lists == answers.withdrawn).any(1).sum() for lists in (answers.before, answers.crowd))
    message = (
        f"the most popular item is in {before} of {len(answers.rows)} lists; after it is withdrawn, it must be in none and is in"
    )
    return CheckResult("withdrawn_item_vanishes", int(after), 0, "block", bool(after == 0), f"{message} {after}")


def _stranger(inputs: CheckInput) -> CheckResult:
    """The model must rank recently popular items for an unknown user, as fallback.json does."""
    state, k = inputs.state, inputs.settings.evaluation.k
    stranger = np.array(["x" * (state.user_ids.dtype.itemsize // 4 + 1)])  # longer than every known id
    fallback = json.loads((inputs.release.path / "fallback.json").read_text())["all"]
    ranked = inputs.model.recommend(stranger, state.shape[1], state).items[0]
    shown, popular = (inputs.rules.shorten(items)[:k] for items in (ranked[ranked >= 0], popularity_order(state)))
    same = sum(a == b == c for a, b, c in zip(shown, fallback, popular, strict=False))
    message = f"an unknown user gets {same} of the {len(popular)} recently popular items; all are expected"
    return CheckResult("stranger_gets_fallback", same, len(popular), "block", same == len(popular), message)
