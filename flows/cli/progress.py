"""Shows the progress of a flow, read from the lines that Metaflow prints."""

import ast
import re
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from cli.production import CODE

if TYPE_CHECKING:
    from rich.console import Console  # only for types: flow steps import this module and do not need rich

ABOUT = "task: "  # prefix of the line in which a task of a foreach says what it works on
RUNS = re.compile(r"\[\d+/(\w+)/(\d+) \(pid \d+\)\] (Task is starting|Task finished successfully|Task failed|task: .*)")
SAID = re.compile(r"\[\d+/(\w+)/\d+ \(pid \d+\)\] (.*)")
CLONED = re.compile(r"\[\d+/(\w+)/\d+\] Cloning previously run task")  # several may share a line: Metaflow clones in threads


class Progress:
    """Prints the start and end of each task, with its step, recommender and seconds."""

    def __init__(self, flow: str, console: "Console", clock: Callable[[], float] = time.monotonic):
        self.console, self.clock = console, clock
        self.started: dict[str, float] = {}
        self.names: dict[str, str] = {}
        self.kept: set[str] = set()
        self.has_done = False  # whether a task has finished
        self.order = order(flow)
        self._say(f"{flow}: {self.order}")

    def read(self, line: str) -> None:
        """Reads a line that Metaflow printed."""
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
            if f"{step} (each" not in self.order:  # a task of a foreach prints what it works on
                self._say(f"running {step}")
        elif task not in self.started:
            return
        elif event.startswith(ABOUT):
            self.names[task] = f"{step} {event.removeprefix(ABOUT)}"
            self._say(f"running {self.names[task]}")
        else:
            self.has_done |= event != "Task failed"
            seconds = self.clock() - self.started[task]
            self._say(f"{'failed ' if event == 'Task failed' else 'done   '} {self.names[task]}, {seconds:.0f} s")

    def _say(self, text: str) -> None:
        self.console.print(text, style="dim", markup=False, soft_wrap=True)


def order(flow: str) -> str:
    """The steps of a flow, from the first line of its class's docstring."""
    file = CODE / f"{flow.removesuffix('Flow').lower()}_flow.py"
    (cls,) = (node for node in ast.parse(file.read_text()).body if isinstance(node, ast.ClassDef) and node.name == flow)
    return (ast.get_docstring(cls) or "").partition("\n")[0]


def last_words(lines: list[str]) -> tuple[str, list[str]]:
    """The step that failed last and the output of its tasks; if no step failed, "the flow" and all lines."""
    output = [match.groups() for line in lines if (match := SAID.search(line))]
    failed = [step for step, text in output if text.startswith("Task failed")]
    if not failed:
        return "the flow", [line.strip() for line in lines]
    return failed[-1], [text for step, text in output if step == failed[-1] and text.strip() and not text.startswith("Task ")]
