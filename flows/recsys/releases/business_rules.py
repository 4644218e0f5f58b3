"""Rules after the model: what may be listed, whatever a recommender thinks of it. The one place where they are applied and counted.
Only lists that are released obey them: metrics on the holdout are of the model without rules."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from recsys.features import State
from recsys.recommenders import LIST_KINDS, Lists, Recommender, position
from recsys.settings import RuleSettings, Settings

HIDING = ("withdrawn", "blocked", "blocked_categories", "min_age_days", "max_age_days", "max_days_unsold")  # items, from everybody
RULES = (*HIDING, "seen", "max_category_share")
SEEN, SHARE = RULES.index("seen"), RULES.index("max_category_share")
NO_RULES = RuleSettings([], [], 0, 0, 0, 1.0, [])
DEEPER = 2  # times the length that is kept is ranked where a category's items may move behind


def hide(state: State, settings: Settings) -> NDArray[np.int8]:
    """Place in HIDING of the first rule that hides each item; -1 for those that may be listed. What is not known of an item
    hides it by no rule."""
    rules, items = settings.rules, state.items
    found = {"withdrawn": ~items["is_available"], "blocked": np.isin(state.item_ids, rules.blocked)}
    found["blocked_categories"] = np.isin(items["category"], rules.blocked_categories)
    if rules.min_age_days:
        found["min_age_days"] = items["days_since_available"] < rules.min_age_days
    if rules.max_age_days:
        found["max_age_days"] = items["days_since_available"] > rules.max_age_days
    if rules.max_days_unsold:
        last, first = items["days_since_last_target"], items["days_since_available"]
        found["max_days_unsold"] = np.where(np.isnan(last), first, last) > rules.max_days_unsold
    reasons = np.full(len(state.item_ids), -1, np.int8)
    for name, hidden in reversed(found.items()):
        reasons[hidden] = HIDING.index(name)
    return reasons


@dataclass(frozen=True)
class RuledLists:
    """Lists that obey the rules. And rows, items and places in RULES of what was kept out, though it scored above the last that was
    ranked, or was among the first evaluation.k and moved behind them. (What two_stage does not propose, such as a withdrawn item,
    it does not score.)"""

    lists: Lists
    rows: NDArray[np.int64]
    items: NDArray[np.int32]
    rules: NDArray[np.int8]

    @property
    def counts(self) -> NDArray[np.int64]:
        """How often each of RULES did so."""
        return np.bincount(self.rules, minlength=len(RULES))


class BusinessRules:
    """The rules of the settings on the items of a state."""

    def __init__(self, state: State, settings: Settings):
        self.state, self.length = state, settings.lists.length
        self.reasons = hide(state, settings)
        self.listed = self.reasons < 0
        self.k, self.capped = settings.evaluation.k, settings.rules.max_category_share < 1
        self.most = max(1, int(settings.rules.max_category_share * self.k + 1e-9))  # 0.29 of 100 is 28.999...
        self.categories = np.unique(state.items["category"], return_inverse=True)[1]

    @classmethod
    def unruled(cls, state: State, settings: Settings, length: int) -> Self:
        """Lists of so many items that need only be available."""
        return cls(state, replace(settings, rules=NO_RULES, lists=replace(settings.lists, length=length)))

    @property
    def depth(self) -> int:
        """Items to be ranked, such that enough remain."""
        return self.length * (DEEPER if self.capped else 1)

    def rank(
        self, recommender: Recommender, user_ids: NDArray[np.str_], at_a_time: int = 0
    ) -> Iterator[tuple[int, dict[str, RuledLists]]]:
        """Per kind of list the lists of some users at a time (0: CHUNK), with the place of the first."""
        for start, ranked in recommender.rank(user_ids, self.depth, self.state, tuple(LIST_KINDS.values()), self.listed, at_a_time):
            yield start, {list_kind: self._apply(lists) for list_kind, lists in zip(LIST_KINDS, ranked, strict=True)}

    def _apply(self, lists: Lists) -> RuledLists:
        assert lists.kept_out is not None
        rows, items = lists.kept_out
        rules = np.where(self.listed[items], SEEN, self.reasons[items]).astype(np.int8)
        if not self.capped:
            return RuledLists(Lists(lists.items, lists.scores), rows, items, rules)
        order, moved = self.spread(lists.items)
        first = order[:, : self.length]
        kept = Lists(np.take_along_axis(lists.items, first, 1), np.take_along_axis(lists.scores, first, 1))
        behind = np.nonzero(moved)
        rules = np.concatenate([rules, np.full(len(behind[0]), SHARE, np.int8)])
        return RuledLists(kept, np.concatenate([rows, behind[0]]), np.concatenate([items, lists.items[behind]]), rules)

    def spread(self, items: NDArray) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Greedy re-ranking of (lists, depth) items, -1 where there are no more: the new order, and which of the first k move
        behind. A category takes at most its share of the first k; all else keeps its order, and where too few others are left to
        fill the first k, its items come back."""
        if not self.capped:
            return np.broadcast_to(np.arange(items.shape[1]), items.shape), np.zeros(items.shape, bool)
        codes = np.where(items >= 0, self.categories[items], self.categories.max(initial=-1) + 1)
        keys = (np.arange(len(items))[:, None] * (codes.max(initial=0) + 1) + codes).ravel()
        by_category = np.argsort(keys, kind="stable")
        nth = np.empty(len(keys), np.int64)  # of its category in its list, from 0
        nth[by_category] = position(keys[by_category])
        fits = (nth.reshape(items.shape) < self.most) & (items >= 0)
        first = fits & (np.cumsum(fits, 1) <= self.k)
        order = np.argsort(~first, 1, kind="stable")
        places = np.argsort(order, 1, kind="stable")
        return order, (np.arange(items.shape[1]) < self.k) & (places >= self.k)

    def shorten(self, items: NDArray) -> list[str]:
        """Ids of the first `length` of these items, best first, that may be listed."""
        best = items[self.listed[items]][None, : self.depth]
        return self.state.item_ids[np.take_along_axis(best, self.spread(best)[0], 1)[0, : self.length]].tolist()
