"""Metrics against cases computed by hand."""

import numpy as np
import pytest

from recsys.metrics import bootstrap, bootstrap_coverage, coverage, score


def one_user(list_of_items: list[int], bought: list[int], k: int = 10) -> dict[str, float]:
    scores = score(np.array([list_of_items], np.int32), np.zeros(len(bought), np.int32), np.array(bought, np.int32), 100, k)
    return {metric: float(values[0]) for metric, values in scores.items()}


def test_a_perfect_list_scores_one_everywhere() -> None:
    assert one_user([1, 2, 3], [1, 2, 3]) == pytest.approx({"ndcg@10": 1, "recall@10": 1, "hit_rate@10": 1, "map@12": 1})


def test_one_hit_at_rank_two_of_three_bought() -> None:
    seen = one_user([9, 1, 8, 7], [1, 2, 3])
    ideal = 1 + 1 / np.log2(3) + 1 / np.log2(4)
    assert seen["ndcg@10"] == pytest.approx(1 / np.log2(3) / ideal)
    assert seen["recall@10"] == pytest.approx(1 / 3)
    assert seen["hit_rate@10"] == 1
    assert seen["map@12"] == pytest.approx(0.5 / 3)


def test_map_counts_the_precision_at_each_hit_down_to_rank_twelve() -> None:
    items = list(range(50, 63))
    assert one_user(items, [50, 52, 61, 62])["map@12"] == pytest.approx((1 + 2 / 3 + 3 / 12) / 4)


def test_hits_below_k_count_for_nothing_and_recall_has_all_that_was_bought_below_it() -> None:
    seen = one_user([1, 2, 3, 4], [3, 4], k=2)
    assert (seen["ndcg@2"], seen["recall@2"], seen["hit_rate@2"]) == (0, 0, 0)


def test_padding_is_no_hit_even_for_the_last_item_of_the_user_before() -> None:
    lists = np.array([[5, -1], [-1, -1]], np.int32)
    scores = score(lists, np.array([0, 1], np.int32), np.array([99, 3], np.int32), 100)
    assert scores["hit_rate@10"].tolist() == [0, 0]


def test_a_user_who_bought_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="1 users bought nothing"):
        score(np.array([[1], [2]], np.int32), np.array([0], np.int32), np.array([1], np.int32), 10)


def test_coverage_counts_items_in_anybodys_list() -> None:
    assert coverage(np.array([[1, 2], [2, -1]], np.int32), 8) == 0.25


def test_the_interval_of_a_coin_is_about_two_standard_errors() -> None:
    seen = bootstrap(np.tile([0.0, 1.0], 200), 2_000, seed=1)
    assert seen.mean == 0.5
    assert seen.low == pytest.approx(0.5 - 1.96 * 0.025, abs=0.006)
    assert seen.high == pytest.approx(0.5 + 1.96 * 0.025, abs=0.006)


def test_the_interval_of_coverage_holds_what_was_seen() -> None:
    lists = np.random.default_rng(0).integers(200, size=(60, 5)).astype(np.int32)
    seen = bootstrap_coverage(lists, 200, 300, seed=1)
    assert seen.low < coverage(lists, 200) < seen.high
