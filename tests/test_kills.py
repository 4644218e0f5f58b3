"""kill -9 in the middle of publishing: whatever is current is whole, and the next run publishes."""

import itertools
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from recsys.publishing import publish
from recsys.store import Store, open_store
from recsys.verdicts import Evidence, Verdict

PASSED = Verdict("events", 100, 50, "block", True, "100 events")
MOMENTS = {
    "at any time": [f"after {random.Random(kill).uniform(0, 0.02)} seconds" for kill in range(50)],  # some publications
    "before every change": [f"before {change} changes" for change in range(1, 41)],  # to files, in two publications
}
moments = pytest.mark.parametrize("moments", MOMENTS.values(), ids=MOMENTS)


def publish_one(store: Store) -> str:
    """The last steps of a run: a release of several small files, its evidence, the pointer. Without fsync: what a killed
    process has written stays, and a slow disk would let nobody publish before the kill."""
    with patch("os.fsync"), store.draft() as folder:
        for name in ("lists", "items", "fallback"):
            (folder / name).write_bytes(os.urandom(64))
        manifest = store.commit(folder, "release", {}, {"model": "m1", "features": "f1"})
        evidence = Evidence("m1", "f1", manifest.content, on_model={"simpler": [PASSED]}, on_data={"lists": [PASSED]})
        store.attach_evidence(manifest.id, evidence.to_json())
        publish(store, manifest.id, evidence, expected=store.current(), families=["lists", "simpler"])
    return manifest.id


def die_before(change: int) -> None:
    """Has this process kill itself just before its n-th change to files from now."""
    changes = itertools.count(1)

    def watch(event: str, arguments: Any) -> None:
        writes = event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        if (writes or event in ("os.mkdir", "os.rename", "os.remove", "os.rmdir")) and next(changes) == change:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)


def kill_publishers(root: str) -> None:
    """For every moment read, has a process publish until it is killed then, and writes its exit code. The process is forked,
    because starting Python takes longer than it lives."""
    import pyarrow.parquet  # noqa: F401 - once here, not in every publisher

    store, me = open_store(root, "shop"), os.getpid()
    for line in sys.stdin:
        how, number, _ = line.split()
        pid = os.fork()
        if pid == 0:
            try:
                if how == "before":
                    die_before(int(number))
                while os.getppid() == me:
                    publish_one(store)
            finally:
                os._exit(1)
        if how == "after":
            time.sleep(float(number))
            os.kill(pid, signal.SIGKILL)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])}\n")
        sys.stdout.flush()


def killed(root: Path, moments: list[str]) -> Iterator[Store]:
    """The store as each killed publisher left it."""
    command = [sys.executable, "-c", f"import test_kills; test_kills.kill_publishers({str(root)!r})"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for moment in moments:
            process.stdin.write(f"{moment}\n")
            process.stdin.flush()
            assert process.stdout.readline() == f"{-signal.SIGKILL}\n"
            yield open_store(str(root), "shop")
        process.stdin.close()


@moments
def test_after_every_kill_the_current_release_is_whole_and_the_last_of_the_history(tmp_path: Path, moments: list[str]) -> None:
    lengths = []
    for store in killed(tmp_path, moments):
        current, history = store.current(), store.history()
        releases = [None, *(move["release"] for move in history)]
        assert releases[-1] == current
        assert [move["previous"] for move in history] == releases[:-1]
        if current:
            assert set(store.load("release", current).manifest.files) == {"lists", "items", "fallback"}
            assert store.evidence(current)
        lengths.append(len(history))
    assert lengths == sorted(lengths)
    assert lengths[-1] > 0  # the publishers were alive


@moments
def test_after_every_kill_each_release_that_exists_is_whole(tmp_path: Path, moments: list[str]) -> None:
    checked: set[str] = set()
    for store in killed(tmp_path, moments):
        for id in set(store.ids("release")) - checked:
            store.load("release", id)
            checked.add(id)
    assert checked


@moments
def test_after_every_kill_the_next_run_publishes_and_sweeps_the_drafts(tmp_path: Path, moments: list[str]) -> None:
    left = 0
    drafts = tmp_path / "shop" / ".drafts"
    for store in killed(tmp_path, moments):
        left += len(list(drafts.iterdir())) if drafts.exists() else 0
        release = publish_one(store)
        assert store.current() == release
        assert list(drafts.iterdir()) == []
    assert left > 0  # some were killed in the middle
