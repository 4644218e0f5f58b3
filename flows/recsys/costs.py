"""What a process has cost, and how much of it was importing, so that it is not taken for work."""

import builtins
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any


def cpu_seconds() -> float:
    """CPU seconds of this process and its finished children."""
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


def peak_mb() -> int:
    """The most memory that this process or one of its finished children held at once."""
    return max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)) // 1024


@dataclass
class Imports:
    cpu_seconds: float = 0.0


@contextmanager
def count_imports() -> Iterator[Imports]:
    """Adds up the CPU seconds of import statements until the end of the block; nested ones count once."""
    counted, plain, depth = Imports(), builtins.__import__, 0

    def timed(*arguments: Any, **named: Any) -> Any:
        nonlocal depth
        start, depth = time.process_time(), depth + 1
        try:
            return plain(*arguments, **named)
        finally:
            depth -= 1
            if depth == 0:
                counted.cpu_seconds += time.process_time() - start

    builtins.__import__ = timed
    try:
        yield counted
    finally:
        builtins.__import__ = plain
