"""Bring your own: events, and optionally items and users, as Parquet or CSV files."""

from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import ClassVar

import pyarrow as pa
import pyarrow.compute as pc

from recsys import RecsysError
from recsys.sources import files
from recsys.sources.base import Source
from recsys.verdicts import Verdict

COLUMNS = {
    "events": ("user_id", "item_id", "event_at", "event_type", "quantity", "price", "session_id", "event_id"),
    "items": ("item_id", "title", "category", "price", "is_available", "available_from", "withdrawn_at"),
    "users": ("user_id", "segment"),
}
REQUIRED = {"events": {"user_id", "item_id", "event_at"}, "items": {"item_id"}, "users": {"user_id"}}
TEXT = {"user_id", "item_id", "event_type", "session_id", "event_id", "title", "category", "segment"}


class Events(Source):
    """Ids are text from end to end. A CSV's columns stay text in the raw snapshot; staging casts them."""

    max_null_share: ClassVar = {"events": {"user_id": 0.5, "item_id": 0.5, "event_at": 0.5}, "items": {}, "users": {}}

    def __init__(self, events: str = "", items: str = "", users: str = ""):
        if not events:
            raise RecsysError("EVENTS is not given; pass EVENTS=path to a .csv or .parquet file, a folder or a glob")
        self.inputs = {"events": events, "items": items, "users": users}

    def land(self, folder: Path, until: date | None = None) -> list[Verdict]:
        for table, pattern in self.inputs.items():
            (folder / table).mkdir()
            dial = table.upper()
            found = files.find(pattern, dial) if pattern else []
            rows = sum(
                files.write(_shape(path, table, dial), folder / table / f"{number:04}.parquet") for number, path in enumerate(found)
            )
            if pattern and rows == 0:
                raise RecsysError(f'{dial} "{pattern}" has no rows; pass a file with rows')
            if not pattern:
                empty = pa.schema([(name, pa.string()) for name in COLUMNS[table]]).empty_table()
                files.write(
                    iter(empty.to_batches() or [pa.RecordBatch.from_pylist([], empty.schema)]), folder / table / "0000.parquet"
                )
        return []


def _shape(path: Path, table: str, dial: str) -> Iterator[pa.RecordBatch]:
    """The table's columns in their order, absent ones missing throughout; ids as text."""
    for batch in files.read(path, REQUIRED[table], dial):
        columns = {}
        for name in COLUMNS[table]:
            places = batch.schema.get_all_field_indices(name)
            if len(places) > 1:
                raise RecsysError(f'{dial} "{path}" has {len(places)} columns {name}; rename all but one')
            column = batch.column(places[0]) if places else pa.nulls(batch.num_rows, pa.string())
            columns[name] = _text(column, f'{dial} "{path}": {name}') if name in TEXT else column
        yield pa.RecordBatch.from_pydict(columns)


def _text(column: pa.Array, name: str) -> pa.Array:
    """Ids as text; not from floats, which would turn 7 into 7.0."""
    if not pa.types.is_floating(column.type):
        try:
            return pc.cast(column, pa.string())
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            pass
    raise RecsysError(f"{name} is of type {column.type}, which has no faithful text; store ids as text or integers")
