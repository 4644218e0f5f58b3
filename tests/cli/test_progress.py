"""What people see while a flow runs, from lines as Metaflow prints them."""

import io
import re

import pytest
from rich.console import Console

from cli.progress import Progress, order
from conftest import ROOT

RUN = [
    "2026-11-26 16:00:00.000 [17/train/4 (pid 70)] Task is starting.",
    "2026-11-26 16:00:01.000 [17/train/5 (pid 71)] Task is starting.",
    "2026-11-26 16:00:02.000 [17/train/5 (pid 71)] task: two_stage (seed 8)",
    "2026-11-26 16:00:03.000 [17/train/4 (pid 70)] task: popularity",
    "2026-11-26 16:00:04.000 [17/train/5 (pid 71)] some other words",
    "2026-11-26 16:00:05.000 [17/train/4 (pid 70)] Task finished successfully.",
    "2026-11-26 16:00:06.000 [17/train/5 (pid 71)] Task failed.",
]


def told(flow: str, lines: list[str]) -> list[str]:
    """All but the flow's order. A second passes at every look at the clock."""
    ticks = iter(range(100))
    console = Console(file=io.StringIO(), width=160)
    progress = Progress(flow, console, lambda: float(next(ticks)))
    for line in lines:
        progress.read(line)
    return console.file.getvalue().splitlines()[1:]  # type: ignore[attr-defined]


def test_each_task_is_told_with_its_recommender_when_it_starts_and_when_it_ends() -> None:
    assert told("TrainFlow", RUN) == [
        "running train two_stage (seed 8)",
        "running train popularity",
        "done    train popularity, 2 s",
        "failed  train two_stage (seed 8), 2 s",
    ]


def test_a_resumed_run_tells_what_it_keeps_and_what_it_runs_though_two_lines_come_in_one() -> None:
    lines = [
        "2026-11-26 16:00:00.0 2026-11-26 16:00:00.1 [18/start/8] Cloning previously run task 17/start/1",
        "[18/land/7] Cloning previously run task 17/land/2 [18/build_features/9] Cloning previously run task 17/build_features/3",
        "2026-11-26 16:00:01.0 [18/validate/11 (pid 72)] Task is starting.",
    ]
    assert told("TrainFlow", lines) == ["kept    start", "kept    land", "kept    build_features", "running validate"]


@pytest.mark.parametrize("flow", ["TrainFlow", "RecommendFlow", "MonitorFlow", "TuneFlow"])
def test_the_order_names_the_steps_of_the_flow(flow: str) -> None:
    named = [part.split(" (")[0].strip() for part in order(flow).split(">")]
    text = (ROOT / "flows" / f"{flow.removesuffix('Flow').lower()}_flow.py").read_text()
    assert named == re.findall(r"@step\n    def (\w+)", text)
