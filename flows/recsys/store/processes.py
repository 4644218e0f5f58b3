"""Processes: which one owns what is left behind, and how a tree of them ends together."""

import contextlib
import ctypes
import functools
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
GRACE = 10  # seconds to clean up in, twice what Metaflow gives its tasks


@functools.cache
def host() -> str:
    """Those who share process ids: one boot of one machine, and in it one container."""
    boot, namespace = Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/ns/pid")
    known = boot.read_text()[:8] if boot.exists() else "", str(namespace.stat().st_ino) if namespace.exists() else ""
    return "-".join((platform.node(), *known))


def own_name() -> str:
    """Of this process, for others on its host: its id, and where the system tells it when it started, for ids are used again."""
    return f"{os.getpid()}.{_started(os.getpid())}"


def is_dead(name: str) -> bool:
    """Whether a process of this host has ended, by its name."""
    pid, _, started = name.partition(".")
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    return started not in ("", _started(int(pid)))


def _started(pid: int) -> str:
    """Clock ticks from the boot to the start of a process; "" where the system has no /proc."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def work_of(pid: int) -> tuple[int, ...]:
    """What a process has done, to be compared with what it has done later: tenths of CPU seconds, and bytes read and written. Empty
    where the system does not tell."""
    try:
        ticks = [int(part) for part in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]]
        moved = [int(line.partition(":")[2]) for line in Path(f"/proc/{pid}/io").read_text().splitlines()[:2]]
        return sum(ticks) // 10, *moved
    except (OSError, ValueError):
        return ()


@contextmanager
def started(command: Sequence[str], **options: Any) -> Iterator[subprocess.Popen[str]]:
    """A process that ends with this block, and with it all that it started: by SIGINT, and what is then still there by SIGKILL. If
    this process is killed, they die too, where the system can do that (Linux)."""
    environment = os.environ | {BOUND: "1"}
    process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, text=True, process_group=0, **options)
    try:
        yield process
    finally:
        for number, seconds in ((signal.SIGINT, GRACE), (signal.SIGKILL, 1)):
            end = time.monotonic() + seconds
            with contextlib.suppress(ProcessLookupError, PermissionError):  # macOS forbids what is a zombie
                os.killpg(process.pid, number)
                while time.monotonic() < end:
                    process.poll()
                    os.killpg(process.pid, 0)
                    time.sleep(0.05)
        if process.stdout:
            process.stdout.close()


def end_with_parent() -> None:
    """Has the system kill this process when its parent dies, if `started` began the tree."""
    if BOUND in os.environ and sys.platform == "linux":
        parent = os.getppid()
        ctypes.CDLL(None).prctl(DEATH_SIGNAL, signal.SIGKILL)
        if os.getppid() != parent:  # it died meanwhile
            os.kill(os.getpid(), signal.SIGKILL)
