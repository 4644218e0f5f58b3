"""Every recommender on data that lack something, from raw files through dbt: it ranks, or says in one line why it is skipped."""

from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
import pytest

from conftest import PROJECT, make_settings
from odd_data import ODD
from recsys import pipeline
from recsys.features.snapshot import Features
from recsys.pipeline import Recipe, Trained
from recsys.recommenders.registry import RECOMMENDERS, load
from recsys.settings.run import Settings
from recsys.store.snapshots import Store, open_store

PARAMETERS: dict[str, dict[str, Any]] = {"two_stage": {"windows": 2, "trees": 5}}
QUICK = "three columns"  # the others are in the slow tests
VARIANTS = [pytest.param(name, marks=[] if name == QUICK else pytest.mark.slow) for name in ODD]


@dataclass(frozen=True)
class Variant:
    name: str
    store: Store
    features: Features
    settings: Settings

    def train(self, recommender: str) -> Trained:
        recipe = Recipe(recommender, PARAMETERS.get(recommender, {}))
        return pipeline.train(self.store, recipe, self.features.id, {}, self.settings)


@pytest.fixture(scope="module", params=VARIANTS)
def variant(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Variant:
    folder = tmp_path_factory.mktemp("odd")
    export = ODD[request.param]()
    small = {"features": {"training_windows": 2}, "evaluation": {"selection_windows": 1, "selection_users": 1, "bootstraps": 50}}
    settings = make_settings("events", dataset=export.dataset, inputs=export.write(folder), **small)
    store = open_store(str(folder / "store"), "events")
    raw, _ = pipeline.land(store, settings, date(2026, 1, 1))
    built = pipeline.build_features(store, raw, settings, PROJECT)
    return Variant(request.param, store, pipeline.open_features(store, built.id, settings), settings)


SKIPPED = {  # where data lack what a recommender learns from
    "three columns": {"same_session", "similar_titles", "title_words"},
    "without items": {"similar_titles", "title_words"},
}


@pytest.mark.parametrize("recommender", sorted(RECOMMENDERS))
def test_a_recommender_ranks_or_says_why_not(variant: Variant, recommender: str) -> None:
    trained = variant.train(recommender)
    assert bool(trained.skipped) == (recommender in SKIPPED.get(variant.name, set())), trained.skipped
    if trained.skipped:
        assert trained.skipped.startswith(f"{recommender}: ")
        assert "\n" not in trained.skipped
        return
    served = trained.windows["all_items"]
    assert [len(window.users) > 0 for window in served] == [True, True]
    assert all(np.isfinite(values).all() for window in served for values in window.scores.values())
    state = variant.features.state(variant.features.as_of)
    lists = load(variant.store.load("model", trained.model_id).path).recommend(state.user_ids, 50, state)
    assert ((lists.items >= 0).sum(1) == min(50, state.items["is_available"].sum())).all()
    assert np.isfinite(lists.scores).all()


def test_two_stage_leaves_out_columns_without_a_value(variant: Variant) -> None:
    left_out = set(variant.train("two_stage").left_out)
    priced = variant.name not in ("without price", "three columns")
    assert ("item_mean_price" in left_out) != priced
    assert "item_target_events" not in left_out
