"""Lists that collapsed on a few items are seen; recent popularity's are the same for all, and that is no fault."""

from dataclasses import replace

import numpy as np
import pytest

from conftest import failures, sabotage
from recsys.recommenders.base import Lists, popularity_order
from recsys.validation.check_input import CheckInput
from recsys.validation.checks.diversity import gini


def collapsed(inputs: CheckInput) -> dict[str, tuple[np.ndarray, Lists]]:
    """Everybody's lists as those of one, who gets what sells best."""
    best = popularity_order(inputs.state)[: inputs.settings.lists.length].astype(np.int32)
    return {
        list_kind: (users, Lists(np.tile(best, (len(users), 1)), lists.scores))
        for list_kind, (users, lists) in inputs.lists.items()
    }


def severities(inputs: CheckInput) -> dict[str, str]:
    return {name: result.severity for name, result in failures("diversity", inputs).items()}


def test_lists_that_differ_pass(inputs: CheckInput) -> None:
    assert severities(inputs) == {}


def test_the_same_list_for_everybody_blocks_where_a_personal_recommender_won(inputs: CheckInput) -> None:
    found = severities(sabotage(inputs, lists=collapsed(inputs)))
    assert found["all_items_same_list"] == "block"
    assert found["new_items_same_list"] == "warn"


def test_the_same_list_for_everybody_only_warns_where_popularity_won(inputs: CheckInput) -> None:
    found = severities(sabotage(inputs, lists=collapsed(inputs), winner="popularity"))
    assert {"all_items_same_list", "all_items_same_first"} <= set(found)
    assert set(found.values()) == {"warn"}


def test_one_item_that_stands_first_in_every_list_only_warns(inputs: CheckInput) -> None:
    users, lists = inputs.lists["all_items"]
    novelty = Lists(np.column_stack([np.full(len(users), lists.items.max()), lists.items[:, 1:]]), lists.scores)
    assert severities(sabotage(inputs, lists={"all_items": (users, novelty)})) == {"all_items_same_first": "warn"}


def test_one_item_in_a_large_shop_is_no_coverage(inputs: CheckInput) -> None:
    users, lists = inputs.lists["all_items"]
    single = Lists(np.full_like(lists.items, lists.items[0, 0]), lists.scores)
    assert {"all_items_coverage", "all_items_exposure_gini"} <= set(
        severities(sabotage(inputs, lists={"all_items": (users, single)}))
    )


@pytest.mark.parametrize(("counts", "expected"), [([2, 2, 2], 0), ([0, 0, 0, 9], 0.75), ([1, 3], 0.25), ([0, 0], 0)])
def test_gini(counts: list[int], expected: float) -> None:
    assert gini(np.array(counts)) == pytest.approx(expected)


def test_lists_of_so_few_items_may_all_be_the_same(inputs: CheckInput) -> None:
    users, lists = inputs.lists["all_items"]
    same = {"all_items": (users, Lists(np.tile(lists.items[:1], (len(users), 1)), lists.scores))}
    assert failures("diversity", sabotage(inputs, lists=same))["all_items_same_list"].blocks
    few = inputs.state.items | {"is_available": np.isin(np.arange(inputs.state.shape[1]), lists.items[0, :10])}
    assert not failures("diversity", sabotage(inputs, lists=same, state=replace(inputs.state, items=few)))[
        "all_items_same_list"
    ].blocks
