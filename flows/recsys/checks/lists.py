"""The border out: are these lists fit to be shown, after the rules? Read back from the release, as the service will."""

import json
from collections.abc import Iterator

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from recsys.checks.expectations import Rule, examine
from recsys.checks.subject import Subject
from recsys.evaluation import PROTOCOLS
from recsys.recommenders import Lists
from recsys.releases import read_all
from recsys.rules import Ruling
from recsys.settings.validation import Count, Share, section
from recsys.state import State, places
from recsys.verdicts import Verdict


@section
class Limits:
    min_users_served: Share
    min_length: Count


SETTINGS: dict[str, str | tuple[str, str]] = {
    "*_users_served": "min_users_served min_length",
    "*_items_allowed": "[rules]",
    "*_ranks": "lists.length",
    "rules_known": "[rules]",
}


def check(subject: Subject, limits: Limits) -> Iterator[Verdict]:
    for protocol, (user_ids, lists) in subject.lists.items():
        yield _served(protocol, user_ids, lists, subject.state, PROTOCOLS[protocol], limits)
        yield from examine(*border(protocol, lists, subject.ruling))
    for name in subject.settings.lists.beside:
        for protocol in PROTOCOLS:
            user_ids, lists = read_all(subject.release, protocol, name)
            yield _served(f"{name}_{protocol}", user_ids, lists, subject.state, PROTOCOLS[protocol], limits)
            yield from examine(*border(f"{name}_{protocol}", lists, subject.ruling))
    yield _fallback(subject)
    yield _known(subject)


def border(protocol: str, lists: Lists, ruling: Ruling) -> tuple[pd.DataFrame, list[Rule]]:
    from great_expectations import expectations as gxe

    state, length = ruling.state, ruling.length
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
            "allowed": known & ruling.listed[np.where(known, items, 0)],
        }
    )
    return table, [
        Rule(
            f"{protocol}_items_available",
            gxe.ExpectColumnValuesToBeInSet(column="servable", value_set=[True]),
            "every listed item is known and for sale",
        ),
        Rule(
            f"{protocol}_items_allowed",
            gxe.ExpectColumnValuesToBeInSet(column="allowed", value_set=[True]),
            "no listed item is hidden by a rule",
        ),
        Rule(
            f"{protocol}_ranks",
            gxe.ExpectColumnValuesToBeBetween(column="rank", min_value=1, max_value=length),
            f"ranks run from 1 to {length}",
        ),
        Rule(
            f"{protocol}_no_item_twice",
            gxe.ExpectCompoundColumnsToBeUnique(column_list=["row", "item"]),
            "no list holds an item twice",
        ),
        Rule(
            f"{protocol}_scores",
            gxe.ExpectColumnValuesToBeBetween(column="score", min_value=0, max_value=float(np.finfo(np.float32).max)),
            "every score is a finite number, 0 or above",
        ),
    ]  # fmt: skip


def _served(name: str, user_ids: NDArray[np.str_], lists: Lists, state: State, novel: bool, limits: Limits) -> Verdict:
    """Where fewer items are for sale, or new to a user, a list of all of them is long enough."""
    available, pairs = state.items["is_available"], state.user_items
    had = np.bincount(pairs["user_index"], (pairs["baskets"] > 0) & available[pairs["item_index"]], len(state.user_ids))
    wanted = np.minimum(limits.min_length, available.sum() - (had if novel else 0))
    found, lengths = places(user_ids, state.user_ids), (lists.items >= 0).sum(1)
    share = float(((found >= 0) & (lengths[found] >= wanted)).mean())
    least = limits.min_users_served
    words = f"{share:.2%} of {len(state.user_ids):,} users have a list of {limits.min_length} items, or of all there are for them"
    return Verdict(f"{name}_users_served", share, least, "block", share >= least, f"{words}, at least {least:.2%} must")


def _fallback(subject: Subject) -> Verdict:
    """On what strangers get."""
    kept = json.loads((subject.release.path / "fallback.json").read_text())
    shown = {item for items in (kept["all"], kept["static"], *kept["segments"].values()) for item in items}
    wrong = sorted(shown - set(subject.state.item_ids[subject.ruling.listed].tolist()))
    words = f"{len(wrong)} items of the fallback may not be listed{', such as ' + wrong[0] if wrong else ''}; none may be there"
    return Verdict("fallback_items_allowed", len(wrong), 0, "block", not wrong, words)


def _known(subject: Subject) -> Verdict:
    """A misspelt id in a rule hides nothing, and nobody would see it."""
    rules, state = subject.settings.rules, subject.state
    asked = {*rules.blocked, *rules.static}, set(rules.blocked_categories)
    known = set(state.item_ids.tolist()), set(state.items["category"].tolist())
    strange = sorted((asked[0] - known[0]) | (asked[1] - known[1]))
    words = f"the rules name {len(strange)} items or categories that nobody knows"
    words += f": {', '.join(strange[:5])}; correct [rules] in config.toml" if strange else ""
    return Verdict("rules_known", len(strange), 0, "warn", not strange, words)
