"""Numbers that are none, in what was learned, in the scores and in the features."""

from copy import copy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from conftest import failures, sabotage
from recsys.recommenders.base import Lists
from recsys.recommenders.rankers.hist_gradient_boosting import HistGradientBoosting
from recsys.validation.check_input import Subject


def severities(subject: Subject) -> dict[str, str]:
    return {name: verdict.severity for name, verdict in failures("health", subject).items()}


def with_model(subject: Subject, **learned: Any) -> Subject:
    model = copy(subject.model)
    vars(model).update(learned)
    return sabotage(subject, model=model)


def changed_ranker(subject: Subject) -> HistGradientBoosting:
    """A copy of the model's ranker, to be changed."""
    ranker = copy(vars(subject.model)["fitted_ranker"])
    ranker.nodes_ = ranker.nodes_.copy()
    return ranker


def with_scores(subject: Subject, change: Any) -> Subject:
    return sabotage(
        subject,
        lists={
            protocol: (users, Lists(lists.items, change(lists.scores).astype(np.float32)))
            for protocol, (users, lists) in subject.lists.items()
        },
    )


def with_items(subject: Subject, **columns: np.ndarray) -> Subject:
    return sabotage(subject, state=replace(subject.state, items=subject.state.items | columns))


def test_sound_numbers_pass(subject: Subject) -> None:
    assert severities(subject) == {}


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_leaf_that_is_no_number_blocks(subject: Subject, value: float) -> None:
    ranker = changed_ranker(subject)
    ranker.nodes_["value"][3] = value
    assert severities(with_model(subject, fitted_ranker=ranker)) == {"learned_finite": "block"}


def test_an_infinite_threshold_is_how_trees_part_missing_values(subject: Subject) -> None:
    ranker = changed_ranker(subject)
    ranker.nodes_["num_threshold"][0] = np.inf
    assert severities(with_model(subject, fitted_ranker=ranker)) == {}


def test_what_a_proposer_learned_is_looked_at_too(subject: Subject) -> None:
    proposers: dict[str, Any] = vars(subject.model)["proposers"]
    broken = copy(proposers["item_to_item"])
    broken.similarity_ = broken.similarity_.copy()
    broken.similarity_.data[0] = np.nan
    found = failures("health", with_model(subject, proposers={**proposers, "item_to_item": broken}))
    assert list(found) == ["learned_finite"]
    assert "two_stage.item_to_item.similarity_" in found["learned_finite"].message


def test_a_model_of_another_catalogue_blocks(subject: Subject) -> None:
    assert severities(with_model(subject, item_ids_=np.array(["other"]))) == {"learned_sizes": "block"}


def test_a_ranker_that_learned_nothing_blocks(subject: Subject) -> None:
    ranker = changed_ranker(subject)
    ranker.sizes_ = np.zeros(0, int)
    assert severities(with_model(subject, fitted_ranker=ranker)) == {"learned_sizes": "block"}


def test_a_score_that_is_no_number_blocks(subject: Subject) -> None:
    assert "scores_finite" in severities(with_scores(subject, lambda scores: np.where(scores == scores.max(), np.nan, scores)))


def test_scores_below_0_are_as_good_as_others(subject: Subject) -> None:
    assert severities(with_scores(subject, lambda scores: np.where(scores == 0, 0, scores - 7))) == {}


@pytest.mark.parametrize("score", [0.5, -0.5, 0.0], ids=["one score", "one below 0", "no score"])
def test_scores_that_tell_nothing_apart_block(subject: Subject, score: float) -> None:
    assert severities(with_scores(subject, lambda scores: np.full_like(scores, score))) == {"constant_scores": "block"}


def test_an_infinite_feature_blocks_and_is_named(subject: Subject) -> None:
    found = failures("health", with_items(subject, mean_price=np.full(subject.state.shape[1], np.inf, np.float32)))
    assert "feat_items.mean_price is infinite" in found["feature_columns"].message


@pytest.mark.parametrize("value", [np.nan, 0])
def test_a_feature_that_was_there_and_is_gone_blocks(subject: Subject, value: float) -> None:
    gone = np.full(subject.state.shape[1], value, np.float32)
    assert severities(with_items(subject, views_28d=gone)) == {"feature_columns": "block"}


def test_a_feature_that_never_was_there_passes(subject: Subject) -> None:
    gone = np.full(subject.state.shape[1], np.nan, np.float32)
    earlier = replace(subject.holdout_state, items=subject.holdout_state.items | {"views_28d": gone})
    assert severities(sabotage(with_items(subject, views_28d=gone), holdout_state=earlier)) == {}


def test_a_few_scores_may_tie(subject: Subject) -> None:
    """Who has had nine items once each has nine equal counts."""

    def few(scores: np.ndarray) -> np.ndarray:
        return np.where(np.arange(scores.shape[1]) < 9, 1.0, 0.0) * np.ones_like(scores)

    assert severities(with_scores(subject, few)) == {}


def test_popularity_may_score_nothing_where_nothing_sold_lately(subject: Subject) -> None:
    assert severities(sabotage(with_scores(subject, np.zeros_like), winner="popularity")) == {}


def test_a_feature_that_few_rows_had_may_be_gone_by_chance(subject: Subject) -> None:
    column = np.zeros(subject.state.shape[1], np.float32)
    earlier = column.copy()
    earlier[np.flatnonzero(subject.holdout_state.items["is_available"])[:5]] = 1
    state = replace(subject.holdout_state, items=subject.holdout_state.items | {"views_28d": earlier})
    assert severities(sabotage(with_items(subject, views_28d=column), holdout_state=state)) == {}
