"""Numbers that are none, in what was learned, in the scores and in the features."""

from copy import copy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from conftest import failures, sabotage
from recsys.recommenders.base import Lists
from recsys.recommenders.rankers.hist_gradient_boosting import HistGradientBoosting
from recsys.validation.check_input import CheckInput


def severities(inputs: CheckInput) -> dict[str, str]:
    return {name: result.severity for name, result in failures("health", inputs).items()}


def with_model(inputs: CheckInput, **learned: Any) -> CheckInput:
    model = copy(inputs.model)
    vars(model).update(learned)
    return sabotage(inputs, model=model)


def changed_ranker(inputs: CheckInput) -> HistGradientBoosting:
    """A copy of the model's ranker, to be changed."""
    ranker = copy(vars(inputs.model)["fitted_ranker"])
    ranker.nodes_ = ranker.nodes_.copy()
    return ranker


def with_scores(inputs: CheckInput, change: Any) -> CheckInput:
    return sabotage(
        inputs,
        lists={
            list_kind: (users, Lists(lists.items, change(lists.scores).astype(np.float32)))
            for list_kind, (users, lists) in inputs.lists.items()
        },
    )


def with_items(inputs: CheckInput, **columns: np.ndarray) -> CheckInput:
    return sabotage(inputs, state=replace(inputs.state, items=inputs.state.items | columns))


def test_sound_numbers_pass(inputs: CheckInput) -> None:
    assert severities(inputs) == {}


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_leaf_that_is_no_number_blocks(inputs: CheckInput, value: float) -> None:
    ranker = changed_ranker(inputs)
    ranker.nodes_["value"][3] = value
    assert severities(with_model(inputs, fitted_ranker=ranker)) == {"learned_finite": "block"}


def test_an_infinite_threshold_is_how_trees_part_missing_values(inputs: CheckInput) -> None:
    ranker = changed_ranker(inputs)
    ranker.nodes_["num_threshold"][0] = np.inf
    assert severities(with_model(inputs, fitted_ranker=ranker)) == {}


def test_what_a_candidate_source_learned_is_looked_at_too(inputs: CheckInput) -> None:
    candidate_sources: dict[str, Any] = vars(inputs.model)["candidate_sources"]
    broken = copy(candidate_sources["item_to_item"])
    broken.similarity_ = broken.similarity_.copy()
    broken.similarity_.data[0] = np.nan
    found = failures("health", with_model(inputs, candidate_sources={**candidate_sources, "item_to_item": broken}))
    assert list(found) == ["learned_finite"]
    assert "two_stage.item_to_item.similarity_" in found["learned_finite"].message


def test_a_model_of_another_catalogue_blocks(inputs: CheckInput) -> None:
    found = severities(with_model(inputs, item_ids_=np.array(["other"])))
    assert found == {"learned_sizes": "block", "learned_again": "block"}


def test_a_final_ranker_that_ranks_worse_than_the_scored_one_blocks(inputs: CheckInput) -> None:
    ranker = changed_ranker(inputs)
    ranker.nodes_["value"] *= -1
    found = severities(with_model(inputs, fitted_ranker=ranker))
    assert found["all_items_final_model"] == found["new_items_final_model"] == "block"


def test_a_candidate_source_that_forgot_what_it_learned_blocks(inputs: CheckInput) -> None:
    sources = vars(inputs.model)["candidate_sources"]
    empty = copy(sources["item_to_item"])
    empty.similarity_ = empty.similarity_ * 0
    assert severities(with_model(inputs, candidate_sources=sources | {"item_to_item": empty})) == {"learned_again": "block"}


def test_a_ranker_that_learned_nothing_blocks(inputs: CheckInput) -> None:
    ranker = changed_ranker(inputs)
    ranker.sizes_ = np.zeros(0, int)
    assert severities(with_model(inputs, fitted_ranker=ranker)) == {"learned_sizes": "block"}


def test_a_score_that_is_no_number_blocks(inputs: CheckInput) -> None:
    assert "scores_finite" in severities(with_scores(inputs, lambda scores: np.where(scores == scores.max(), np.nan, scores)))


def test_scores_below_0_are_as_good_as_others(inputs: CheckInput) -> None:
    assert severities(with_scores(inputs, lambda scores: np.where(scores == 0, 0, scores - 7))) == {}


@pytest.mark.parametrize("score", [0.5, -0.5, 0.0], ids=["one score", "one below 0", "no score"])
def test_scores_that_tell_nothing_apart_block(inputs: CheckInput, score: float) -> None:
    assert severities(with_scores(inputs, lambda scores: np.full_like(scores, score))) == {"constant_scores": "block"}


def test_an_infinite_feature_blocks_and_is_named(inputs: CheckInput) -> None:
    found = failures("health", with_items(inputs, mean_price=np.full(inputs.state.shape[1], np.inf, np.float32)))
    assert "feat_items.mean_price is infinite" in found["feature_columns"].message


@pytest.mark.parametrize("value", [np.nan, 0])
def test_a_feature_that_was_there_and_is_gone_blocks(inputs: CheckInput, value: float) -> None:
    gone = np.full(inputs.state.shape[1], value, np.float32)
    assert severities(with_items(inputs, views_28d=gone)) == {"feature_columns": "block"}


def test_a_feature_that_never_was_there_passes(inputs: CheckInput) -> None:
    gone = np.full(inputs.state.shape[1], np.nan, np.float32)
    earlier = replace(inputs.holdout_state, items=inputs.holdout_state.items | {"views_28d": gone})
    assert severities(sabotage(with_items(inputs, views_28d=gone), holdout_state=earlier)) == {}


def test_a_few_scores_may_tie(inputs: CheckInput) -> None:
    """Who has had nine items once each has nine equal counts."""

    def few(scores: np.ndarray) -> np.ndarray:
        return np.where(np.arange(scores.shape[1]) < 9, 1.0, 0.0) * np.ones_like(scores)

    assert severities(with_scores(inputs, few)) == {}


def test_popularity_may_score_nothing_where_nothing_sold_lately(inputs: CheckInput) -> None:
    assert severities(sabotage(with_scores(inputs, np.zeros_like), winner="popularity")) == {}


def test_a_feature_that_few_rows_had_may_be_gone_by_chance(inputs: CheckInput) -> None:
    column = np.zeros(inputs.state.shape[1], np.float32)
    earlier = column.copy()
    earlier[np.flatnonzero(inputs.holdout_state.items["is_available"])[:5]] = 1
    state = replace(inputs.holdout_state, items=inputs.holdout_state.items | {"views_28d": earlier})
    assert severities(sabotage(with_items(inputs, views_28d=column), holdout_state=state)) == {}
