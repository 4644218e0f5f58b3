"""Finds the files of a source on disk or in an object store, and reads them in batches, so that memory stays bounded."""

import hashlib
import io
import json
import os
import re
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from glob import glob
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from recsys import RecsysError
from recsys.settings import write_text
from recsys.sources import columns
from recsys.store import object_store_errors, sha256

Choose = Callable[[Sequence[str]], Collection[str]]
"""Takes the names of a file's columns and returns those to read."""

BATCH_ROWS = 200_000
JSON_BATCH_ROWS = 50_000
BLOCK_BYTES = 16_000_000
HEAD_BYTES = 1_000_000
KINDS = {
    ".csv": "CSV",
    ".tsv": "TSV",
    ".json": "JSON",
    ".jsonl": "JSON",
    ".ndjson": "JSON",
    ".parquet": "Parquet",
    ".pq": "Parquet",
}
COMPRESSED = (".gz", ".zst", ".bz2")
ACCEPTED = "pass .csv, .tsv or .jsonl files, which may be compressed (.gz, .zst, .bz2), or .parquet files"
COMPRESSIONS = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"BZh": "bz2"}
TABLE_FORMATS = {"_delta_log": "Delta", ".hoodie": "Hudi"}
HARMLESS = re.compile(
    r"(readme|license|licence)(\..*)?|.*\.(crc|md|md5|sha256)|thumbs\.db|desktop\.ini|.*_\$folder\$", re.IGNORECASE
)
NO_VALUE = "__HIVE_DEFAULT_PARTITION__"


class UnreadableColumns(RecsysError):
    """Columns of a file do not hold single values. problems: those columns, with what they hold instead."""

    def __init__(self, where: str, problems: Mapping[str, str], advice: str = "store one value in each row"):
        super().__init__(
            f"{where}: {', '.join(f'column {write_text(name)} {problem}' for name, problem in problems.items())}; {advice}"
        )
        self.where, self.problems = where, problems


def find(pattern: str, setting: str, client: Any = None) -> tuple[list[str], list[str]]:
    """Finds the files of a path, folder or glob, on disk or as `s3://bucket/key`. A folder gives all files below it.

    Returns the files to read, in order, and the data files that are skipped because a leading `_` marks them as unfinished.
    setting: name of the pattern in messages. client: S3 client, for remote patterns.
    Raises RecsysError if there is no file to read, or if a file has an unknown ending.
    """
    read, skipped = [], []
    listed = _list_bucket(pattern, setting, client) if is_remote(pattern) else _list_disk(pattern, setting)
    for name, below, size in sorted(listed):
        parts = PurePosixPath(below).parts
        if mark := next((part for part in parts if part in TABLE_FORMATS), None):
            raise RecsysError(
                f'{setting} "{pattern}" is a {TABLE_FORMATS[mark]} table, which may hold deleted rows; pass a plain export of it'
            )
        if any(part.startswith(".") for part in parts):
            continue
        if any(part.startswith("_") and "=" not in part for part in parts):
            skipped += [name] if _kind(name) else []
        elif _kind(name):
            if size == 0:
                raise RecsysError(f'{setting} "{name}" is empty; pass a file with rows')
            read.append(name)
        elif not parts or not HARMLESS.fullmatch(parts[-1]):
            raise _unknown_ending(f'{setting} "{name}"', name)
    if not read:
        advice = f"{ACCEPTED}, or a folder or glob of them{_or_setting(setting)}"
        raise RecsysError(f'{setting} "{pattern}" holds no file to read; {advice}')
    return read, skipped


@dataclass
class KnownFiles:
    """Files that one landing has read, by content. repeated: files with the content of an earlier one, and the earlier one."""

    names: dict[tuple[str, ...], str] = field(default_factory=dict)
    repeated: dict[str, str] = field(default_factory=dict)

    def is_new(self, name: str, content: str) -> bool:
        """Whether no earlier file has this content. Equal files below different folders such as `dt=2024-01-01/` are different."""
        key = (content, *(f"{column}={value}" for column, value in _folder_columns(name).items()))
        first = self.names.setdefault(key, name)
        if first != name:
            self.repeated[name] = first
        return first == name


@contextmanager
def unchanged(path: Path, where: str) -> Iterator[str]:
    """Yields the sha256 of a file. Raises RecsysError at the end of the block if the file has changed."""
    before = sha256(path)
    yield before
    if sha256(path) != before:
        raise RecsysError(f"{where} changed while it was read; run again once whatever writes it is done")


def read(
    name: str,
    where: str,
    choose: Choose = lambda names: names,
    client: Any = None,
    encoding: str = "utf8",
    seen: KnownFiles | None = None,
) -> Iterator[pa.RecordBatch]:
    """Yields batches of a file's chosen columns. Columns of a Parquet file keep their types, those of other files are text.

    Folders such as `dt=2024-01-01/` are columns too, unless the file has them.
    where: name of the file in messages. encoding: of a text file without a byte order mark. seen: files read before; a file with
    the content of one of them, compressed or not, yields nothing.
    Raises RecsysError if the file cannot be read, or changes while it is read.
    """
    kind, folders = _kind(name), _folder_columns(name)
    if not kind:
        raise _unknown_ending(where, name)
    with _local(name, where, client) as path:
        try:
            with unchanged(path, where) if seen is not None else nullcontext("") as digest:
                if seen is not None and not seen.is_new(name, _content(path, digest)):
                    return
                for batch in READERS[kind](path, lambda names: choose([*names, *_absent(folders, names)]), encoding):
                    for column in _absent(folders, batch.schema.names):
                        batch = batch.append_column(column, pa.array([folders[column]] * batch.num_rows, pa.string()))
                    yield batch
        except UnreadableColumns as error:
            raise UnreadableColumns(where, error.problems) from None
        except (pa.ArrowException, UnicodeError, OSError, ValueError) as error:
            reason = str(error).splitlines()[0][:200]
            if "invalid UTF8" in reason or (isinstance(error, UnicodeDecodeError) and error.encoding == "utf-8"):
                raise RecsysError(
                    f"{where} is not UTF-8; if it is Latin-1, convert it: iconv -f latin1 -t utf-8 in.csv > out.csv"
                ) from None
            raise RecsysError(f"{where} cannot be read as {kind}: {reason}; repair or convert it") from None


def read_schema(name: str, where: str, client: Any = None) -> pa.Schema:
    """Returns the columns of a file, all as text for a text file. Raises RecsysError if it cannot be read or has no rows."""
    names: list[str] = []

    def choose(found: Sequence[str]) -> Collection[str]:
        names.extend(found)
        return found if _kind(name) == "Parquet" else ()

    first = next(read(name, where, choose, client), None)
    if first is None:
        raise RecsysError(f"{where} has no rows; pass a file with rows")
    return first.schema if _kind(name) == "Parquet" else pa.schema([(column, pa.string()) for column in names])


def write(batches: Iterator[pa.RecordBatch], target: Path) -> int:
    """Writes batches of one schema to a Parquet file and returns the number of rows."""
    rows, writer = 0, None
    try:
        for batch in batches:
            writer = writer or pq.ParquetWriter(target, batch.schema, write_page_checksum=True)
            writer.write_batch(batch)
            rows += batch.num_rows
    finally:
        if writer:
            writer.close()
    return rows


def is_remote(name: str) -> bool:
    return name.startswith("s3://")


def _kind(name: str) -> str:
    """Format of a file, by its ending; "" for an unknown one."""
    suffixes = [suffix.lower() for suffix in PurePosixPath(name).suffixes[-2:]]
    if len(suffixes) == 2 and suffixes[1] in COMPRESSED:
        return KINDS.get(suffixes[0], "").replace("Parquet", "")
    return KINDS.get(suffixes[-1], "") if suffixes else ""


def _unknown_ending(where: str, name: str) -> RecsysError:
    return RecsysError(f'{where} ends in "{"".join(PurePosixPath(name).suffixes[-2:])}"; {ACCEPTED}')


def _or_setting(setting: str) -> str:
    """The other way to correct a path: in config.toml."""
    return f", or correct {setting.lower()} under [datasets.<name>.source_settings] in config.toml"


def _list_disk(pattern: str, setting: str) -> Iterator[tuple[str, str, int]]:
    """For each file: its path, the part of the path below the pattern's fixed folder, and its size in bytes."""
    path = Path(pattern).expanduser()
    is_literal = path.exists()
    matches = [path] if is_literal else [Path(name) for name in glob(str(path), recursive=True)]
    named = path if is_literal else Path(_fixed(str(path)))
    below = [Path(folder, name) for match in matches for folder, _, names in os.walk(match, followlinks=True) for name in names]
    found = {*below, *(match for match in matches if not match.is_dir())}
    for file in found or (set() if path.is_dir() else {path}):
        if not file.is_file():
            advice = f"pass {setting}=path to a file, a folder or a glob{_or_setting(setting)}"
            raise RecsysError(f'{setting} "{file}" is not a file; {advice}')
        yield str(file), "" if file == named else file.relative_to(named).as_posix(), file.stat().st_size


def _list_bucket(pattern: str, setting: str, client: Any) -> Iterator[tuple[str, str, int]]:
    """Objects for an s3:// pattern: the one with this key, those below it as a folder, or those that match it as a glob."""
    bucket, _, key = pattern.removeprefix("s3://").partition("/")
    key = key.rstrip("/")
    wildcards = {"**/": "(.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    wanted = re.sub(r"\*\*/|\*\*|\*|\?|[^*?]+", lambda part: wildcards.get(part[0]) or re.escape(part[0]), key)
    prefix = re.split("[*?]", key)[0]
    named = key if prefix == key else _fixed(key)
    with _one_line(f'{setting} "{pattern}"'):
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        entries = [entry for page in pages for entry in page.get("Contents", [])]
    found = [entry for entry in entries if re.fullmatch(f"{wanted}(/.*)?" if key else ".*", entry["Key"])]
    if not found:
        advice = f"pass an object, a folder or a glob of the bucket{_or_setting(setting)}"
        raise RecsysError(f'{setting} "{pattern}" holds no object; {advice}')
    for entry in found:
        if not entry["Key"].endswith("/"):
            yield f"s3://{bucket}/{entry['Key']}", entry["Key"].removeprefix(named).lstrip("/"), entry["Size"]


def _fixed(pattern: str) -> str:
    """The folder above the first wildcard."""
    return re.split(r"[*?\[]", pattern)[0].rpartition("/")[0]


@contextmanager
def _one_line(where: str) -> Iterator[None]:
    """Turns an error of an object store into a RecsysError of one line."""
    try:
        yield
    except object_store_errors() as error:
        reason = str(error).splitlines()[0]
        raise RecsysError(f"{where} cannot be fetched: {reason}; check the address, store.endpoint and your credentials") from None


@contextmanager
def _local(name: str, where: str, client: Any) -> Iterator[Path]:
    """Path of a file, or of a temporary copy of an object."""
    if not is_remote(name):
        yield Path(name)
        return
    bucket, _, key = name.removeprefix("s3://").partition("/")
    with tempfile.TemporaryDirectory(prefix="landing-") as folder:
        with _one_line(where):
            client.download_file(bucket, key, f"{folder}/object")
        yield Path(folder) / "object"


def _folder_columns(name: str) -> dict[str, str | None]:
    """Columns given by the folders of a path, such as `dt=2024-01-01/country=gb/`."""
    pairs = [part.partition("=") for part in PurePosixPath(name).parts[:-1] if "=" in part]
    return {column: None if value == NO_VALUE else unquote(value) for column, _, value in pairs}


def _absent(folders: Collection[str], names: Sequence[str]) -> list[str]:
    return [column for column in folders if not any(columns.is_same(column, name) for name in names)]


def _compression(path: Path) -> str | None:
    """Compression of a file by its first bytes, since tools do not always keep the ending."""
    with path.open("rb") as file:
        start = file.read(4)
    return next((name for magic, name in COMPRESSIONS.items() if start.startswith(magic)), None)


def _open(path: Path) -> pa.NativeFile:
    """Opens a file, decompressing it if needed."""
    return pa.input_stream(str(path), compression=_compression(path))


def _content(path: Path, digest: str) -> str:
    """sha256 of a file's decompressed content. `digest`: that of the file itself."""
    if not _compression(path):
        return digest
    content = hashlib.sha256()
    with _open(path) as stream:
        while part := stream.read(BLOCK_BYTES):
            content.update(part)
    return content.hexdigest()


def _read_head(path: Path, encoding: str) -> tuple[str, str]:
    """First line and encoding of a text file."""
    with _open(path) as stream:
        head = stream.read(HEAD_BYTES)
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        encoding = "utf-16"
    line = re.split("[\r\n]", head.decode(encoding, errors="replace").lstrip("\ufeff"), maxsplit=1)[0]
    if not line.replace("\t", "").isprintable():
        raise ValueError("its first line is not text")
    return line, encoding


def _read_csv(path: Path, choose: Choose, encoding: str, delimiters: str = ",;\t|") -> Iterator[pa.RecordBatch]:
    header, encoding = _read_head(path, encoding)
    unquoted = re.sub('"[^"]*"', "", header)
    parsing = pyarrow.csv.ParseOptions(delimiter=max(delimiters, key=unquoted.count), newlines_in_values=True)
    reading = pyarrow.csv.ReadOptions(encoding=encoding, block_size=BLOCK_BYTES)
    converting = pyarrow.csv.ConvertOptions(
        default_column_type=pa.string(), null_values=[""], strings_can_be_null=True, quoted_strings_can_be_null=False
    )
    with _open(path) as stream, pyarrow.csv.open_csv(stream, reading, parsing, converting) as reader:
        names = reader.schema.names
    wanted = choose(names)
    converting.include_columns = [name for name in names if name in wanted]
    with _open(path) as stream, pyarrow.csv.open_csv(stream, reading, parsing, converting) as reader:
        yield from reader


def _read_json(path: Path, choose: Choose, encoding: str) -> Iterator[pa.RecordBatch]:
    """Reads one object per line. Numbers stay text, so that no digit of an id is lost."""
    _, encoding = _read_head(path, encoding)
    with _open(path) as stream, io.TextIOWrapper(stream, "utf-8-sig" if encoding == "utf8" else encoding) as lines:
        names: dict[str, None] = {}
        objects = (_parse(line, number) for number, line in enumerate(lines, 1) if line.strip())
        while rows := list(islice(objects, JSON_BATCH_ROWS)):
            names |= dict.fromkeys(name for row in rows for name in row)
            yield _batch(rows, list(names), choose)


DECODER = json.JSONDecoder(parse_int=str, parse_float=str, parse_constant=str)


def _parse(line: str, number: int) -> dict[str, Any]:
    try:
        row = DECODER.decode(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"line {number} is not JSON ({error.msg}), and each line must be one object") from None
    if not isinstance(row, dict):
        raise ValueError(f"line {number} is a {type(row).__name__}, and each line must be one object")
    return row


def _batch(rows: list[dict[str, Any]], names: Sequence[str], choose: Choose) -> pa.RecordBatch:
    wanted = choose(names)
    values = {name: [row.get(name) for row in rows] for name in names if name in wanted}
    if nested := {name: problem for name, column in values.items() if (problem := _nested(column))}:
        raise UnreadableColumns("", nested)  # `read` adds the name of the file
    return pa.RecordBatch.from_pydict({
        name: pa.array([str(value).lower() if isinstance(value, bool) else value for value in column], pa.string())
        for name, column in values.items()
    })  # fmt: skip


def _nested(values: list[Any]) -> str:
    """Says that a column holds lists or objects; "" if it holds single values."""
    return next((f"holds a {type(value).__name__}" for value in values if isinstance(value, list | dict)), "")


def _read_parquet(path: Path, choose: Choose, encoding: str) -> Iterator[pa.RecordBatch]:
    with pq.ParquetFile(
        path,
        coerce_int96_timestamp_unit="us",  # nanoseconds would overflow silently after 2262
        page_checksum_verification=True,  # where pages have checksums; without it most flipped bits go unnoticed
    ) as file:
        names = file.schema_arrow.names
        wanted = choose(names)
        yield from file.iter_batches(BATCH_ROWS, columns=[name for name in names if name in wanted])


READERS: dict[str, Callable[[Path, Choose, str], Iterator[pa.RecordBatch]]] = {
    "CSV": _read_csv,
    "TSV": partial(_read_csv, delimiters="\t"),
    "JSON": _read_json,
    "Parquet": _read_parquet,
}
