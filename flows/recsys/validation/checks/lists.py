"""The border out: are these lists fit to be shown, after the rules? Read back from the release, as the service will."""

import json
from collections.abc import Iterator

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from recsys.features import State, places
from recsys.recommenders import LIST_KINDS, Lists
from recsys.releases import BusinessRules, read_all
from recsys.settings import Count, Share, section
from recsys.validation.check_input import CheckInput
from recsys.validation.expectations import Rule, examine
from recsys.validation_report import CheckResult

LARGEST = float(np.finfo(np.float32).max)


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


def border(list_kind: str, lists: Lists, rules: BusinessRules) -> tuple[pd.DataFrame, list[Rule]]:
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
            "every listed item is known and for sale",
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
            gxe.ExpectColumnValuesToBeBetween(column="score", min_value=-LARGEST, max_value=LARGEST),
            "every score is a finite number",
        ),
    ]  # fmt: skip


def _served(
    name: str, user_ids: NDArray[np.str_], lists: Lists, state: State, exclude_seen: bool, limits: ListsLimits
) -> CheckResult:
    """Where fewer items are for sale, or new to a user, a list of all of them is long enough."""
    available, pairs = state.items["is_available"], state.user_items
    had = np.bincount(pairs["user_index"], (pairs["baskets"] > 0) & available[pairs["item_index"]], len(state.user_ids))
    wanted = np.minimum(limits.min_length, available.sum() - (had if exclude_seen else 0))
    found, lengths = places(user_ids, state.user_ids), (lists.items >= 0).sum(1)
    share = float(((found >= 0) & (lengths[found] >= wanted)).mean())
    least = limits.min_users_served
    words = f"{share:.2%} of {len(state.user_ids):,} users have a list of {limits.min_length} items, or of all there are for them"
    return CheckResult(f"{name}_users_served", share, least, "block", share >= least, f"{words}, at least {least:.2%} must")


def _users(name: str, user_ids: NDArray[np.str_], state: State) -> CheckResult:
    """Each user of the features must have one list, and nobody else."""
    strange, missing = np.setdiff1d(user_ids, state.user_ids), np.setdiff1d(state.user_ids, user_ids)
    wrong = len(strange) + len(missing)
    words = f"{name} lists are of the {len(state.user_ids):,} users of the features"
    if wrong:
        words += f", but {len(missing):,} of these have none and {len(strange):,} are of others, such as {[*missing, *strange][0]};"
        words += " make the lists again from these features"
    return CheckResult(f"{name}_users", wrong, 0, "block", not wrong, words)


def _falling(name: str, user_ids: NDArray[np.str_], lists: Lists, rules: BusinessRules) -> CheckResult:
    """Where a category may not take more than its share of the first items, what moves behind them may score above them. What fills
    a list up has a score of 0 and stands behind all else, whatever sign the scores have."""
    scores = np.where(lists.scores == 0, -np.inf, lists.scores)
    rises = (scores[:, 1:] > scores[:, :-1]) & (lists.items[:, 1:] >= 0)
    wrong = np.flatnonzero(rises.sum(1) > int(rules.capped))
    words = f"scores of {name} lists fall from rank to rank"
    if len(wrong):
        place = int(rises[wrong[0]].argmax()) + 2
        words += (
            f", but they rise in {len(wrong):,} of {len(user_ids):,}: user {user_ids[wrong[0]]} has the first rise at rank {place};"
        )
        words += " items and scores were sorted in different orders, or not at all"
    return CheckResult(f"{name}_scores_fall", len(wrong), 0, "block", not len(wrong), words)


def _new(name: str, user_ids: NDArray[np.str_], lists: Lists, inputs: CheckInput) -> CheckResult:
    """Against all target events, of which a state keeps the most recent ones only."""
    state, (row, rank) = inputs.state, np.nonzero((lists.items >= 0) & (lists.items < inputs.state.shape[1]))
    users, items, had = state.rows(user_ids)[row], lists.items[row, rank], inputs.had.tocoo()
    known = users >= 0
    wrong = known & np.isin(users * state.shape[1] + items, had.row.astype(np.int64) * state.shape[1] + had.col)
    people, words = np.unique(users[wrong]), f"{name} lists hold only items that are new to their user"
    if len(people):
        item = state.item_ids[items[wrong][0]]
        words += f", but {len(people):,} of {len(user_ids):,} hold others: user {state.user_ids[users[wrong][0]]} has had {item};"
        words += " the lists of all items may have been written in their place, or lists of other users"
    return CheckResult(f"{name}_items_new", len(people), 0, "block", not len(people), words)


def _shared(name: str, user_ids: NDArray[np.str_], lists: Lists, rules: BusinessRules) -> CheckResult:
    """No category takes more than its share of the first items while another item of the list could stand there."""
    k, categories = rules.k, np.append(rules.categories, -1)
    codes = np.where(lists.items >= 0, categories[np.minimum(lists.items, len(categories) - 1)], -1)
    first, behind = codes[:, :k], codes[:, k:]
    counts = ((first[:, :, None] == first[:, None, :]) & (first >= 0)[:, :, None]).sum(2)
    over = (counts > rules.most).any(1)
    wrong = [
        row for row in np.flatnonzero(over) if any((first[row] == code).sum() < rules.most for code in set(behind[row]) - {-1})
    ]
    words = f"no category takes more than {rules.most} of the first {k} items of {name} lists"
    if wrong:
        words += f" unless no others are left, but in {len(wrong):,} of {len(user_ids):,} one does, first that of user"
        words += f" {user_ids[wrong[0]]}; apply rules.max_category_share to every list"
    return CheckResult(f"{name}_category_share", len(wrong), 0, "block", not wrong, words)


def _fallback(inputs: CheckInput) -> CheckResult:
    """On what strangers get."""
    kept = json.loads((inputs.release.path / "fallback.json").read_text())
    shown = {item for items in (kept["all"], kept["static"], *kept["segments"].values()) for item in items}
    wrong = sorted(shown - set(inputs.state.item_ids[inputs.rules.listed].tolist()))
    words = f"{len(wrong)} items of the fallback may not be listed{', such as ' + wrong[0] if wrong else ''}; none may be there"
    return CheckResult("fallback_items_allowed", len(wrong), 0, "block", not wrong, words)


def _known(inputs: CheckInput) -> CheckResult:
    """A misspelt id in a rule hides nothing, and nobody would see it."""
    rules, state = inputs.settings.rules, inputs.state
    asked = {*rules.blocked, *rules.static}, set(rules.blocked_categories)
    known = set(state.item_ids.tolist()), set(state.items["category"].tolist())
    strange = sorted((asked[0] - known[0]) | (asked[1] - known[1]))
    words = f"the rules name {len(strange)} items or categories that nobody knows"
    words += f": {', '.join(strange[:5])}; correct [rules] in config.toml" if strange else ""
    return CheckResult("rules_known", len(strange), 0, "warn", not strange, words)
