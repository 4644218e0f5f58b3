"""UCI Online Retail: a year of invoices of a British gift shop (Chen 2015, doi:10.24432/C5BW33, CC BY 4.0)."""

import shutil
import urllib.request
import zipfile
from collections.abc import Iterator
from datetime import date
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, ClassVar

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import Field

from recsys import RecsysError
from recsys.settings import Text
from recsys.sources import files
from recsys.sources.base import Source
from recsys.validation_report import CheckResult

SCHEMA = pa.schema([
    ("InvoiceNo", pa.string()), ("StockCode", pa.string()), ("Description", pa.string()), ("Quantity", pa.int64()),
    ("InvoiceDate", pa.timestamp("us")), ("UnitPrice", pa.float64()), ("CustomerID", pa.string()), ("Country", pa.string()),
])  # fmt: skip
DATE_FORMATS = ("%Y-%m-%d %H:%M:%S", "%Y-%m-%d", "%m/%d/%Y %H:%M")
OFFICIAL = {"rows": 541_909, "invoices": 25_900, "customers": 4_372}
Url = Annotated[str, Field(pattern=r"^https?://[^/\s]+/\S+$", examples=['"https://example.com/online+retail.zip"'])]


class OnlineRetail(Source):
    max_null_share: ClassVar = {
        "invoices": {"InvoiceNo": 0.0, "StockCode": 0.0, "Quantity": 0.0, "InvoiceDate": 0.0, "UnitPrice": 0.0, "CustomerID": 0.3}
    }

    def __init__(self, url: Url, cache: Text, raw: str = ""):
        self.url, self.cache, self.raw = url, Path(cache), raw

    def land(self, folder: Path, until: date | None = None) -> list[CheckResult]:
        """Reads RAW=path (.xlsx, .csv or .parquet), or the official zip, which is downloaded once."""
        if self.raw:
            path = Path(self.raw).expanduser()
            if not path.is_file():
                raise RecsysError(f'RAW "{path}" is not a file; pass RAW=path to the workbook, or to a .csv or .parquet of it')
            batches = _read_workbook(path) if path.suffix.lower() == ".xlsx" else _read_table(path)
        else:
            path = _unzip(self._download(), folder)
            batches = _read_workbook(path)
        target = folder / "invoices.parquet"
        with files.unchanged(path, f'RAW "{path}"'):
            rows = files.write(batches, target)
        (folder / "workbook.xlsx").unlink(missing_ok=True)
        if rows == 0:
            raise RecsysError(f'RAW "{self.raw or self.cache}" has no rows; pass the official file')
        return [_compare(target)]

    def _download(self) -> Path:
        if not self.cache.exists():
            self.cache.parent.mkdir(parents=True, exist_ok=True)
            partial = self.cache.with_suffix(".part")
            try:
                with urllib.request.urlopen(self.url, timeout=60) as response, partial.open("wb") as file:
                    shutil.copyfileobj(response, file)
            except (OSError, ValueError) as error:
                raise RecsysError(
                    f"{self.url} cannot be downloaded: {error}; download it by hand and pass RAW=path to the workbook"
                ) from None
            if not zipfile.is_zipfile(partial):
                raise RecsysError(
                    f"{self.url} did not return a complete zip; run again, or download it by hand and pass RAW=path to the workbook"
                )
            partial.replace(self.cache)
        return self.cache


def _unzip(path: Path, folder: Path) -> Path:
    target = folder / "workbook.xlsx"
    try:
        with zipfile.ZipFile(path) as archive:
            name = next(name for name in archive.namelist() if name.lower().endswith(".xlsx"))
            with archive.open(name) as source, target.open("wb") as file:
                shutil.copyfileobj(source, file)
    except (zipfile.BadZipFile, StopIteration):
        raise RecsysError(f'"{path}" is not a zip of a workbook; delete it and run again, or pass RAW=path') from None
    return target


def _read_workbook(path: Path) -> Iterator[pa.RecordBatch]:
    from python_calamine import CalamineError, CalamineWorkbook

    try:
        rows = CalamineWorkbook.from_path(path).get_sheet_by_index(0).iter_rows()
        header = [str(cell) for cell in next(rows, [])]
    except CalamineError as error:
        raise RecsysError(f'RAW "{path}" cannot be read as a workbook: {error}; pass the official .xlsx') from None
    while batch := list(islice(rows, files.BATCH_ROWS)):
        yield _shape(header, [pa.array(map(_text, column), pa.string()) for column in zip(*batch, strict=True)], path)


def _text(cell: Any) -> str:
    """Text of a cell. A workbook stores the code 85123 as 85123.0."""
    return str(int(cell)) if isinstance(cell, float) and cell.is_integer() else str(cell)


def _read_table(path: Path) -> Iterator[pa.RecordBatch]:
    encoding = "latin-1" if path.suffix.lower() == ".csv" and not _is_utf8(path) else "utf8"
    for batch in files.read(str(path), f'RAW "{path}"', encoding=encoding):
        yield _shape(batch.schema.names, batch.columns, path)


def _is_utf8(path: Path) -> bool:
    try:
        path.read_text("utf8")
    except UnicodeDecodeError:
        return False
    return True


def _shape(header: list[str], columns: list[pa.Array], path: Path) -> pa.RecordBatch:
    """Returns the official columns in their types. Both editions' column names are known."""
    renamed = {"invoice": "invoiceno", "price": "unitprice"}
    names = [name.lower().replace(" ", "").replace("_", "") for name in header]
    by_name = dict(zip((renamed.get(name, name) for name in names), columns, strict=True))
    missing = [field.name for field in SCHEMA if field.name.lower() not in by_name]
    if missing:
        raise RecsysError(
            f'RAW "{path}" has no column {", ".join(missing)}; it has {", ".join(header[:12])}: pass the official file'
        )
    return pa.RecordBatch.from_arrays([_cast(by_name[field.name.lower()], field) for field in SCHEMA], schema=SCHEMA)


def _cast(column: pa.Array, field: pa.Field) -> pa.Array:
    """Converts a column to its official type. The text 17850.0 becomes 17850, and an empty text a missing value."""
    try:
        if pa.types.is_timestamp(column.type) or column.type == field.type != pa.string():
            return pc.cast(column, field.type)
        text = pc.replace_substring_regex(pc.cast(column, pa.string()), r"^(\d+)\.0$", r"\1")
        text = pc.if_else(pc.is_in(text, pa.array(["", "nan"])), pa.scalar(None, pa.string()), text)
        if field.type == pa.string():
            return text
        if pa.types.is_timestamp(field.type):
            times = pc.coalesce(*(pc.strptime(text, form, "us", error_is_null=True) for form in DATE_FORMATS))
            if wrong := text.filter(pc.and_(pc.is_valid(text), pc.is_null(times))).to_pylist():
                raise ValueError(f'"{wrong[0]}" is not a time of the form {" or ".join(DATE_FORMATS)}')
            return times
        return pc.cast(pc.cast(text, pa.float64()), field.type)
    except (ValueError, pa.ArrowNotImplementedError) as error:
        raise RecsysError(f"RAW column {field.name}: {error}; pass the official file") from None


def _compare(path: Path) -> CheckResult:
    table = pq.read_table(path, columns=["InvoiceNo", "CustomerID"])
    seen = {
        "rows": table.num_rows,
        "invoices": pc.count_distinct(table["InvoiceNo"]).as_py(),
        "customers": pc.count_distinct(table["CustomerID"]).as_py(),
    }
    passed = seen == OFFICIAL
    outcome = "is the official one" if passed else "differs from the official one; do not compare results with published ones"
    counts = ", ".join(f"{seen[name]:,} {name}" for name in OFFICIAL)
    official = ", ".join(f"{count:,} {name}" for name, count in OFFICIAL.items())
    return CheckResult("official_content", counts, official, "warn", passed, f"the file ({counts}) {outcome}")
