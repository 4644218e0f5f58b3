"""kill -9 in the middle of whole flows: what is live can be served, the next run succeeds, and nothing is left in scratch.

`make test-all` kills three times; by hand FLOW_KILLS=100 does so more often.
"""

import os
import random
import signal
import time
from pathlib import Path

import pytest

from conftest import Fork

COUNT = int(os.environ.get("FLOW_KILLS", 3))
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600 + 600 * COUNT)]
VERBS = ("run", "recommend")


def test_after_a_killed_flow_the_next_one_succeeds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setenv("TMPDIR", str(scratch))
    fork, usual, dice = Fork(tmp_path / "fork"), {}, random.Random(COUNT)
    for verb in VERBS:
        start = time.perf_counter()
        done = fork.run(verb)
        assert done.returncode == 0, done.stdout + done.stderr
        usual[verb] = time.perf_counter() - start
    for kill in range(COUNT):
        verb = VERBS[kill % len(VERBS)]
        moment = dice.uniform(0, usual[verb])
        kill_flow(fork, verb, moment)
        assert fork.run("verify").returncode == 0, moment
        live = fork.current()
        done = fork.run(verb)
        assert done.returncode == 0, done.stdout + done.stderr
        assert fork.current() != live, moment
        assert not list((fork.store() / ".drafts").iterdir()), moment
        assert not list(scratch.rglob("*")), moment


def kill_flow(fork: Fork, verb: str, moment: float) -> None:
    """Starts a flow, and kills it and what it started after so many seconds."""
    with fork.start(verb) as process:
        time.sleep(moment)
        os.killpg(process.pid, signal.SIGKILL)
