"""Lists that collapsed on a few items are seen; recent popularity's are the same for all, and that is no fault."""

from dataclasses import replace

import numpy as np
import pytest

from conftest import failures, sabotage
from recsys.recommenders.base import Lists, popularity_order
from recsys.validation.check_input import Subject
from recsys.validation.checks.diversity import gini


def collapsed(subject: Subject) -> dict[str, tuple[np.ndarray, Lists]]:
    """Everybody's lists as those of one, who gets what sells best."""
    best = popularity_order(subject.state)[: subject.settings.lists.length].astype(np.int32)
    return {
        protocol: (users, Lists(np.tile(best, (len(users), 1)), lists.scores)) for protocol, (users, lists) in subject.lists.items()
    }


def severities(subject: Subject) -> dict[str, str]:
    return {name: verdict.severity for name, verdict in failures("breadth", subject).items()}


def test_lists_that_differ_pass(subject: Subject) -> None:
    assert severities(subject) == {}


def test_the_same_list_for_everybody_blocks_where_a_personal_recommender_won(subject: Subject) -> None:
    found = severities(sabotage(subject, lists=collapsed(subject)))
    assert found["allow_same_list"] == "block"
    assert found["novel_same_list"] == "warn"


def test_the_same_list_for_everybody_only_warns_where_popularity_won(subject: Subject) -> None:
    found = severities(sabotage(subject, lists=collapsed(subject), winner="popularity"))
    assert {"allow_same_list", "allow_same_first"} <= set(found)
    assert set(found.values()) == {"warn"}


def test_one_item_that_stands_first_in_every_list_only_warns(subject: Subject) -> None:
    users, lists = subject.lists["allow"]
    novelty = Lists(np.column_stack([np.full(len(users), lists.items.max()), lists.items[:, 1:]]), lists.scores)
    assert severities(sabotage(subject, lists={"allow": (users, novelty)})) == {"allow_same_first": "warn"}


def test_one_item_in_a_large_shop_is_no_coverage(subject: Subject) -> None:
    users, lists = subject.lists["allow"]
    single = Lists(np.full_like(lists.items, lists.items[0, 0]), lists.scores)
    assert {"allow_coverage", "allow_exposure_gini"} <= set(severities(sabotage(subject, lists={"allow": (users, single)})))


@pytest.mark.parametrize(("counts", "expected"), [([2, 2, 2], 0), ([0, 0, 0, 9], 0.75), ([1, 3], 0.25), ([0, 0], 0)])
def test_gini(counts: list[int], expected: float) -> None:
    assert gini(np.array(counts)) == pytest.approx(expected)


def test_lists_of_so_few_items_may_all_be_the_same(subject: Subject) -> None:
    users, lists = subject.lists["allow"]
    same = {"allow": (users, Lists(np.tile(lists.items[:1], (len(users), 1)), lists.scores))}
    assert failures("breadth", sabotage(subject, lists=same))["allow_same_list"].blocks
    few = subject.state.items | {"is_available": np.isin(np.arange(subject.state.shape[1]), lists.items[0, :10])}
    assert not failures("breadth", sabotage(subject, lists=same, state=replace(subject.state, items=few)))["allow_same_list"].blocks
