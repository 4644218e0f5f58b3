"""kill -9 while releases are published, rolled back and freed: whatever is current is whole, and the next command cleans up."""

import contextlib
import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from conftest import PASSED, write_release
from recsys import RecsysError
from recsys.lifecycle import rollback
from recsys.publishing import publish
from recsys.retention import free
from recsys.store import KINDS, MANIFEST, Store, open_store
from recsys.verdicts import Evidence

pytestmark = pytest.mark.slow
MOMENTS = {
    "at any time": [f"after {random.Random(kill).uniform(0, 2)} rounds" for kill in range(45)],
    "before every change": [f"before {change} changes" for change in range(1, 46)],  # to files, in two rounds or more
}


def publish_one(store: Store, prepared: Path) -> str:
    """The last steps of a run: a release, its evidence, the pointer. Without fsync: what a killed process has written stays, and a
    slow disk would let nobody publish before the kill."""
    with patch("os.fsync"), store.draft() as folder:
        for path in prepared.iterdir():
            shutil.copyfile(path, folder / path.name)
        facts = json.loads((prepared / "release.json").read_text()) | {"mark": os.urandom(8).hex()}
        (folder / "release.json").write_text(json.dumps(facts))
        manifest = store.commit(folder, "release", {}, {"model": "m1", "features": "f1"})
        evidence = Evidence("m1", "f1", manifest.content, on_model={"simpler": [PASSED]}, on_data={"lists": [PASSED]})
        store.attach_evidence(manifest.id, evidence.to_json())
        publish(store, manifest.id, evidence, expected=store.current(), families=["lists", "simpler"])
    return manifest.id


def go_back(store: Store, prepared: Path) -> None:
    with patch("os.fsync"), contextlib.suppress(RecsysError):  # the first release has none before it
        rollback(store)


def collect(store: Store, prepared: Path) -> None:
    with patch("os.fsync"):
        free(store, keep=1, grace_hours=0)


ROUNDS: dict[str, list[Callable[[Store, Path], object]]] = {
    "publish": [publish_one],
    "rollback": [publish_one, go_back],
    "gc": [collect, publish_one, publish_one],
}
rounds = pytest.mark.parametrize("round", ROUNDS)
moments = pytest.mark.parametrize("moments", MOMENTS.values(), ids=MOMENTS)


@pytest.fixture
def prepared(tmp_path: Path) -> Path:
    """A release's files."""
    (tmp_path / "prepared").mkdir()
    write_release(tmp_path / "prepared")
    return tmp_path / "prepared"


def die_before(change: int) -> None:
    """Has this process kill itself just before its n-th change to files from now."""
    changes = itertools.count(1)

    def watch(event: str, arguments: Any) -> None:
        writes = event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        if (writes or event in ("os.mkdir", "os.rename", "os.remove", "os.rmdir")) and next(changes) == change:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)


def seconds_of_a_round(store: Store, prepared: str, round: str) -> float:
    """Of one that nobody kills: machines differ, and are shared."""
    start, pid = time.perf_counter(), os.fork()
    if pid == 0:
        for act in ROUNDS[round]:
            act(store, Path(prepared))
        os._exit(0)
    os.waitpid(pid, 0)
    return time.perf_counter() - start


def kill_all(root: str, prepared: str, round: str) -> None:
    """For every moment read, has a process go on until it is killed then, and writes its exit code. The process is forked,
    because starting Python takes longer than it lives."""
    import pyarrow.parquet  # noqa: F401 - once here, not in every process

    store, me = open_store(root, "shop"), os.getpid()
    usual = seconds_of_a_round(store, prepared, round)
    for line in sys.stdin:
        how, number, _ = line.split()
        pid = os.fork()
        if pid == 0:
            try:
                if how == "before":
                    die_before(int(number))
                while os.getppid() == me:
                    for act in ROUNDS[round]:
                        act(store, Path(prepared))
            finally:
                os._exit(1)
        if how == "after":
            time.sleep(float(number) * usual)
            os.kill(pid, signal.SIGKILL)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])}\n")
        sys.stdout.flush()


def killed(root: Path, prepared: Path, round: str, moments: list[str]) -> Iterator[Store]:
    """The store as each killed process left it."""
    command = [sys.executable, "-c", f"import test_kills; test_kills.kill_all({str(root)!r}, {str(prepared)!r}, {round!r})"]
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


@rounds
@moments
def test_after_every_kill_what_is_current_and_what_exists_is_whole(
    tmp_path: Path, prepared: Path, round: str, moments: list[str]
) -> None:
    lengths: list[int] = []
    for store in killed(tmp_path, prepared, round, moments):
        current, history = store.current(), store.history()
        releases = [None, *(move["release"] for move in history)]
        assert releases[-1] == current
        assert [move["previous"] for move in history] == releases[:-1]
        if current:
            assert store.evidence(current)
            store.load("release", current)
        for id in store.ids("release"):
            store.load("release", id)
        lengths.append(len(history))
    assert lengths == sorted(lengths)
    assert lengths[-1] > lengths[0]  # they were alive


@rounds
@moments
def test_after_every_kill_the_next_commands_clean_up_and_publish(
    tmp_path: Path, prepared: Path, round: str, moments: list[str]
) -> None:
    left, shop = 0, tmp_path / "shop"
    for store in killed(tmp_path, prepared, round, moments):
        left += len(list((shop / ".drafts").glob("*")))
        release = publish_one(store, prepared)
        collect(store, prepared)
        assert store.current() == release
        assert set(store.ids("release")) <= {release, store.history()[-1]["previous"]}
        assert list((shop / ".drafts").iterdir()) == []
        folders = [f"{KINDS[kind]}/{id}" for kind in KINDS for id in store.backend.children(KINDS[kind])]
        assert all((shop / folder / MANIFEST).exists() for folder in folders)
    assert left > 0  # some were killed in the middle
