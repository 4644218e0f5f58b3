"""Sabotages of what a source sends: those of files.toml, and of the files themselves."""

import re
import shutil
import tomllib
from collections.abc import Sequence
from pathlib import Path

import duckdb
import pyarrow.parquet as pq

from recsys.sources.columns import TABLES
from runs import Run, write_files
from sabotages.harness import PLACES, SABOTAGES, NothingToBreak, Sabotage, read, sabotage

SPANS = {"day": 1, "week": 7, "month": 28}


def _register(
    name: str, says: str, expect: str, by: str, places: Sequence[str] = PLACES, unnoticed_in: Sequence[str] = (), **queries: str
) -> None:
    """One of files.toml: queries by table."""

    def do(run: Run, source: Path) -> None:
        spans = {name: f"event_at >= timestamp '{run.today}' - interval {days} day" for name, days in SPANS.items()}
        written = {table: query.format(as_of=run.today, **spans) for table, query in queries.items()}
        try:
            inputs = write_files(source, Path(str(run.store.backend)) / "sabotaged", run.today, written)
        except (duckdb.BinderException, duckdb.CatalogException) as error:
            if lacked := lacked_by(source, str(error)):
                raise NothingToBreak(lacked) from error
            raise
        read(run, inputs)

    SABOTAGES[name] = Sabotage(name, says, "source", expect, by, do, tuple(places), tuple(unnoticed_in))


def lacked_by(source: Path, error: str) -> str:
    """What a query needs by DuckDB's error, and this data lacks; "" if they have it, so that the query is wrong."""
    own = {table: pq.read_schema(file).names for table in TABLES if (file := source / f"{table}.parquet").exists()}
    table, column = (re.search(words, error) for words in (r"Table with name (\w+) does not exist", r'[Cc]olumn "(\w+)"'))
    if table and table[1] in TABLES.keys() - own:
        return f"the data have no {table[1]}"
    lacking = [name for name, known in TABLES.items() if column and column[1] in known and column[1] not in own.get(name, ())]
    return f"the {lacking[0]} have no {column[1]}" if column and lacking else ""


for _name, _fields in tomllib.loads((Path(__file__).parent / "files.toml").read_text()).items():
    _register(_name, **_fields)


def _earlier_month(inputs: dict[str, str]) -> Path:
    """The file of a month before the last full one."""
    files = sorted(Path(inputs["events"]).glob("????-??.parquet"))
    if len(files) < 3:
        raise NothingToBreak("the history has fewer than three months")
    return files[-3]


@sabotage("source", "warn", "past_days|volume", places=("later", "daily"))
def a_month_missing(run: Run, source: Path) -> None:
    """The file of one of the earlier months is missing."""
    inputs = write_files(source, Path(str(run.store.backend)) / "sabotaged", run.today)
    _earlier_month(inputs).unlink()
    read(run, inputs)


@sabotage("source", "warn", "files_given_twice|past_days")
def a_file_given_twice(run: Run, source: Path) -> None:
    """A month's file stands twice in the folder, under two names."""
    inputs = write_files(source, Path(str(run.store.backend)) / "sabotaged", run.today)
    file = _earlier_month(inputs)
    shutil.copy(file, file.with_name(f"{file.stem} (1).parquet"))
    read(run, inputs)


@sabotage("source", "warn", "files_given_twice|copies|volume")
def a_file_given_twice_without_ids(run: Run, source: Path) -> None:
    """Yesterday's file stands twice in the folder, and its events carry no ids of their own."""
    queries = {"events": "select * replace (null::varchar as event_id) from events"}
    inputs = write_files(source, Path(str(run.store.backend)) / "sabotaged", run.today, queries)
    file = max(Path(inputs["events"]).glob("*.parquet"))
    shutil.copy(file, file.with_name(f"{file.stem} (1).parquet"))
    read(run, inputs)
