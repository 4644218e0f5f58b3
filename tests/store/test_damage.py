"""Files of a store that were damaged after they were written: made good, skipped or refused, and always told."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from conftest import Fork, assert_refused, make_release
from recsys import RecsysError
from recsys.publishing.lifecycle import listed, previous, rollback, try_out
from recsys.publishing.publication import ValidatedRelease, publish
from recsys.publishing.verification import verify
from recsys.serving.release_manager import CanaryLimits, ReleaseManager
from recsys.settings.run import Settings
from recsys.store.snapshots import CANARY, CURRENT, HISTORY, KINDS, Manifest, Store, open_store
from runs import tiny_run

GARBLED = [b"", b"\n", b"\x00\x00\x00", b"\xff\xfe", b"<html>\n<body>", b"b\nc\n", b"x", b"../b", b"r" * 5000]


@pytest.fixture
def abc(store: Store) -> Store:
    """A store in which a, then b, then c went live."""
    for id in "abc":
        publish(store, ValidatedRelease(id, make_release(store, id, id), store.current()), ["lists"])
    return store


def change_line(store: Store, number: int, line: bytes) -> None:
    lines = (store.backend.read(HISTORY) or b"").splitlines()
    lines[number] = line
    store.backend.write(HISTORY, b"\n".join(lines) + b"\n")


def moves(store: Store) -> list[tuple[str, str | None]]:
    return [(move["release"], move["previous"]) for move in store.history()]


# CURRENT


@pytest.mark.both_stores
@pytest.mark.parametrize("garbled", [*GARBLED, None])
def test_a_damaged_current_is_made_good_by_the_history(abc: Store, garbled: bytes | None, caplog: pytest.LogCaptureFixture) -> None:
    if garbled is None:
        abc.backend.remove(CURRENT)
    else:
        abc.backend.write(CURRENT, garbled)
    assert abc.current() == "c"
    assert "CURRENT" in caplog.text
    assert moves(abc) == [("a", None), ("b", "a"), ("c", "b")]
    assert len(abc.faults()) == 1
    publish(abc, ValidatedRelease("d", make_release(abc, "d", "d"), "c"), ["lists"])
    assert abc.backend.read(CURRENT) == b"d\n"
    assert abc.faults() == []


def test_the_first_release_is_live_though_current_was_deleted(store: Store) -> None:
    publish(store, ValidatedRelease("a", make_release(store, "a"), None), ["lists"])
    store.backend.remove(CURRENT)
    assert store.current() == "a"


def forget_c(store: Store) -> None:
    store.backend.remove("releases/c/manifest.json")


def spoil_c(store: Store) -> None:
    store.backend.write("releases/c/manifest.json", b"{")


def strip_c(store: Store) -> None:
    store.backend.remove("releases/c/validation_report.json")


def spoil_last_line(store: Store) -> None:
    change_line(store, -1, b'{"release": "c", "prev')


def spoil_history(store: Store) -> None:
    store.backend.write(HISTORY, b"")


@pytest.mark.parametrize("hurt", [forget_c, spoil_c, strip_c, spoil_last_line, spoil_history])
def test_a_damaged_current_is_refused_where_the_history_names_nothing_whole(abc: Store, hurt: object) -> None:
    hurt(abc)  # type: ignore[operator]
    abc.backend.write(CURRENT, b"")
    with pytest.raises(RecsysError, match="make rollback RELEASE="):
        abc.current()
    report = make_release(abc, "d", "d")
    for expected in (None, "b", "c"):
        with pytest.raises(RecsysError, match="make rollback RELEASE="):
            publish(abc, ValidatedRelease("d", report, expected), ["lists"])
    with pytest.raises(RecsysError, match="make rollback RELEASE="):
        rollback(abc, ["lists"])
    assert abc.backend.read(CURRENT) == b""
    assert rollback(abc, ["lists"], "b") == "b"
    assert abc.backend.read(CURRENT) == b"b\n"
    assert abc.current() == "b"


def test_a_deleted_current_is_refused_though_the_history_is_empty(abc: Store) -> None:
    abc.backend.remove(CURRENT)
    abc.backend.write(HISTORY, b"")
    with pytest.raises(RecsysError, match="make rollback RELEASE="):
        abc.current()


def test_current_is_written_anew_by_a_rollback_to_the_release_that_counts_as_live(abc: Store) -> None:
    abc.backend.write(CURRENT, b"?")
    assert rollback(abc, ["lists"], "c") == "c"
    assert abc.backend.read(CURRENT) == b"c\n"
    assert rollback(abc, ["lists"]) == "b"


def test_the_service_keeps_its_release_while_current_is_damaged(abc: Store) -> None:
    live = ReleaseManager(abc, [], CanaryLimits(10, 0.5))
    live.refresh()
    spoil_last_line(abc)
    abc.backend.write(CURRENT, b"")
    with pytest.raises(RecsysError, match="CURRENT"):
        live.refresh()
    assert live.current
    assert live.current.id == "c"
    assert live.current.recommend("u0", 1).items


def test_verbs_refuse_in_one_line_and_tell_the_way(tmp_path: Path) -> None:
    fork = Fork(tmp_path)
    store = open_store(str(tmp_path / "data" / "store"), "shop")
    for id in "abc":
        publish(store, ValidatedRelease(id, make_release(store, id, id), store.current()), ["lists"])
    store.backend.write(CURRENT, b"\n\n")
    store.backend.write(CANARY, b"")
    doctor = fork.run("doctor")
    assert "damaged: CURRENT" in doctor.stdout
    assert "damaged: CANARY" in doctor.stdout
    assert_refused(fork.run("gc"), "make canary OFF=1")
    assert fork.run("canary", OFF="1").returncode == 0
    spoil_last_line(store)
    for verb in ("verify", "rollback", "gc"):
        assert_refused(fork.run(verb), "make rollback RELEASE=")
    told = fork.run("verify", RELEASE="a").stdout
    assert "release a can be served" in told
    assert "damaged: history.jsonl" in told


# CANARY


@pytest.mark.parametrize("garbled", [b"", b"{", b"[]", b"null", b'{"release": "d"}', b'{"release": "", "share": 0.1}', b"\xff"])
def test_a_damaged_canary_is_refused_and_not_taken_for_none(
    abc: Store, garbled: bytes, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    make_release(abc, "d", "d")
    try_out(abc, ["lists"], "d", 0.5)
    live = ReleaseManager(abc, [], CanaryLimits(10, 0.5))
    live.refresh()
    abc.backend.write(CANARY, garbled)
    with pytest.raises(RecsysError, match=r"CANARY in .* cannot be read .*make canary OFF=1"):
        abc.canary()
    with pytest.raises(RecsysError, match="CANARY"):
        live.refresh()
    assert live.canary
    assert live.canary.reader.id == "d"
    assert {one.id for one in listed(abc, settings)} == set("abcd")
    assert "CANARY" in caplog.text
    abc.point_canary(None, "c")
    assert abc.canary() is None


# The history


@pytest.mark.both_stores
@pytest.mark.parametrize("line", [b"", b"{", b"\xff\x00", b"[]", b"7", b'{"release": 7, "previous": null}', b'{"release": "b"}'])
@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_damaged_line_is_left_out_and_the_moves_beside_it_are_linked(
    abc: Store, number: int, line: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    change_line(abc, number, line)
    assert moves(abc) == [("a", None), ("b", "a"), ("c", "b")]
    assert HISTORY in caplog.text
    assert [HISTORY in fault for fault in abc.faults()] == [True] * (1 + (number == 2))
    assert [rollback(abc, ["lists"]), rollback(abc, ["lists"])] == ["b", "a"]


def test_a_history_that_is_gone_keeps_nobody_from_publishing_and_going_back(abc: Store) -> None:
    abc.backend.remove(HISTORY)
    assert moves(abc) == [("c", None)]
    publish(abc, ValidatedRelease("d", make_release(abc, "d", "d"), "c"), ["lists"])
    assert previous(abc) == "c"
    assert rollback(abc, ["lists"], "a") == "a"


def test_a_move_after_a_line_that_was_cut_off_has_a_line_of_its_own(abc: Store) -> None:
    abc.backend.write(HISTORY, (abc.backend.read(HISTORY) or b"")[:-20])
    publish(abc, ValidatedRelease("d", make_release(abc, "d", "d"), "c"), ["lists"])
    assert moves(abc) == [("a", None), ("b", "a"), ("c", "b"), ("d", "c")]


# Manifests


def changed(manifest: bytes, **fields: object) -> bytes:
    return json.dumps(json.loads(manifest) | fields).encode()


@pytest.mark.parametrize("fields", [{"parents": {"model": "m2"}}, {"id": "d"}, {"made_from": {}}, {"hash": "0"}, {"content": "0"}])
def test_a_manifest_that_was_changed_is_found(abc: Store, fields: dict[str, object]) -> None:
    written = abc.backend.read("releases/b/manifest.json") or b""
    abc.backend.write("releases/b/manifest.json", changed(written, **fields))
    for look in (abc.load, abc.find):
        with pytest.raises(RecsysError, match=r"releases/b/manifest\.json in .* cannot be read"):
            look("release", "b")
    with pytest.raises(RecsysError, match=r"releases/b/manifest\.json in .* cannot be read"):
        verify(abc, "b")
    assert any("releases/b/manifest.json" in fault for fault in abc.faults())


def test_every_flipped_bit_of_a_manifest_is_found(tmp_path: Path) -> None:
    store = open_store(str(tmp_path), "shop")
    make_release(store, "a")
    written = store.backend.read("releases/a/manifest.json") or b""
    manifest, same = Manifest.from_json(written), 0
    for place in range(len(written)):
        flipped = bytearray(written)
        flipped[place] ^= 1 << place % 7
        try:
            assert Manifest.from_json(bytes(flipped)) == manifest
            same += 1
        except (ValueError, TypeError, LookupError, AttributeError):
            pass
    assert same < 0.1 * len(written)  # spaces between words


@pytest.mark.both_stores
def test_a_manifest_of_another_snapshot_is_refused(abc: Store) -> None:
    abc.backend.write("releases/b/manifest.json", abc.backend.read("releases/a/manifest.json") or b"")
    with pytest.raises(RecsysError, match="it belongs to release snapshot a"):
        abc.find("release", "b")


def test_manifests_of_earlier_versions_are_read(abc: Store) -> None:
    fields = json.loads(abc.backend.read("releases/b/manifest.json") or b"")
    del fields["hash"]
    abc.backend.write("releases/b/manifest.json", json.dumps(fields).encode())
    assert abc.load("release", "b").manifest.id == "b"


# Every file of a run


@pytest.mark.slow
def test_damage_to_any_file_of_a_run_is_found(tmp_path: Path) -> None:
    store = tiny_run(tmp_path).store
    files = [path for path in Path(str(store.backend)).rglob("*") if path.is_file() and path.name != ".lock"]
    kinds = {path.relative_to(str(store.backend)).parts[0] for path in files}
    assert kinds == {"raw", "features", "models", "releases", CURRENT, HISTORY}
    assert found_damage(store) == []
    for path in files:
        whole = path.read_bytes()
        middle = len(whole) // 2
        for damaged in (b"", whole[:middle], whole[:middle] + bytes([whole[middle] ^ 128]) + whole[middle + 1 :], None):
            path.write_bytes(damaged) if damaged is not None else path.unlink()
            assert found_damage(store), (path, damaged and len(damaged))
            path.write_bytes(whole)
    assert found_damage(store) == []


def found_damage(store: Store) -> list[str]:
    """What is told by those who read snapshots, by `make doctor`, and by `make verify`."""
    found = store.faults()
    looks: list[Callable[[], object]] = [
        partial(store.load, kind, id) for kind in KINDS for id in store.backend.children(KINDS[kind])
    ]
    looks.append(partial(verify, store, store.current(strict=False) or ""))
    for look in looks:
        try:
            look()
        except RecsysError as error:
            found.append(str(error))
    return found
