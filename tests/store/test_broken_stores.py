"""A disk that is full or may not be written: one line for people, and what is live stays as it is."""

import contextlib
import errno
import os
import resource
import shutil
import subprocess
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from conftest import Fork, assert_refused, make_release
from recsys.publishing.lifecycle import rollback
from recsys.publishing.publication import ValidatedRelease, publish
from recsys.publishing.verification import verify
from recsys.store.faults import describe_error
from recsys.store.snapshots import Store, open_store
from runs import AFTERWARDS, STEPS, Run, add_event, cheap, features_of, take, tiny_run, watch_changes


@contextlib.contextmanager
def mounted(target: Path, *how: str) -> Iterator[bool]:
    """Mounts something where it may be mounted; else warns, so that nobody takes what is simulated instead for the real thing."""
    mount = shutil.which("mount")
    done = mount is not None and subprocess.run([mount, *how, str(target)], capture_output=True).returncode == 0
    if not done:
        warnings.warn(f"mount {how[0]} {how[1]} is not allowed here: the disk's error is simulated", stacklevel=2)
    try:
        yield done
    finally:
        if done:
            subprocess.run(["umount", "--lazy", str(target)], check=True)


@contextlib.contextmanager
def failing(monkeypatch: pytest.MonkeyPatch, number: int) -> Iterator[None]:
    """Every new file of a directory's store fails with the error number."""

    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patched:
        patched.setattr("recsys.store.backends.Directory._aside", refuse)
        yield


def two_releases(root: Path) -> Store:
    store = open_store(str(root), "shop")
    for id in ("a", "b"):
        publish(store, ValidatedRelease(id, make_release(store, id, id), store.current()), ["lists"])
    return store


def left(store: Store) -> tuple[object, ...]:
    return store.current(), store.history(), store.ids("release")


def test_a_full_disk_keeps_what_is_live_and_room_mends_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "disk").mkdir()
    with mounted(tmp_path / "disk", "-t", "tmpfs", "-o", "size=300k", "tmpfs") as real:
        store = two_releases(tmp_path / "disk")
        before = left(store)
        if real:
            with contextlib.suppress(OSError), (tmp_path / "disk" / "filler").open("wb", buffering=0) as file:
                while True:
                    file.write(b"0" * 4096)
        with contextlib.nullcontext() if real else failing(monkeypatch, errno.ENOSPC):
            for write in (
                lambda: make_release(store, "c"),
                lambda: rollback(store, ["lists"]),
                lambda: store.attach_report("a", b"0" * 8192),
            ):
                with pytest.raises(OSError, match=r"No space left on device|disk is full"):
                    write()
        assert left(store) == before
        store.load("release", "b")
        (tmp_path / "disk" / "filler").unlink(missing_ok=True)
        assert list((tmp_path / "disk" / "shop" / ".drafts").iterdir()) == []
        assert rollback(store, ["lists"]) == "a"


def test_a_store_that_may_not_be_written_is_read_and_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = two_releases(tmp_path)
    before = left(store)
    with contextlib.ExitStack() as stack:
        if not stack.enter_context(mounted(tmp_path / "shop", "-o", "bind,ro", str(tmp_path / "shop"))):
            stack.enter_context(failing(monkeypatch, errno.EROFS))
        for write in (lambda: make_release(store, "c"), lambda: rollback(store, ["lists"]), lambda: store.pin("a")):
            with pytest.raises(OSError, match="Read-only file system"):
                write()
        store.load("release", "b")
    assert left(store) == before


def test_an_object_store_that_refuses_is_told_in_one_line(tmp_path: Path, s3: str) -> None:
    fork = Fork(tmp_path)
    fork.set("store", "root", f"{s3}-of-others/store")
    assert_refused(fork.run("rollback"), "the store cannot be reached", "NoSuchBucket", "fix this and run again")


def test_people_are_told_in_one_line(tmp_path: Path) -> None:
    fork = Fork(tmp_path)
    store = two_releases(tmp_path / "data" / "store")
    shop = tmp_path / "data" / "store" / "shop"
    with mounted(shop, "-o", "bind,ro", str(shop)) as real:
        if not real:
            (shop / ".lock").unlink()
            (shop / ".lock").mkdir()
        assert_refused(fork.run("rollback"), "Read-only file system" if real else "Is a directory", "fix this and run again")
    assert store.current() == "b"


# A disk that fills up in the middle of a step


class Disk:
    """Full from one of the next changes to files on: then no file can grow, by a limit of the system."""

    def __init__(self) -> None:
        self.left, self.limits = 0, resource.getrlimit(resource.RLIMIT_FSIZE)
        watch_changes(self._change)

    def _change(self) -> None:
        self.left -= 1
        if self.left == 0:
            resource.setrlimit(resource.RLIMIT_FSIZE, (0, self.limits[1]))

    @contextlib.contextmanager
    def full_from(self, change: int) -> Iterator[None]:
        self.left = change
        try:
            yield
        finally:
            self.left = 0
            resource.setrlimit(resource.RLIMIT_FSIZE, self.limits)


@pytest.fixture(scope="module")
def disk() -> Disk:
    return Disk()


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    run = tiny_run(tmp_path_factory.mktemp("tiny"))
    with cheap(features_of(run)):
        add_event(run)
        replace(run).go()
        yield run


@pytest.mark.slow
@pytest.mark.parametrize("step", [*STEPS, *AFTERWARDS])
def test_a_disk_that_fills_up_in_a_step_stops_it_and_what_is_live_stays(tiny: Run, disk: Disk, step: str) -> None:
    """Freeing snapshots needs no room, so it is not stopped."""
    steps = [*STEPS, *AFTERWARDS]
    add_event(tiny)
    for one in steps[: steps.index(step)]:
        take(tiny, one)
    live, stopped = tiny.store.current() or "", 0
    for change in (1, 2, 3, 5, 8, 13):
        told = stopped_by(disk, change, lambda: take(tiny, step))
        if told is None:
            break
        stopped += 1
        assert "no room is left on the disk" in told or "disk I/O error" in told, told  # SQLite's words for such a limit
        assert "/" in told.partition("; ")[0], told
        assert tiny.store.current() == live
        verify(tiny.store, live)
        assert tiny.store.faults() == []
    else:
        take(tiny, step)
    assert (stopped > 0) == (step != "gc")
    for one in [*steps[steps.index(step) + 1 :], *STEPS]:
        take(tiny, one)
    assert list(Path(str(tiny.store.backend), ".drafts").iterdir()) == []


def stopped_by(disk: Disk, change: int, act: Callable[[], object]) -> str | None:
    """What people are told where something does not end because the disk is full from a change on; none where it ends."""
    try:
        with disk.full_from(change):
            act()
    except Exception as error:
        return describe_error(error) or repr(error)
    return None
