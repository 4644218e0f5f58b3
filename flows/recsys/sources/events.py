"""Files as a source: events, and optionally items and users, as CSV, JSON or Parquet."""

from collections.abc import Collection, Iterator, Mapping
from datetime import date
from functools import cached_property, partial
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa

from recsys import RecsysError
from recsys.settings import Dataset
from recsys.sources import columns, files
from recsys.sources.base import Source
from recsys.sources.landing import Input, Origin, land
from recsys.store import s3_client
from recsys.validation_report import CheckResult


class Events(Source):
    """Reads files, folders or globs, on disk or in an object store.

    Ids are always text. Columns of text files stay text in the raw snapshot; the staging models cast them.
    """

    max_null_share: ClassVar = {"events": {"user_id": 0.5, "item_id": 0.5, "event_at": 0.5}, "items": {}, "users": {}}

    def __init__(self, events: str = "", items: str = "", users: str = ""):
        if not events:
            raise RecsysError("EVENTS is not given; pass EVENTS=path to a .csv, .jsonl or .parquet file, a folder or a glob")
        self.patterns = {"events": events, "items": items, "users": users}

    def configure(self, dataset: Dataset, endpoint: str) -> None:
        columns.check_keys(dataset)
        self.dataset, self.endpoint = dataset, endpoint

    def land(self, folder: Path, until: date | None = None) -> list[CheckResult]:
        inputs, skipped, seen = {}, [], {}
        for table, pattern in self.patterns.items():
            if pattern:
                names, unfinished = files.find(pattern, table.upper(), self.client)
                seen[table] = files.KnownFiles()
                inputs[table] = Input(f'{table.upper()} "{pattern}"', _origins(table.upper(), names, self.client, seen[table]))
                skipped += unfinished
        results = land(folder, inputs, self.dataset)
        if skipped:
            message = f"not read, because _ marks unfinished files: {', '.join(skipped[:10])}; rename them if they are complete"
            results.append(CheckResult("files_not_read", len(skipped), 0, "warn", False, message))
        if repeated := {name: first for one in seen.values() for name, first in one.repeated.items()}:
            shown = ", ".join(f"{name} (the same as {first})" for name, first in list(repeated.items())[:10])
            message = f"copies of other files were not read again: {shown}; remove the copies"
            results.append(CheckResult("files_given_twice", len(repeated), 0, "warn", False, message))
        return results

    def schemas(self) -> dict[str, pa.Schema]:
        """Returns the columns of each given table, by its first file."""
        given = [table for table, pattern in self.patterns.items() if pattern]
        return {table: files.read_schema(*self._first_file(table), self.client) for table in given}

    def read_heads(self, wanted: Mapping[str, Collection[str]]) -> dict[str, pa.RecordBatch]:
        """Returns the first rows of the wanted columns of each table."""
        return {
            table: next(iter(files.read(*self._first_file(table), set(names).intersection, self.client)))
            for table, names in wanted.items()
        }

    def _first_file(self, table: str) -> tuple[str, str]:
        """The first file of a table, and its name in messages."""
        (name, *_), _ = files.find(self.patterns[table], table.upper(), self.client)
        return name, f'{table.upper()} "{name}"'

    @cached_property
    def client(self) -> Any:
        return s3_client(self.endpoint) if any(map(files.is_remote, self.patterns.values())) else None


def _origins(setting: str, names: list[str], client: Any, seen: files.KnownFiles) -> Iterator[Origin]:
    for name in names:
        where = f'{setting} "{name}"'
        yield Origin(where, partial(files.read, name, where, client=client, seen=seen))
