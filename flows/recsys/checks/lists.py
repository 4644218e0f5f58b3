"""The border out: are these lists fit to be shown? Read back from the release, as the service will."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from recsys.checks.expectations import Rule, examine
from recsys.config import Settings
from recsys.recommenders import Lists
from recsys.state import State
from recsys.verdicts import Verdict


def check_lists(protocol: str, user_ids: NDArray[np.str_], lists: Lists, state: State, settings: Settings) -> list[Verdict]:
    """Verdicts on one protocol's lists of `user_ids` against the state they were made from."""
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
    return [_served(protocol, user_ids, lists, state, settings), *examine(table, [
        Rule(
            f"{protocol}_items_available",
            gxe.ExpectColumnValuesToBeInSet(column="servable", value_set=[True]),
            "every listed item is known and for sale",
        ),
        Rule(
            f"{protocol}_ranks",
            gxe.ExpectColumnValuesToBeBetween(column="rank", min_value=1, max_value=settings.lists.length),
            f"ranks run from 1 to {settings.lists.length}",
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
    ])]  # fmt: skip


def _served(protocol: str, user_ids: NDArray[np.str_], lists: Lists, state: State, settings: Settings) -> Verdict:
    enough = user_ids[(lists.items >= 0).sum(1) >= min(settings.checks.min_list_length, int(state.items["is_available"].sum()))]
    share = float(np.isin(state.user_ids, enough).mean())
    limit = settings.checks.min_users_served
    words = f"{share:.2%} of {len(state.user_ids):,} users have a list of {settings.checks.min_list_length} items or more"
    return Verdict(f"{protocol}_users_served", share, limit, "block", share >= limit, f"{words}, at least {limit:.2%} must")
