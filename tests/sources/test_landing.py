"""The user's names, formats and layouts: whatever an export looks like, the raw tables are the same."""

import bz2
import csv
import gzip
import io
import json
import os
import random
import re
from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from itertools import product
from operator import itemgetter
from pathlib import Path
from typing import Any
from uuid import UUID

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys import RecsysError
from recsys.settings.run import Dataset
from recsys.sources import files
from recsys.sources.columns import TABLES, match, propose
from recsys.sources.landing import Input, Origin, land
from recsys.sources.registry import open_source
from recsys.validation_report import CheckResult

ROWS = [{"user_id": f"u{n}", "item_id": f"i{n % 7}", "event_at": f"2024-01-{n % 28 + 1:02}", "price": f"{n}.50"} for n in range(60)]
ITEMS = "item_id\ni1\n"


def dataset(inputs: dict[str, Any] = {}, **settings: Any) -> Dataset:
    source_settings = {name: str(path) for name, path in inputs.items()}
    return Dataset(source="events", horizon_days=7, step_days=7, source_settings=source_settings, **settings)


def landed(folder: Path, inputs: dict[str, Any], endpoint: str = "", **settings: Any) -> list[CheckResult]:
    """Lands the inputs below `folder`/raw."""
    (folder / "raw").mkdir()
    return open_source(dataset(inputs, **settings), endpoint).land(folder / "raw")


def rows_of(folder: Path, table: str = "events") -> list[dict[str, Any]]:
    """Rows of a raw table, without the columns that are missing throughout."""
    whole = pa.concat_tables(
        (pq.read_table(path) for path in sorted((folder / "raw" / table).iterdir())), promote_options="permissive"
    )
    return whole.select([name for name in whole.column_names if whole[name].null_count < len(whole)]).to_pylist()


def as_csv(rows: list[dict[str, Any]], delimiter: str = ",") -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0], delimiter=delimiter)
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def as_json(rows: list[dict[str, Any]]) -> bytes:
    return "\n".join(json.dumps(row) for row in rows).encode()


def as_parquet(rows: list[dict[str, Any]]) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(rows), sink)
    return sink.getvalue().to_pybytes()


def as_zst(data: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(data)
    return sink.getvalue().to_pybytes()


def write(path: Path, data: bytes | str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


# Names


@pytest.mark.parametrize("name", ["user_id", "userId", "User ID", "USER_ID", "user-id", "\ufeffuser_id"])
def test_spellings_of_a_name_are_one(name: str) -> None:
    assert match([name, "item_id", "event_at"], "events").mapped["user_id"] == name


def test_an_exact_name_comes_before_another_spelling() -> None:
    found = match(["userId", "user_id"], "users")
    assert (found.mapped, found.ignored) == ({"user_id": "user_id"}, ["userId"])


def test_two_spellings_without_an_exact_one_are_refused() -> None:
    with pytest.raises(RecsysError, match='USERS has the columns "userId" and "USER_ID", which both match user_id; write'):
        match(["userId", "USER_ID"], "users")


def test_a_usual_name_is_proposed_and_never_assumed() -> None:
    names = ["customer_ref", "SKU", "ts", "event"]
    assert match(names, "events").missing == ["user_id", "item_id", "event_at"]
    assert propose(names, "events") == {"user_id": "customer_ref", "item_id": "SKU", "event_at": "ts", "event_type": "event"}


def test_a_name_that_is_ours_is_not_proposed_for_another() -> None:
    assert propose(["user_id", "item_id", "event_at", "ts", "price", "unit_price"], "events") == {}


def test_names_of_the_settings_hold_for_every_table_that_has_them(tmp_path: Path) -> None:
    inputs = {
        "events": write(tmp_path / "e.csv", "customer_ref,Article No,ts\nu1,i1,2024-01-01\n"),
        "items": write(tmp_path / "i.csv", "article_no,price,list_price\ni1,1,2\n"),
        "users": write(tmp_path / "u.csv", "user_id,segment\nu1,north\n"),
    }
    names = {"user_id": "customer_ref", "item_id": "article_no", "event_at": "ts", "items.price": "list_price"}
    landed(tmp_path, inputs, columns=names)
    assert rows_of(tmp_path) == [{"user_id": "u1", "item_id": "i1", "event_at": "2024-01-01"}]
    assert rows_of(tmp_path, "items") == [{"item_id": "i1", "price": "2"}]
    assert rows_of(tmp_path, "users") == [{"user_id": "u1", "segment": "north"}]


def test_a_missing_column_is_told_with_the_line_to_write(tmp_path: Path) -> None:
    inputs = {
        "events": write(tmp_path / "e.csv", "who,item_id,event_at\nu1,i1,2024-01-01\n"),
        "items": write(tmp_path / "i.csv", "sku,name\ni1,One\n"),
    }
    with pytest.raises(RecsysError, match=re.escape('columns = {user_id = "who", "items.item_id" = "sku"}')):
        landed(tmp_path, inputs, columns={"user_id": "who"})


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"columns": {"prize": "p"}}, 'columns has the key "prize", which is not one of our columns'),
        ({"columns": {"items.quantity": "q"}}, 'columns has the key "items.quantity"'),
        ({"columns": {"price": "amuont"}}, 'columns names "amuont" for price, and no such column was found: EVENTS .* user_id'),
        ({"columns": {"price": "evnt_at"}}, 'did you mean "event_at"'),
        ({"item_attributes": ["colour"]}, 'item_attributes names "colour", which ITEMS .* does not have; it has item_id'),
        ({"user_attributes": ["age"]}, 'user_attributes names "age", but no users are given; pass USERS='),
    ],
)
def test_a_name_in_the_settings_that_fits_nothing_is_refused(tmp_path: Path, settings: dict[str, Any], words: str) -> None:
    inputs = {"events": write(tmp_path / "e.csv", as_csv(ROWS)), "items": write(tmp_path / "i.csv", ITEMS)}
    with pytest.raises(RecsysError, match=words):
        landed(tmp_path, inputs, **settings)


# Long ids


@pytest.mark.parametrize("table", ["items", "users"])
def test_an_item_or_user_with_a_very_long_id_is_left_out_and_told(table: str, tmp_path: Path) -> None:
    id = f"{table.removesuffix('s')}_id"
    rows = write(tmp_path / "rows.csv", f"{id}\n{'i' * 3_000_000}\n{'k' * 20}\n{'l' * 21}\n")
    (told,) = landed(tmp_path, {"events": write(tmp_path / "e.csv", as_csv(ROWS)), table: rows}, max_id_length=20)
    assert [row[id] for row in rows_of(tmp_path, table)] == ["k" * 20]
    assert (told.value, told.passed) == (2, False)
    assert "2 rows" in told.message
    assert "more than 20 characters" in told.message


# What is for sale


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        (["true", "FALSE", " yes ", "No", "1", "0", ""], [True, False, True, False, True, False, None]),
        (["In Stock", "out_of_stock", "sold-out", "Sold  out", "SOLDOUT"], [True, False, False, False, False]),
        ([1, 0, None], [True, False, None]),
        ([1.0, 0.0, None], [True, False, None]),
        ([True, False, None], [True, False, None]),
    ],
)
def test_words_for_what_is_for_sale_are_read(written: list[Any], meant: list[bool | None], tmp_path: Path) -> None:
    ids = [f"i{number}" for number in range(len(written))]
    pq.write_table(pa.table({"item_id": ids, "is_available": written}), tmp_path / "items.parquet")
    landed(tmp_path, {"events": write(tmp_path / "e.csv", as_csv(ROWS)), "items": tmp_path / "items.parquet"})
    assert [row["is_available"] for row in rows_of(tmp_path, "items")] == meant


@pytest.mark.parametrize("written", ["sold oot", "17", "-1", "maybe", "preorder"])
def test_another_word_for_it_is_refused_with_those_that_are_read(written: str, tmp_path: Path) -> None:
    items = write(tmp_path / "items.csv", f"item_id,is_available\ni1,true\ni2,{written}\n")
    with pytest.raises(
        RecsysError, match=rf'ITEMS .*items\.csv": is_available is "{written}"; write one of true, .*sold out'
    ) as refused:
        landed(tmp_path, {"events": write(tmp_path / "e.csv", as_csv(ROWS)), "items": items})
    assert "\n" not in str(refused.value)


# Attributes and ignored columns


def test_attributes_land_and_other_columns_are_named_as_ignored(tmp_path: Path) -> None:
    items = [{"item_id": 1, "Brand Name": "x", "weight": 2, "size": 1.5, "valid_from": date(2024, 1, 1), "cost": 3, "note": "n"}]
    inputs = {
        "events": write(tmp_path / "e.csv", "user_id,item_id,event_at,email\nu1,1,2024-01-01,a@b.c\n"),
        "items": write(tmp_path / "i.parquet", as_parquet(items)),
        "users": write(tmp_path / "u.csv", "user_id,age\nu1,30\n"),
    }
    listed, names = ["brand", "weight", "size"], {"brand": "brand_name"}
    (told,) = landed(tmp_path, inputs, item_attributes=listed, user_attributes=["age"], columns=names)
    valid_from = datetime(2024, 1, 1, tzinfo=UTC)
    assert rows_of(tmp_path, "items") == [{"item_id": "1", "valid_from": valid_from, "brand": "x", "weight": 2, "size": 1.5}]
    assert rows_of(tmp_path, "users") == [{"user_id": "u1", "age": "30"}]
    assert told.passed
    assert re.search(r'ignored columns: EVENTS "\S+" email; ITEMS "\S+" cost, note;', told.message)


@pytest.mark.parametrize("kind", [".jsonl", ".parquet"])
def test_an_attribute_of_lists_is_told_to_be_left_out(tmp_path: Path, kind: str) -> None:
    items = write(tmp_path / f"i{kind}", FORMATS[kind]([{"item_id": "i1", "markets": ["DE"], "colour": "red"}]))
    events = write(tmp_path / "e.csv", as_csv(ROWS))
    with pytest.raises(RecsysError, match=r'column "markets" .*; leave it out of item_attributes$'):
        landed(tmp_path, {"events": events, "items": items}, item_attributes=["markets", "colour"])


def test_numbers_of_an_attribute_stay_numbers_where_one_file_lacks_it(tmp_path: Path) -> None:
    write(tmp_path / "in" / "a.parquet", as_parquet([{"item_id": "a"}]))
    write(tmp_path / "in" / "b.parquet", as_parquet([{"item_id": "b", "weight": 2}]))
    events = write(tmp_path / "e.csv", as_csv(ROWS))
    landed(tmp_path, {"events": events, "items": tmp_path / "in"}, item_attributes=["weight"])
    assert rows_of(tmp_path, "items") == [{"item_id": "a", "weight": None}, {"item_id": "b", "weight": 2}]


# Formats and layouts

FORMATS: dict[str, Callable[[list[dict[str, Any]]], bytes]] = {
    ".csv": as_csv,
    ".tsv": lambda rows: as_csv(rows, "\t"),
    ".jsonl": as_json,
    ".ndjson": as_json,
    ".parquet": as_parquet,
}
COMPRESSIONS: dict[str, Callable[[bytes], bytes]] = {"": bytes, ".gz": gzip.compress, ".zst": as_zst, ".bz2": bz2.compress}
KINDS = [(kind, packed) for kind, packed in product(FORMATS, COMPRESSIONS) if kind != ".parquet" or not packed]
# Files that are read, files that are not, and what is passed; endings are added to names without one.
LAYOUTS: dict[str, tuple[str, str, str]] = {
    "file": ("one", "two", "one{}"),
    "folder": ("in/a in/b", "c", "in"),
    "nested": ("in/x/a in/y/z/b", "in/README.txt in/_SUCCESS in/.hidden.csv in/.a.csv.crc", "in"),
    "glob": ("in/a in/b", "other/c in/x/README.md", "in/*"),
    "deep glob": ("in/x/a in/b", "in/x/c.txt", "in/**/*{}"),
    "glob of folders": ("in/x1/a in/x2/y/b", "in/z/c", "in/x*"),
    "partitions beside a file": ("in/dt=1/a in/dt=2/_hour=1/b in/c", "", "in"),
}


def spread(layout: str, ending: str, rows: list[dict[str, Any]]) -> tuple[dict[str, list[dict[str, Any]]], str]:
    """The rows of each file of a layout, and the pattern that finds those that are read."""
    wanted, others, pattern = LAYOUTS[layout]
    names = [f"{name}{ending}" for name in wanted.split()]
    files = {name: rows[number :: len(names)] for number, name in enumerate(names)}
    return files | {name if "." in name else f"{name}{ending}": rows[:1] for name in others.split()}, pattern.format(ending)


def users(folder: Path) -> list[str]:
    return sorted(row["user_id"] for row in rows_of(folder))


@pytest.mark.parametrize(("kind", "packed"), KINDS)
def test_every_format_lands_the_same_rows_in_every_layout(tmp_path: Path, kind: str, packed: str) -> None:
    rows = random.Random(7).sample(ROWS, len(ROWS))
    for layout in LAYOUTS:
        files, pattern = spread(layout, kind + packed, rows)
        for name, part in files.items():
            write(tmp_path / layout / name, COMPRESSIONS[packed](FORMATS[kind](part)))
        landed(tmp_path / layout, {"events": tmp_path / layout / pattern})
        assert sorted(rows_of(tmp_path / layout), key=itemgetter("user_id")) == sorted(ROWS, key=itemgetter("user_id")), layout


def test_an_object_store_at_another_address_holds_the_same_layouts(
    s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import boto3

    client, address = boto3.client("s3"), os.environ["AWS_ENDPOINT_URL"]
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    for layout in ("file", "nested", "deep glob", "partitions beside a file"):
        files, pattern = spread(layout, ".csv", ROWS)
        for name, part in files.items():
            client.put_object(Bucket="shop", Key=f"{tmp_path.name}/{layout}/{name}", Body=as_csv(part))
        (tmp_path / layout).mkdir()
        landed(tmp_path / layout, {"events": f"{s3}/{tmp_path.name}/{layout}/{pattern}"}, address)
        assert users(tmp_path / layout) == sorted(row["user_id"] for row in ROWS), layout


def test_a_folder_of_a_bucket_is_not_its_neighbour(s3: str, tmp_path: Path) -> None:
    import boto3

    for name in ("in/a.csv", "in-old/b.csv"):
        boto3.client("s3").put_object(Bucket="shop", Key=f"{tmp_path.name}/{name}", Body=as_csv(ROWS))
    landed(tmp_path, {"events": f"{s3}/{tmp_path.name}/in/"})
    assert len(rows_of(tmp_path)) == len(ROWS)


@pytest.mark.parametrize("pattern", ["", "/*.parquet", "/nothing"])
def test_an_address_without_objects_is_one_error(s3: str, tmp_path: Path, pattern: str) -> None:
    with pytest.raises(RecsysError, match="holds no object; pass"):
        landed(tmp_path, {"events": f"{s3}/nowhere{pattern}"})


def test_a_bucket_that_is_not_there_is_one_error(s3: str, tmp_path: Path) -> None:
    with pytest.raises(RecsysError, match=r'EVENTS "s3://nowhere/x" cannot be fetched: .*; check the address') as error:
        landed(tmp_path, {"events": "s3://nowhere/x"})
    assert "\n" not in str(error.value)


def test_a_partition_is_a_column_unless_the_file_has_it(tmp_path: Path) -> None:
    write(tmp_path / "in" / "day=2024-01-01" / "country=C%C3%B4te" / "a.csv", "user_id,item_id\nu1,i1\n")
    write(tmp_path / "in" / "day=2024-01-02" / "country=__HIVE_DEFAULT_PARTITION__" / "b.csv", "user_id,item_id\nu2,i2\n")
    write(tmp_path / "in" / "day=2024-01-03" / "c.csv", "user_id,item_id,Day\nu3,i3,2024-03-03\n")
    landed(tmp_path, {"events": tmp_path / "in"}, columns={"event_at": "day", "session_id": "country"})
    seen = [(row["user_id"], row["event_at"], row["session_id"]) for row in rows_of(tmp_path)]
    assert seen == [("u1", "2024-01-01", "Côte"), ("u2", "2024-01-02", None), ("u3", "2024-03-03", None)]


def test_files_with_other_columns_are_united_by_name(tmp_path: Path) -> None:
    write(tmp_path / "in" / "a.csv", "user_id,item_id,event_at,price\nu1,i1,2024-01-01,5\n")
    write(tmp_path / "in" / "b.csv", "event_at,item_id,user_id,quantity\n2024-01-02,i2,u2,3\n")
    landed(tmp_path, {"events": tmp_path / "in"})
    assert [(row["price"], row["quantity"]) for row in rows_of(tmp_path)] == [("5", None), (None, "3")]


def test_a_data_file_that_is_passed_over_is_told(tmp_path: Path) -> None:
    write(tmp_path / "in" / "a.csv", as_csv(ROWS))
    write(tmp_path / "in" / "_temporary" / "b.csv", as_csv(ROWS))
    (told,) = landed(tmp_path, {"events": tmp_path / "in"})
    assert (told.name, told.passed, "_temporary/b.csv" in told.message) == ("files_not_read", False, True)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("notes.docx", r'notes.docx" ends in ".docx"; pass .csv'),
        ("part-0000", r'part-0000" ends in ""; pass .csv'),
        ("_delta_log/00.json", "is a Delta table"),
        ("empty.csv", "is empty; pass a file with rows"),
    ],
)
def test_what_would_be_lost_in_silence_is_refused(tmp_path: Path, name: str, words: str) -> None:
    write(tmp_path / "in" / "a.csv", as_csv(ROWS))
    write(tmp_path / "in" / name, b"" if "empty" in name else b"x")
    with pytest.raises(RecsysError, match=words):
        landed(tmp_path, {"events": tmp_path / "in"})


def test_a_link_to_nothing_is_not_passed_over(tmp_path: Path) -> None:
    write(tmp_path / "in" / "a.csv", as_csv(ROWS))
    (tmp_path / "in" / "b.csv").symlink_to(tmp_path / "gone.csv")
    with pytest.raises(RecsysError, match=r'b\.csv" is not a file; pass'):
        landed(tmp_path, {"events": tmp_path / "in"})


# Content


@pytest.mark.parametrize("name", ["e.csv.gz", "e.csv"])
def test_compression_is_seen_by_content(tmp_path: Path, name: str) -> None:
    data = as_csv(ROWS)
    landed(tmp_path, {"events": write(tmp_path / name, data if name.endswith("gz") else gzip.compress(data))})
    assert len(rows_of(tmp_path)) == len(ROWS)


@pytest.mark.parametrize("kind", [".csv", ".jsonl"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_byte_order_mark_says_the_encoding(tmp_path: Path, kind: str, encoding: str) -> None:
    rows = [ROWS[0] | {"user_id": "Zoë 😀"}]
    data = FORMATS[kind](rows).decode()
    text = data.replace("\\u00eb", "ë")
    landed(tmp_path, {"events": write(tmp_path / f"e{kind}.gz", gzip.compress(text.encode(encoding)))})
    assert rows_of(tmp_path)[0]["user_id"] == "Zoë 😀"


def test_ids_and_times_of_json_are_the_text_that_was_written(tmp_path: Path) -> None:
    lines = (
        '{"user_id": 12345678901234567890123, "item_id": 1e5, "event_at": 1704067200123, "more": {"a": [1]}}\n\n'
        '{"user_id": 7.0, "item_id": true, "event_at": 0.10, "price": 1.50}\n{"user_id": null, "price": null}\n'
    )
    landed(tmp_path, {"events": write(tmp_path / "e.json", lines)})
    assert rows_of(tmp_path) == [
        {"user_id": "12345678901234567890123", "item_id": "1e5", "event_at": "1704067200123", "price": None},
        {"user_id": "7.0", "item_id": "true", "event_at": "0.10", "price": "1.50"},
        {"user_id": None, "item_id": None, "event_at": None, "price": None},
    ]


def test_a_column_that_json_shows_late_is_not_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recsys.sources.files.JSON_BATCH_ROWS", 2)
    rows = [{"user_id": "u", "item_id": "i", "event_at": "2024-01-01"} | ({"price": 1} if n == 4 else {}) for n in range(5)]
    landed(tmp_path, {"events": write(tmp_path / "e.jsonl", as_json(rows))})
    assert [row["price"] for row in rows_of(tmp_path)] == [None] * 4 + ["1"]


TEXTS = {
    "dictionary": (pa.array(["a"]).dictionary_encode(), "a"),
    "large string": (pa.array(["a"], pa.large_string()), "a"),
    "string view": (pa.array(["a"], pa.string_view()), "a"),
    "binary": (pa.array([b"a"]), "a"),
    "whole decimal": (pa.array([Decimal(7)], pa.decimal128(38, 0)), "7"),
    "largest integer": (pa.array([2**64 - 1], pa.uint64()), "18446744073709551615"),
    "uuid": (pa.array([UUID(int=5).bytes], pa.uuid()), str(UUID(int=5))),
}


@pytest.mark.parametrize("kind", TEXTS)
def test_ids_of_every_type_of_parquet_are_text(tmp_path: Path, kind: str) -> None:
    column, text = TEXTS[kind]
    pq.write_table(pa.table({"user_id": column, "item_id": ["i"], "event_at": ["2024-01-01"]}), tmp_path / "e.parquet")
    landed(tmp_path, {"events": tmp_path / "e.parquet"})
    assert rows_of(tmp_path)[0]["user_id"] == text


NOON = datetime(2024, 7, 1, 12)
TIMES = {
    "local": (pa.array([NOON], pa.timestamp("ms")), "2024-07-01 12:00:00.000000"),
    "nanoseconds": (pa.array([NOON], pa.timestamp("ns")), "2024-07-01 12:00:00.000000"),
    "zoned": (pa.array([NOON], pa.timestamp("us", "Asia/Tokyo")), NOON.replace(tzinfo=UTC)),
    "day": (pa.array([NOON.date()]), "2024-07-01 00:00:00.000000"),
    "seconds": (pa.array([1_719_835_200]), "1719835200"),
    "fractions": (pa.array([1_719_835_200.5]), "1719835200.5"),
    "text": (pa.array(["noon"]), "noon"),
}


@pytest.mark.parametrize("kind", TIMES)
def test_times_are_instants_or_text(tmp_path: Path, kind: str) -> None:
    column, wanted = TIMES[kind]
    pq.write_table(pa.table({"user_id": ["u"], "item_id": ["i"], "event_at": column}), tmp_path / "e.parquet")
    landed(tmp_path, {"events": tmp_path / "e.parquet"}, time_zone="Europe/London")
    assert rows_of(tmp_path)[0]["event_at"] == wanted


def test_old_timestamps_of_spark_reach_the_year_9999(tmp_path: Path) -> None:
    far = pa.array([datetime(9999, 12, 31)], pa.timestamp("us"))
    table = pa.table({"item_id": ["i"], "withdrawn_at": far})
    pq.write_table(table, tmp_path / "i.parquet", use_deprecated_int96_timestamps=True)
    landed(tmp_path, {"events": write(tmp_path / "e.csv", as_csv(ROWS)), "items": tmp_path / "i.parquet"})
    assert rows_of(tmp_path, "items")[0]["withdrawn_at"] == datetime(9999, 12, 31, tzinfo=UTC)


@pytest.mark.parametrize(
    ("column", "value"), [("price", [[1.0]]), ("price", [b"1"]), ("event_at", [True]), ("event_at", [[1]]), ("user_id", [[1]])]
)
def test_a_column_of_another_kind_is_one_error(tmp_path: Path, column: str, value: list[Any]) -> None:
    row = {"user_id": ["u"], "item_id": ["i"], "event_at": ["2024-01-01"]} | {column: value}
    pq.write_table(pa.table(row), tmp_path / "e.parquet")
    with pytest.raises(RecsysError, match=rf'^EVENTS "\S+": {column} is of type .*; store '):
        landed(tmp_path, {"events": tmp_path / "e.parquet"})


def test_thousands_of_columns_and_a_quoted_line_end_are_read(tmp_path: Path) -> None:
    row = (
        {"user_id": "two\nlines"}
        | {f"column number {n}, with a comma": "x" for n in range(3_000)}
        | {"item_id": "i", "event_at": "t"}
    )
    landed(tmp_path, {"events": write(tmp_path / "e.csv", as_csv([row]))})
    assert rows_of(tmp_path) == [{"user_id": "two\nlines", "item_id": "i", "event_at": "t"}]


def test_batches_of_any_origin_land_in_the_same_way(tmp_path: Path) -> None:
    table = pa.table({"Customer": [1, 2], "item_id": ["a", "b"], "event_at": [NOON] * 2, "discount": [0, 1]})
    origin = Origin('query "events.sql"', lambda choose: table.to_batches(max_chunksize=1))
    told = land(tmp_path, {"events": Input("EVENTS", [origin])}, dataset(columns={"user_id": "customer"}))
    assert [row["user_id"] for row in pq.read_table(tmp_path / "events" / "0000.parquet").to_pylist()] == ["1", "2"]
    assert [one.message for one in told if "discount" in one.message]
    assert {path.name for path in tmp_path.iterdir()} == set(TABLES)


# Copies, changes and damage


def test_a_file_that_is_given_twice_is_read_once_and_told(tmp_path: Path) -> None:
    content = as_csv(ROWS)
    (tmp_path / "day").mkdir()
    for name, copied in (("a.csv", content), ("b.csv", content), ("c.csv.gz", gzip.compress(content)), ("d.csv", as_csv(ROWS[:9]))):
        write(tmp_path / "day" / name, copied)
    (told,) = landed(tmp_path, {"events": tmp_path / "day"})
    assert len(rows_of(tmp_path)) == len(ROWS) + 9
    assert (told.name, told.value, told.passed) == ("files_given_twice", 2, False)
    assert all(name in told.message for name in ("b.csv", "c.csv.gz", "a.csv"))


def test_links_and_a_glob_that_finds_a_file_twice_count_once(tmp_path: Path) -> None:
    write(tmp_path / "day" / "a.csv", as_csv(ROWS))
    (tmp_path / "day" / "b.csv").symlink_to(tmp_path / "day" / "a.csv")
    landed(tmp_path, {"events": f"{tmp_path}/**/*.csv"})
    assert len(rows_of(tmp_path)) == len(ROWS)


def test_equal_files_of_different_days_are_no_copies(tmp_path: Path) -> None:
    rows = [{"user_id": "u1", "item_id": "i1"}]
    for day in ("2024-01-01", "2024-01-02"):
        write(tmp_path / "days" / f"event_at={day}" / "part.csv", as_csv(rows))
    assert landed(tmp_path, {"events": tmp_path / "days"}) == []
    assert [row["event_at"] for row in rows_of(tmp_path)] == ["2024-01-01", "2024-01-02"]


def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write(tmp_path / "e.csv", as_csv(ROWS))
    reader = files.READERS["CSV"]

    def grow(*arguments: Any) -> Any:
        yield from reader(*arguments)
        with file.open("a") as grown:
            grown.write("u1,i1,2024-01-09,1.50\n")

    monkeypatch.setitem(files.READERS, "CSV", grow)
    with pytest.raises(RecsysError, match=r"e\.csv\" changed while it was read; run again"):
        landed(tmp_path, {"events": file})


def test_a_flipped_bit_in_a_page_with_a_checksum_is_found(tmp_path: Path) -> None:
    file = tmp_path / "e.parquet"
    pq.write_table(pa.Table.from_pylist(ROWS), file, write_page_checksum=True, compression="none", use_dictionary=False)
    whole = file.read_bytes()
    column = pq.read_metadata(file).row_group(0).column(0)
    end = column.data_page_offset + column.total_compressed_size
    for place in range(end - 200, end, 9):
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(RecsysError, match=r"e\.parquet\" cannot be read as Parquet: .*; repair or convert it"):
            list(files.read(str(file), f'EVENTS "{file}"'))


def test_landed_pages_have_checksums(tmp_path: Path) -> None:
    landed(tmp_path, {"events": write(tmp_path / "e.csv", as_csv(ROWS))})
    (file, *_) = sorted((tmp_path / "raw" / "events").iterdir())
    whole = file.read_bytes()
    first = pq.read_metadata(file).row_group(0).column(0)
    start = first.data_page_offset if first.dictionary_page_offset is None else first.dictionary_page_offset
    last = start + first.total_compressed_size - 1
    file.write_bytes(whole[:last] + bytes([whole[last] ^ 4]) + whole[last + 1 :])
    with pytest.raises(OSError, match="CRC"):
        pq.ParquetFile(file, page_checksum_verification=True).read()
