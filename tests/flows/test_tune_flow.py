"""Tuning as people run it: make's command in a copy of the repository with a small shop."""

import re
from datetime import date, timedelta
from typing import Any

import pytest

from conftest import Fork, assert_refused
from recsys.features.snapshot import Features
from recsys.pipeline import open_features, try_variant
from recsys.settings.loading import parse, resolve
from recsys.store.snapshots import open_store

pytestmark = pytest.mark.slow

SPACE = "\n[tune.item_to_item]\nwithin_days = [0.0001]\nneighbours = [20]\n"  # in the last seconds there is nothing to learn


@pytest.fixture(scope="module")
def fork(tmp_path_factory: pytest.TempPathFactory) -> Fork:
    fork = Fork(tmp_path_factory.mktemp("fork"))
    config = (fork.root / "config.toml").read_text()
    (fork.root / "config.toml").write_text(re.sub(r"(?m)^\[tune\.item_to_item\]\n(.+\n)*", "", config) + SPACE)
    fork.set("recommenders.item_to_item", "neighbours", 200)
    return fork


def test_each_variant_is_logged_the_failing_one_too_and_nothing_else_is_touched(fork: Fork) -> None:
    before = (fork.root / "config.toml").read_text()
    result = fork.run("tune", RECOMMENDER="item_to_item")
    assert result.returncode == 0, result.stdout + result.stderr
    failed, tried = (fork.root / "tuning.md").read_text().splitlines()
    where = r"- \d{4}-\d\d-\d\d shop, features \w{16}, item_to_item: "
    assert re.fullmatch(where + r"within_days = 0.0001, not 0.0: failed: item_to_item: .+", failed)
    assert re.fullmatch(
        where + r"neighbours = 20, not 200: ndcg@10 all_items .+, new_items .+; .+ of the CPU; (\w+|within noise)", tried
    )
    assert failed in result.stdout
    assert re.search(r"^(best is|no change beats)", result.stdout, re.M)
    assert (fork.root / "config.toml").read_text() == before
    assert sorted(path.name for path in fork.store().iterdir() if not path.name.startswith(".")) == ["features", "raw"]


def asked(monkeypatch: pytest.MonkeyPatch, name: str) -> list[date]:
    """Cutoffs for which this method of Features is called from now on."""
    cutoffs: list[date] = []
    method = getattr(Features, name)

    def watched(features: Features, cutoff: date) -> Any:
        cutoffs.append(cutoff)
        return method(features, cutoff)

    monkeypatch.setattr(Features, name, watched)
    return cutoffs


def test_what_was_bought_in_the_holdout_is_not_read(fork: Fork, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = resolve(parse((fork.root / "config.toml").read_text()))
    store = open_store(settings.store.root, settings.name, fork.root)
    (id,) = store.ids("features")
    holdout = open_features(store, id, settings).evaluated[0]
    labels, states = asked(monkeypatch, "labels"), asked(monkeypatch, "state")
    windows = try_variant(store, "two_stage", {"trees": 5}, id, settings)
    assert len(windows["all_items"]) == settings.evaluation.selection_windows
    assert max(labels) + timedelta(days=settings.dataset.horizon_days) == holdout
    assert max(states) < holdout


@pytest.mark.parametrize("recommender", ["nope", "item_to_item"])
def test_a_space_that_cannot_be_is_refused_before_anything_runs(fork: Fork, recommender: str) -> None:
    if recommender == "item_to_item":
        fork.set("tune.item_to_item", "neighbors", [20])
    result = fork.run("tune", RECOMMENDER=recommender)
    assert_refused(result, {"nope": '"nope"', "item_to_item": "tune.item_to_item.neighbors"}[recommender])
    assert "done" not in result.stdout
