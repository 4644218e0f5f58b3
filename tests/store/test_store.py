"""The store's contract, the same in a directory and in an object store."""

import hashlib
import io
import json
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys import RecsysError
from recsys.store.backends import S3, Conflict, Directory
from recsys.store.processes import host, own_name
from recsys.store.snapshots import CURRENT, FORMAT, HISTORY, Manifest, OldFormat, Store, open_store

FILES = {"a.txt": b"first", "parts/b.txt": b"second"}


def commit(store: Store, files: dict[str, bytes] = FILES, kind: str = "raw", source: str = "test", id: str = "") -> Manifest:
    with store.draft() as folder:
        for name, data in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(data)
        return store.commit(folder, kind, {"source": source}, id=id)


def releases(store: Store, *ids: str) -> None:
    for id in ids:
        commit(store, kind="release", id=id)


def moves(store: Store) -> list[tuple[str, str | None]]:
    return [(move["release"], move["previous"]) for move in store.history()]


def remove(store: Store, name: str) -> None:
    """Takes a file out of the store behind its back."""
    if isinstance(store.backend, Directory):
        (store.backend.root / name).unlink()
    else:
        assert isinstance(store.backend, S3)
        store.backend.client.delete_object(Bucket=store.backend.bucket, Key=store.backend._key(name))


def parquet(rows: int) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.table({"n": list(range(rows))}), buffer)
    return buffer.getvalue()


# Snapshots


def test_a_loaded_snapshot_has_the_bytes_that_were_committed(store: Store) -> None:
    id = commit(store).id
    folder = store.load("raw", id).path
    assert {name: (folder / name).read_bytes() for name in FILES} == FILES


def test_another_run_loads_what_this_one_committed(store: Store, root: str) -> None:
    manifest = commit(store)
    other = open_store(root, "shop")
    assert other.load("raw", manifest.id).manifest == manifest


def test_a_loaded_snapshot_can_be_read_when_its_store_is_gone(store: Store, root: str) -> None:
    id = commit(store).id
    folder = open_store(root, "shop").load("raw", id).path
    assert (folder / "a.txt").read_bytes() == b"first"


def test_a_dataset_does_not_see_the_snapshots_of_another(store: Store, root: str) -> None:
    id = commit(store).id
    assert open_store(root, "other").find("raw", id) is None


def test_committing_the_same_twice_finds_the_first(store: Store) -> None:
    first = commit(store)
    assert commit(store) == first
    assert store.ids("raw") == [first.id]


def test_the_same_files_from_another_source_are_another_snapshot(store: Store) -> None:
    assert commit(store, source="here").id != commit(store, source="there").id


def test_committing_under_an_id_that_is_taken_keeps_the_first(store: Store) -> None:
    first = commit(store, id="fixed")
    assert commit(store, {"a.txt": b"other"}, id="fixed") == first
    assert (store.load("raw", "fixed").path / "a.txt").read_bytes() == b"first"


def test_equal_files_have_equal_content_whatever_they_were_made_from(store: Store) -> None:
    assert commit(store, id="x", source="here").content == commit(store, id="y", source="there").content


@pytest.mark.parametrize("changed", [{"a.txt": b"First"}, {"c.txt": b"first"}], ids=["other bytes", "other name"])
def test_other_files_have_other_content(store: Store, changed: dict[str, bytes]) -> None:
    assert commit(store, {"a.txt": b"first"}).content != commit(store, changed).content


def test_the_manifest_says_what_a_snapshot_holds_and_where_it_comes_from(store: Store) -> None:
    with store.draft() as folder:
        (folder / "a.txt").write_bytes(b"first")
        manifest = store.commit(folder, "model", {"source": "test", "seed": 7}, {"features": "f1"})
    kept = json.loads(store.backend.read(f"models/{manifest.id}/manifest.json") or b"{}")
    assert kept == {
        "kind": "model",
        "id": manifest.id,
        "parents": {"features": "f1"},
        "made_from": {"source": "test", "seed": 7},
        "files": {"a.txt": {"sha256": hashlib.sha256(b"first").hexdigest(), "bytes": 5, "rows": None}},
        "content": manifest.content,
        "format": FORMAT,
        "hash": kept["hash"],
    }


def test_a_store_of_another_version_is_refused_in_one_line(store: Store) -> None:
    id = commit(store).id
    name = f"raw/{id}/manifest.json"
    fields = json.loads(store.backend.read(name) or b"{}")
    store.backend.write(name, json.dumps({key: value for key, value in fields.items() if key not in ("format", "hash")}).encode())
    for look in (store.find, store.readable, store.load, store.reuse):
        with pytest.raises(OldFormat, match=r"another version of the code.*move the store's folder away"):
            look("raw", id)


def test_the_manifest_counts_the_rows_of_a_parquet_file(store: Store) -> None:
    id = commit(store, {"t.parquet": parquet(rows=3), "a.txt": b"1\n2\n"}).id
    found = store.find("raw", id)
    assert found is not None
    assert {name: file.rows for name, file in found.files.items()} == {"t.parquet": 3, "a.txt": None}


def test_a_snapshot_without_a_manifest_does_not_exist(store: Store) -> None:
    id = commit(store).id
    remove(store, f"raw/{id}/manifest.json")
    assert store.find("raw", id) is None
    assert store.ids("raw") == []


def test_a_damaged_snapshot_can_be_made_again_once_its_manifest_is_removed(store: Store) -> None:
    id = commit(store).id
    store.backend.write(f"raw/{id}/a.txt", b"worst")
    remove(store, f"raw/{id}/manifest.json")
    assert commit(store).id == id
    assert (store.load("raw", id).path / "a.txt").read_bytes() == b"first"


def test_ids_are_the_snapshots_of_one_kind_in_order(store: Store) -> None:
    commit(store, id="b")
    commit(store, id="a")
    commit(store, id="c", kind="model")
    assert store.ids("raw") == ["a", "b"]


def test_a_stray_file_among_the_snapshots_is_no_snapshot(store: Store) -> None:
    id = commit(store).id
    store.backend.write("raw/notes.txt", b"left by a person")
    assert store.ids("raw") == [id]


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b"{}", b"\xff"])
def test_a_manifest_that_cannot_be_read_is_named(store: Store, damage: bytes) -> None:
    first, second = commit(store, id="a"), commit(store, id="b")
    store.backend.write("raw/a/manifest.json", damage)
    for find in (store.find, store.load):
        with pytest.raises(RecsysError, match=r"raw/a/manifest.json in .* cannot be read .*: restore it, or remove it"):
            find("raw", first.id)
    assert store.ids("raw") == [second.id]


def test_finding_an_unknown_snapshot_gives_none(store: Store) -> None:
    assert store.find("raw", "unknown") is None


def test_loading_an_unknown_snapshot_says_what_is_missing_and_what_to_do(store: Store) -> None:
    with pytest.raises(RecsysError, match=r"raw snapshot unknown is not in .*; run the flow that makes it"):
        store.load("raw", "unknown")


def test_loading_names_the_file_in_which_a_byte_flipped(store: Store) -> None:
    id = commit(store).id
    store.backend.write(f"raw/{id}/parts/b.txt", b"secone")
    with pytest.raises(RecsysError, match=rf"raw snapshot {id}: parts/b.txt differs from its manifest"):
        store.load("raw", id)


def test_loading_names_the_file_that_is_missing(store: Store) -> None:
    id = commit(store).id
    remove(store, f"raw/{id}/a.txt")
    with pytest.raises(RecsysError, match=rf"raw snapshot {id}: a.txt is missing"):
        store.load("raw", id)


def test_what_is_fetched_for_a_block_is_forgotten_at_its_end(store: Store) -> None:
    id = commit(store).id
    with store.borrow("raw", id) as snapshot:
        assert (snapshot.path / "a.txt").exists()
    assert snapshot.path.exists() == isinstance(store.backend, Directory)
    assert store.load("raw", id).manifest.id == id


def test_what_was_fetched_before_a_block_outlives_it(store: Store) -> None:
    kept = store.load("raw", commit(store).id)
    with store.borrow("raw", kept.manifest.id):
        pass
    assert (kept.path / "a.txt").exists()


def test_what_is_fetched_for_a_block_that_fails_is_forgotten(store: Store) -> None:
    id = commit(store).id
    store.backend.write(f"raw/{id}/parts/b.txt", b"secone")
    with pytest.raises(RecsysError, match="differs from its manifest"), store.borrow("raw", id):
        pass
    assert store.backend.fetch(f"raw/{id}", {}).exists() == isinstance(store.backend, Directory)


@pytest.mark.parametrize("id", ["../x", "x/y", "/x", "x/", ".", "..", ""])
def test_an_id_that_is_no_name_is_refused(store: Store, id: str) -> None:
    with pytest.raises(RecsysError, match="is not a snapshot id"):
        store.find("raw", id)


# Drafts


def test_a_draft_is_empty(store: Store) -> None:
    with store.draft() as folder:
        assert list(folder.iterdir()) == []


def test_a_draft_is_gone_after_its_block(store: Store) -> None:
    with store.draft() as folder:
        (folder / "a.txt").write_bytes(b"first")
    assert not folder.exists()


def test_a_draft_is_gone_after_an_error_and_left_no_snapshot(store: Store) -> None:
    drafts: list[Path] = []

    def die_half_way() -> None:
        with store.draft() as folder:
            (folder / "a.txt").write_bytes(b"first")
            drafts.append(folder)
            raise RecsysError("no more rows")

    with pytest.raises(RecsysError, match="no more rows"):
        die_half_way()
    assert not drafts[0].exists()
    assert store.ids("raw") == []


def test_a_draft_is_gone_after_its_commit(store: Store) -> None:
    with store.draft() as folder:
        (folder / "a.txt").write_bytes(b"first")
        store.commit(folder, "raw", {})
    assert not folder.exists()


def test_the_drafts_of_a_dead_process_are_swept(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    left = tmp_path / "shop" / ".drafts" / f"{process.pid}-abcd@{host()}"
    left.mkdir(parents=True)
    (left / "a.txt").write_bytes(b"half")
    with open_store(str(tmp_path), "shop").draft():
        assert not left.exists()


@pytest.mark.parametrize("process", [str(os.getppid()), own_name()], ids=["by id", "by id and start"])
def test_the_drafts_of_a_living_process_are_kept(tmp_path: Path, process: str) -> None:
    other = tmp_path / "shop" / ".drafts" / f"{process}-abcd@{host()}"
    other.mkdir(parents=True)
    with open_store(str(tmp_path), "shop").draft():
        assert other.exists()


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="the system does not tell when a process started")
def test_the_drafts_of_a_dead_process_whose_id_is_used_again_are_swept(tmp_path: Path) -> None:
    left = tmp_path / "shop" / ".drafts" / f"{os.getpid()}.7-abcd@{host()}"
    left.mkdir(parents=True)
    with open_store(str(tmp_path), "shop").draft():
        assert not left.exists()


def test_the_drafts_of_another_host_are_swept_once_nobody_touched_them_for_a_day(tmp_path: Path) -> None:
    other = tmp_path / "shop" / ".drafts" / "999999999-abcd@elsewhere"
    (other / "alternatives").mkdir(parents=True)
    (other / "alternatives" / "a.txt").touch()
    for old, stays in ((other, True), (other / "alternatives", True), (other / "alternatives" / "a.txt", False)):
        os.utime(old, (0, 0))
        with open_store(str(tmp_path), "shop").draft() as mine:
            assert other.exists() == stays
            assert mine.name.endswith(f"@{host()}")


def test_a_stray_file_among_the_drafts_is_left_alone(tmp_path: Path) -> None:
    stray = tmp_path / "shop" / ".drafts" / "notes.txt"
    stray.parent.mkdir(parents=True)
    stray.touch()
    with open_store(str(tmp_path), "shop").draft() as folder:
        assert folder.is_dir()
    assert stray.exists()


# Validation report


def test_report_is_read_as_it_was_attached_and_named_by_its_hash(store: Store) -> None:
    releases(store, "r1")
    store.attach_report("r1", b"{}")
    assert store.report("r1") == b"{}"


def test_a_release_without_report_has_none(store: Store) -> None:
    releases(store, "r1")
    assert store.report("r1") is None


def test_report_is_no_part_of_a_release_content(store: Store) -> None:
    releases(store, "r1")
    before = store.load("release", "r1").manifest
    store.attach_report("r1", b"{}")
    assert store.load("release", "r1").manifest == before


# The pointer


def test_nothing_is_current_at_first(store: Store) -> None:
    releases(store, "r1")
    assert store.current() is None
    assert store.history() == []


def test_pointing_moves_current_and_lengthens_the_history(store: Store) -> None:
    releases(store, "r1", "r2")
    store.point("r1", None)
    store.point("r2", "r1")
    assert store.current() == "r2"
    assert moves(store) == [("r1", None), ("r2", "r1")]


def test_pointing_back_is_a_move_like_any_other(store: Store) -> None:
    releases(store, "r1", "r2")
    store.point("r1", None)
    store.point("r2", "r1")
    store.point("r1", "r2")
    assert store.current() == "r1"
    assert moves(store) == [("r1", None), ("r2", "r1"), ("r1", "r2")]


def test_the_facts_of_a_move_are_kept_in_the_history(store: Store) -> None:
    releases(store, "r1")
    store.point("r1", None, model="m1")
    assert store.history() == [{"release": "r1", "previous": None, "model": "m1"}]


@pytest.mark.parametrize("expected", [None, "r2"])
def test_pointing_from_where_current_no_longer_stands_is_a_conflict(store: Store, expected: str | None) -> None:
    releases(store, "r1", "r2")
    store.point("r1", None)
    with pytest.raises(Conflict, match="another run published r1"):
        store.point("r2", expected)
    assert store.current() == "r1"
    assert moves(store) == [("r1", None)]


def test_pointing_at_a_release_that_does_not_exist_is_refused(store: Store) -> None:
    releases(store, "r1")
    store.point("r1", None)
    with pytest.raises(RecsysError, match="release r2 is not in"):
        store.point("r2", "r1")
    assert store.current() == "r1"
    assert moves(store) == [("r1", None)]


def write_ahead(store: Store, release: str, previous: str | None) -> None:
    """A move written down by a run that died before it moved CURRENT."""
    swap = store.backend.swap

    def die(name: str, data: bytes, seen: dict[str, str]) -> None:
        if name == CURRENT and release in data.decode():
            raise KeyboardInterrupt
        swap(name, data, seen)

    with patch.object(store.backend, "swap", die), pytest.raises(KeyboardInterrupt):
        store.point(release, previous)


def test_a_move_that_never_happened_is_left_out_of_the_history(store: Store) -> None:
    releases(store, "r1", "r2")
    store.point("r1", None)
    write_ahead(store, "r2", previous="r1")
    assert store.current() == "r1"
    assert moves(store) == [("r1", None)]


def test_a_first_move_that_never_happened_is_left_out_of_the_history(store: Store) -> None:
    releases(store, "r1")
    write_ahead(store, "r1", previous=None)
    assert store.current() is None
    assert moves(store) == []


def test_a_move_that_never_happened_stays_out_after_the_next_one(store: Store) -> None:
    releases(store, "r1", "r2", "r3")
    store.point("r1", None)
    write_ahead(store, "r2", previous="r1")
    store.point("r3", "r1")
    assert moves(store) == [("r1", None), ("r3", "r1")]


# Two publishers at once


def one_put_at_a_time(stores: list[Store], monkeypatch: pytest.MonkeyPatch) -> None:
    """A real object store checks a put's condition and puts in one step; the simulated one does it in two."""
    lock = threading.Lock()

    def put_in_turn(client: Any) -> None:
        put = client.put_object

        def put_object(**arguments: Any) -> Any:
            with lock:
                return put(**arguments)

        monkeypatch.setattr(client, "put_object", put_object)

    for store in stores:
        if isinstance(store.backend, S3):
            put_in_turn(store.backend.client)


def race(stores: list[Store], ids: list[str], expected: str | None) -> list[str]:
    """Who pointed at its release, of publishers that all start from the same CURRENT at the same moment."""
    line = threading.Barrier(len(stores))

    def run(store: Store, id: str) -> str | None:
        line.wait()
        try:
            store.point(id, expected)
        except Conflict:
            return None
        return id

    with ThreadPoolExecutor(len(stores)) as pool:
        return [winner for winner in pool.map(run, stores, ids) if winner]


@pytest.mark.parametrize("number", [2, 6])
def test_of_publishers_at_once_exactly_one_wins(store: Store, root: str, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    publishers = [open_store(root, "shop") for _ in range(number)]
    one_put_at_a_time(publishers, monkeypatch)
    for round in range(20 if isinstance(store.backend, Directory) else 4):
        ids = [f"{round}-{publisher}" for publisher in range(number)]
        releases(store, *ids)
        winners = race(publishers, ids, expected=store.current())
        assert len(winners) == 1
        assert store.current() == winners[0]


def test_a_publisher_that_loses_between_the_winners_two_writes_leaves_its_move_in_the_history(
    s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Winner writes the history, loser writes the history, winner moves CURRENT, loser finds it moved. A directory's lock
    keeps the loser out; an object store has no lock."""
    winner, loser = (open_store(f"{s3}/{tmp_path.name}", "shop") for _ in range(2))
    releases(winner, "r1", "r2")
    win, lose = winner.backend.swap, loser.backend.swap

    def let_the_loser_in(name: str, data: bytes, seen: dict[str, str]) -> None:
        def wait_for_the_winner(other_name: str, other: bytes, known: dict[str, str]) -> None:
            if other_name == CURRENT:
                win(name, data, seen)
            lose(other_name, other, known)

        if name == HISTORY or data == b"none\n":
            win(name, data, seen)
        else:
            monkeypatch.setattr(loser.backend, "swap", wait_for_the_winner)
            with pytest.raises(Conflict):
                loser.point("r2", None)

    monkeypatch.setattr(winner.backend, "swap", let_the_loser_in)
    winner.point("r1", None)
    assert winner.current() == "r1"
    assert moves(winner) == [("r1", None)]


# S3-compatible stores at another address than AWS


@pytest.fixture
def address(s3: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Where the object store answers; the environment names another place, at which nobody does."""
    address = os.environ["AWS_ENDPOINT_URL"].replace("127.0.0.1", "localhost")  # a name, below which buckets are no hosts
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    return address


def test_the_endpoint_of_the_settings_comes_first(s3: str, address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METAFLOW_S3_ENDPOINT_URL", "http://127.0.0.1:1")
    id = commit(open_store(f"{s3}/{tmp_path.name}", "shop", endpoint=address)).id
    folder = open_store(f"{s3}/{tmp_path.name}", "shop", endpoint=address).load("raw", id).path
    assert {name: (folder / name).read_bytes() for name in FILES} == FILES


@pytest.mark.parametrize("variable", ["METAFLOW_S3_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"])
def test_without_one_the_environment_names_it(
    s3: str, address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, address)
    store = open_store(f"{s3}/{tmp_path.name}", "shop")
    assert store.load("raw", commit(store).id).path.exists()
