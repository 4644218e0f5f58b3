"""Exports that lack the most, from CSV files to a release, as people run it."""

from pathlib import Path
from subprocess import CompletedProcess

import pytest

from conftest import Fork, assert_refused
from odd_data import ODD, Export, shop

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def fork(tmp_path_factory: pytest.TempPathFactory) -> Fork:
    return Fork(tmp_path_factory.mktemp("fork"))


def run(fork: Fork, export: Export, folder: Path) -> CompletedProcess[str]:
    for key, value in export.dataset.items():
        fork.set("datasets.events", key, value)
    files = {name.upper(): path for name, path in export.write(folder).items()}
    return fork.run("run", DATASET="events", STORE=str(folder / "store"), **files)


@pytest.mark.parametrize("name", ["three columns", "100 users", "nothing but repeats", "one week"])
def test_odd_data_become_a_release(fork: Fork, tmp_path: Path, name: str) -> None:
    done = run(fork, ODD[name](), tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " is live, content" in done.stdout
    assert ("left out    of two_stage" in done.stdout) == (name == "three columns")


def test_data_on_which_nothing_can_be_judged_are_refused_in_numbers(fork: Fork, tmp_path: Path) -> None:
    short = shop(users=150, days=7, per_day=0.7)
    refused = run(fork, Export(short.events, None, None, {"horizon_days": 30, "step_days": 30}), tmp_path)
    assert_refused(refused, "7 days", "horizon_days = 30", "Set horizon_days and step_days to 1")
    assert not (tmp_path / "store" / "events" / "CURRENT").exists()
