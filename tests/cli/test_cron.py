"""Local schedules, with a stranger's path and a `make` that only notes what it was asked."""

import os
import shutil
import subprocess
from itertools import pairwise
from pathlib import Path

import pytest

from cli.cron import crontab, systemd
from conftest import ROOT
from recsys.settings.deployment import Operations, read_operations
from recsys.settings.loading import parse

pytestmark = pytest.mark.skipif(shutil.which("flock") is None, reason="flock is Linux's")

ASKED = ["--directory", "{root}", "recommend", "UNATTENDED=1", "EVENTS=my events.csv"]


@pytest.fixture
def operations() -> Operations:
    return read_operations(parse((ROOT / "config.toml").read_text()))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A fork below a path that a shell, cron and systemd would each take apart."""
    root = tmp_path / "50% off's $HOME"
    (root / "data").mkdir(parents=True)
    make = tmp_path / "bin" / "make"
    make.parent.mkdir()
    make.write_text(f'#!/bin/sh\nfor part in "$@"; do echo "$part"; done > "{tmp_path}/asked.$$"\nsleep 0.2\n')
    make.chmod(0o755)
    return root


def commands(root: Path, operations: Operations) -> dict[str, str]:
    """What cron hands to the shell, by flow."""
    found = {}
    for flow, line in zip(
        operations.schedule, list(crontab(root, operations, {"EVENTS": "my events.csv"}, "recs"))[3:], strict=True
    ):
        assert line.startswith(operations.schedule[flow].cron + " ")
        command = line.removeprefix(operations.schedule[flow].cron + " ")
        assert "%" not in command.replace(r"\%", "")
        found[flow] = command.replace(r"\%", "%")
    return found


def path(root: Path) -> dict[str, str]:
    return os.environ | {"PATH": f"{root.parent / 'bin'}:{os.environ['PATH']}"}


def test_a_crontab_line_survives_its_path(root: Path, operations: Operations) -> None:
    subprocess.run(commands(root, operations)["recommend"], shell=True, check=True, env=path(root), cwd="/")
    (asked,) = root.parent.glob("asked.*")
    assert asked.read_text().splitlines() == [part.format(root=root) for part in ASKED]
    assert (root / "data" / "cron.log").exists()


def test_a_flow_waits_for_the_one_before_it(root: Path, operations: Operations) -> None:
    started = [subprocess.Popen(command, shell=True, env=path(root)) for command in commands(root, operations).values()]
    assert [process.wait(timeout=30) for process in started] == [0, 0, 0]
    written = sorted(asked.stat().st_mtime for asked in root.parent.glob("asked.*"))
    assert all(later - earlier > 0.15 for earlier, later in pairwise(written))


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd here")
def test_systemd_understands_every_unit(root: Path, operations: Operations, tmp_path: Path) -> None:
    files: dict[str, list[str]] = {}
    for line in systemd(root, operations, {"EVENTS": "my events.csv"}, "recs"):
        if line.startswith("# ~/"):
            lines = files.setdefault(Path(line.removeprefix("# ")).name, [])
        elif not line.startswith("#"):
            lines.append(line)
    assert len(files) == 6
    units = tmp_path / "units"
    units.mkdir()
    for name, lines in files.items():
        (units / name).write_text("\n".join(lines))
    verify = ["systemd-analyze", "verify", "--user", "--man=no", *(str(units / name) for name in files)]
    checked = subprocess.run(verify, capture_output=True, text=True, env=os.environ | {"XDG_RUNTIME_DIR": str(tmp_path)})
    assert checked.returncode == 0, checked.stderr
    for schedule in operations.schedule.values():
        told = subprocess.run(["systemd-analyze", "calendar", schedule.systemd], capture_output=True, text=True)
        assert told.returncode == 0, told.stderr
