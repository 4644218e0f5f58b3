"""Maps the tables of an export or database to our columns and writes them as Parquet files of a raw snapshot."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import groupby, pairwise
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as kinds

from recsys import RecsysError
from recsys.settings import Dataset, write_text
from recsys.sources import columns, files
from recsys.validation_report import CheckResult

UTC = pa.timestamp("us", "UTC")
NAMES_SHOWN = 30
# Values of a flag, in small letters, with spaces for underscores and hyphens. An empty one is a missing value.
YES = ("true", "t", "yes", "y", "1", "1.0", "available", "in stock", "instock", "on sale", "active", "published", "enabled")
NO = (
    *("false", "f", "no", "n", "0", "0.0", "unavailable", "not available", "out of stock", "outofstock", "sold out", "soldout"),
    *("inactive", "unpublished", "discontinued", "withdrawn", "disabled"),
)


@dataclass(frozen=True)
class Origin:
    """A part of a table, such as a file or the result of a query.

    where: its name in messages. read: yields its batches; its argument chooses the columns, and the others may be left out.
    """

    where: str
    read: Callable[[files.Choose], Iterable[pa.RecordBatch]]


@dataclass(frozen=True)
class Input:
    """A table. where: its name in messages."""

    where: str
    origins: Iterable[Origin]


def land(folder: Path, inputs: Mapping[str, Input], dataset: Dataset) -> list[CheckResult]:
    """Writes the tables events, items and users as Parquet files below a folder; returns check results, such as ignored columns.

    Each table gets all its columns (`columns.TABLES`) and the dataset's attributes. Ids and other texts are strings; numbers and
    times with a zone keep their types; a time without a zone is a string, which the staging models read in the dataset's zone.
    Raises RecsysError if a table has no rows, lacks a column that is required or named in the settings, or has a column that cannot
    be converted without loss.
    """
    columns.check_keys(dataset)
    tables = {name: _Table(name, dataset) for name in columns.TABLES}
    for name, table in tables.items():
        table.write(folder / name, inputs.get(name))
    _refuse_unused(tables, inputs, dataset)
    ignored = {name: table.ignored for name, table in tables.items() if table.ignored}
    seen = "; ".join(f"{inputs[name].where} {_shown(names)}" for name, names in ignored.items())
    message = f"ignored columns: {seen}; to use one, name it in columns, item_attributes or user_attributes"
    results = [CheckResult("ignored_columns", sum(map(len, ignored.values())), 0, "warn", True, message)] if ignored else []
    for name, table in tables.items():
        if table.dropped:
            rows = f"{table.dropped:,} rows of {inputs[name].where} have an id of more than {dataset.max_id_length} characters"
            message = f"{rows} (max_id_length) and are left out; shorten these ids in the events too, or raise the setting"
            results.append(CheckResult(f"long_ids_of_{name}", table.dropped, 0, "warn", False, message))
    return results


@dataclass
class _Table:
    name: str
    dataset: Dataset
    mapped: dict[str, set[str]] = field(default_factory=dict)  # the export's columns for each of ours
    written: set[str] = field(default_factory=set)
    names: dict[str, None] = field(default_factory=dict)  # of the export's columns, in order
    dropped: int = 0  # items or users with a too long id; such events go to the quarantine

    @property
    def attributes(self) -> list[str]:
        return columns.attributes_of(self.name, self.dataset)

    @property
    def known(self) -> list[str]:
        return [*columns.TABLES[self.name], *self.attributes]

    @property
    def ignored(self) -> list[str]:
        used = set().union(*self.mapped.values())
        return [name for name in self.names if name not in used]

    def match(self, names: Iterable[str], where: str) -> dict[str, str]:
        found = columns.match(list(names), self.name, self.dataset.columns, self.attributes, where)
        if found.missing:
            misnamed = columns.explain_misnamed(self.dataset.columns, self.name, found.missing, found.ignored)
            raise RecsysError(
                f"{where} has no column {', '.join(found.missing)}{misnamed}; it has {_shown(names)}: write in the dataset's"
                f" section of config.toml, or rename them: {columns.propose_line(list(names), self.name, self.dataset.columns)}"
            )
        self.names |= dict.fromkeys(names)
        for ours, theirs in found.mapped.items():
            self.mapped.setdefault(ours, set()).add(theirs)
        return found.mapped

    def write(self, folder: Path, source: Input | None) -> None:
        folder.mkdir()
        rows = number = 0
        for origin in source.origins if source else ():
            for schema, batches in groupby(self._shape(origin), key=lambda batch: batch.schema):
                rows += files.write(batches, folder / f"{number:04}.parquet")
                number += 1
                self.written |= set(schema.names)
        if source and not rows:
            raise RecsysError(f"{source.where} has no rows; pass data with rows")
        absent = [name for name in self.known if name not in self.written]
        if absent:
            schema = pa.schema([(name, pa.string()) for name in absent])
            files.write(iter([pa.RecordBatch.from_pylist([], schema)]), folder / f"{number:04}.parquet")

    def _shape(self, origin: Origin) -> Iterator[pa.RecordBatch]:
        """Yields batches with our columns. Columns of the null type are left out."""
        try:
            yield from self._shape_batches(origin)
        except files.UnreadableColumns as error:
            if set(error.problems) <= {theirs for ours in self.attributes for theirs in self.mapped.get(ours, ())}:
                setting = f"{self.name.removesuffix('s')}_attributes"
                raise files.UnreadableColumns(error.where, error.problems, f"leave it out of {setting}") from None
            raise

    def _shape_batches(self, origin: Origin) -> Iterator[pa.RecordBatch]:
        for batch in origin.read(lambda names: self.match(names, origin.where).values()):
            shaped, unreadable = {}, {}
            for ours, theirs in self.match(batch.schema.names, origin.where).items():
                column = batch.column(batch.schema.names.index(theirs))
                column = column.dictionary_decode() if kinds.is_dictionary(column.type) else column
                if not kinds.is_null(column.type):
                    kind = columns.TABLES[self.name].get(ours, "attribute")
                    try:
                        shaped[ours] = SHAPES[kind](column, f"{origin.where}: {ours}", self.dataset.time_zone)
                    except RecsysError:
                        if kind != "attribute":
                            raise
                        unreadable[theirs] = f"is of type {column.type}"
            if unreadable:
                raise files.UnreadableColumns(origin.where, unreadable)
            yield self._drop_long_ids(pa.RecordBatch.from_pydict(shaped))

    def _drop_long_ids(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        id = f"{self.name.removesuffix('s')}_id"
        if self.name == "events" or id not in batch.schema.names:
            return batch
        is_long = pc.fill_null(pc.greater(pc.utf8_length(batch.column(id)), self.dataset.max_id_length), False)
        self.dropped += is_long.true_count
        return batch.filter(pc.invert(is_long)) if is_long.true_count else batch


def _text(column: pa.Array, where: str, zone: str) -> pa.Array:
    """Converts to text. Fractions are refused, since 7 would become 7.0."""
    if column.type == pa.uuid():
        digits = pa.array([None if value is None else value.hex() for value in column.storage.to_pylist()], pa.string())
        parts = [pc.utf8_slice_codeunits(digits, start, stop) for start, stop in pairwise((0, 8, 12, 16, 20, 32))]
        return pc.binary_join_element_wise(*parts, "-")
    if not kinds.is_floating(column.type) and not (kinds.is_decimal(column.type) and column.type.scale):
        with suppress(pa.ArrowInvalid, pa.ArrowNotImplementedError):
            return pc.cast(column, pa.string())
    raise RecsysError(f"{where} is of type {column.type}, which has no faithful text; store ids as text or integers")


def _number(column: pa.Array, where: str, zone: str) -> pa.Array:
    if kinds.is_float16(column.type):
        return pc.cast(column, pa.float32())
    if kinds.is_decimal256(column.type) or _is_text(column.type):
        return pc.cast(column, pa.string())
    if _is_number(column.type) or kinds.is_boolean(column.type):
        return column
    raise RecsysError(f"{where} is of type {column.type}; store it as a number or text")


def _time(column: pa.Array, where: str, zone: str) -> pa.Array:
    """Converts to a timestamp in UTC, or to text where the zone is missing or the time is a number since 1970."""
    if kinds.is_timestamp(column.type) or kinds.is_date(column.type):
        safe = not (kinds.is_timestamp(column.type) and column.type.unit == "ns")  # only nanoseconds may be truncated
        if kinds.is_timestamp(column.type) and column.type.tz:
            return pc.cast(column, UTC, safe=safe)
        local = pc.cast(column, pa.timestamp("us"), safe=safe)
        return pc.cast(local, UTC if zone == "UTC" else pa.string())
    if _is_text(column.type) or _is_number(column.type):
        return pc.cast(column, pa.string())
    raise RecsysError(f"{where} is of type {column.type}; store it as a timestamp, as text or as seconds since 1970")


def _flag(column: pa.Array, where: str, zone: str) -> pa.Array:
    """Converts to booleans; texts and numbers by YES and NO."""
    if kinds.is_boolean(column.type):
        return column
    if not _is_text(column.type) and not _is_number(column.type):
        raise RecsysError(f"{where} is of type {column.type}; store it as true or false")
    values = pc.dictionary_encode(pc.cast(column, pa.string()))
    read = [None if value is None else _read_flag(value, where) for value in values.dictionary.to_pylist()]
    return pa.array(read, pa.bool_()).take(values.indices)


def _read_flag(value: str, where: str) -> bool | None:
    word = re.sub(r"[\s_-]+", " ", value.strip().casefold())
    if word and word not in (*YES, *NO):
        shown = write_text(value if len(value) <= 40 else f"{value[:37]}...")
        raise RecsysError(f"{where} is {shown}; write one of {', '.join(YES)} for yes, or of {', '.join(NO)} for no")
    return word in YES if word else None


def _attribute(column: pa.Array, where: str, zone: str) -> pa.Array:
    return (_number if _is_number(column.type) or kinds.is_boolean(column.type) else _text)(column, where, zone)


SHAPES = {"text": _text, "number": _number, "time": _time, "flag": _flag, "attribute": _attribute}


def _is_number(kind: pa.DataType) -> bool:
    return kinds.is_integer(kind) or kinds.is_floating(kind) or kinds.is_decimal(kind)


def _is_text(kind: pa.DataType) -> bool:
    return kinds.is_string(kind) or kinds.is_large_string(kind) or kinds.is_string_view(kind)


def _refuse_unused(tables: Mapping[str, _Table], inputs: Mapping[str, Input], dataset: Dataset) -> None:
    """Raises RecsysError if the settings name a column that no table has; otherwise the column would silently be missing."""
    for key, theirs in dataset.columns.items():
        own, _, ours = key.rpartition(".")
        concerned = [name for name in inputs if name == own or (not own and ours in tables[name].known)]
        found = {name for table in concerned for name in tables[table].mapped.get(ours, ())}
        if theirs and concerned and not any(columns.is_same(theirs, name) for name in found):
            seen = "; ".join(f"{inputs[name].where} has {_shown(tables[name].names)}" for name in concerned)
            meant = next(filter(None, (columns.closest(theirs, list(tables[name].names)) for name in concerned)), "")
            advice = f'did you mean "{meant}"?' if meant else "correct it"
            raise RecsysError(f'config: columns names "{theirs}" for {key}, and no such column was found: {seen}; {advice}')
    for name, setting in (("items", "item_attributes"), ("users", "user_attributes")):
        for attribute in tables[name].attributes:
            if name not in inputs:
                raise RecsysError(
                    f'config: {setting} names "{attribute}", but no {name} are given; pass {name.upper()}= or remove it'
                )
            if attribute not in tables[name].mapped:
                raise RecsysError(
                    f'config: {setting} names "{attribute}", which {inputs[name].where} does not have; it has'
                    f" {_shown(tables[name].names)}: correct it, or name its column in columns"
                )


def _shown(names: Iterable[str]) -> str:
    short = [name[:40] for name in names]
    more = f" and {len(short) - NAMES_SHOWN:,} more" if len(short) > NAMES_SHOWN else ""
    return ", ".join(short[:NAMES_SHOWN]) + more
