"""Explains faults of the machine and of files, such as a full disk, in one line with what to do."""

import re
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from recsys import RecsysError
from recsys.store.backends import object_store_errors

MAX_LENGTH = 600  # characters of an error's own message
END = "the live release has not changed: fix this and run again"
LIBRARIES = ("duckdb", "_duckdb", "pyarrow", "sqlite3")  # their errors may be about memory, disks and damaged files
# Patterns of error messages, and what to do. DuckDB, SQLite, Arrow, NumPy, glibc and the kernel each have their own messages.
REMEDIES = {
    r"out of memory|bad.?alloc|allocation failure|(cannot|unable to|failed to) allocate|memoryerror|malloc of size"
    r"|can't start new thread|thread constructor failed": "memory ran out: give it more (ulimit -v, the container's limit) or lower"
    " warehouse.memory_limit and warehouse.threads in config.toml, or pass SAMPLE=",
    r"no space left|disk is full|disk full|quota exceeded|file too large|max_temp_directory_size|usable temporary directory": "no"
    " room is left on the disk: free some (`make gc` lists what the store can spare), or set TMPDIR to a place with more for"
    " temporary files",
    r"read-only|readonly|permission denied|not permitted": "it is not writable: change its permissions, or use another place by"
    " STORE= or TMPDIR",
    r"magic bytes|tprotocol|thrift|corrupt|malformed|not a parquet file|invalid parquet|snappy|zstd|checksum|deserialize": "a file"
    " is damaged: `make verify` and `make doctor` check the files of the store; restore it, or remove it",
    r"input/output error|io error|disk i/o": "a disk or a file cannot be read or written",
}


def describe_error(error: BaseException) -> str:
    """Describes an error that a person can fix in one line, with what to do. Returns "" for an error of the code."""
    message = " ".join(str(error).split())
    if isinstance(error, RecsysError):
        return str(error)
    if isinstance(error, object_store_errors()):
        return f"the store cannot be reached: {message[:MAX_LENGTH]}; {END}"
    if isinstance(error, MemoryError):
        return with_remedy(f"MemoryError {message}".strip())
    if isinstance(error, OSError):
        return with_remedy(message)
    is_known = isinstance(error, RuntimeError) or type(error).__module__.partition(".")[0] in LIBRARIES
    return with_remedy(message) if is_known and remedy(message) else ""


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Adds the folder's name to errors raised in the block that name no file."""
    try:
        yield
    except sqlite3.OperationalError as error:  # not an OSError, though it may be a full disk
        raise OSError(f"{error} ({folder})") from error
    except OSError as error:
        error.filename = error.filename or str(folder)
        raise


def with_remedy(message: str) -> str:
    """Shortens an error's message to one line, and adds what to do."""
    return "; ".join(part for part in (" ".join(message.split())[:MAX_LENGTH], remedy(message), END) if part)


def remedy(message: str) -> str:
    """Returns what to do about an error, by its message; "" if the message is not known."""
    return next((advice for pattern, advice in REMEDIES.items() if re.search(pattern, message, re.IGNORECASE)), "")
