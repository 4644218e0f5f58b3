"""Flows as a scheduler runs them: stores of branches, and retries."""

import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from conftest import Fork
from recsys.store.snapshots import open_store


@pytest.fixture(scope="module")
def fork(tmp_path_factory: pytest.TempPathFactory) -> Fork:
    return Fork(tmp_path_factory.mktemp("fork"))


@pytest.mark.both_stores
def test_a_store_of_a_branch_lies_below_the_root(root: str) -> None:
    own, production = open_store(root, "shop", branch="user.alice"), open_store(root, "shop")
    own.update("note", lambda known: b"alice's")
    assert str(own.backend).endswith("/user.alice/shop")
    assert production.note("note") is None


def test_a_plain_run_is_given_no_retries(fork: Fork, tmp_path: Path) -> None:
    environment = os.environ | {"METAFLOW_USER": "tester", "METAFLOW_DATASTORE_SYSROOT_LOCAL": str(tmp_path)}
    shown = subprocess.run(
        [sys.executable, str(fork.root / "flows" / "recommend_flow.py"), "--no-pylint", "show"],
        env=environment,
        capture_output=True,
        text=True,
        cwd=fork.root,
    )
    assert "@timeout" in shown.stdout + shown.stderr
    assert "@retry" not in shown.stdout + shown.stderr


@pytest.mark.parametrize(
    ("section", "steps"), [("unattended", ["start", "land"]), ("alerts", ["start", "land", "build_features", "judge", "end"])]
)
def test_in_containers_all_steps_get_the_secrets_of_alerts(tmp_path: Path, section: str, steps: list[str]) -> None:
    fork = Fork(tmp_path / "fork")
    fork.set(section, "secrets", ["recs/one"])
    shown = subprocess.run(
        [sys.executable, str(fork.root / "flows" / "monitor_flow.py"), "--no-pylint", "show"],
        env=os.environ | {"METAFLOW_USER": "tester", "METAFLOW_RUNTIME_ENVIRONMENT": "elsewhere"},
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    decorated = (shown.stdout + shown.stderr).split("Step ")  # decorators stand before their step
    found = [after.split()[0] for before, after in pairwise(decorated) if "@secrets" in before]
    assert found == steps
