"""A release is made again from its raw snapshot alone, and what differs is told."""

import json
import shutil
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import pytest

import small_shop
from conftest import PROJECT, make_settings
from recsys import RecsysError
from recsys.pipeline import Recipe, Selection, build_features, land, recommend, train
from recsys.releases.lineage import trace
from recsys.reproduce import Reproduction, reproduce
from recsys.store.snapshots import Store, open_store

CODE = {"commit": "c1", "dirty": False, "lock": "l1"}
RECIPES = [Recipe("popularity", {"days": 7}), Recipe("two_stage", {"windows": 1, "trees": 5, "seed": 11}, "seed")]


@dataclass(frozen=True)
class Shop:
    """A small shop's store, and its release by each recommender."""

    root: Path
    releases: dict[str, str]

    def copy(self, folder: Path, *left_out: str) -> Store:
        shutil.copytree(self.root, folder / "shop", ignore=shutil.ignore_patterns(*left_out))
        return open_store(str(folder), "shop")

    def edit(self, folder: Path, old: str, new: str) -> Store:
        """A copy in which the manifest of the popularity release is edited."""
        store = self.copy(folder)
        manifest = folder / "shop" / "releases" / self.releases["popularity"] / "manifest.json"
        assert old in manifest.read_text()
        fields = json.loads(manifest.read_text().replace(old, new))
        del fields["hash"]  # as in releases of earlier versions: what is changed after it was written is refused
        manifest.write_text(json.dumps(fields))
        return store


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    root = tmp_path_factory.mktemp("store")
    files = small_shop.write(root / "files", users=60, days=200)
    few = {"features": {"training_windows": 1}, "evaluation": {"selection_windows": 1}}
    settings = make_settings(inputs=files, lists={"alternatives": ["popularity"]}, **few)
    store = open_store(str(root), "shop")
    raw, _ = land(store, settings, date(2026, 1, 1))
    features = build_features(store, raw, settings, PROJECT).id
    releases, models = {}, {}
    for recipe in RECIPES:
        trained = train(store, recipe, features, {}, settings)
        models[recipe.name] = trained.model_id
        selection = Selection(recipe.name, trained.model_id, {recipe.name: trained.windows}, {}, [], models)
        releases[recipe.name] = recommend(store, selection, features, settings, CODE, audited=True)
    return Shop(root / "shop", releases)


def make_again(store: Store, release: str, folder: Path, project: Path = PROJECT, **code: str) -> Reproduction:
    return reproduce(store, release, open_store(str(folder / "again"), "shop"), project, CODE | code)


def test_a_release_is_made_again_from_its_raw_snapshot_alone(shop: Shop, tmp_path: Path) -> None:
    store = shop.copy(tmp_path, "feat_*", "dim_*", "fct_*", "learned.npz")  # of features and models little but the manifests
    found = make_again(store, shop.releases["two_stage"], tmp_path)
    assert found.identical
    assert (found.differences, found.other) == ([], [])


def test_what_differs_and_what_may_have_made_it_differ_is_told(shop: Shop, tmp_path: Path) -> None:
    """Items that sell best come last where their sales are counted from a thousand downwards."""
    project = tmp_path / "dbt_project"
    shutil.copytree(PROJECT, project, ignore=shutil.ignore_patterns("target", "logs"))
    model = project / "models" / "features" / "feat_items.sql"
    column = "coalesce(counted.target_events_{{ days }}d, 0)::int as"
    assert column in model.read_text()
    model.write_text(model.read_text().replace(column, f"(1000 - {column[:-8]})::int as"))
    store = shop.edit(tmp_path, '"versions": {', '"forgotten": {')
    found = make_again(store, shop.releases["popularity"], tmp_path, project, commit="c2")
    assert not found.identical
    with closing(sqlite3.connect(tmp_path / "shop" / "releases" / shop.releases["popularity"] / "lists.sqlite")) as lists:
        users = lists.execute("select count(*) from lists").fetchone()[0]
    told = [line.partition(" differs")[0] for line in found.differences]
    assert {"features: feat_items.parquet", "release: lists.sqlite"} <= set(told)
    assert "features: feat_users.parquet" not in told
    assert f"lists, all_items: {users} of {users} users get other items or another order" in told
    assert sorted(line.partition(" was")[0] for line in found.other) == [
        "code: commit",
        "dbt: files.models/features/feat_items.sql",
        "dbt: project",
        f"versions: the manifest of release {shop.releases['popularity']} does not have it",
    ]


def test_the_manifest_of_a_release_tells_what_made_it(shop: Shop) -> None:
    store = open_store(str(shop.root.parent), "shop")
    made = trace(store, shop.releases["two_stage"])
    assert made.keys() == {"release", "model", "features", "raw"}
    origin = made["release"].made_from
    assert origin["code"] == CODE
    assert origin["seeds"] == {"run": 7, "model": 11, "source": None}
    assert origin["audited"]
    assert origin["alternatives"] == {"popularity": trace(store, shop.releases["popularity"])["model"].id}
    assert "alternatives/popularity.sqlite" in made["release"].files
    assert origin["config"]["dataset"]["source"] == "events"
    assert "models/features/feat_items.sql" in origin["dbt"]["files"]
    assert {"python", "sqlite", "duckdb", "numpy"} <= origin["versions"].keys()


def test_a_release_of_other_settings_names_the_commit_that_knows_them(shop: Shop, tmp_path: Path) -> None:
    store = shop.edit(tmp_path, '"history_cap"', '"history_limit"')
    with pytest.raises(RecsysError, match=r"other settings \(.*history_cap.*check out commit c1"):
        make_again(store, shop.releases["popularity"], tmp_path)


def test_a_release_whose_raw_data_is_gone_is_refused(shop: Shop, tmp_path: Path) -> None:
    with pytest.raises(RecsysError, match="its raw snapshot is missing"):
        make_again(shop.copy(tmp_path, "raw"), shop.releases["popularity"], tmp_path)


def test_a_release_ranked_by_a_model_of_other_features_is_refused(shop: Shop, tmp_path: Path) -> None:
    store = shop.copy(tmp_path)
    model = trace(store, shop.releases["popularity"])["model"].id
    manifest = tmp_path / "shop" / "models" / model / "manifest.json"
    fields = json.loads(manifest.read_text()) | {"parents": {"features": "f0"}}
    del fields["hash"]
    manifest.write_text(json.dumps(fields))
    with pytest.raises(RecsysError, match="a model of features f0; reproduce the release that first served"):
        make_again(store, shop.releases["popularity"], tmp_path)


def test_a_release_that_does_not_exist_is_refused(shop: Shop, tmp_path: Path) -> None:
    with pytest.raises(RecsysError, match="release nope is not in"):
        make_again(shop.copy(tmp_path), "nope", tmp_path)
