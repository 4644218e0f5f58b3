"""kill -9 at every moment of runs: what is live is whole, the next run succeeds, and nothing is left lying about.

A process makes a run on data of 60 users, a training or daily lists, then a rollback, a canary, its promotion, and the freeing of
what is not needed. Each of these steps is killed equally often: half of the kills come just before a change to files, the others at
any time.
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
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any
from unittest.mock import patch

import duckdb
import pytest

from odd_data import shop
from recsys import checks, warehouse
from recsys.lifecycle import promote, rollback, try_out
from recsys.retention import free
from recsys.store import KINDS, MANIFEST, open_store
from recsys.verifying import verify
from runs import STEPS, Run, settings_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(7_200)]
COUNT = int(os.environ.get("KILLS", 40))
TODAY = date(2024, 5, 4)
PLACES = [("training", step) for step in STEPS] + [("lists", step) for step in STEPS if step != "train"]
PLACES += [("lists", step) for step in ("rollback", "canary", "promote", "gc")]
Tell = Callable[[str], object]


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
def cheap(prepared: Path) -> Iterator[None]:
    """Building features copies prepared ones, for dbt takes seconds. All databases in memory are in one DuckDB, since starting one
    takes longer than its queries here. Nothing is synced: what a killed process wrote stays."""
    main, names = duckdb.connect(), map("memory_{}".format, itertools.count())

    def build(raw: Any, variables: Any, settings: Any, project: Path, folder: Path) -> warehouse.Cost:
        with tempfile.TemporaryDirectory(prefix="warehouse-"):
            for path in prepared.glob("*.parquet"):
                shutil.copyfile(path, folder / path.name)
        return warehouse.Cost(0, 0)

    @contextmanager
    def connect(_: str) -> Iterator[duckdb.DuckDBPyConnection]:
        name = next(names)
        with main.cursor() as connection:
            connection.execute(f"attach ':memory:' as {name}; use {name}")
            yield connection
            connection.execute(f"use memory; detach {name}")

    with patch("recsys.warehouse.build", build), patch("os.fsync"), patch("duckdb.connect", connect):
        yield


def make_round(run: Run, tell: Tell = lambda step: None, first: str = "land", keep: int = 5) -> None:
    """A run on data with one more event; a rollback; the new release as a canary, and promoted; the freeing of what is not needed.
    With `rollback` as its first step, it begins with what is live."""
    store = run.store
    if first in STEPS:
        with Path(run.settings.dataset.dials["events"]).open("a") as events:
            events.write(f"u001,i01,2024-05-03 12:00:00.{time.time_ns() % 10**6:06},view,,\n")
        for step in STEPS:
            tell(step)
            getattr(run, step)()
    newest = store.current() or ""
    tell("rollback")
    rollback(store)
    tell("canary")
    try_out(store, newest, 0.5)
    tell("promote")
    promote(store, checks.required(audit=False))
    tell("gc")
    free(store, keep, grace_hours=0)


def watch_changes(act: Callable[[], object]) -> None:
    """Calls `act` before each change to files that this process makes."""

    def watch(event: str, arguments: Any) -> None:
        writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        if writes or event in ("os.mkdir", "os.rename", "os.remove", "os.rmdir"):
            act()

    sys.addaudithook(watch)


def kill_all(path: str, prepared: str) -> None:
    """For every line read, has a process make rounds until it is killed; writes its exit code and the step it was in. The process
    is forked, because starting Python takes longer than a round. For `count`, two rounds are made that nobody kills, and the
    changes and seconds that each of their steps takes are written."""
    import great_expectations.expectations  # noqa: F401 - once here, not in every process
    import pyarrow.parquet  # noqa: F401

    run = pickle.loads(Path(path).read_bytes())
    for line in sys.stdin:
        how, kind, step, number = line.split()
        read_end, write_end = os.pipe()
        if (pid := os.fork()) == 0:
            make_rounds(replace(run, lists_only=kind == "lists"), prepared, how, step, float(number), write_end)
        os.close(write_end)
        last = ""
        with os.fdopen(read_end) as told:
            for last in map(str.strip, told):
                if how == "after" and last == step:
                    time.sleep(float(number))
                    os.kill(pid, signal.SIGKILL)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        sys.stdout.write(f"{code} {last}\n")
        sys.stdout.flush()


def make_rounds(run: Run, prepared: str, how: str, fatal: str, number: float, told: int) -> None:
    """Is killed before a change of the `fatal` step, if `how` is `before`."""
    now, changes, starts = ["start"], Counter[str](), dict[str, float]()

    def act() -> None:
        changes[now[0]] += 1
        if how == "before" and now[0] == fatal and changes[fatal] == number:
            os.kill(os.getpid(), signal.SIGKILL)

    def tell(step: str) -> None:
        now[0], starts[step] = step, time.perf_counter()
        os.write(told, f"{step}\n".encode())

    try:
        with cheap(Path(prepared)):
            watch_changes(act)
            while how != "count":
                make_round(replace(run), tell, "land" if fatal in STEPS else "rollback", keep=1)
            make_round(run, tell)
            ends = [*starts.values(), time.perf_counter()][1:]
            lengths = {step: end - start for (step, start), end in zip(starts.items(), ends, strict=True)}
            os.write(told, json.dumps({step: (changes[step], length) for step, length in lengths.items()}).encode())
        os._exit(0)
    except Exception:
        traceback.print_exc()
    finally:
        os._exit(1)


@pytest.fixture
def killer(healthy: Run, tmp_path: Path) -> Iterator[Any]:
    """Sends a line to a process that kills, and returns what it says. Its temporary files lie in `scratch` here."""
    (tmp_path / "run").write_bytes(pickle.dumps(healthy))
    (tmp_path / "scratch").mkdir()
    command = f"import test_kills; test_kills.kill_all({str(tmp_path / 'run')!r}, {str(features_of(healthy))!r})"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "TMPDIR": str(tmp_path / "scratch")}
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", command], env=environment, **pipes) as process:

        def ask(line: str) -> Any:
            assert process.stdin
            assert process.stdout
            process.stdin.write(f"{line}\n")
            process.stdin.flush()
            code, _, told = process.stdout.readline().strip().partition(" ")
            if line.startswith("count"):
                return json.loads(told)
            assert code == str(-signal.SIGKILL), line
            return told

        yield ask
        assert process.stdin
        process.stdin.close()


def test_after_every_kill_what_is_live_is_whole_and_the_next_run_succeeds(healthy: Run, killer: Any) -> None:
    dice, steps = random.Random(COUNT), Counter[str]()
    with cheap(features_of(healthy)):
        replace(healthy).go()
    counted = {kind: killer(f"count {kind} - 0") for kind in ("training", "lists")}
    for number in range(COUNT):
        turn, place = divmod(number, len(PLACES))
        kind, step = PLACES[place]
        changes, seconds = counted[kind][step]
        turns = -(-COUNT // len(PLACES))
        at = (turn + dice.random()) / turns
        moment = f"before {kind} {step} {1 + int(at * changes)}" if number % 2 else f"after {kind} {step} {at * seconds:.4f}"
        steps[killer(moment)] += 1
        assert_whole(healthy, moment)
        with cheap(features_of(healthy)):
            make_round(replace(healthy, lists_only=kind == "lists"))
        assert_clean(healthy, moment)
    print(f"\n{COUNT} kills: {json.dumps(steps)}")  # noqa: T201


def assert_whole(run: Run, moment: str) -> None:
    store, history = run.store, run.store.history()
    current, releases = store.current(), [None, *(move["release"] for move in history)]
    assert current, moment
    assert releases[-1] == current, moment
    assert [move["previous"] for move in history] == releases[:-1], moment
    verify(store, current)
    kept = [(kind, id) for kind in KINDS for id in store.ids(kind)]
    parents = [parent for name in kept for parent in store.load(*name).manifest.parents.items()]
    assert set(parents) <= set(kept), moment


def assert_clean(run: Run, moment: str) -> None:
    store, root = run.store, Path(str(run.store.backend))
    verify(store, store.current() or "")
    assert not list((root / ".drafts").iterdir()), moment
    folders = [root / KINDS[kind] / id for kind in KINDS for id in store.backend.children(KINDS[kind])]
    assert all((folder / MANIFEST).exists() for folder in folders), moment
