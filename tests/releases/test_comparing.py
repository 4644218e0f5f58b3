"""Two releases side by side, in a shop whose lists and scores are written by hand."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from conftest import make_settings
from recsys.evaluation.release_diff import compare_lists, diff
from recsys.store.snapshots import Store, open_store

SETTINGS = make_settings(evaluation={"k": 5})
MADE_BY: dict[str, Any] = {
    "recommender": "popularity",
    "code": {"commit": "c" * 40, "dirty": False, "lock": "d" * 64},
    "config": {"seed": 7, "lists": {"length": 4}},
    "versions": {"numpy": "2.0"},
    "dbt": {"project": "p1", "files": {"models/a.sql": "1", "models/b.sql": "2", "models/c.sql": "3"}},
}
LISTS = {"u0": "abcd", "u1": "abcd", "u2": "ab", "u3": "abcd"}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path), "shop")


def release(
    store: Store, id: str, lists: dict[str, str], items: str = "abcd", features: str = "f1", gain: float = 0.0, **made_by: Any
) -> None:
    """A release of one-letter items; NDCG@5 of each user is half, and `gain` more."""
    with store.draft() as folder:
        with closing(sqlite3.connect(folder / "lists.sqlite")) as connection, connection:
            connection.execute("create table lists (user_id text primary key, all_items blob not null, new_items blob not null)")
            for user, listed in lists.items():
                blob = np.array([items.index(item) for item in listed], "<i4").tobytes() + np.ones(len(listed), "<f4").tobytes()
                connection.execute("insert into lists values (?, ?, ?)", (user, blob, blob))
        pq.write_table(pa.table({"item_id": list(items)}), folder / "items.parquet")
        (folder / "release.json").write_text(json.dumps({"length": 4}))
        scores = {"list_kind": ["all_items", "new_items"] * 4, "user_id": ["u0", "u0", "u1", "u1", "u2", "u2", "u3", "u3"]}
        pq.write_table(pa.table(scores | {"ndcg@5": [0.5 + gain] * 8}), folder / "holdout.parquet")
        store.commit(folder, "release", MADE_BY | made_by, {"features": features, "model": "m"}, id)


def data(store: Store, features: str, raw: str, events: int, **variables: Any) -> None:
    """A raw snapshot of so many events, one a day, and its features."""
    days = pa.array([int(day * 86_400e6) for day in range(events)], pa.timestamp("us"))
    with store.draft() as folder:
        pq.write_table(pa.table({"event_at": days}), folder / "events.parquet")
        store.commit(folder, "raw", {}, id=raw)
    with store.draft() as folder:
        pq.write_table(pa.table({"event_at": days}), folder / "fct_events.parquet")
        pq.write_table(pa.table({"cutoff": days[-1:]}), folder / "int_cutoffs.parquet")
        pq.write_table(pa.table({"user_id": ["u0"]}), folder / "dim_users.parquet")
        pq.write_table(pa.table({"item_id": ["a", "b"]}), folder / "dim_items.parquet")
        made_from = {"as_of": "", "horizon_days": 28, "sample_users": 10} | variables
        store.commit(folder, "features", made_from, {"raw": raw}, features)


def test_of_four_users_one_has_another_order_one_another_item_and_one_a_shorter_list(store: Store) -> None:
    release(store, "a", LISTS)
    release(store, "b", LISTS | {"u0": "bacd", "u1": "abcx", "u2": "a"}, items="xabcd")
    found = compare_lists(store.load("release", "a"), store.load("release", "b"), "all_items", 4)
    assert (found.users, found.changed, found.came, found.went) == (4, 3, 0, 0)
    assert found.overlap == pytest.approx((1 + 3 / 4 + 1 / 2 + 1) / 4)


def test_only_the_first_k_items_count(store: Store) -> None:
    release(store, "a", LISTS)
    release(store, "b", LISTS | {"u0": "bacd", "u1": "abdc"})
    assert compare_lists(store.load("release", "a"), store.load("release", "b"), "all_items", 2).changed == 1


def test_the_same_lists_of_rows_that_moved_are_the_same(store: Store) -> None:
    release(store, "a", LISTS)
    release(store, "b", LISTS, items="dxcba")
    found = compare_lists(store.load("release", "a"), store.load("release", "b"), "new_items", 4)
    assert (found.changed, found.overlap) == (0, 1)


def test_users_that_came_or_went_are_counted_apart(store: Store) -> None:
    release(store, "a", LISTS)
    release(store, "b", {"u3": "abcd", "u4": "abcd", "u5": "abcd"})
    found = compare_lists(store.load("release", "a"), store.load("release", "b"), "all_items", 4)
    assert (found.users, found.changed, found.came, found.went) == (1, 0, 2, 3)


def test_a_diff_tells_what_changed_section_by_section(store: Store) -> None:
    data(store, "f1", "r1", 30)
    files = {"models/a.sql": "1", "models/b.sql": "4", "models/d.sql": "5"}
    release(store, "a", LISTS)
    release(
        store,
        "b",
        LISTS | {"u0": "bacd"},
        gain=0.25,
        code=MADE_BY["code"] | {"lock": "e" * 64},
        config={"seed": 8, "lists": {"length": 4}},
        versions={"numpy": "2.1"},
        dbt={"project": "p2", "files": files},
    )
    found = diff(store, "a", "b", SETTINGS)
    assert {row[3] for row in found["data"]} == {"same"}
    assert ("raw rows", "30", "30", "same") in found["data"]
    assert ("first day", "1970-01-01", "1970-01-01", "same") in found["data"]
    assert found["SQL"] == [
        ("dbt project", "p1", "p2", "3 files"),
        ("models/b.sql", "", "", "changed"),
        ("models/c.sql", "", "", "removed"),
        ("models/d.sql", "", "", "added"),
    ]
    assert found["code"] == [("lock", "d" * 12, "e" * 12, ""), ("versions.numpy", "2.0", "2.1", "")]
    assert found["config"] == [("seed", "7", "8", "")]
    assert found["metrics"][0] == ("ndcg@5 all_items", "0.5000", "0.7500", "+0.2500 [+0.2500, +0.2500] over 4 users")
    assert found["lists"][1] == ("top 5 new_items", "4", "4", "25.0% of 4 users changed, overlap 1.000")


@pytest.mark.parametrize(("raw", "variables"), [("r2", {}), ("r1", {"as_of": "2024-01-01"})], ids=["other data", "another day"])
def test_scores_of_another_holdout_are_not_paired(store: Store, raw: str, variables: dict[str, str]) -> None:
    data(store, "f1", "r1", 30)
    data(store, "f2", raw, 31, **variables)
    release(store, "a", LISTS)
    release(store, "b", LISTS, features="f2", gain=0.25)
    found = diff(store, "a", "b", SETTINGS)
    assert found["metrics"][0] == ("ndcg@5 all_items", "0.5000", "0.7500", "cannot be paired: another holdout")
    assert ("events", "30", "31", "") in found["data"]


def test_what_a_manifest_does_not_tell_is_a_dash(store: Store) -> None:
    release(store, "a", LISTS, features="gone", versions=None, dbt=None)
    release(store, "b", LISTS, features="gone")
    found = diff(store, "a", "b", SETTINGS)
    assert found["SQL"] == [("dbt project", "-", "p1", "")]
    assert found["code"] == [("versions.numpy", "-", "2.0", "")]
    assert found["data"][0] == ("raw snapshot", "-", "-", "")
    assert found["metrics"][0][3] == "cannot be paired: another holdout"
