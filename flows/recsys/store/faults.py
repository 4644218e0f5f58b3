"""Faults of the machine and of files: told in one line, with what to do about them."""

import re
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from recsys import RecsysError
from recsys.store.backends import object_store_errors

LONGEST = 600  # letters of an error's own words
END = "what is live has not changed: mend that and run again"
LIBRARIES = ("duckdb", "_duckdb", "pyarrow", "sqlite3")  # whose errors tell of memory, disks and damaged files
# What an error's words are like, and what to do about it. DuckDB, SQLite, Arrow, NumPy, glibc and the kernel each have their own.
REMEDIES = {
    r"out of memory|bad.?alloc|allocation failure|(cannot|unable to|failed to) allocate|memoryerror|malloc of size"
    r"|can't start new thread|thread constructor failed": "memory ran out: give it more (ulimit -v, the container's limit) or lower"
    " warehouse.memory_limit and warehouse.threads in config.toml, or pass SAMPLE=",
    r"no space left|disk is full|disk full|quota exceeded|file too large|max_temp_directory_size|usable temporary directory": "no"
    " room is left on the disk: free some (`make gc` lists what the store can spare), or set TMPDIR to a place with more for"
    " temporary files",
    r"read-only|readonly|permission denied|not permitted": "it may not be written: mend its rights, or name another place by STORE="
    " or TMPDIR",
    r"magic bytes|tprotocol|thrift|corrupt|malformed|not a parquet file|invalid parquet|snappy|zstd|checksum|deserialize": "a file"
    " is damaged: `make verify` and `make doctor` look at those of the store; put it back, or remove it",
    r"input/output error|io error|disk i/o": "a disk or a file cannot be read or written",
}


def describe_error(error: BaseException) -> str:
    """One line on an error that a person can mend, with what to do; "" for an error of the code."""
    told = " ".join(str(error).split())
    if isinstance(error, RecsysError):
        return str(error)
    if isinstance(error, object_store_errors()):
        return f"the store cannot be reached: {told[:LONGEST]}; {END}"
    if isinstance(error, MemoryError):
        return with_remedy(f"MemoryError {told}".strip())
    if isinstance(error, OSError):
        return with_remedy(told)
    is_known = isinstance(error, RuntimeError) or type(error).__module__.partition(".")[0] in LIBRARIES
    return with_remedy(told) if is_known and remedy(told) else ""


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Adds a folder to errors that arise while files are written to it and that name no file."""
    try:
        yield
    except sqlite3.OperationalError as error:  # which has a word of its own for a full disk
        raise OSError(f"{error} ({folder})") from error
    except OSError as error:
        error.filename = error.filename or str(folder)
        raise


def with_remedy(told: str) -> str:
    """Some words of an error, in one line and not too long, and what to do."""
    return "; ".join(part for part in (" ".join(told.split())[:LONGEST], remedy(told), END) if part)


def remedy(told: str) -> str:
    """What to do about an error that has these words; "" if they tell of no such fault."""
    return next((mend for words, mend in REMEDIES.items() if re.search(words, told, re.IGNORECASE)), "")
