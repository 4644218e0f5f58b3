"""Files that a person hands over: found, read in batches, and told apart from what they only seem to be."""

import functools
import tempfile
from collections.abc import Iterator
from glob import glob
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from recsys import RecsysError

BATCH_ROWS = 200_000


def find(pattern: str, dial: str) -> list[Path]:
    """The files meant by a file, folder or glob, in the order of their names; `s3://bucket/key` or a folder there are fetched."""
    path = _fetch(pattern, dial) if pattern.startswith("s3://") else Path(pattern).expanduser()
    found = sorted(path.iterdir()) if path.is_dir() else [Path(name) for name in sorted(glob(str(path)))] or [path]
    files = [file for file in found if not file.name.startswith((".", "_"))]
    for file in files:
        if not file.is_file():
            raise RecsysError(f'{dial} "{file}" is no file; pass {dial}=path to a file, a folder or a glob')
        if file.suffix.lower() not in (".csv", ".parquet"):
            raise RecsysError(f'{dial} "{file}" ends in "{file.suffix}"; pass .csv or .parquet files')
        if file.stat().st_size == 0:
            raise RecsysError(f'{dial} "{file}" is empty; pass a file with rows')
    if not files:
        raise RecsysError(f'{dial} "{pattern}" holds no file; pass a folder or glob with .csv or .parquet files in it')
    return files


def _fetch(address: str, dial: str) -> Path:
    """A local copy of an object, or of all that lie right below a prefix; gone when this process ends."""
    import boto3

    bucket, _, key = address.removeprefix("s3://").partition("/")
    pages = boto3.client("s3").get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=key)
    keys = [entry["Key"] for page in pages for entry in page.get("Contents", [])]
    below = f"{key.rstrip('/')}/"
    wanted = [found for found in keys if found == key or (found.startswith(below) and "/" not in found.removeprefix(below))]
    if not wanted:
        raise RecsysError(f'{dial} "{address}" holds no object; pass an object or a folder of the bucket')
    folder = Path(tempfile.mkdtemp(dir=_fetched().name))
    for found in wanted:
        boto3.client("s3").download_file(bucket, found, str(folder / found.rpartition("/")[2]))
    return folder / key.rpartition("/")[2] if wanted == [key] else folder


@functools.cache
def _fetched() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="landing-")


def read(path: Path, required: set[str], dial: str, encoding: str = "utf8") -> Iterator[pa.RecordBatch]:
    """Batches of a Parquet file in its own types, or of a CSV as text, where only an unquoted nothing is missing."""
    try:
        batches = _read_csv(path, encoding) if path.suffix.lower() == ".csv" else _read_parquet(path)
        for number, batch in enumerate(batches):
            if number == 0 and (missing := required - set(batch.schema.names)):
                seen = ", ".join(name[:40] for name in batch.schema.names[:12])
                raise RecsysError(f'{dial} "{path}" has no column {", ".join(sorted(missing))}; it has {seen}: rename or add it')
            yield batch
    except (pa.ArrowInvalid, UnicodeDecodeError) as error:
        reason = str(error).splitlines()[0][:200]
        raise RecsysError(f'{dial} "{path}" cannot be read as {path.suffix[1:].upper()}: {reason}; mend or convert it') from None


def _read_parquet(path: Path) -> Iterator[pa.RecordBatch]:
    yield from pq.ParquetFile(path).iter_batches(BATCH_ROWS)


def _read_csv(path: Path, encoding: str) -> Iterator[pa.RecordBatch]:
    with path.open("rb") as file:
        header = file.readline(65_536).decode(encoding, errors="replace").lstrip("\ufeff").rstrip("\r\n")
    if not header.replace("\t", "").isprintable():
        raise pa.ArrowInvalid("its first line is not text")
    delimiter = max(",;\t|", key=header.count)
    names = [name.strip().strip('"') for name in header.split(delimiter)]
    reader = pyarrow.csv.open_csv(
        path,
        pyarrow.csv.ReadOptions(column_names=names, skip_rows=1, encoding=encoding, block_size=16_000_000),
        pyarrow.csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
        pyarrow.csv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.string()),
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
        ),
    )
    yield from reader


def write(batches: Iterator[pa.RecordBatch], target: Path) -> int:
    """Writes batches of one schema to a Parquet file and returns the number of rows."""
    rows, writer = 0, None
    try:
        for batch in batches:
            writer = writer or pq.ParquetWriter(target, batch.schema)
            writer.write_batch(batch)
            rows += batch.num_rows
    finally:
        if writer:
            writer.close()
    return rows
