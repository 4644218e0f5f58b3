"""kill -9 at every moment of runs: what is live is whole, the next run succeeds, and nothing is left lying about.

A process makes a run on data of 60 users, a training or daily lists, then a rollback, a canary, its promotion, and the freeing of
what is not needed. Each of these steps is killed equally often: half of the kills come just before a change to files, the others at
any time.
`make test-all` kills 40 times; by hand KILLS=900 does so more often. The same for whole flows is in test_killed_flows.py.
"""

import json
import os
import pickle
import random
import signal
import subprocess
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from recsys.publishing.retention import free
from recsys.publishing.verification import verify
from recsys.store.snapshots import KINDS, MANIFEST
from runs import AFTERWARDS, STEPS, Run, add_event, cheap, features_of, take, tiny_run, watch_changes

pytestmark = [pytest.mark.slow, pytest.mark.timeout(7_200)]
COUNT = int(os.environ.get("KILLS", 40))
PLACES = [("training", step) for step in STEPS] + [("lists", step) for step in STEPS if step != "train"]
PLACES += [("lists", step) for step in AFTERWARDS]
ALL = [*STEPS, *AFTERWARDS]
Tell = Callable[[str], object]


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return tiny_run(tmp_path_factory.mktemp("healthy"))


def make_round(run: Run, steps: Iterable[str], tell: Tell = lambda step: None) -> None:
    """Steps of a run, on data with one more event if it lands any, and of what people do with its release."""
    add_event(run)
    for step in steps:
        tell(step)
        take(run, step)


def kill_all(path: str, prepared: str) -> None:
    """For every line read, has a process make rounds until it is killed; writes its exit code and the step it was in. The process
    is forked, because starting Python takes longer than a round. For `count`, a round is made that nobody kills, and the changes
    and seconds that each of its steps takes are written."""
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
                make_round(replace(run), ALL if fatal in STEPS else AFTERWARDS, tell)
            make_round(run, ALL, tell)
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
            make_round(replace(healthy, lists_only=kind == "lists"), ALL[:-1])
        free(healthy.store, keep=5, grace_hours=0)  # the next one to be killed finds something to free
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
