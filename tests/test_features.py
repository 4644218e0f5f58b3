"""Features as of a cutoff are what they would have been on that day: later events change nothing, whoever adds a column."""

from dataclasses import replace
from datetime import date
from pathlib import Path

from conftest import PROJECT, make_settings, peeking_project
from recsys.features import Features
from recsys.pipeline import build_features, land, open_features
from recsys.store import open_store

SMALL = {"dials": {"users": 60, "items": 40, "days": 130, "events": 3_000, "first_day": "2024-01-01", "seed": 1}}


def now_and_then(project: Path, folder: Path) -> tuple[Features, Features]:
    """The features of today, and those built on the day of the holdout's cutoff."""
    settings = make_settings(dataset=SMALL)
    store = open_store(str(folder), "shop")
    raw, _ = land(store, settings, date(2026, 1, 1))
    now = open_features(store, build_features(store, raw, settings, project).id, settings)
    then = build_features(store, raw, replace(settings, as_of=now.evaluated[0]), project, serving=True)
    return now, open_features(store, then.id, settings)


def test_features_of_a_past_day_are_those_built_on_that_day(tmp_path: Path) -> None:
    now, then = now_and_then(PROJECT, tmp_path)
    assert then.cutoffs == [now.evaluated[0]]
    assert now.differences(then) == {}


def test_a_new_feature_that_peeks_one_day_past_the_cutoff_is_caught(tmp_path: Path) -> None:
    now, then = now_and_then(peeking_project(tmp_path / "dbt_project"), tmp_path / "store")
    assert list(now.differences(then)) == ["feat_items.trend"]
