"""The dbt project: its own tests on a small shop, and whether they can fail."""

import json
import re
import shutil
from datetime import date
from pathlib import Path

import pytest
import yaml

import small_shop
from conftest import PROJECT, make_settings
from recsys.features import warehouse
from recsys.pipeline import land
from recsys.settings.run import Settings
from recsys.store.snapshots import Snapshot, open_store

MODELS = sorted((PROJECT / "models").rglob("*.sql"))
PREFIXES = {
    "staging": ("stg_",),
    "intermediate": ("int_",),
    "marts": ("dim_", "fct_", "quarantine"),
    "features": ("feat_", "labels"),
}


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return make_settings(inputs=small_shop.write(tmp_path_factory.mktemp("shop"), users=60, days=130))


@pytest.fixture(scope="module")
def raw(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    store = open_store(str(tmp_path_factory.mktemp("store")), "shop")
    return store.load("raw", land(store, settings, date(2026, 1, 1))[0])


@pytest.fixture(scope="module")
def built(raw: Snapshot, settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A warehouse file in which everything was built and tested, unit tests included."""
    file = tmp_path_factory.mktemp("scratch") / "warehouse.duckdb"
    warehouse.expose(raw, file)
    _, target = warehouse.run_dbt(
        PROJECT, file, warehouse.parameters(raw.manifest, settings), settings, "build", "--select", *warehouse.SELECTED
    )
    assert warehouse.failures(target) == []
    return file


def unit_test_failures(project: Path, file: Path, raw: Snapshot, settings: Settings) -> set[str]:
    _, target = warehouse.run_dbt(
        project, file, warehouse.parameters(raw.manifest, settings), settings, "test", "--select", "test_type:unit"
    )
    return {failure.split(":")[0].split(".")[-1] for failure in warehouse.failures(target)}


def test_every_model_builds_and_every_test_passes(built: Path) -> None:
    results = json.loads((built.parent / "target" / "run_results.json").read_text())["results"]
    assert len([result for result in results if result["unique_id"].startswith("unit_test.")]) >= 17


def test_a_comparison_with_the_cutoff_that_lets_equality_in_fails_its_unit_test(
    built: Path, raw: Snapshot, settings: Settings, tmp_path: Path
) -> None:
    project = tmp_path / "dbt_project"
    shutil.copytree(PROJECT, project)
    for model in (project / "models" / "features").glob("*.sql"):
        model.write_text(re.sub(r" < (?=cutoffs\.)", " <= ", model.read_text()))
    assert unit_test_failures(project, built, raw, settings) == {
        "feat_users_sees_nothing_from_the_cutoff_on",
        "feat_items_sees_nothing_from_the_cutoff_on",
        "feat_user_items_sees_nothing_from_the_cutoff_on",
        "feat_attributes_sees_nothing_from_the_cutoff_on",
        "the_season_of_an_item_is_the_horizon_52_weeks_ago",
        "the_season_of_a_user_and_item_is_the_horizon_52_weeks_ago",
        "labels_lie_from_the_cutoff_to_the_end_of_the_horizon",
    }


@pytest.mark.slow  # in the quick tests, test_reproducing.py builds twice
def test_the_same_raw_snapshot_gives_the_same_bytes(raw: Snapshot, settings: Settings, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        warehouse.build(raw, warehouse.parameters(raw.manifest, settings), settings, PROJECT, tmp_path / name)
    files = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert {"fct_events.parquet", "feat_user_items.parquet", "labels.parquet", "quarantine.parquet"} <= set(files)
    for file in files:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes(), file


@pytest.mark.slow
def test_a_run_of_another_day_parses_no_file_again(raw: Snapshot, settings: Settings, tmp_path: Path) -> None:
    project = tmp_path / "dbt_project"
    shutil.copytree(PROJECT, project, ignore=shutil.ignore_patterns("target"))
    parsed, days = [], ("2024-03-01", "2024-03-02")
    for day in days:
        (tmp_path / day).mkdir()
        variables = warehouse.parameters(raw.manifest, settings) | {"as_of": day, "landed_before": day}
        file, only = tmp_path / day / "warehouse.duckdb", ("run", "--select", "stg_run__parameters")
        warehouse.run_dbt(project, file, variables, settings, *only)
        with warehouse.connect(file, settings) as connection:
            assert connection.execute("select as_of::date::text from stg_run__parameters").fetchall() == [(day,)]
        parsed.append([(path.name, path.stat().st_mtime_ns) for path in (project / "target" / "parsed").iterdir()])
    assert len(parsed[0]) == 1
    assert parsed[0] == parsed[1]


@pytest.mark.parametrize("model", MODELS, ids=lambda path: path.stem)
def test_a_model_is_named_for_its_room_and_its_description_says_the_grain(model: Path) -> None:
    room = model.relative_to(PROJECT / "models").parts[0]
    assert model.stem.startswith(PREFIXES[room])
    assert model.with_suffix(".yml").exists(), f"describe {model.stem} in {model.stem}.yml beside it"
    described = yaml.safe_load(model.with_suffix(".yml").read_text())["models"][0]
    assert described["name"] == model.stem
    assert described["description"].startswith("One row per ")


@pytest.mark.parametrize("model", MODELS, ids=lambda path: path.stem)
def test_only_staging_reads_sources_and_no_model_knows_a_date(model: Path) -> None:
    sql = model.read_text()
    assert ("source('" in sql) == (model.relative_to(PROJECT / "models").parts[0] == "staging")
    assert not re.search(r"\d{4}-\d\d-\d\d|\bnow\(|current_date|current_timestamp", sql)
