"""kill -9 at every moment of runs: what is live is whole, the next run succeeds, and nothing is left lying about.

A process makes runs on data of 60 users, one after the other: a training, daily lists, a rollback, and the freeing of what is not
needed. Half of the kills come just before a change to files, the changes of two rounds one after the other; the others at any time.
`make test-all` kills 40 times; by hand KILLS=900 does so more often. The same for whole flows is in test_killed_flows.py.
"""

import itertools
import json
import os
import pickle
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from odd_data import shop
from recsys import warehouse
from recsys.lifecycle import previous, rollback
from recsys.retention import free
from recsys.store import KINDS, MANIFEST, open_store
from recsys.verifying import verify
from runs import STEPS, Run, settings_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(7_200)]
COUNT = int(os.environ.get("KILLS", 40))
TODAY = date(2024, 5, 4)


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run that is live, with the features that all later ones have too."""
    folder = tmp_path_factory.mktemp("healthy")
    export = shop(users=60)
    settings = settings_of(export.dataset | {"max_age_days": 0}, export.write(folder))
    settings = replace(settings, recommenders={"popularity": {"days": 7}, "repeat_purchase": {}})
    run = Run(open_store(str(folder / "store"), "events"), settings, TODAY)
    run.go()
    shutil.copytree(run.store.load("features", run.features_id).path, folder / "features")
    return run


def features_of(run: Run) -> Path:
    """A copy, since freeing what is not needed takes the first features too."""
    return Path(str(run.store.backend)).parents[1] / "features"


@contextmanager
def without_dbt(prepared: Path) -> Iterator[None]:
    """Building features copies prepared ones, for dbt takes seconds. Nothing is synced: what a killed process wrote stays."""

    def build(raw: Any, variables: Any, settings: Any, project: Path, folder: Path) -> warehouse.Cost:
        with tempfile.TemporaryDirectory(prefix="warehouse-"):
            for path in prepared.glob("*.parquet"):
                shutil.copyfile(path, folder / path.name)
        return warehouse.Cost(0, 0)

    with patch("recsys.warehouse.build", build), patch("os.fsync"):
        yield


def make_round(run: Run, tell: Any = lambda step: None, kinds: Sequence[bool] = (False, True)) -> None:
    """A training and daily lists, or one of the two, on data with one more event; the way back; and the freeing of what is not
    needed. `kinds`: whether only lists are made."""
    with Path(run.settings.dataset.dials["events"]).open("a") as events:
        events.write(f"u001,i01,2024-05-03 12:00:00.{time.time_ns() % 10**6:06},view,,\n")
    for lists_only in kinds:
        made = replace(run, lists_only=lists_only)
        for step in STEPS:
            tell(step)
            getattr(made, step)()
    tell("rollback")
    if previous(run.store):
        rollback(run.store)
    tell("gc")
    free(run.store, keep=1, grace_hours=0)


def watch_changes(act: Any) -> None:
    """Calls `act` with the number of each change to files that this process is about to make."""
    changes = itertools.count(1)

    def watch(event: str, arguments: Any) -> None:
        writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        if writes or event in ("os.mkdir", "os.rename", "os.remove", "os.rmdir"):
            act(next(changes))

    sys.addaudithook(watch)


def kill_all(path: str, prepared: str) -> None:
    """For every line read, has a process make rounds until it is killed then; writes its exit code and the step it was in. The
    process is forked, because starting Python takes longer than a round. For `count 0` two rounds are
    made that nobody kills, and the changes and seconds that they take are written."""
    import great_expectations.expectations  # noqa: F401 - once here, not in every process
    import pyarrow.parquet  # noqa: F401

    run = pickle.loads(Path(path).read_bytes())
    read_end, write_end = os.pipe()
    for line in sys.stdin:
        how, number = line.split()
        os.write(write_end, b"start\n")
        if (pid := os.fork()) == 0:
            make_rounds(run, prepared, how, float(number), write_end)
        if how == "after":
            time.sleep(float(number))
            os.kill(pid, signal.SIGKILL)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        sys.stdout.write(f"{code} {os.read(read_end, 2**20).decode().split()[-1]}\n")
        sys.stdout.flush()


def make_rounds(run: Run, prepared: str, how: str, number: float, told: int) -> None:
    seen, start = [0], time.perf_counter()

    def act(change: int) -> None:
        seen[0] = change
        if how == "before" and change == number:
            os.kill(os.getpid(), signal.SIGKILL)

    try:
        with without_dbt(Path(prepared)):
            watch_changes(act)
            for _ in range(2) if how == "count" else itertools.count():
                make_round(run, lambda step: os.write(told, f"{step}\n".encode()))
            os.write(told, f"{seen[0]},{time.perf_counter() - start}\n".encode())
    finally:
        os._exit(0 if how == "count" else 1)


@pytest.fixture
def killer(healthy: Run, tmp_path: Path) -> Iterator[Any]:
    """Sends a line to a process that kills, and returns what it says. Its temporary files lie in `scratch` here."""
    (tmp_path / "run").write_bytes(pickle.dumps(healthy))
    (tmp_path / "scratch").mkdir()
    command = f"import test_kills; test_kills.kill_all({str(tmp_path / 'run')!r}, {str(features_of(healthy))!r})"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "TMPDIR": str(tmp_path / "scratch")}
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", command], env=environment, **pipes) as process:

        def ask(line: str) -> list[str]:
            assert process.stdin
            assert process.stdout
            process.stdin.write(f"{line}\n")
            process.stdin.flush()
            return process.stdout.readline().split()

        yield ask
        assert process.stdin
        process.stdin.close()


def test_after_every_kill_what_is_live_is_whole_and_the_next_run_succeeds(healthy: Run, killer: Any, tmp_path: Path) -> None:
    code, last = killer("count 0")
    assert code == "0"
    changes, usual = int(last.split(",")[0]), float(last.split(",")[1])
    dice, half, steps = random.Random(COUNT), COUNT // 2, Counter[str]()
    moments = [f"before {1 + kill * changes // half % changes}" for kill in range(half)]
    moments += [f"after {dice.uniform(0, usual):.4f}" for _ in range(COUNT - half)]
    for number, moment in enumerate(moments):
        code, step = killer(moment)
        assert code == str(-signal.SIGKILL), moment
        steps[step] += 1
        assert_whole(healthy, moment)
        with without_dbt(features_of(healthy)):
            make_round(healthy, kinds=[number % 2 > 0])
        assert_clean(healthy, moment)
    print(f"\n{COUNT} kills: {json.dumps(steps)}")  # noqa: T201


def assert_whole(run: Run, moment: str) -> None:
    store, history = run.store, run.store.history()
    current, releases = store.current(), [None, *(move["release"] for move in history)]
    assert current, moment
    assert releases[-1] == current, moment
    assert [move["previous"] for move in history] == releases[:-1], moment
    verify(store, current)
    for id in store.ids("release"):
        store.load("release", id)


def assert_clean(run: Run, moment: str) -> None:
    store, root = run.store, Path(str(run.store.backend))
    verify(store, store.current() or "")
    assert not list((root / ".drafts").iterdir()), moment
    folders = [root / KINDS[kind] / id for kind in KINDS for id in store.backend.children(KINDS[kind])]
    assert all((folder / MANIFEST).exists() for folder in folders), moment
