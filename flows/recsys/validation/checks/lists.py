"""Checks that the lists of a release are complete and valid and follow the business rules. Reads them with the service's code."""

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from recsys.features import State, places
from recsys.recommenders import LIST_KINDS, Lists
from recsys.releases import BusinessRules, read_all
from recsys.settings import Count, Share, section
from recsys.validation.check_input import CheckInput
from recsys.validation.expectations import Rule, examine
from recsys.validation_report import CheckResult

if TYPE_CHECKING:
    from pandas import DataFrame

MAX_SCORE = float(np.finfo(np.float32).max)


@section
class ListsLimits:
    min_users_served: Share
    min_length: Count


SETTINGS: dict[str, str | tuple[str, str]] = {
    "*_users_served": "min_users_served min_length",
    "*_items_allowed": "[rules]",
    "*_ranks": "lists.length",
    "*_category_share": "rules.max_category_share",
    "rules_known": "[rules]",
}


def check(inputs: CheckInput, limits: ListsLimits) -> Iterator[CheckResult]:
    alternatives = [
        (f"{name}_{list_kind}", list_kind, name) for name in inputs.settings.lists.alternatives for list_kind in LIST_KINDS
    ]
    for name, list_kind, recommender in [(list_kind, list_kind, "") for list_kind in LIST_KINDS] + alternatives:
        user_ids, lists = read_all(inputs.release, list_kind, recommender) if recommender else inputs.lists[list_kind]
        yield _served(name, user_ids, lists, inputs.state, LIST_KINDS[list_kind], limits)
        yield _users(name, user_ids, inputs.state)
        yield from examine(*border(name, lists, inputs.rules))
        yield _falling(name, user_ids, lists, inputs.rules)
        if LIST_KINDS[list_kind]:
            yield _new(name, user_ids, lists, inputs)
        if inputs.rules.capped:
            yield _shared(name, user_ids, lists, inputs.rules)
    yield _fallback(inputs)
    yield _known(inputs)


def border(list_kind: str, lists: Lists, rules: BusinessRules) -> tuple["DataFrame", list[Rule]]:
    import pandas as pd
    from great_expectations import expectations as gxe

    state, length = rules.state, rules.length
    rows, ranks = np.nonzero(lists.items >= 0)
    items = lists.items[rows, ranks]
    known = items < state.shape[1]
    table = pd.DataFrame(
        {
            "row": rows.astype(np.int32),
            "rank": (ranks + 1).astype(np.int32),
            "item": items,
            "score": lists.scores[rows, ranks],
            "servable": known & state.items["is_available"][np.where(known, items, 0)],
            "allowed": known & rules.listed[np.where(known, items, 0)],
        }
    )
    return table, [
        Rule(
            f"{list_kind}_items_available",
            gxe.ExpectColumnValuesToBeInSet(column="servable", value_set=[True]),
            "every listed item is in the catalogue and available",
        ),
        Rule(
            f"{list_kind}_items_allowed",
            gxe.ExpectColumnValuesToBeInSet(column="allowed", value_set=[True]),
            "no listed item is hidden by a rule",
        ),
        Rule(
            f"{list_kind}_ranks",
            gxe.ExpectColumnValuesToBeBetween(column="rank", min_value=1, max_value=length),
            f"ranks run from 1 to {length}",
        ),
        Rule(
            f"{list_kind}_no_item_twice",
            gxe.ExpectCompoundColumnsToBeUnique(column_list=["row", "item"]),
            "no list holds an item twice",
        ),
        Rule(
            f"{list_kind}_scores",
            gxe.ExpectColumnValuesToBeBetween(column="score", min_value=-MAX_SCORE, max_value=MAX_SCORE),
            "every score is a finite number",
        ),
    ]  # fmt: skip


def _served(
    name: str, user_ids: NDArray[np.str_], lists: Lists, state: State, exclude_seen: bool, limits: ListsLimits
) -> CheckResult:
    """Share of users with a long enough list. If fewer than `min_length` items are available, or new to a user, a list of all of
    them is long enough."""
    available, pairs = state.items["is_available"], state.user_items
    had = np.bincount(pairs["user_index"], (pairs["baskets"] > 0) & available[pairs["item_index"]], len(state.user_ids))
    required = np.minimum(limits.min_length, available.sum() - (had if exclude_seen else 0))
    rows, lengths = places(user_ids, state.user_ids), (lists.items >= 0).sum(1)
    share = float(((rows >= 0) & (lengths[rows] >= required)).mean())
    minimum = limits.min_users_served
    message = (
        f"{share:.2%} of {len(state.user_ids):,} users have a {name} list of {limits.min_length} items, or of all items there"
        f" are for them; at least {minimum:.2%} must"
    )
    return CheckResult(f"{name}_users_served", share, minimum, "block", share >= minimum, message)


def _users(name: str, user_ids: NDArray[np.str_], state: State) -> CheckResult:
    """The users with a list must be exactly the users of the features."""
    unknown, missing = np.setdiff1d(user_ids, state.user_ids), np.setdiff1d(state.user_ids, user_ids)
    wrong = len(unknown) + len(missing)
    message = f"each of the {len(state.user_ids):,} users of the features has one {name} list"
    if wrong:
        message += (
            f", but {len(missing):,} users have none and {len(unknown):,} lists are of unknown users, such as"
            f" {[*missing, *unknown][0]}; make the lists again from these features"
        )
    return CheckResult(f"{name}_users", wrong, 0, "block", not wrong, message)


def _falling(name: str, user_ids: NDArray[np.str_], lists: Lists, rules: BusinessRules) -> CheckResult:
    """Scores must fall from rank to rank, with two exceptions. If `max_category_share` moved items down, scores may rise once,
    behind the first k items. Items that fill a list up have a score of 0 and are last, even if other scores are negative."""
    scores = np.where(lists.scores == 0, -np.inf, lists.scores)
    rises = (scores[:, 1:] > scores[:, :-1]) & (lists.items[:, 1:] >= 0)
    wrong = np.flatnonzero(rises.sum(1) > int(rules.capped))
    message = f"scores of {name} lists fall from rank to rank"
    if len(wrong):
        rank = int(rises[wrong[0]].argmax()) + 2
        message += (
            f", but they rise in {len(wrong):,} of {len(user_ids):,} lists, first at rank {rank} of user"
            f" {user_ids[wrong[0]]}; items and scores were sorted in different orders, or not at all"
        )
    return CheckResult(f"{name}_scores_fall", len(wrong), 0, "block", not len(wrong), message)


def _new(name: str, user_ids: NDArray[np.str_], lists: Lists, inputs: CheckInput) -> CheckResult:
    """No list may hold an item that its user had, by all target events; the state's history holds only the most recent ones."""
    state, (row, rank) = inputs.state, np.nonzero((lists.items >= 0) & (lists.items < inputs.state.shape[1]))
    users, items, had = state.rows(user_ids)[row], lists.items[row, rank], inputs.had.tocoo()
    known = users >= 0
    wrong = known & np.isin(users * state.shape[1] + items, had.row.astype(np.int64) * state.shape[1] + had.col)
    count, message = len(np.unique(users[wrong])), f"{name} lists hold only items that are new to their user"
    if count:
        item = state.item_ids[items[wrong][0]]
        message += (
            f", but {count:,} of {len(user_ids):,} lists hold others: user {state.user_ids[users[wrong][0]]} has had {item};"
            " maybe all_items lists, or lists of other users, were written in their place"
        )
    return CheckResult(f"{name}_items_new", count, 0, "block", not count, message)


def _shared(name: str, user_ids: NDArray[np.str_], lists: Lists, rules: BusinessRules) -> CheckResult:
    """No category may have more than its share of the first k items while items of other categories are further down the list."""
    k, categories = rules.k, np.append(rules.categories, -1)
    codes = np.where(lists.items >= 0, categories[np.minimum(lists.items, len(categories) - 1)], -1)
    first, behind = codes[:, :k], codes[:, k:]
    counts = ((first[:, :, None] == first[:, None, :]) & (first >= 0)[:, :, None]).sum(2)
    over = (counts > rules.most).any(1)
    wrong = [
        row for row in np.flatnonzero(over) if any((first[row] == code).sum() < rules.most for code in set(behind[row]) - {-1})
    ]
    message = f"no category has more than {rules.most} of the first {k} items of {name} lists"
    if wrong:
        message += (
            f" while others are left, but one does in {len(wrong):,} of {len(user_ids):,} lists, first in that of user"
            f" {user_ids[wrong[0]]}; apply rules.max_category_share to every list"
        )
    return CheckResult(f"{name}_category_share", len(wrong), 0, "block", not wrong, message)


def _fallback(inputs: CheckInput) -> CheckResult:
    """The fallback lists, which unknown users get, must follow the rules too."""
    fallback = json.loads((inputs.release.path / "fallback.json").read_text())
    shown = {item for items in (fallback["all"], fallback["static"], *fallback["segments"].values()) for item in items}
    wrong = sorted(shown - set(inputs.state.item_ids[inputs.rules.listed].tolist()))
    message = (
        f"fallback.json holds {len(wrong)} items that may not be listed{', such as ' + wrong[0] if wrong else ''}; none may be"
    )
    return CheckResult("fallback_items_allowed", len(wrong), 0, "block", not wrong, message)


def _known(inputs: CheckInput) -> CheckResult:
    """Warns of unknown ids in the rules, because a rule with a misspelt id has no effect."""
    rules, state = inputs.settings.rules, inputs.state
    items = {*rules.blocked, *rules.static} - set(state.item_ids.tolist())
    unknown = sorted(items | set(rules.blocked_categories) - set(state.items["category"].tolist()))
    message = f"the rules name {len(unknown)} items or categories that are not in the data"
    message += f": {', '.join(unknown[:5])}; correct [rules] in config.toml" if unknown else ""
    return CheckResult("rules_known", len(unknown), 0, "warn", not unknown, message)
