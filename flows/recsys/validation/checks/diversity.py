"""Checks how much of the catalogue the lists show, and that lists differ from user to user. A collapsed model lists the same items
for everybody."""

import math
from collections import Counter
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from recsys.evaluation import beyond_accuracy, coverage, target_share
from recsys.features import State
from recsys.recommenders import FILL_DAYS
from recsys.settings import Positive, Share, section
from recsys.validation.check_input import CheckInput
from recsys.validation_report import CheckResult, grade


@section
class DiversityLimits:
    min_coverage: Share
    max_gini: Share
    max_popularity_bias: Positive
    warn_same_list: Share
    warn_same_first: Share
    block_same: Share


SETTINGS: dict[str, str | tuple[str, str]] = {
    "*_coverage": "min_coverage",
    "*_exposure_gini": "max_gini",
    "*_popularity_bias": "max_popularity_bias",
    "*_same_list": ("warn_same_list", "block_same"),
    "*_same_first": "warn_same_first",
}


def check(inputs: CheckInput, limits: DiversityLimits) -> Iterator[CheckResult]:
    state = inputs.state
    for list_kind, (user_ids, lists) in inputs.lists.items():
        shown = lists.items[:, : inputs.settings.evaluation.k]
        yield from _diversity(list_kind, shown, state, inputs.settings.dataset.target, limits)
        known = state.users["target_events"][state.rows(user_ids)] > 0  # users without a target event rightly get the same list
        few_items = state.items["is_available"].sum() <= inputs.settings.evaluation.k  # then all lists hold the same items
        blocks = list_kind == "all_items" and inputs.winner != "popularity" and not few_items
        yield from _sameness(list_kind, shown[known] if known.any() else shown, limits, limits.block_same if blocks else math.inf)


def _diversity(
    list_kind: str, lists: NDArray[np.int32], state: State, target: str, limits: DiversityLimits
) -> Iterator[CheckResult]:
    available, k = state.items["is_available"], lists.shape[1]
    count, where = int(available.sum()), f"first {k} items of {list_kind} lists"
    share, minimum = float(coverage(lists, count)), limits.min_coverage * min(1, lists.size / max(count, 1))
    message = f"{where}: {share:.1%} of {count:,} available items are in at least one list; at least {minimum:.1%} are expected"
    yield CheckResult(f"{list_kind}_coverage", share, minimum, "warn", share >= minimum, message)
    inequality = gini(np.bincount(lists[lists >= 0], minlength=len(available))[available])
    message = f"{where}: the Gini index of how often available items are listed is {inequality:.3f}"
    yield grade(f"{list_kind}_exposure_gini", inequality, limits.max_gini, math.inf, message)
    recent = state.history["days"] <= FILL_DAYS
    if recent.any():
        users = np.unique(state.history["user_index"][recent], return_inverse=True)[1].astype(np.int32)
        scores = beyond_accuracy(lists, users, state.history["item_index"][recent], target_share(state), [k])
        bias = float(scores[f"popularity_bias@{k}"].mean())
        message = f"{where}: listed items are {bias:.2f} times as popular as the items of {target} events in {FILL_DAYS} days"
        yield grade(f"{list_kind}_popularity_bias", bias, limits.max_popularity_bias, math.inf, message)


def gini(counts: NDArray) -> float:
    """The Gini index: 0 if all counts are equal, near 1 if one count has everything."""
    ranks = np.arange(1, len(counts) + 1)
    return float(((2 * ranks - len(counts) - 1) * np.sort(counts)).sum() / max(len(counts) * counts.sum(), 1))


def _sameness(list_kind: str, lists: NDArray[np.int32], limits: DiversityLimits, block: float) -> Iterator[CheckResult]:
    share = Counter(row.tobytes() for row in lists).most_common(1)[0][1] / len(lists)
    message = f"{list_kind} lists: {share:.1%} of {len(lists):,} users have exactly the same first {lists.shape[1]} items"
    yield grade(f"{list_kind}_same_list", share, limits.warn_same_list, block, message)
    share = Counter(lists[:, 0].tolist()).most_common(1)[0][1] / len(lists)
    message = f"{list_kind} lists: one item is first in {share:.1%} of {len(lists):,} lists"
    yield grade(f"{list_kind}_same_first", share, limits.warn_same_first, math.inf, message)  # it may be a new bestseller
