"""Features as of a cutoff are what they would have been on that day: later events change nothing, whoever adds a column."""

import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import date, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

import small_shop
from conftest import PROJECT, make_settings, peeking_project
from recsys import RecsysError
from recsys.features.snapshot import Features
from recsys.pipeline import build_features, land, open_features
from recsys.settings.run import Settings
from recsys.sources.online_retail import SCHEMA
from recsys.store.snapshots import Manifest, Snapshot, Store, open_store

OWN = {  # models of features that a fork adds, by name
    "feat_own": "item_index::int as item_index, (2 * target_events + 1)::float as doubled from {{ ref('feat_items') }}"
    " where item_index > 0",
    "feat_pairs": "user_index::int as user_index, item_index::int as item_index, views_91d::int as seen"
    " from {{ ref('feat_user_items') }} where views_91d % 2 = 1",
}


def own_project(folder: Path) -> Path:
    """A copy of the dbt project with models of features of its own, and a feature that sees one day past the cutoff."""
    peeking_project(folder)
    for name, select in OWN.items():
        columns = [("timestamp", "cutoff"), *re.findall(r"::(int|float|string) as (\w+)", select)]
        described = "".join(f"      - {{name: {column}, data_type: {type}}}\n" for type, column in columns)
        model = folder / "models" / "features" / name
        model.with_suffix(".sql").write_text(f"select cutoff::timestamp as cutoff, {select}")
        model.with_suffix(".yml").write_text(
            f"models:\n  - name: {name}\n    config: {{contract: {{enforced: true}}}}\n    columns:\n{described}"
        )
    return folder


@pytest.fixture(scope="module")
def now_and_then(tmp_path_factory: pytest.TempPathFactory) -> tuple[Features, Features]:
    """The features of today, and those built on the day of the holdout's cutoff, in such a project."""
    folder = tmp_path_factory.mktemp("own")
    project = own_project(folder / "dbt_project")
    settings = make_settings(inputs=small_shop.write(folder / "files", users=60, days=130))
    store = open_store(str(folder), "shop")
    raw, _ = land(store, settings, date(2026, 1, 1))
    now = open_features(store, build_features(store, raw, settings, project).id, settings)
    then = build_features(store, raw, replace(settings, as_of=now.evaluated[0]), project, serving=True)
    return now, open_features(store, then.id, settings)


def test_features_of_a_past_day_are_those_built_on_that_day(now_and_then: tuple[Features, Features]) -> None:
    now, then = now_and_then
    assert then.cutoffs == [now.evaluated[0]]
    assert {"feat_users", "feat_items", "feat_user_items", *OWN} <= now.feature_tables.keys()
    assert [name for name in now.differences(then) if name != "feat_items.trend"] == []


def test_a_new_feature_that_peeks_one_day_past_the_cutoff_is_caught(now_and_then: tuple[Features, Features]) -> None:
    now, then = now_and_then
    assert list(now.differences(then)) == ["feat_items.trend"]


def test_a_missing_whole_number_is_nan_in_a_model_of_a_fork_and_0_in_ours(tmp_path: Path) -> None:
    cutoffs = pa.array([datetime(2024, 2, 1)] * 2, pa.timestamp("us"))
    pq.write_table(pa.table({"cutoff": cutoffs[:1]}), tmp_path / "int_cutoffs.parquet")
    own = {"cutoff": cutoffs, "item_index": pa.array([0, 1], pa.int32())}
    own |= {"rank": pa.array([None, 7], pa.int32()), "is_new": pa.array([True, None])}
    pq.write_table(pa.table(own), tmp_path / "feat_own.parquet")
    features = Features(Snapshot(tmp_path, Manifest("features", "f", {}, {}, {})), make_settings())
    items: dict[str, np.ndarray] = {"item_id": np.array(["i0", "i1", "i2"])}
    features._add_own(date(2024, 2, 1), {("item",): items})
    np.testing.assert_array_equal(items["rank"], [np.nan, 7, np.nan])
    np.testing.assert_array_equal(items["is_new"], [1, np.nan, np.nan])
    np.testing.assert_array_equal(features._table("select rank from '{}/feat_own.parquet' order by item_index")["rank"], [0, 7])


def test_features_of_items_in_their_own_model_reach_the_state(now_and_then: tuple[Features, Features]) -> None:
    now, _ = now_and_then
    items = now.state(now.as_of).items
    assert np.isnan(items["doubled"][0])
    assert items["doubled"][1:].tolist() == (2 * items["target_events"][1:] + 1).tolist()
    assert now.feature_tables["feat_own"] == ("item",)


def test_features_of_pairs_in_their_own_model_are_joined_to_the_pairs(now_and_then: tuple[Features, Features]) -> None:
    now, _ = now_and_then
    pairs = now.state(now.as_of).user_items
    odd = pairs["views_91d"] % 2 == 1
    assert set(odd) == {True, False}
    assert pairs["seen"][odd].tolist() == pairs["views_91d"][odd].tolist()
    assert np.isnan(pairs["seen"][~odd]).all()


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"later": [1.0]}, "user_index, item_index or both"),
        ({"item_index": [0], "target_events": [1.0]}, "give it another name"),
        ({"item_index": [0], "colour": ["red"]}, "is no number"),
    ],
)
def test_a_model_of_features_that_cannot_be_used_is_refused(
    now_and_then: tuple[Features, Features], tmp_path: Path, columns: dict[str, list], words: str
) -> None:
    now, _ = now_and_then
    shutil.copytree(now.path, tmp_path, dirs_exist_ok=True)
    pq.write_table(pa.table({"cutoff": [datetime(2024, 5, 1)], **columns}), tmp_path / "feat_unusable.parquet")
    features = Features(Snapshot(tmp_path, Manifest("features", "f", {}, {}, {})), make_settings())
    with pytest.raises(RecsysError, match=words):
        features.state(now.as_of)


DAY = date(2024, 3, 1)  # on which the raw data are cut
FIRST = datetime(2024, 1, 1)


def shop(store: Store, folder: Path, until: datetime) -> tuple[str, Settings]:
    """The small shop as it was exported then."""
    settings = make_settings(inputs=small_shop.write(folder / "files", users=60, days=130))
    raw = store.load("raw", land(store, settings, date(2026, 1, 1))[0])
    with store.draft() as draft:
        for name in raw.manifest.files:
            (draft / name).parent.mkdir(exist_ok=True)
            pq.write_table(as_exported(pq.ParquetFile(raw.path / name).read(), until), draft / name)
        return store.commit(draft, "raw", raw.manifest.made_from).id, settings


def online_retail(store: Store, folder: Path, until: datetime) -> tuple[str, Settings]:
    """Invoices in which items are renamed and customers move, every now and then."""
    draw, rows = np.random.default_rng(1), []
    for number in range(900):
        at = FIRST + timedelta(hours=int(draw.integers(130 * 24)))
        item, user, month = draw.integers(20), draw.integers(30), at.month
        title = f"ITEM {item} " + str(draw.choice(["RED", "BLUE"], p=[1 - month / 5, month / 5]))
        country = "France" if (month + user) % 3 else "EIRE"
        rows.append([f"{540000 + number}", f"{20000 + item}", title, 1 + number % 3, at, 2.5, f"{12000 + user}", country])
    invoices = pa.table(
        [pa.array(column, field.type) for column, field in zip(zip(*rows, strict=True), SCHEMA, strict=True)], SCHEMA
    )
    pq.write_table(invoices.filter(pc.less(invoices["InvoiceDate"], until)), folder / "invoices.parquet")
    settings = make_settings(
        "online_retail",
        inputs={"raw": str(folder / "invoices.parquet")},
        checks={"raw": {"min_events": 1}},
    )
    return land(store, settings, date(2026, 1, 1))[0], settings


def events(store: Store, folder: Path, until: datetime) -> tuple[str, Settings]:
    """Files of one's own, with a catalogue and users."""
    draw = np.random.default_rng(2)
    hours = [int(hour) for hour in draw.integers(130 * 24, size=900)]
    tables = {
        "events": {
            "user_id": [f"u{user}" for user in draw.integers(30, size=900)],
            "item_id": [f"i{item}" for item in draw.integers(20, size=900)],
            "event_at": [FIRST + timedelta(hours=hour) for hour in hours],
            "event_type": [("view", "cart", "purchase", "return")[kind] for kind in draw.choice(4, 900, p=[0.5, 0.1, 0.35, 0.05])],
            "price": [round(2 + hour / 1_000, 2) for hour in hours],
        },
        "items": {
            "item_id": [f"i{item}" for item in range(25)],
            "title": [f"Item {item}" for item in range(25)],
            "category": [f"c{item % 3}" for item in range(25)],
            "is_available": [item not in (3, 4) for item in range(25)],
            "available_from": [FIRST + timedelta(days=5 * item) for item in range(25)],
            "withdrawn_at": [FIRST + timedelta(days=40) if item == 3 else FIRST + timedelta(days=90) if item == 4 else None
                             for item in range(25)],
        },
        "users": {"user_id": [f"u{user}" for user in range(30)], "segment": [f"s{user % 3}" for user in range(30)]},
    }  # fmt: skip
    for table, columns in tables.items():
        pq.write_table(as_exported(pa.table(columns), until), folder / f"{table}.parquet")
    inputs = {table: str(folder / f"{table}.parquet") for table in tables}
    settings = make_settings("events", inputs=inputs, checks={"raw": {"min_events": 1}})
    return land(store, settings, date(2026, 1, 1))[0], settings


def as_exported(rows: pa.Table, until: datetime) -> pa.Table:
    """What a table held then: no event and no item of later, and of no item that it was withdrawn later."""
    for name in {"event_at", "available_from"} & set(rows.column_names):
        rows = rows.filter(pc.fill_null(pc.less(rows[name], pa.scalar(until, rows[name].type)), True))
    if "withdrawn_at" in rows.column_names:
        later = pc.fill_null(pc.greater(rows["withdrawn_at"], pa.scalar(until, rows["withdrawn_at"].type)), False)
        for name, value in {"withdrawn_at": None, "is_available": True}.items():
            column = pc.if_else(later, pa.scalar(value, rows[name].type), rows[name])
            rows = rows.set_column(rows.column_names.index(name), name, column)
    return rows


@pytest.mark.slow
@pytest.mark.parametrize("source", [shop, online_retail, events])
def test_tables_of_a_past_day_are_those_of_the_raw_data_of_that_day(
    source: Callable[[Store, Path, datetime], tuple[str, Settings]], tmp_path: Path
) -> None:
    built = {}
    for name, until in {"whole": datetime(2025, 1, 1), "cut": datetime(DAY.year, DAY.month, DAY.day)}.items():
        (tmp_path / name).mkdir()
        store = open_store(str(tmp_path / "store"), "shop")
        raw, settings = source(store, tmp_path / name, until)
        past = replace(settings, as_of=DAY)
        built[name] = store.load("features", build_features(store, raw, past, PROJECT).id).path
    assert differing_columns(built["whole"], built["cut"]) == []


def differing_columns(whole: Path, cut: Path) -> list[str]:
    """As `table.column`, for every table but those of what was rejected."""
    found = []
    for table in sorted({file.stem for file in whole.glob("*.parquet")} - {"quarantine", "int_events_rejected"}):
        one, other = (pq.ParquetFile(folder / f"{table}.parquet").read() for folder in (whole, cut))
        assert one.num_rows > 0, table
        found += [f"{table}.{name}" for name in one.column_names if name != "last_as_of" and one[name] != other[name]]
    return found
