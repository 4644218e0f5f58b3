"""The official invoices: fetched once from a server of our own, told from others by content, the same in every form."""

import io
import re
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from conftest import ROOT, make_settings
from recsys import RecsysError
from recsys.settings.run import Dataset
from recsys.sources import files, online_retail
from recsys.sources.online_retail import SCHEMA, OnlineRetail
from recsys.sources.registry import open_source
from recsys.validation_report import CheckResult

OFFICIAL = ROOT.parent / "shared" / "data" / "online_retail" / "online_retail.parquet"
HEADER = SCHEMA.names
AT = datetime(2010, 12, 1, 8, 26)
CELLS: list[list[Any]] = [
    [536365, "85123A", "WHITE HANGING HEART", 6, AT, 2.55, 17850.0, "United Kingdom"],
    [536365, 71053, "LANTERN, £5 OFF", 6, AT, 3.39, 17850.0, "United Kingdom"],
    ["C536379", "D", "Discount", -1, datetime(2010, 12, 1, 9, 41), 27.5, 14527.0, "EIRE"],
    [536414, "15056bl", None, 56, datetime(2010, 12, 13, 23, 59), 0.0, None, "United Kingdom"],
]
CSV = """InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country
536365,85123A,WHITE HANGING HEART,6,12/1/2010 8:26,2.55,17850,United Kingdom
536365,71053,"LANTERN, £5 OFF",6,12/1/2010 8:26,3.39,17850,United Kingdom
C536379,D,Discount,-1,12/1/2010 9:41,27.5,14527,EIRE
536414,15056bl,,56,12/13/2010 23:59,0,,United Kingdom
"""
LANDED = pa.table(
    {
        "InvoiceNo": ["536365", "536365", "C536379", "536414"],
        "StockCode": ["85123A", "71053", "D", "15056bl"],
        "Description": ["WHITE HANGING HEART", "LANTERN, £5 OFF", "Discount", None],
        "Quantity": [6, 6, -1, 56],
        "InvoiceDate": [row[4] for row in CELLS],
        "UnitPrice": [2.55, 3.39, 27.5, 0.0],
        "CustomerID": ["17850", "17850", "14527", None],
        "Country": ["United Kingdom", "United Kingdom", "EIRE", "United Kingdom"],
    },
    SCHEMA,
)


class Site:
    """A web server on loopback: `pages` it has, paths that were `asked` for."""

    def __init__(self) -> None:
        self.pages: dict[str, bytes] = {}
        self.asked: list[str] = []
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                site.asked.append(self.path)
                page = site.pages.get(self.path)
                self.send_response(404 if page is None else 200)
                self.send_header("Content-Length", str(len(page or b"")))
                self.end_headers()
                self.wfile.write(page or b"")

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setenv("no_proxy", "*")
    site = Site()
    thread = threading.Thread(target=site.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield site
    site.server.shutdown()
    site.server.server_close()
    thread.join()


@pytest.fixture
def official(site: Site, tmp_path: Path) -> OnlineRetail:
    """The source as configured, with a server that has the zip."""
    site.pages["/online+retail.zip"] = zipped({"readme.txt": b"words", "Online Retail.xlsx": workbook()})
    return OnlineRetail(f"{site.url}/online+retail.zip", str(tmp_path / "data" / "online_retail.zip"))


def workbook(cells: list[list[Any]] = CELLS, header: list[str] = HEADER) -> bytes:
    book, file = openpyxl.Workbook(write_only=True), io.BytesIO()
    sheet = book.create_sheet()
    for row in [header, *cells]:
        sheet.append(row)
    book.save(file)
    return file.getvalue()


def zipped(members: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


def land(source: OnlineRetail, folder: Path) -> tuple[pa.Table, list[CheckResult]]:
    folder.mkdir()
    results = source.land(folder)
    assert [path.name for path in folder.iterdir()] == ["invoices.parquet"]
    return pq.read_table(folder / "invoices.parquet"), results


def land_raw(folder: Path, name: str, content: bytes | pa.Table) -> pa.Table:
    """The table made of RAW=<name>."""
    path = folder / name
    if isinstance(content, pa.Table):
        pq.write_table(content, path)
    else:
        path.write_bytes(content)
    return land(OnlineRetail("", "", raw=str(path)), folder / "landed")[0]


def test_the_official_zip_lands_as_text_ids(official: OnlineRetail, tmp_path: Path) -> None:
    table, _ = land(official, tmp_path / "landed")
    assert table.schema == SCHEMA
    assert table.to_pylist() == LANDED.to_pylist()


def test_the_zip_is_downloaded_once(official: OnlineRetail, site: Site, tmp_path: Path) -> None:
    first, _ = land(official, tmp_path / "first")
    site.pages.clear()
    second, _ = land(official, tmp_path / "second")
    assert site.asked == ["/online+retail.zip"]
    assert first.equals(second)


def test_a_page_that_is_not_there_leaves_no_cache_behind(official: OnlineRetail, site: Site, tmp_path: Path) -> None:
    page = site.pages.pop("/online+retail.zip")
    with pytest.raises(
        RecsysError, match=f"^{re.escape(site.url)}.* cannot be downloaded: .*404.*; download it by hand and pass RAW=path"
    ):
        official.land(tmp_path)
    site.pages["/online+retail.zip"] = page
    assert land(official, tmp_path / "again")[0].equals(LANDED)


def test_a_server_that_is_not_there_is_one_error(tmp_path: Path, site: Site) -> None:
    with pytest.raises(RecsysError, match=r"cannot be downloaded: .*; download it by hand and pass RAW=path"):
        OnlineRetail("http://127.0.0.1:1/online.zip", str(tmp_path / "online.zip")).land(tmp_path)


@pytest.mark.parametrize(
    ("page", "words"),
    [
        (b"<html>moved</html>", "did not return a complete zip; run again, or download it by hand and pass RAW=path"),
        (b"", "did not return a complete zip; run again, or download it by hand and pass RAW=path"),
        (zipped({"readme.txt": b"words"}), r'online_retail\.zip" is not a zip of a workbook; delete it .* or pass RAW=path'),
    ],
    ids=["a web page", "nothing", "a zip of something else"],
)
def test_a_download_that_is_no_zip_of_a_workbook_is_one_error(
    official: OnlineRetail, site: Site, tmp_path: Path, page: bytes, words: str
) -> None:
    site.pages["/online+retail.zip"] = page
    with pytest.raises(RecsysError, match=words):
        official.land(tmp_path)


def test_a_zip_of_a_broken_workbook_is_one_error(official: OnlineRetail, site: Site, tmp_path: Path) -> None:
    site.pages["/online+retail.zip"] = zipped({"Online Retail.xlsx": b"no workbook"})
    with pytest.raises(RecsysError, match=r"cannot be read as a workbook: .*; pass the official \.xlsx"):
        official.land(tmp_path)


def test_raw_goes_before_the_official_zip(official: OnlineRetail, site: Site, tmp_path: Path) -> None:
    official.raw = str(tmp_path / "mine.parquet")
    pq.write_table(LANDED.slice(0, 1), official.raw)
    assert land(official, tmp_path / "landed")[0].equals(LANDED.slice(0, 1))
    assert site.asked == []


FORMS: dict[str, bytes | pa.Table] = {
    "retail.xlsx": workbook(),
    "RETAIL.XLSX": workbook(),
    "latin-1.csv": CSV.encode("latin-1"),
    "utf-8.csv": CSV.encode("utf-8"),
    "mark.csv": CSV.encode("utf-8-sig"),
    "iso dates.csv": re.sub(r"12/(\d+)/2010 (\d+:\d+)", r"2010-12-\1 \2:00", CSV).encode(),
    "semicolons.csv": CSV.replace(",", ";").replace("LANTERN;", "LANTERN,").encode(),
    "text ids.parquet": LANDED,
    "nanoseconds.parquet": LANDED.set_column(4, "InvoiceDate", LANDED["InvoiceDate"].cast(pa.timestamp("ns"))),
    "number ids.parquet": LANDED.set_column(6, "CustomerID", pa.array([17850.0, 17850.0, 14527.0, None])),
    "second edition.csv": CSV.replace("InvoiceNo", "Invoice").replace("UnitP", "P").replace("rID", "r ID").encode(),
    "ids of floats.csv": CSV.replace("17850", "17850.0").replace("14527", "14527.0").encode(),
    "ids of floats.parquet": LANDED.set_column(6, "CustomerID", pa.array(["17850.0", "17850.0", "14527.0", None])),
    "empty ids.parquet": LANDED.set_column(6, "CustomerID", pa.array(["17850", "17850", "14527", ""])),
}  # fmt: skip


@pytest.mark.parametrize("name", FORMS)
def test_every_form_of_raw_is_the_same_table(tmp_path: Path, name: str) -> None:
    assert land_raw(tmp_path, name, FORMS[name]).to_pylist() == LANDED.to_pylist()


def test_more_rows_than_a_batch_land_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "BATCH_ROWS", 3)
    assert land_raw(tmp_path, "retail.xlsx", workbook()).to_pylist() == LANDED.to_pylist()


def test_a_midnight_is_a_time(tmp_path: Path) -> None:
    midnight = datetime(2010, 12, 1)
    table = land_raw(tmp_path, "retail.xlsx", workbook([[*CELLS[0][:4], midnight, *CELLS[0][5:]]]))
    assert table["InvoiceDate"].to_pylist() == [midnight]


def test_days_before_months_are_refused_and_not_misread(tmp_path: Path) -> None:
    days_first = CSV.replace("12/1/2010", "1/12/2010").replace("12/13/2010", "13/12/2010")
    with pytest.raises(RecsysError, match="InvoiceDate"):
        land_raw(tmp_path, "retail.csv", days_first.encode())


BROKEN: dict[str, tuple[str, bytes]] = {
    "missing column": ("retail.xlsx", workbook([row[:7] for row in CELLS], HEADER[:7])),
    "missing column in a csv": ("retail.csv", CSV.replace("Country", "Land").encode()),
    "no rows": ("retail.xlsx", workbook([])),
    "header only": ("retail.csv", CSV.splitlines()[0].encode() + b"\n"),
    "empty": ("retail.csv", b""),
    "no workbook": ("retail.xlsx", b"no workbook"),
    "no parquet": ("retail.parquet", b"no parquet"),
    "binary": ("retail.csv", bytes(range(256)) * 20),
    "another kind": ("retail.xls", b"\xd0\xcf\x11\xe0"),
    "text for a number": ("retail.csv", CSV.replace(",6,", ",six,").encode()),
    "part of a piece": ("retail.csv", CSV.replace(",6,", ",6.5,").encode()),
    "text for a time": ("retail.csv", CSV.replace("12/1/2010 8:26", "yesterday").encode()),
    "time for a number": ("retail.xlsx", workbook([[*CELLS[0][:3], AT, *CELLS[0][4:]]])),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_file_is_one_error_that_names_the_source_setting(tmp_path: Path, case: str) -> None:
    name, content = BROKEN[case]
    with pytest.raises(RecsysError, match=r"^RAW .*[;:] (pass|repair)") as error:
        land_raw(tmp_path, name, content)
    assert "\n" not in str(error.value)


def test_a_missing_column_is_named_beside_those_that_are_there(tmp_path: Path) -> None:
    with pytest.raises(RecsysError, match=r'RAW ".*retail\.xlsx" has no column UnitPrice, CustomerID, Country; it has InvoiceNo'):
        land_raw(tmp_path, "retail.xlsx", workbook([row[:5] for row in CELLS], HEADER[:5]))


@pytest.mark.parametrize("name", ["nowhere.xlsx", "."])
def test_a_path_that_is_no_file_is_named(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    with pytest.raises(RecsysError, match=f'RAW "{re.escape(str(path))}" is not a file; pass RAW=path'):
        OnlineRetail("", "", raw=str(path)).land(tmp_path)


def test_other_content_is_warned_of_with_its_counts(official: OnlineRetail, tmp_path: Path) -> None:
    _, [result] = land(official, tmp_path / "landed")
    assert (result.name, result.severity, result.passed) == ("official_content", "warn", False)
    assert "4 rows, 3 invoices, 2 customers" in result.message
    assert "differs from the official one" in result.message
    assert result.threshold == "541,909 rows, 25,900 invoices, 4,372 customers"


@pytest.mark.parametrize("count", ["rows", "invoices", "customers"])
def test_one_count_that_differs_is_enough(
    official: OnlineRetail, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: str
) -> None:
    counts = {"rows": 4, "invoices": 3, "customers": 2}
    monkeypatch.setattr(online_retail, "OFFICIAL", counts)
    _, [same] = land(official, tmp_path / "same")
    monkeypatch.setattr(online_retail, "OFFICIAL", counts | {count: counts[count] + 1})
    _, [other] = land(official, tmp_path / "other")
    assert (same.passed, other.passed) == (True, False)


@pytest.mark.skipif(not OFFICIAL.is_file(), reason="the official data are not beside the repository (../shared/data)")
def test_the_official_data_pass_as_official(tmp_path: Path) -> None:
    table, [result] = land(OnlineRetail("", "", raw=str(OFFICIAL)), tmp_path / "landed")
    assert result.passed, result.message
    assert "is the official one" in result.message
    assert table.schema == SCHEMA


@pytest.mark.parametrize(("name", "wrong", "words"), [("url", "banana", "https://"), ("cache", "", "a text")])
def test_a_wrong_setting_is_named(name: str, wrong: str, words: str) -> None:
    settings = make_settings("online_retail")
    with pytest.raises(RecsysError, match=rf"source_settings\.{name} is .*{words}"):
        open_source(replace(settings.dataset, source_settings=settings.dataset.source_settings | {name: wrong}))


@pytest.mark.parametrize("settings", [{"columns": {"user_id": "u"}}, {"time_zone": "Europe/London"}])
def test_a_setting_that_a_source_does_not_read_is_refused(settings: dict[str, Any]) -> None:
    chosen = Dataset(
        source="online_retail",
        horizon_days=7,
        step_days=7,
        source_settings={"url": "https://a.example/b", "cache": "c"},
        **settings,
    )
    with pytest.raises(RecsysError, match=f'{next(iter(settings))} is set, but source "online_retail" does not read it; remove it'):
        open_source(chosen)
