"""The border out: are these lists fit to be shown? Read back from the release, as the service will."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from recsys.checks.expectations import Rule, examine
from recsys.checks.subject import Subject
from recsys.recommenders import Lists
from recsys.state import State
from recsys.verdicts import Verdict


@dataclass(frozen=True)
class Limits:
    min_users_served: float
    min_length: int


def check(subject: Subject, limits: Limits) -> Iterator[Verdict]:
    for protocol, (user_ids, lists) in subject.lists.items():
        yield _served(protocol, user_ids, lists, subject.state, limits)
        yield from examine(*border(protocol, lists, subject.state, subject.settings.lists.length))


def border(protocol: str, lists: Lists, state: State, length: int) -> tuple[pd.DataFrame, list[Rule]]:
    from great_expectations import expectations as gxe

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
        }
    )
    return table, [
        Rule(
            f"{protocol}_items_available",
            gxe.ExpectColumnValuesToBeInSet(column="servable", value_set=[True]),
            "every listed item is known and for sale",
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


def _served(protocol: str, user_ids: NDArray[np.str_], lists: Lists, state: State, limits: Limits) -> Verdict:
    enough = user_ids[(lists.items >= 0).sum(1) >= min(limits.min_length, int(state.items["is_available"].sum()))]
    share = float(np.isin(state.user_ids, enough).mean())
    least = limits.min_users_served
    words = f"{share:.2%} of {len(state.user_ids):,} users have a list of {limits.min_length} items or more"
    return Verdict(f"{protocol}_users_served", share, least, "block", share >= least, f"{words}, at least {least:.2%} must")
