"""Measures what importing costs, so that it is not taken for work."""

import builtins
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any


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
