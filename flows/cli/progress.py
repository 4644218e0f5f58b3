"""What a flow is doing, told as it goes, from the lines that Metaflow prints."""

import ast
import re
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from cli.production import CODE

if TYPE_CHECKING:
    from rich.console import Console  # which the steps, that import this too, need not load

ABOUT = "task: "  # before what a task of a foreach is about, which the task itself prints
RUNS = re.compile(r"\[\d+/(\w+)/(\d+) \(pid \d+\)\] (Task is starting|Task finished successfully|Task failed|task: .*)")
SAID = re.compile(r"\[\d+/(\w+)/\d+ \(pid \d+\)\] (.*)")
CLONED = re.compile(r"\[\d+/(\w+)/\d+\] Cloning previously run task")  # several may share a line: Metaflow clones in threads


class Progress:
    """Tells each task's start and end: step, recommender, seconds."""

    def __init__(self, flow: str, console: "Console", clock: Callable[[], float] = time.monotonic):
        self.console, self.clock = console, clock
        self.started: dict[str, float] = {}
        self.names: dict[str, str] = {}
        self.kept: set[str] = set()
        self.order = order(flow)
        self._say(f"{flow}: {self.order}")

    def read(self, line: str) -> None:
        """Takes in a line of Metaflow's."""
        if " ALERT " in line:
            self.console.print(line.partition("] ")[2].rstrip(), markup=False, soft_wrap=True)
        for step in CLONED.findall(line):
            if step not in self.kept:
                self._say(f"kept    {step}")
            self.kept.add(step)
        if found := RUNS.search(line):
            self._follow(*found.groups())

    def _follow(self, step: str, task: str, event: str) -> None:
        if event == "Task is starting":
            self.started[task], self.names[task] = self.clock(), step
            if f"{step} (each" not in self.order:  # else the task says which one it is
                self._say(f"running {step}")
        elif task not in self.started:
            return
        elif event.startswith(ABOUT):
            self.names[task] = f"{step} {event.removeprefix(ABOUT)}"
            self._say(f"running {self.names[task]}")
        else:
            seconds = self.clock() - self.started[task]
            self._say(f"{'failed ' if event == 'Task failed' else 'done   '} {self.names[task]}, {seconds:.0f} s")

    def _say(self, words: str) -> None:
        self.console.print(words, style="dim", markup=False, soft_wrap=True)


def order(flow: str) -> str:
    """The steps of a flow, as the first line of its class's docstring writes them."""
    file = CODE / f"{flow.removesuffix('Flow').lower()}_flow.py"
    (made,) = (node for node in ast.parse(file.read_text()).body if isinstance(node, ast.ClassDef) and node.name == flow)
    return (ast.get_docstring(made) or "").partition("\n")[0]


def last_words(lines: list[str]) -> tuple[str, list[str]]:
    """The step that failed last, and what its tasks said; without one, "the flow" and all that was said."""
    told = [found.groups() for line in lines if (found := SAID.search(line))]
    failed = [step for step, words in told if words.startswith("Task failed")]
    if not failed:
        return "the flow", [line.strip() for line in lines]
    return failed[-1], [words for step, words in told if step == failed[-1] and words.strip() and not words.startswith("Task ")]
