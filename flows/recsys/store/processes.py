"""Processes: identifies them, tells whether they are dead, ends child processes with their parent, and spares them useless work."""

import atexit
import contextlib
import ctypes
import functools
import gc
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

BOUND = "RECS_ENDS_WITH_PARENT"
DEATH_SIGNAL = 1  # prctl(PR_SET_PDEATHSIG)
GRACE = 10  # seconds to clean up, twice what Metaflow gives its tasks


@functools.cache
def host() -> str:
    """Name of the machine, its boot and the container: processes of the same host have different ids."""
    boot, namespace = Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/ns/pid")
    parts = boot.read_text()[:8] if boot.exists() else "", str(namespace.stat().st_ino) if namespace.exists() else ""
    return "-".join((platform.node(), *parts))


def own_name() -> str:
    """Name of this process on its host: its id and, where /proc has it, its start time, since ids are reused."""
    return f"{os.getpid()}.{_started(os.getpid())}"


def is_dead(name: str) -> bool:
    """Whether the process of this host with a name of `own_name` has ended, reaped by its parent or not."""
    pid, _, start = name.partition(".")
    try:
        with contextlib.suppress(PermissionError):  # it lives, and belongs to another user
            os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    return start not in ("", _started(int(pid))) or _statistics(int(pid))[:1] in (["Z"], ["X"])


def _started(pid: int) -> str:
    """Start time of a process in clock ticks since the boot; "" without /proc."""
    return "".join(_statistics(pid)[19:20])


def _statistics(pid: int) -> list[str]:
    """The fields of /proc/<pid>/stat from the state on; empty without it. See proc_pid_stat(5)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def work_of(pid: int) -> tuple[int, ...]:
    """Returns the CPU time of a process in tenths of a second, and the bytes it has read and written; empty without /proc.

    Two equal results mean that the process did nothing in between.
    """
    try:
        ticks = [int(part) for part in _statistics(pid)[11:13]]
        read_and_written = [int(line.partition(":")[2]) for line in Path(f"/proc/{pid}/io").read_text().splitlines()[:2]]
        return sum(ticks) // 10, *read_and_written
    except (OSError, ValueError):
        return ()


@contextmanager
def started(command: Sequence[str], **options: Any) -> Iterator[subprocess.Popen[str]]:
    """Starts a process, and ends it and its children with the block: first by SIGINT, then by SIGKILL.

    On Linux they also die if this process is killed (see `end_with_parent`).
    """
    environment = os.environ | {BOUND: own_name()}
    process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, text=True, process_group=0, **options)
    try:
        yield process
    finally:
        for number, seconds in ((signal.SIGINT, GRACE), (signal.SIGKILL, 1)):
            end = time.monotonic() + seconds
            with contextlib.suppress(ProcessLookupError, PermissionError):  # macOS raises it for zombies
                os.killpg(process.pid, number)
                while time.monotonic() < end:
                    process.poll()
                    os.killpg(process.pid, 0)
                    time.sleep(0.05)
        if process.stdout:
            process.stdout.close()


def end_with_parent() -> None:
    """Makes Linux kill this process when its parent dies, if `started` started this process or a parent of it."""
    if (parent := os.environ.get(BOUND)) and sys.platform == "linux":
        ctypes.CDLL(None).prctl(DEATH_SIGNAL, signal.SIGKILL)
        if is_dead(parent):  # it died before this call
            os.kill(os.getpid(), signal.SIGKILL)
        os.environ |= {BOUND: own_name()}


def collect_rarely() -> None:
    """Lets Python look for garbage in cycles more rarely, and once less at the end.

    Call it before large imports, which make many objects and no garbage: by default this takes a third of their CPU time.
    """
    gc.set_threshold(50_000, 20, 100)
    atexit.register(gc.disable)  # an ending process would search all that it imported
