"""kill -9 at random moments of publishing: whatever is current is whole, and the next run publishes."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from recsys.publishing import publish
from recsys.store import Store, open_store
from recsys.verdicts import Evidence, Verdict

PASSED = Verdict("events", 100, 50, "block", True, "100 events")
KILLS = 30
LONGEST = 0.03  # seconds that a publisher lives: some publications


def publish_one(store: Store) -> str:
    """The last steps of a run: a release of several small files, its evidence, the pointer."""
    with store.draft() as folder:
        for name in ("lists", "items", "fallback"):
            (folder / name).write_bytes(os.urandom(64))
        manifest = store.commit(folder, "release", {}, {"model": "m1", "features": "f1"})
    evidence = Evidence("m1", "f1", manifest.content, on_model=[PASSED], on_data=[PASSED])
    store.attach_evidence(manifest.id, evidence.to_json())
    publish(store, manifest.id, evidence, expected=store.current())
    return manifest.id


def kill_publishers(root: str) -> None:
    """For every number of seconds read, forks a process that publishes without end, kills it after so long and writes its
    exit code. Forked, because starting Python takes longer than a life."""
    import pyarrow.parquet  # noqa: F401 - once here, not in every publisher

    store, me = open_store(root, "shop"), os.getpid()
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            try:
                while os.getppid() == me:
                    publish_one(store)
            finally:
                os._exit(1)
        time.sleep(float(line))
        os.kill(pid, signal.SIGKILL)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])}\n")
        sys.stdout.flush()


def killed(root: str) -> Iterator[Store]:
    """The store as each of some killed publishers left it."""
    command = [sys.executable, "-c", f"import test_kills; test_kills.kill_publishers({root!r})"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    delays = random.Random(0)
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for _ in range(KILLS):
            process.stdin.write(f"{delays.uniform(0, LONGEST)}\n")
            process.stdin.flush()
            assert process.stdout.readline() == f"{-signal.SIGKILL}\n"
            yield open_store(root, "shop")
        process.stdin.close()


def test_after_every_kill_the_current_release_is_whole(tmp_path: Path) -> None:
    seen = set()
    for store in killed(str(tmp_path)):
        current = store.current()
        if current is not None:
            assert set(store.load("release", current).manifest.files) == {"lists", "items", "fallback"}
            assert store.evidence(current) is not None
        seen.add(current)
    assert len(seen) > 2  # the publishers were alive


def test_after_every_kill_the_history_ends_at_the_current_release_without_a_gap(tmp_path: Path) -> None:
    lengths = []
    for store in killed(str(tmp_path)):
        releases = [None, *(move["release"] for move in store.history())]
        assert releases[-1] == store.current()
        assert [move["previous"] for move in store.history()] == releases[:-1]
        lengths.append(len(releases))
    assert lengths == sorted(lengths)
    assert lengths[-1] > 2


def test_after_every_kill_each_release_that_exists_is_whole(tmp_path: Path) -> None:
    for store in killed(str(tmp_path)):
        for id in store.ids("release"):
            store.load("release", id)


def test_after_every_kill_the_next_run_publishes_and_sweeps_the_drafts(tmp_path: Path) -> None:
    left = 0
    drafts = tmp_path / "shop" / ".drafts"
    for store in killed(str(tmp_path)):
        left += len(list(drafts.iterdir())) if drafts.exists() else 0
        release = publish_one(store)
        assert store.current() == release
        assert list(drafts.iterdir()) == []
    assert left > 0  # some were killed in the middle
