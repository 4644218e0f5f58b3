"""Time travel: what has seen the future is found, be it a feature, a candidate or a model."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from conftest import failed
from recsys.recommenders.base import Lists
from recsys.recommenders.registry import RECOMMENDERS
from recsys.recommenders.two_stage import FeatureTable, TwoStage
from recsys.validation.check_input import CheckInput
from recsys.validation.checks import time_travel
from recsys.validation.checks.time_travel import areas_under_curve

pytestmark = pytest.mark.slow


def test_a_healthy_release_passes(audited: CheckInput) -> None:
    assert failed("time_travel", audited) == []


def test_features_that_differ_from_those_of_that_day_are_found(audited: CheckInput) -> None:
    then = replace(audited, bad_days={**audited.bad_days, "as_it_was": audited.bad_days["lost_events"]})
    results = list(time_travel.check(then, time_travel.TimeTravelLimits(1.0, 1.0)))
    assert [result.name for result in results if result.blocks] == ["features_of_that_day"]
    assert "feat_users.target_events in " in results[0].message


def test_a_model_that_knows_the_answers_without_learning_them_is_found(
    audited: CheckInput, monkeypatch: pytest.MonkeyPatch
) -> None:
    users, items = audited.features.labels(audited.features.evaluated[0])

    class Peeking(TwoStage):
        """Puts what will be bought first."""

        def recommend(self, user_ids: Any, k: int, state: Any, exclude_seen: bool = False) -> Lists:
            lists = super().recommend(user_ids, k, state, exclude_seen)
            rows = state.rows(user_ids)
            for place, row in enumerate(rows):
                bought = items[users == row][:k]
                lists.items[place, : len(bought)] = bought
            return lists

    monkeypatch.setitem(RECOMMENDERS, "two_stage", Peeking)
    assert failed("time_travel", audited) == ["shuffled_labels"]


def test_a_feature_made_of_the_labels_is_found_and_named(audited: CheckInput, monkeypatch: pytest.MonkeyPatch) -> None:
    users, items = audited.features.labels(audited.features.evaluated[0])
    bought, honest, width = users.astype(np.int64) * audited.state.shape[1] + items, FeatureTable.features, audited.state.shape[1]

    def features(self: FeatureTable, rows: np.ndarray, columns: np.ndarray) -> dict[str, np.ndarray]:
        return honest(self, rows, columns) | {"pair_trend": np.isin(rows * width + columns, bought).astype(np.float32)}

    monkeypatch.setattr(FeatureTable, "features", features)
    result = time_travel._too_good(audited, time_travel.TimeTravelLimits(max_shuffled=1.0, max_auc=0.97))
    assert result.blocks
    assert "pair_trend 1.000" in result.message


def test_the_area_under_the_curve_is_that_of_scikit_learn() -> None:
    from sklearn.metrics import roc_auc_score

    draw = np.random.default_rng(0)
    label, feature = draw.random(500) < 0.2, draw.integers(0, 9, 500).astype(np.float32)
    missing = np.where(draw.random(500) < 0.1, np.nan, -feature - label)
    found = areas_under_curve(np.column_stack([feature, missing]), label)
    expected = [roc_auc_score(label, feature), roc_auc_score(label, np.nan_to_num(missing, nan=-100))]
    assert found == pytest.approx([max(area, 1 - area) for area in expected])
