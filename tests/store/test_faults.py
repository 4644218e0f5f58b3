"""Faults of memory, disks and files end in one line that says what to do."""

import errno
import os
import resource
import sqlite3
import sys
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cli.progress import last_words
from conftest import PROJECT, Fork, assert_refused, make_settings
from recsys import RecsysError
from recsys.features import warehouse
from recsys.store.faults import describe_error
from recsys.store.snapshots import Store


def caught(act: Any) -> Exception:
    with pytest.raises(Exception) as found:  # noqa: PT011 - whatever it is
        act()
    return found.value


def need_more_memory() -> None:
    with duckdb.connect() as connection:
        for setting in ("memory_limit = '20MB'", "threads = 1", "temp_directory = ''"):
            connection.execute(f"set {setting}")
        connection.execute("create table t as select md5(range::varchar) a, md5((range + 1)::varchar) b from range(1000000)")


def read_damaged(folder: Path) -> None:
    file = folder / "a.parquet"
    pq.write_table(pa.table({"n": list(range(1000))}), file)
    file.write_bytes(file.read_bytes()[:-200])
    duckdb.connect().execute(f"from read_parquet('{file}')").fetchall()


@pytest.mark.parametrize(
    ("act", "words"),
    [
        (lambda folder: np.zeros(10**15), "memory ran out"),
        (lambda folder: need_more_memory(), "memory ran out"),
        (read_damaged, "damaged"),
        (lambda folder: duckdb.connect().execute(f"copy (select 1) to '{folder}/no/such.parquet'"), "cannot be read or written"),
        (lambda folder: (folder / "gone").read_bytes(), "gone"),
    ],
)
def test_errors_of_libraries_are_told_in_one_line(tmp_path: Path, act: Any, words: str) -> None:
    told = describe_error(caught(lambda: act(tmp_path)))
    assert words in told
    assert "run again" in told
    assert "\n" not in told


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/disk/file"), ["/disk/file", "no room is left", "TMPDIR"]),
        (OSError(errno.EFBIG, os.strerror(errno.EFBIG)), ["no room is left"]),
        (OSError(errno.EROFS, os.strerror(errno.EROFS), "/disk/file"), ["/disk/file", "not writable"]),
        (sqlite3.OperationalError("database or disk is full"), ["no room is left"]),
        (RuntimeError("can't start new thread"), ["memory ran out"]),
        (MemoryError(), ["memory ran out"]),
    ],
)
def test_the_remedy_fits_the_fault(error: Exception, words: list[str]) -> None:
    assert [word for word in words if word not in describe_error(error)] == []


@pytest.mark.parametrize(
    "error", [ValueError("out of memory"), KeyError("x"), RuntimeError("x"), duckdb.BinderException("no column")]
)
def test_errors_of_the_code_keep_their_traceback(error: Exception) -> None:
    assert describe_error(error) == ""


def test_a_refusal_is_told_as_it_is() -> None:
    assert describe_error(RecsysError("no space left for more")) == "no space left for more"


@pytest.mark.both_stores
def test_a_write_that_fails_tells_its_place(store: Store) -> None:
    with pytest.raises(OSError, match="draft"), store.draft():
        raise OSError(errno.ENOSPC, "No space left on device")


# Steps that broke down


def test_the_last_words_are_those_of_the_step_that_failed() -> None:
    head = "2026-11-26 21:07:40.843 [17/{} (pid 7)] {}\n"
    told = [("start/1", "Task is starting."), ("start/1", "a warning"), ("land/2", "Task is starting."), ("land/2", "ABORT")]
    lines = [head.format(*one) for one in [*told, ("land/2", "Task failed.")]]
    assert last_words(["Metaflow\n", *lines, "Workflow failed.\n"]) == ("land", ["ABORT"])
    assert last_words(["Metaflow\n"]) == ("the flow", ["Metaflow"])


def test_dbt_that_does_nothing_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warehouse, "IDLE", 0.5)
    if not Path("/proc/self/io").exists():
        pytest.skip("the system does not tell what a process does")
    with pytest.raises(RecsysError, match=r"dbt has done nothing .* memory ran out"):
        warehouse._run([sys.executable, "-c", "import time; time.sleep(600)"], Path(), dict(os.environ))
    busy = "import time; end = time.time() + 2\nwhile time.time() < end: pass\nprint('done')"
    assert warehouse._run([sys.executable, "-c", busy], Path(), dict(os.environ)) == "done\n"


def test_a_process_of_dbt_that_dies_is_told_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(RecsysError, match="dbt could not start: it was killed, maybe out of memory; memory ran out") as found:
        warehouse.run_dbt(PROJECT, tmp_path / "warehouse.duckdb", {}, make_settings())
    assert "\n" not in str(found.value)


def limited(limit: int, size: int) -> Any:
    return lambda: resource.setrlimit(limit, (size, size))


@pytest.mark.parametrize("size", [0, 20_000])
def test_a_run_that_may_write_no_more_ends_in_one_line(tmp_path: Path, size: int) -> None:
    """Of a disk that fills up, as far as one can be had everywhere: no file may be longer."""
    fork = Fork(tmp_path)
    fork.before = limited(resource.RLIMIT_FSIZE, size)
    assert_refused(fork.run("run"), "no room is left")
    assert fork.current() is None
