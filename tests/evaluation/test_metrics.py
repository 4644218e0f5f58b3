"""Metrics against cases computed by hand, and against trec_eval."""

import numpy as np
import pytest
import pytrec_eval

from recsys.evaluation.metrics import beyond_accuracy, bootstrap, bootstrap_coverage, coverage, score

KS = [5, 10, 20]


def one_user(list_of_items: list[int], bought: list[int]) -> dict[str, float]:
    scores = score(np.array([list_of_items], np.int32), np.zeros(len(bought), np.int32), np.array(bought, np.int32), 100, KS)
    return {metric: float(values[0]) for metric, values in scores.items()}


def test_a_perfect_list_scores_one_everywhere() -> None:
    seen = one_user([1, 2, 3], [1, 2, 3])
    assert seen == pytest.approx({f"{metric}@{k}": 1 for metric in ("ndcg", "recall", "hit_rate", "map") for k in KS})


def test_one_hit_at_rank_two_of_three_bought() -> None:
    seen = one_user([9, 1, 8, 7], [1, 2, 3])
    ideal = 1 + 1 / np.log2(3) + 1 / np.log2(4)
    assert seen["ndcg@10"] == pytest.approx(1 / np.log2(3) / ideal)
    assert seen["recall@10"] == pytest.approx(1 / 3)
    assert seen["hit_rate@10"] == 1
    assert seen["map@10"] == pytest.approx(0.5 / 3)


def test_a_hit_at_rank_seven_counts_from_depth_seven_on() -> None:
    seen = one_user(list(range(50, 70)), [56, 1])
    assert [seen[f"hit_rate@{k}"] for k in KS] == [0, 1, 1]
    assert [seen[f"recall@{k}"] for k in KS] == [0, 0.5, 0.5]
    assert [seen[f"ndcg@{k}"] for k in KS] == pytest.approx([0, *[1 / np.log2(8) / (1 + 1 / np.log2(3))] * 2])


def test_map_is_the_precision_at_each_hit_over_the_places_that_could_have_been_hits() -> None:
    seen = one_user(list(range(50, 70)), [50, 52, 61, *range(10)])  # 13 bought
    assert seen["map@5"] == pytest.approx((1 + 2 / 3) / 5)
    assert seen["map@10"] == pytest.approx((1 + 2 / 3) / 10)
    assert seen["map@20"] == pytest.approx((1 + 2 / 3 + 3 / 12) / 13)


def test_padding_is_no_hit_even_for_the_last_item_of_the_user_before() -> None:
    lists = np.array([[5, -1], [-1, -1]], np.int32)
    scores = score(lists, np.array([0, 1], np.int32), np.array([99, 3], np.int32), 100, KS)
    assert scores["hit_rate@10"].tolist() == [0, 0]


def test_a_user_without_a_relevant_item_is_refused() -> None:
    with pytest.raises(ValueError, match="1 users have no relevant item"):
        score(np.array([[1], [2]], np.int32), np.array([0], np.int32), np.array([1], np.int32), 10, KS)


@pytest.mark.parametrize("k", KS)
def test_accuracy_is_that_of_trec_eval(k: int) -> None:
    """On random lists, some short, of users who bought 1 to 30 of 60 items. Its map divides by all that was bought."""
    draw = np.random.default_rng(0)
    lists = np.argsort(draw.random((300, 60)), 1)[:, :20].astype(np.int32)
    lists[np.arange(20) >= draw.integers(1, 40, 300)[:, None]] = -1
    bought = [draw.choice(60, count, replace=False) for count in draw.integers(1, 31, 300)]
    counts = np.array([len(items) for items in bought])
    ours = score(lists, np.repeat(np.arange(300), counts).astype(np.int32), np.concatenate(bought).astype(np.int32), 60, KS)

    relevant = {f"{row}": {f"{item}": 1 for item in items} for row, items in enumerate(bought)}
    ranked = {
        f"{row}": {f"{item}": float(-rank) for rank, item in enumerate(items) if item >= 0} for row, items in enumerate(lists)
    }
    names = {"ndcg": "ndcg_cut", "recall": "recall", "hit_rate": "success", "map": "map_cut"}
    theirs = pytrec_eval.RelevanceEvaluator(relevant, {f"{name}.{k}" for name in names.values()}).evaluate(ranked)
    for metric, name in names.items():
        users = np.flatnonzero(counts <= k) if metric == "map" else np.arange(300)
        np.testing.assert_allclose(ours[f"{metric}@{k}"][users], [theirs[f"{row}"][f"{name}_{k}"] for row in users])


def test_novelty_is_the_mean_self_information_of_what_is_listed() -> None:
    share = np.array([1 / 2, 1 / 4, 1 / 8])
    lists = np.array([[0, 1, 2], [2, -1, -1], [-1, -1, -1]], np.int32)
    seen = beyond_accuracy(lists, np.arange(3, dtype=np.int32), np.zeros(3, np.int32), share, [2, 3])
    assert seen["novelty@2"].tolist() == [1.5, 3, 0]
    assert seen["novelty@3"].tolist() == [2, 3, 0]


def test_lists_twice_as_popular_as_purchases_have_a_popularity_bias_of_two() -> None:
    share = np.array([0.4, 0.2, 0.1])
    lists, users, items = np.array([[0, 1], [0, 1]]), np.array([0, 0, 1]), np.array([1, 2, 2])  # bought: 0.15 and 0.1
    seen = beyond_accuracy(lists.astype(np.int32), users.astype(np.int32), items.astype(np.int32), share, [1, 2])
    assert seen["popularity_bias@2"] == pytest.approx([0.3 / 0.125] * 2)
    assert seen["popularity_bias@1"] == pytest.approx([0.4 / 0.125] * 2)


def test_what_was_bought_has_no_popularity_bias() -> None:
    share, items = np.array([0.4, 0.2, 0.1]), np.array([2, 0, 1], np.int32)
    seen = beyond_accuracy(items[:, None], np.arange(3, dtype=np.int32), items, share, [1])
    assert seen["popularity_bias@1"].mean() == pytest.approx(1)


def test_coverage_counts_items_in_anybodys_list() -> None:
    assert coverage(np.array([[1, 2], [2, -1]], np.int32), 8) == 0.25


def test_the_interval_of_a_coin_is_about_two_standard_errors() -> None:
    seen = bootstrap({"heads": np.tile([0.0, 1.0], 200), "nothing": np.zeros(400)}, 2_000, seed=1)
    assert seen["nothing"] == (0, 0, 0)
    assert seen["heads"].mean == 0.5
    assert seen["heads"].low == pytest.approx(0.5 - 1.96 * 0.025, abs=0.006)
    assert seen["heads"].high == pytest.approx(0.5 + 1.96 * 0.025, abs=0.006)


def test_the_interval_of_coverage_holds_what_was_seen() -> None:
    lists = np.random.default_rng(0).integers(200, size=(60, 5)).astype(np.int32)
    seen = bootstrap_coverage(lists, 200, 300, seed=1)
    assert seen.low < coverage(lists, 200) < seen.high


def test_without_users_there_is_no_figure() -> None:
    assert np.isnan(bootstrap({"nothing": np.zeros(0)}, 10, seed=1)["nothing"]).all()
    assert np.isnan(bootstrap_coverage(np.zeros((0, 5), np.int32), 8, 10, seed=1)).all()
