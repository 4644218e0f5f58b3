"""What every ranker must do, on candidates whose labels follow a known rule: the user takes what has much of column 1."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sklearn
from sklearn.ensemble import HistGradientBoostingClassifier
from threadpoolctl import threadpool_limits

from recsys import RecsysError
from recsys.recommenders import rankers
from recsys.recommenders.rankers import RANKERS
from recsys.recommenders.rankers import hist_gradient_boosting as trees
from recsys.recommenders.rankers.base import NothingLearned, Ranker, usable
from recsys.recommenders.rankers.hist_gradient_boosting import HistGradientBoosting

ROWS, COLUMNS, USERS = 2_000, 4, 40
PARAMETERS = {"trees": 10, "leaves": 6, "rate": 0.3, "seed": 3}
FLOWS = Path(__file__).parents[2] / "flows"


def make_features(rows: int = ROWS, seed: int = 1) -> np.ndarray:
    """A fifth of the values is missing, in one row all."""
    draw = np.random.default_rng(seed)
    features = draw.random((rows, COLUMNS)).astype(np.float32)
    features[draw.random(features.shape) < 0.2] = np.nan
    features[0] = np.nan
    return features


FEATURES = make_features()
LABELS = np.nan_to_num(FEATURES[:, 1], nan=0.1) > 0.6
GROUPS = np.repeat(np.arange(USERS), ROWS // USERS)


def fitted(name: str, labels: np.ndarray = LABELS) -> Ranker:
    return rankers.create(name, PARAMETERS).fit(FEATURES, labels, np.ones(ROWS, np.float32), GROUPS)


@pytest.fixture(scope="module", params=RANKERS)
def ranker(request: pytest.FixtureRequest) -> Ranker:
    return fitted(request.param)


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_it_learns_the_rule(ranker: Ranker) -> None:
    unseen = make_features(seed=2)
    value = np.nan_to_num(unseen[:, 1], nan=0.1)
    scores = ranker.predict(unseen)
    assert scores.dtype == np.float32
    assert np.isfinite(scores).all()
    assert scores[value > 0.7].min() > scores[value < 0.5].max()


def test_contributions_and_the_base_add_up_to_the_score(ranker: Ranker) -> None:
    added, base = ranker.contributions(FEATURES)
    total, scores = base + added.sum(1), ranker.predict(FEATURES)
    assert (1 / (1 + np.exp(-total)) if ranker.is_probability else total) == pytest.approx(scores, abs=1e-5)
    assert np.abs(added).mean(0).argmax() == 1


def test_a_row_alone_has_the_same_score(ranker: Ranker) -> None:
    scores = ranker.predict(FEATURES)
    assert [ranker.predict(FEATURES[row : row + 1])[0] for row in range(20)] == scores[:20].tolist()


def test_no_rows_have_no_scores(ranker: Ranker) -> None:
    assert ranker.predict(FEATURES[:0]).shape == (0,)
    assert ranker.contributions(FEATURES[:0])[0].shape == (0, COLUMNS)


def test_saved_and_loaded_it_predicts_the_same_and_saves_the_same_bytes(ranker: Ranker, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    ranker.save(tmp_path / "a")
    loaded = rankers.create(ranker.name, PARAMETERS).load(tmp_path / "a", COLUMNS)
    loaded.save(tmp_path / "b")
    assert files(tmp_path / "a") == files(tmp_path / "b")
    assert (loaded.predict(FEATURES) == ranker.predict(FEATURES)).all()
    assert (loaded.contributions(FEATURES)[0] == ranker.contributions(FEATURES)[0]).all()


def test_one_thread_and_two_give_the_same_bytes(ranker: Ranker, tmp_path: Path) -> None:
    for threads in (1, 2):
        (tmp_path / str(threads)).mkdir()
        with threadpool_limits(threads):
            fitted(ranker.name).save(tmp_path / str(threads))
    assert files(tmp_path / "1") == files(tmp_path / "2")


def test_what_it_learned_is_there_and_finite(ranker: Ranker) -> None:
    learned = ranker.learned()
    assert learned
    assert all(array.size and np.isfinite(array).all() for array in learned.values())


@pytest.mark.parametrize("label", [True, False])
def test_labels_that_are_all_the_same_teach_nothing(ranker: Ranker, label: bool) -> None:
    with pytest.raises(NothingLearned, match="labels"):
        fitted(ranker.name, np.full(ROWS, label))


def test_features_that_are_all_the_same_teach_nothing(ranker: Ranker) -> None:
    constant = np.ones_like(FEATURES)
    with pytest.raises(NothingLearned):
        rankers.create(ranker.name, PARAMETERS).fit(constant, LABELS, np.ones(ROWS, np.float32), GROUPS)


def cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


@pytest.mark.parametrize("damage", [cut, lambda content: b"", lambda content: b"no model"], ids=["cut", "empty", "other"])
def test_a_damaged_file_is_refused(ranker: Ranker, damage: Callable[[bytes], bytes], tmp_path: Path) -> None:
    ranker.save(tmp_path)
    for file in tmp_path.iterdir():
        content = file.read_bytes()
        file.write_bytes(damage(content))
        with pytest.raises((ValueError, LookupError)):
            rankers.create(ranker.name, PARAMETERS).load(tmp_path, COLUMNS)
        file.write_bytes(content)


def test_a_missing_file_is_told_apart(ranker: Ranker, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        rankers.create(ranker.name, PARAMETERS).load(tmp_path, COLUMNS)


def test_a_file_of_fewer_columns_is_refused(ranker: Ranker, tmp_path: Path) -> None:
    ranker.save(tmp_path)
    with pytest.raises(ValueError, match=r"feature|shape"):
        rankers.create(ranker.name, PARAMETERS).load(tmp_path, 1)


def test_a_name_that_is_none_is_refused_with_those_that_are() -> None:
    from recsys.recommenders.registry import create

    with pytest.raises(RecsysError, match=r"ranker.*magic.*logistic_regression"):
        create("two_stage", {"ranker": "magic"})


def test_lightgbm_where_it_is_not_installed_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    from recsys.recommenders.rankers import lightgbm
    from recsys.recommenders.registry import create

    monkeypatch.setattr(lightgbm, "find_spec", lambda name: None)
    for attempt in (lambda: create("two_stage", {"ranker": "lightgbm"}), lambda: fitted("lightgbm")):
        with pytest.raises(RecsysError, match=r"extra lightgbm.*make \.venv/\.lightgbm"):
            attempt()


def test_a_changed_number_in_the_text_of_lightgbm_is_refused(tmp_path: Path) -> None:
    """Its compiled code would follow a split out of the tree."""
    fitted("lightgbm").save(tmp_path)
    text = (tmp_path / "ranker.txt").read_text()
    assert "\nleft_child=" in text
    (tmp_path / "ranker.txt").write_text(text.replace("\nleft_child=", "\nleft_child=9"))
    with pytest.raises(ValueError, match="checksum"):
        rankers.create("lightgbm", PARAMETERS).load(tmp_path, COLUMNS)


def test_a_tree_of_one_split_credits_it_with_the_way_from_the_mean() -> None:
    """Three rows in four go left, to -1; the rest to 3: the mean is 0."""
    ranker = HistGradientBoosting()
    ranker.nodes_ = np.zeros(3, trees.NODE)
    for name, values in {
        "value": [9, -1, 3], "count": [4, 3, 1], "feature_idx": [1, 0, 0], "num_threshold": [0.5, 0, 0],
        "missing_go_to_left": [1, 0, 0], "left": [1, 0, 0], "right": [2, 0, 0], "is_leaf": [0, 1, 1],
    }.items():  # fmt: skip
        ranker.nodes_[name] = values
    ranker.sizes_ = np.array([3])
    added, base = ranker.contributions(np.array([[7, 0.5], [7, 0.6], [7, np.nan]], np.float32))
    assert base == 0
    assert added.tolist() == [[0, -1], [0, 3], [0, -1]]


def test_bins_have_few_values_apart_and_many_by_weight() -> None:
    few = np.array([3, 1, np.nan, 1, 7], np.float32)
    assert trees.bin_limits(few, np.ones(5, np.float32)).tolist() == [1, 3]
    assert trees.bin_limits(np.full(5, np.nan, np.float32), np.ones(5, np.float32)).tolist() == []
    many = np.arange(1_000, dtype=np.float32)
    limits = trees.bin_limits(many, np.where(many < 500, 1, 0.001).astype(np.float32))
    assert len(limits) == trees.BINS - 1
    assert (limits < 500).mean() > 0.95


def test_columns_with_too_few_values_cannot_be_learned_from() -> None:
    columns = np.full((100_000, 4), np.nan, np.float32)
    columns[:, 0] = 1
    columns[:50, 1] = np.arange(50)
    columns[:49, 2] = np.arange(49)
    assert usable(columns).tolist() == [True, True, False, False]
    assert usable(np.concatenate([columns] + [np.full_like(columns, np.nan)] * 9)).tolist() == [True, False, False, False]


class Watched(HistGradientBoostingClassifier):
    """scikit-learn's model, which keeps the rows that it was fitted on."""

    def fit(self, bins: np.ndarray, *arguments: Any, **options: Any) -> Any:
        self.bins = bins
        return super().fit(bins, *arguments, **options)


def compare(folder: Path) -> dict[str, Any]:
    """Fits trees and saves them into the folder: scikit-learn's version, how far our scores are from its own, and ours."""
    model = Watched()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sklearn.ensemble.HistGradientBoostingClassifier", lambda **parameters: model.set_params(**parameters))
        ranker = fitted("hist_gradient_boosting")
    ranker.save(folder)
    scores = ranker.predict(FEATURES).astype(float)
    shift = model.decision_function(model.bins) - np.log(scores / (1 - scores))  # the constant that ours leave out
    return {"version": sklearn.__version__, "difference": float(np.ptp(shift)), "scores": scores.tolist()}


def test_trees_kept_as_arrays_predict_what_scikit_learn_predicts(tmp_path: Path) -> None:
    assert compare(tmp_path)["difference"] < 1e-4


@pytest.mark.slow
def test_the_minor_version_of_scikit_learn_before_predicts_the_same_and_writes_the_same_format(tmp_path: Path) -> None:
    major, minor = map(int, sklearn.__version__.split(".")[:2])
    before = f"{major}.{minor - 1}"
    install = ["pip", "install", "-qq", "--disable-pip-version-check", "--no-deps", "--only-binary", ":all:", "--target"]
    got = subprocess.run(
        [sys.executable, "-m", *install, str(tmp_path / "packages"), f"scikit-learn=={before}.*"], capture_output=True, text=True
    )
    if got.returncode:
        pytest.skip(f"pip finds no scikit-learn {before}: {got.stderr.strip().splitlines()[-1]}")
    code = "import json, sys, pathlib, test_rankers; print(json.dumps(test_rankers.compare(pathlib.Path(sys.argv[1]))))"
    path = os.pathsep.join(map(str, (tmp_path / "packages", FLOWS, Path(__file__).parent)))
    (tmp_path / "model").mkdir()
    command = [sys.executable, "-c", code, str(tmp_path / "model")]
    done = subprocess.run(command, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True)
    assert not done.returncode, done.stderr
    found = json.loads(done.stdout)
    assert found["version"].startswith(f"{before}.")
    assert found["difference"] < 1e-4
    loaded = rankers.create("hist_gradient_boosting", PARAMETERS).load(tmp_path / "model", COLUMNS)
    assert loaded.predict(FEATURES).tolist() == found["scores"]
