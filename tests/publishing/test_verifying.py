"""Whatever is wrong with a release, it is named, and the release is not served."""

import json
import pickle
import shutil
import sqlite3
import zipfile
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from conftest import make_release, write_release
from recsys import RecsysError
from recsys.publishing.verification import verified, verify
from recsys.store.snapshots import Store, open_store
from recsys.validation_report import CheckResult, ValidationReport

FAILED = CheckResult("ndcg", 0.1, 0.2, "block", False, "NDCG@10 is 0.1")


def make_broken(store: Store, hurt: Callable[[Path], object]) -> None:
    """A release "r" on which somebody laid hands before its checks spoke, so that all checksums are right."""
    with store.draft() as folder:
        write_release(folder)
        hurt(folder)
        manifest = store.commit(folder, "release", {}, {"model": "m1", "features": "f1"}, "r")
    report = ValidationReport("m1", "f1", manifest.content, {"baseline": [replace(FAILED, passed=True)]}, {})
    store.attach_report("r", report.to_json())


def test_a_release_that_is_whole_is_loaded_and_its_report_returned(store: Store) -> None:
    report = make_release(store, "r")
    assert verify(store, "r") == report
    assert verified(store, "r").manifest == store.find("release", "r")


@pytest.mark.both_stores
def test_a_flipped_byte_is_found_by_its_checksum(store: Store) -> None:
    make_release(store, "r")
    data = bytearray(store.backend.read("releases/r/neighbours.npz") or b"")
    data[-1] ^= 1
    store.backend.write("releases/r/neighbours.npz", bytes(data))
    with pytest.raises(RecsysError, match=r"neighbours\.npz differs from its manifest"):
        verify(store, "r")


def report_of(store: Store, **changes: object) -> bytes:
    return replace(make_release(store, "r"), **changes).to_json()


@pytest.mark.parametrize(
    ("attached", "words"),
    [
        (lambda store: b"{}", "has no readable validation report"),
        (lambda store: report_of(store, on_model={}, on_data={}), "has no readable validation report"),
        (lambda store: report_of(store, model="m2"), "it has model m2, not m1"),
        (lambda store: report_of(store, on_data={"any": [FAILED]}), r"\[ndcg\] NDCG@10 is 0.1"),
    ],
    ids=["of another form", "empty", "of another model", "blocking"],
)
def test_report_must_read_be_its_own_and_block_nothing(store: Store, attached: Callable[[Store], bytes], words: str) -> None:
    make_release(store, "r")
    store.attach_report("r", attached(store))
    with pytest.raises(RecsysError, match=words):
        verify(store, "r")


def test_a_release_without_report_is_refused(store: Store) -> None:
    make_release(store, "r")
    store.backend.remove("releases/r/validation_report.json")
    with pytest.raises(RecsysError, match="release r has no readable validation report"):
        verify(store, "r")


def query(sql: str, name: str = "lists.sqlite") -> Callable[[Path], None]:
    def run(folder: Path) -> None:
        with closing(sqlite3.connect(folder / name)) as connection, connection:
            connection.execute(sql)

    return run


def alternatives(sql: str) -> Callable[[Path], None]:
    """What is done to lists that are released beside the winner's, which were the same."""

    def run(folder: Path) -> None:
        (folder / "alternatives").mkdir()
        shutil.copyfile(folder / "lists.sqlite", folder / "alternatives" / "popularity.sqlite")
        query(sql, "alternatives/popularity.sqlite")(folder)

    return run


def hide(item: str) -> Callable[[Path], None]:
    def run(folder: Path) -> None:
        items = pq.read_table(folder / "items.parquet")
        listed = pa.array([id != item for id in items["item_id"].to_pylist()])
        pq.write_table(items.set_column(items.column_names.index("is_listed"), "is_listed", listed), folder / "items.parquet")

    return run


def edit(name: str, **changes: object) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_text(json.dumps(json.loads((folder / name).read_text()) | changes))


def fewer_items(folder: Path) -> None:
    pq.write_table(pq.read_table(folder / "items.parquet")[:-1], folder / "items.parquet")


def more_similar_items(folder: Path) -> None:
    with np.load(folder / "neighbours.npz") as parts:
        arrays = dict(parts)
    np.savez(folder / "neighbours.npz", **arrays | {"indptr": np.append(arrays["indptr"], arrays["indptr"][-1])})


def fewer_list_kinds(folder: Path) -> None:
    pq.write_table(pq.read_table(folder / "holdout.parquet")[-1:], folder / "holdout.parquet")


@pytest.mark.parametrize(
    ("hurt", "words"),
    [
        (lambda folder: (folder / "fallback.json").unlink(), "has no fallback.json"),
        (more_similar_items, "neighbours.npz does not fit the 6 items of items.parquet"),
        (fewer_items, "4 all_items places hold no item of items.parquet"),
        (fewer_list_kinds, "holdout.parquet has no rows for all_items"),
        (edit("fallback.json", all=["i0", "i9"]), "fallback.json has the item i9"),
        (edit("release.json", length=1), "4 all_items lists are cut off or longer than 1"),
        (query("update lists set all_items = substr(all_items, 2) where user_id = 'u0'"), "1 all_items lists are cut off"),
        (query("update lists set new_items = x'070000000000803f'"), "4 new_items places hold no item of items.parquet"),
        (query("delete from lists where user_id = 'u0'"), "lists of 3 users, but lists.sqlite has 4"),
        (query("drop table users"), "no such table: users"),
        (
            query("update lists set all_items = x'00000000000000000000803f0000803f'"),
            "lists.sqlite: 4 all_items lists hold an item twice",
        ),
        (query("update lists set new_items = x'000000000000c07f' where user_id = 'u1'"), "1 new_items scores are not finite"),
        (query("update lists set all_items = x'' where user_id < 'u3'"), "3 all_items lists are empty"),
        (hide("i0"), "4 all_items places hold an item that may not be shown"),
        (edit("fallback.json", static=["i8"]), "fallback.json has the item i8"),
        (alternatives("update lists set all_items = x'0000'"), "alternatives/popularity.sqlite: 4 all_items lists are cut off"),
        (
            alternatives("delete from lists where user_id = 'u0'"),
            "alternatives/popularity.sqlite has lists of 3 users, but lists.sqlite has 4",
        ),
        (lambda folder: (folder / "lists.sqlite").write_bytes(b"SQLite format 3\0"), "cannot be read"),
        (lambda folder: (folder / "release.json").write_text("{"), "cannot be read"),
    ],
)
def test_what_does_not_fit_together_is_named(tmp_path: Path, hurt: Callable[[Path], object], words: str) -> None:
    store = open_store(str(tmp_path), "shop")
    make_broken(store, hurt)
    with pytest.raises(RecsysError, match=words):
        verify(store, "r")


def test_half_of_the_lists_may_be_empty(tmp_path: Path) -> None:
    store = open_store(str(tmp_path), "shop")
    make_broken(store, query("update lists set new_items = x'' where user_id < 'u2'"))
    assert verified(store, "r")


class Bomb:
    """Were it unpickled, the test would see."""

    exploded = False

    def __reduce__(self) -> tuple[Callable[[], None], tuple[()]]:
        return explode, ()


def explode() -> None:
    Bomb.exploded = True


def pickled_member(folder: Path) -> None:
    with zipfile.ZipFile(folder / "neighbours.npz", "a") as archive:
        archive.writestr("bomb.pkl", pickle.dumps(Bomb()))


def pickled_array(folder: Path) -> None:
    with np.load(folder / "neighbours.npz") as parts:
        arrays = dict(parts)
    np.savez(folder / "neighbours.npz", **arrays, bomb=np.array([Bomb()], object))


@pytest.mark.parametrize(
    ("hurt", "words"),
    [
        (lambda folder: (folder / "model.pkl").write_bytes(pickle.dumps(Bomb())), "model.pkl has none of the formats"),
        (lambda folder: (folder / "model").write_bytes(b""), "model has none of the formats"),
        (lambda folder: (folder / "fallback.json").write_bytes(pickle.dumps(Bomb())), "fallback.json does not match its name"),
        (lambda folder: (folder / "more.json").write_bytes(pickle.dumps([1], 0)), "more.json does not match its name"),
        (lambda folder: (folder / "neighbours.npz").write_bytes(pickle.dumps(Bomb())), "neighbours.npz does not match its name"),
        (lambda folder: (folder / "lists.sqlite").write_bytes(pickle.dumps(Bomb())), "lists.sqlite does not match its name"),
        (pickled_member, "neighbours.npz holds bomb.pkl"),
        (pickled_array, "neighbours.npz holds bomb.npy, an array of pickled objects"),
    ],
)
def test_a_pickle_is_refused_by_name_and_never_opened(tmp_path: Path, hurt: Callable[[Path], object], words: str) -> None:
    store = open_store(str(tmp_path), "shop")
    make_broken(store, hurt)
    with pytest.raises(RecsysError, match=words):
        verify(store, "r")
    assert not Bomb.exploded
