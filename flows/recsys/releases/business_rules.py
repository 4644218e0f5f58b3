"""Business rules: which items may be listed, whatever their scores. This module applies the rules and counts what they remove.

Only released lists follow them. Metrics on the holdout are those of the model without rules.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from recsys.features import State
from recsys.recommenders import LIST_KINDS, Lists, Recommender, position
from recsys.settings import RuleSettings, Settings

HIDING = (
    "withdrawn",
    "blocked",
    "blocked_categories",
    "min_age_days",
    "max_age_days",
    "max_days_unsold",
)  # hide items from all users
RULES = (*HIDING, "seen", "max_category_share")
SEEN, SHARE = RULES.index("seen"), RULES.index("max_category_share")
NO_RULES = RuleSettings(
    blocked=[],
    blocked_categories=[],
    min_age_days=0,
    max_age_days=0,
    max_days_unsold=0,
    max_category_share=1.0,
    static=[],
)
DEPTH_FACTOR = 2  # with max_category_share, so many times the length of a list is ranked, so that other items can move up


def hide(state: State, settings: Settings) -> NDArray[np.int8]:
    """For each item, the index in HIDING of the first rule that hides it, or -1 if it may be listed. A rule hides no item whose
    value is missing."""
    rules, items = settings.rules, state.items
    hidden = {"withdrawn": ~items["is_available"], "blocked": np.isin(state.item_ids, rules.blocked)}
    hidden["blocked_categories"] = np.isin(items["category"], rules.blocked_categories)
    if rules.min_age_days:
        hidden["min_age_days"] = items["days_since_available"] < rules.min_age_days
    if rules.max_age_days:
        hidden["max_age_days"] = items["days_since_available"] > rules.max_age_days
    if rules.max_days_unsold:
        last, first = items["days_since_last_target"], items["days_since_available"]
        hidden["max_days_unsold"] = np.where(np.isnan(last), first, last) > rules.max_days_unsold
    reasons = np.full(len(state.item_ids), -1, np.int8)
    for name, is_hidden in reversed(hidden.items()):
        reasons[is_hidden] = HIDING.index(name)
    return reasons


@dataclass(frozen=True)
class RuledLists:
    """Lists that follow the rules, and what the rules removed from them.

    rows, items, rules: list, item and index in RULES of each item that was removed although its score was high enough, or that was
    moved behind the first evaluation.k items. Items that a model does not score, such as withdrawn items in two_stage, are missing.
    """

    lists: Lists
    rows: NDArray[np.int64]
    items: NDArray[np.int32]
    rules: NDArray[np.int8]

    @property
    def counts(self) -> NDArray[np.int64]:
        """Number of removed or moved items by rule, in the order of RULES."""
        return np.bincount(self.rules, minlength=len(RULES))


class BusinessRules:
    """The rules of the settings, applied to the items of a state.

    listed: for each item, whether it may be listed. reasons: which rule hides it, see `hide`. k, most: of the first k items of a
    list, at most `most` may be of one category if `capped`.
    """

    def __init__(self, state: State, settings: Settings):
        self.state, self.length = state, settings.lists.length
        self.reasons = hide(state, settings)
        self.listed = self.reasons < 0
        self.k, self.capped = settings.evaluation.k, settings.rules.max_category_share < 1
        self.most = max(1, int(settings.rules.max_category_share * self.k + 1e-9))  # 0.29 * 100 is 28.999... as a float
        self.categories = np.unique(state.items["category"], return_inverse=True)[1]

    @classmethod
    def unruled(cls, state: State, settings: Settings, length: int) -> Self:
        """Rules that hide only unavailable items, for lists of `length` items."""
        return cls(state, replace(settings, rules=NO_RULES, lists=replace(settings.lists, length=length)))

    @property
    def depth(self) -> int:
        """Number of items to rank, so that enough remain after the rules."""
        return self.length * (DEPTH_FACTOR if self.capped else 1)

    def rank(
        self, recommender: Recommender, user_ids: NDArray[np.str_], at_a_time: int = 0
    ) -> Iterator[tuple[int, dict[str, RuledLists]]]:
        """Yields the lists of `at_a_time` users (0: CHUNK) by kind of list, with the place of the first of these users."""
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
        """Greedy re-ranking by max_category_share. items: (lists, depth), -1 for no item. Returns the new order, and flags of the
        items that move out of the first k. Items that exceed the share of their category move behind the first k; all others keep
        their order. If too few other items are left to fill the first k, the moved items come back."""
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
        """Ids of the first `length` items that may be listed; `items` are rows, best first."""
        best = items[self.listed[items]][None, : self.depth]
        return self.state.item_ids[np.take_along_axis(best, self.spread(best)[0], 1)[0, : self.length]].tolist()
