"""What is freed, and what is kept for those that need it."""

import os
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path

import pytest

from conftest import make_release
from recsys import RecsysError
from recsys.publishing.retention import free, unneeded
from recsys.store.backends import S3, Conflict
from recsys.store.snapshots import Canary, Store, open_store


def snapshot(store: Store, kind: str, id: str, **parents: str) -> None:
    with store.draft() as folder:
        (folder / "data.bin").write_bytes(id.encode() * 10)
        store.commit(folder, kind, {}, parents, id)


def chain(store: Store, *ids: str) -> None:
    """Releases r<id>, each of a model and features and raw data of its own; released in this order."""
    for id in ids:
        snapshot(store, "raw", f"raw{id}")
        snapshot(store, "features", f"f{id}", raw=f"raw{id}")
        snapshot(store, "model", f"m{id}", features=f"f{id}")
        make_release(store, f"r{id}", id, date(2024, 2, 1), f"m{id}", f"f{id}")
        store.point(f"r{id}", store.current())


def names(store: Store, keep: int = 1, grace: float = 0) -> set[str]:
    return {id for _, id in unneeded(store, keep, grace)}


def of(*ids: str) -> set[str]:
    return {f"{kind}{id}" for id in ids for kind in ("raw", "f", "m", "r")}


def kept(store: Store) -> set[str]:
    return {id for kind in ("raw", "features", "model", "release") for id in store.ids(kind)}


@pytest.mark.both_stores
def test_the_live_and_the_previous_release_stay_with_all_they_were_made_from(store: Store) -> None:
    chain(store, "1", "2", "3", "4")
    assert names(store) == of("1", "2")
    freed = {id for _, id in free(store, 1, 0)}
    assert freed == of("1", "2")
    assert kept(store) == of("3", "4")
    store.load("release", "r4")
    assert free(store, 1, 0) == {}


def test_the_newest_releases_stay_though_nobody_points_at_them(store: Store) -> None:
    chain(store, "1", "2")
    make_release(store, "r9", "nine", model="m1", features="f1")
    assert names(store, keep=3) == set()


def test_pinned_and_canary_stay(store: Store) -> None:
    chain(store, "1", "2", "3", "4", "5")
    store.pin("r1")
    store.point_canary(Canary("r2", 0.0), "r5")
    assert names(store) == of("3")
    store.pin("r1", on=False)
    store.point_canary(None, "r5")
    assert names(store) == of("1", "2", "3")


def test_what_a_kept_model_was_trained_on_stays_where_its_lists_have_other_features(store: Store) -> None:
    chain(store, "1", "2", "3")
    snapshot(store, "features", "f9", raw="raw3")
    make_release(store, "r9", "again", date(2024, 2, 2), "m1", "f9")
    store.point("r9", "r3")
    assert names(store) == of("2") | {"r1"}


def test_models_that_did_not_win_are_freed(store: Store) -> None:
    chain(store, "1")
    snapshot(store, "model", "loser", features="f1")
    assert names(store) == {"loser"}


def test_models_whose_lists_are_released_beside_stay(store: Store) -> None:
    chain(store, "1", "2")
    snapshot(store, "model", "alternatives", features="f1")
    with store.draft() as folder:
        (folder / "data.bin").write_bytes(b"lists")
        store.commit(folder, "release", {"alternatives": {"popularity": "alternatives"}}, {"model": "m2", "features": "f2"}, "r9")
    assert "alternatives" not in names(store, keep=1)
    store.free("release", "r9")
    assert "alternatives" in names(store, keep=1)


def test_nothing_younger_than_the_grace_is_freed_nor_what_it_was_made_from(store: Store) -> None:
    chain(store, "1", "2", "3")
    assert names(store, grace=24) == set()


def test_a_run_under_way_keeps_what_it_found_again(tmp_path: Path) -> None:
    store = open_store(str(tmp_path), "shop")
    chain(store, "1", "2", "3")
    two_days_ago = time.time() - 2 * 86_400
    for path in tmp_path.rglob("*"):
        os.utime(path, (two_days_ago, two_days_ago))
    os.utime(tmp_path / "shop" / "releases" / "r3" / "manifest.json")
    assert names(store, grace=24) == of("1")
    assert store.reuse("features", "f1")
    assert names(store, grace=24) == {"m1", "r1"}


def test_what_is_gone_is_not_found_again(store: Store) -> None:
    snapshot(store, "raw", "x")
    store.free("raw", "x")
    assert store.reuse("raw", "x") is None
    snapshot(store, "raw", "x")
    assert store.load("raw", "x")


def test_folders_without_a_manifest_are_swept_once_they_are_old(store: Store) -> None:
    chain(store, "1")
    store.backend.write("models/half/learned.npz", b"123")
    assert names(store, grace=24) == set()
    assert unneeded(store, 1, 0) == {("model", "half"): 3}
    free(store, 1, 0)
    assert store.backend.children("models") == ["m1"]


@pytest.mark.parametrize("name", ["releases/r1", "releases/r4", "models/m1", "features/f3"])
@pytest.mark.parametrize("damage", [lambda data: b"", lambda data: b"{", lambda data: data.replace(b'"raw4"', b'"raw1"')])
def test_nothing_is_freed_while_a_manifest_cannot_be_read(store: Store, name: str, damage: Callable[[bytes], bytes]) -> None:
    chain(store, "1", "2", "3", "4")
    written = store.backend.read(f"{name}/manifest.json") or b""
    store.backend.write(f"{name}/manifest.json", damage(written) if damage(written) != written else b"[]")
    assert free(store, 1, 0) == {}
    store.backend.write(f"{name}/manifest.json", written)
    assert names(store) >= of("2")


@pytest.mark.parametrize("pointer", ["CURRENT", "CANARY"])
def test_nothing_is_freed_while_a_pointer_cannot_be_read(store: Store, pointer: str) -> None:
    chain(store, "1", "2", "3", "4")
    store.backend.write("history.jsonl", b"?")
    store.backend.write(pointer, b"")
    for plan in (unneeded, free):
        with pytest.raises(RecsysError, match=f"{pointer} in .*"):
            plan(store, 1, 0)
    assert kept(store) == of("1", "2", "3", "4")


def test_releases_go_before_what_they_were_made_from(store: Store) -> None:
    chain(store, "1", "2", "3")
    assert [kind for kind, _ in free(store, 1, 0)] == ["release", "model", "features", "raw"]


def test_the_bytes_are_those_of_all_files(store: Store) -> None:
    chain(store, "1")
    snapshot(store, "raw", "y")
    manifest = store.backend.read("raw/y/manifest.json") or b""
    assert list(unneeded(store, 1, 0).values()) == [10 + len(manifest)]


def test_keeping_no_release_is_refused(store: Store) -> None:
    with pytest.raises(RecsysError, match="KEEP 0 is too small"):
        unneeded(store, 0, 24)


def test_an_empty_store_has_nothing_to_free(store: Store) -> None:
    assert free(store, 1, 0) == {}


@pytest.mark.both_stores
def test_a_pointer_that_moves_meanwhile_ends_it(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory's lock would keep it out; an object store has none."""
    chain(store, "1", "2", "3")
    doomed = unneeded(store, 1, 0)
    moved = iter(["r3", "r1"])
    monkeypatch.setattr("recsys.publishing.retention.unneeded", lambda *_: doomed)
    monkeypatch.setattr(store, "current", lambda: next(moved))
    with pytest.raises(Conflict, match="a pointer or a pin moved"):
        free(store, 1, 0)
    monkeypatch.undo()
    assert kept(store) == of("1", "2", "3")


def test_a_pin_that_is_set_meanwhile_ends_it(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    chain(store, "1", "2", "3", "4")
    remove, freed = store.free, []

    def pin_after(kind: str, id: str) -> None:
        remove(kind, id)
        freed.append(id)
        store.backend.write("pins/r1", b"")

    monkeypatch.setattr(store, "free", pin_after)
    with pytest.raises(Conflict, match=r"after 1 of 8 snapshots were freed, .* check with `make verify`"):
        free(store, 1, 0)
    assert len(freed) == 1


def refuse_deletion(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of objects by S3, in an answer that is no error; of files by the disk."""
    if isinstance(store.backend, S3):
        answer = {"Errors": [{"Key": "a/b", "Code": "AccessDenied", "Message": "Access Denied"}]}
        monkeypatch.setattr(store.backend.client, "delete_objects", lambda **_: answer)
    else:
        monkeypatch.setattr("recsys.store.backends._delete", lambda path: None)


@pytest.mark.both_stores
def test_what_cannot_be_deleted_is_not_called_freed(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    snapshot(store, "raw", "a")
    refuse_deletion(store, monkeypatch)
    with pytest.raises((RecsysError, OSError), match=r"raw/a.* cannot be deleted"):
        free(store, 1, 0)
