"""The two-stage recommender on the small shop."""

from datetime import date
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from conftest import PROJECT, make_settings
from recsys import RecsysError
from recsys.features.snapshot import Features
from recsys.pipeline import build_features, land, open_features
from recsys.recommenders.rankers.base import Ranker
from recsys.recommenders.rankers.hist_gradient_boosting import HistGradientBoosting
from recsys.recommenders.registry import create
from recsys.recommenders.two_stage import Candidates, TwoStage, candidates
from recsys.settings.run import Settings
from recsys.store.snapshots import open_store


@pytest.fixture(scope="module")
def settings() -> Settings:
    return make_settings(features={"training_windows": 4})


@pytest.fixture(scope="module")
def features(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Features:
    store = open_store(str(tmp_path_factory.mktemp("store")), "shop")
    raw, _ = land(store, settings, date(2026, 1, 1))
    return open_features(store, build_features(store, raw, settings, PROJECT).id, settings)


def accuracy(features: Features) -> float:
    """How well the fitted ranker tells what was bought in the holdout from the other candidates: area under the ROC curve."""
    cutoff = features.evaluated[0]
    state = features.state(cutoff)
    fitted = TwoStage(windows=4, trees=40).fit(state, features.windows(cutoff))
    users, items = features.labels(cutoff)
    bought = users.astype(np.int64) * state.shape[1] + items
    labels, scores = [], []
    for rows, found in candidates(fitted.candidate_sources, state, np.unique(users).astype(np.int64)):
        labels.append(np.isin(rows[found.rows] * state.shape[1] + found.items, bought))
        scores.append(fitted.score(fitted.select(found)))
    return float(roc_auc_score(np.concatenate(labels), np.concatenate(scores)))


def test_it_tells_what_will_be_bought_and_shuffled_labels_bring_it_to_chance(
    features: Features, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert accuracy(features) > 0.75
    fit = HistGradientBoosting.fit

    def fit_shuffled(self: Any, columns: Any, labels: Any, weights: Any, groups: Any) -> Any:
        order = np.random.default_rng(0).permutation(len(labels))
        return fit(self, columns, labels[order], weights[order], groups)

    monkeypatch.setattr(HistGradientBoosting, "fit", fit_shuffled)
    assert accuracy(features) == pytest.approx(0.5, abs=0.12)


def test_every_number_of_the_feature_models_is_a_feature(features: Features) -> None:
    state = features.state(features.as_of)
    columns = set(TwoStage(windows=1, trees=5).fit(state, features.windows(features.as_of)).columns_)
    numbers = [name for name, column in state.items.items() if column.dtype.kind in "iuf"]
    expected = {f"pair_{name}" for name in state.user_items} | {f"item_{name}" for name in numbers}
    assert expected - {"pair_user_index", "pair_item_index"} <= columns
    assert {"own", "regression", "neighbours", "user_baskets", "relative_mean_price"} <= columns


def test_the_number_of_training_rows_is_bounded(features: Features, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    fit = HistGradientBoosting.fit

    def fit_counted(self: Any, columns: Any, labels: Any, weights: Any, groups: Any) -> Any:
        seen.append((len(labels), [int(count) for count in np.bincount(groups >> 32)], labels.mean()))
        return fit(self, columns, labels, weights, groups)

    monkeypatch.setattr(HistGradientBoosting, "fit", fit_counted)
    state, windows = features.state(features.as_of), features.windows(features.as_of)
    for rows in (1_000_000, 2_000):
        TwoStage(windows=2, trees=5, rows=rows).fit(state, windows)
    (free, _, share), (bounded, by_window, share_bounded) = seen
    assert free > 2_000
    assert bounded == 2_000
    assert by_window == [1_000, 1_000]
    assert share_bounded == pytest.approx(share, rel=0.3)  # users are sampled, not labels


def test_windows_end_before_the_cutoff_they_are_learned_for(features: Features, settings: Settings) -> None:
    for cutoff in [features.as_of, *features.evaluated]:
        windows = features.windows(cutoff)
        assert len(windows) >= settings.features.training_windows / 2
        assert all((cutoff - window.cutoff).days >= settings.dataset.horizon_days for window in windows)


def test_the_same_seed_gives_the_same_lists_with_one_thread_and_with_two(
    features: Features, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = features.state(features.as_of)
    written = []
    for threads in ("1", "2"):
        from threadpoolctl import threadpool_limits

        with threadpool_limits(int(threads)):
            fitted = create("two_stage", {"trees": 30}, seed=5).fit(state, features.windows(features.as_of))
        lists = fitted.recommend(state.user_ids, 20, state)
        written.append((lists.items.tobytes(), lists.scores.tobytes()))
    assert written[0] == written[1]


def test_a_score_of_0_stays_a_score() -> None:
    model, nothing = TwoStage(), np.zeros(3, np.int64)
    scores = np.array([0, -1, 1], np.float32)
    model.fitted_ranker = cast(Ranker, SimpleNamespace(predict=lambda features: scores))
    found = model.score(Candidates(nothing, nothing, np.zeros((3, 1), np.float32), ["own"]))
    assert found[0] > 0
    assert found[1:].tolist() == [-1, 1]


def test_features_are_found_by_name_and_missing_ones_are_named() -> None:
    model = TwoStage()
    model.columns_ = np.array(["price", "own"])
    nothing, table = np.zeros(1, np.int64), np.array([[1, 2, 3]], np.float32)
    assert model.select(Candidates(nothing, nothing, table, ["own", "new", "price"])).features.tolist() == [[3, 1]]
    with pytest.raises(RecsysError, match="price"):
        model.select(Candidates(nothing, nothing, table, ["own", "new", "cost"]))
