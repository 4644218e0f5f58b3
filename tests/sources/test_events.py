"""Bring your own: what may be handed over, what is told apart, and ids that stay what they are."""

import csv
import gzip
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys import RecsysError
from recsys.settings.run import Dataset
from recsys.sources.columns import TABLES
from recsys.sources.events import Events
from recsys.sources.registry import check_inputs, open_source

HEADER = "user_id,item_id,event_at\n"
ROW = "u1,i1,2024-01-01\n"
ODD_IDS = [
    "007", "1e5", "1.0", "-0", "0x1F", "true", "NULL", "null", "NA", "nan", "None", "#N/A", "2024-01-01",
    "😀", "Zoë", 'a"b', "'); drop table events; --", "a,b;c|d\te", " padded ", "two\nlines", "\\N",
]  # fmt: skip


def land(folder: Path, **inputs: Path | str) -> Path:
    """Folder of the raw tables made from these inputs."""
    target = folder / "landed"
    target.mkdir()
    source_settings = {name: str(path) for name, path in inputs.items()}
    open_source(Dataset(source="events", horizon_days=7, step_days=7, source_settings=source_settings)).land(target)
    return target


def read(folder: Path, table: str) -> pa.Table:
    """All files of a table as one, its columns in our order."""
    whole = pa.concat_tables((pq.read_table(path) for path in sorted((folder / table).iterdir())), promote_options="permissive")
    ours = [name for name in TABLES[table] if name in whole.column_names]
    return whole.select([*ours, *(name for name in whole.column_names if name not in ours)])


def write(path: Path, content: str | bytes | pa.Table) -> Path:
    if isinstance(content, pa.Table):
        pq.write_table(content, path)
    else:
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def parquet_bytes() -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"user_id": ["u1"], "item_id": ["i1"], "event_at": ["2024-01-01"]}), sink)
    return sink.getvalue().to_pybytes()


def write_csv(path: Path, ids: list[str]) -> None:
    with path.open("w", encoding="utf8", newline="") as file:
        csv.writer(file).writerows([("user_id", "item_id", "event_at"), *((id, id, "2024-01-01") for id in ids)])


def write_parquet(path: Path, ids: list[str]) -> None:
    pq.write_table(pa.table({"user_id": ids, "item_id": ids, "event_at": ["2024-01-01"] * len(ids)}), path)


def test_events_must_be_given() -> None:
    with pytest.raises(RecsysError, match="EVENTS is not given; pass EVENTS=path"):
        Events(items="items.csv")


def test_a_csv_lands_as_text_in_its_order(tmp_path: Path) -> None:
    path = write(
        tmp_path / "events.csv", "item_id,price,user_id,event_at,quantity\ni1,1.50,u1,yesterday,two\ni2,,u2,2024-01-02,2\n"
    )
    events = read(land(tmp_path, events=path), "events")
    assert events.select(["user_id", "item_id", "event_at", "quantity", "price"]).to_pylist() == [
        {"user_id": "u1", "item_id": "i1", "event_at": "yesterday", "quantity": "two", "price": "1.50"},
        {"user_id": "u2", "item_id": "i2", "event_at": "2024-01-02", "quantity": "2", "price": None},
    ]
    assert set(events.schema.types) == {pa.string()}


def test_parquet_keeps_its_types(tmp_path: Path) -> None:
    at = pa.array([0], pa.timestamp("us", "UTC"))
    path = write(tmp_path / "events.parquet", pa.table({"user_id": ["u"], "item_id": ["i"], "event_at": at, "price": [1.5]}))
    schema = read(land(tmp_path, events=path), "events").schema
    assert schema.field("event_at").type == at.type
    assert schema.field("price").type == pa.float64()


@pytest.mark.parametrize("pattern", ["", "*.csv", "ma*"])
def test_a_folder_or_a_glob_lands_every_file_by_name(tmp_path: Path, pattern: str) -> None:
    (tmp_path / "in").mkdir()
    write(tmp_path / "in" / "march.csv", HEADER + "second,i,2024-03-01\n")
    write(tmp_path / "in" / "mai.csv", HEADER + "first,i,2024-02-01\n")
    write(tmp_path / "in" / ".hidden", "no table at all")
    events = read(land(tmp_path, events=tmp_path / "in" / pattern), "events")
    assert events["user_id"].to_pylist() == ["first", "second"]


def test_a_folder_may_hold_both_kinds_of_file(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    write(tmp_path / "in" / "a.csv", HEADER + ROW)
    write_parquet(tmp_path / "in" / "b.parquet", ["u2"])
    assert read(land(tmp_path, events=tmp_path / "in"), "events")["user_id"].to_pylist() == ["u1", "u2"]


def test_a_file_of_a_folder_may_have_a_header_and_no_rows(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    write(tmp_path / "in" / "january.csv", HEADER)
    write(tmp_path / "in" / "june.csv", HEADER + ROW)
    assert read(land(tmp_path, events=tmp_path / "in"), "events")["user_id"].to_pylist() == ["u1"]


@pytest.mark.parametrize("write_ids", [write_csv, write_parquet])
def test_odd_ids_stay_what_they_are(tmp_path: Path, write_ids: Callable[[Path, list[str]], None]) -> None:
    path = tmp_path / f"events.{write_ids.__name__.removeprefix('write_')}"
    write_ids(path, ODD_IDS)
    events = read(land(tmp_path, events=path), "events")
    assert events["user_id"].to_pylist() == ODD_IDS
    assert events["item_id"].to_pylist() == ODD_IDS


def test_an_empty_field_is_missing_and_the_text_null_is_not(tmp_path: Path) -> None:
    path = write(tmp_path / "events.csv", HEADER + 'NULL,,2024-01-01\n"",null,\n')
    events = read(land(tmp_path, events=path), "events").select(["user_id", "item_id", "event_at"])
    assert events.to_pylist() == [
        {"user_id": "NULL", "item_id": None, "event_at": "2024-01-01"},
        {"user_id": "", "item_id": "null", "event_at": None},
    ]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_delimiters_line_ends_and_a_byte_order_mark_are_seen(tmp_path: Path, delimiter: str, line_end: str, mark: str) -> None:
    rows = ['"user_id",item_id,event_at', '"u 1",i1,2024-01-01', "u2,i2,2024-01-02"]
    path = write(tmp_path / "events.csv", mark + line_end.join(rows).replace(",", delimiter))
    events = read(land(tmp_path, events=path), "events").select(["user_id", "item_id", "event_at"])
    assert [list(row.values()) for row in events.to_pylist()] == [["u 1", "i1", "2024-01-01"], ["u2", "i2", "2024-01-02"]]


def test_integer_ids_become_text(tmp_path: Path) -> None:
    ids = pa.array([7, None, 12_345_678_901], pa.int64())
    path = write(tmp_path / "events.parquet", pa.table({"user_id": ids, "item_id": ids, "event_at": ["2024-01-01"] * 3}))
    events = read(land(tmp_path, events=path), "events")
    assert events["user_id"].to_pylist() == events["item_id"].to_pylist() == ["7", None, "12345678901"]


@pytest.mark.parametrize("column", ["user_id", "item_id", "session_id", "event_id"])
def test_float_ids_are_refused(tmp_path: Path, column: str) -> None:
    columns = {"user_id": ["u"], "item_id": ["i"], "event_at": ["2024-01-01"]} | {column: pa.array([7.0])}
    path = write(tmp_path / "events.parquet", pa.table(columns))
    with pytest.raises(RecsysError, match=f"{column} is of type double.* store ids as text or integers"):
        land(tmp_path, events=path)


@pytest.mark.parametrize("ids", [[["u"]], [{"id": "u"}], [b"\xff"]], ids=["list", "struct", "no text"])
def test_ids_that_have_no_text_are_refused(tmp_path: Path, ids: list[Any]) -> None:
    path = write(tmp_path / "events.parquet", pa.table({"user_id": ids, "item_id": ["i"], "event_at": ["2024-01-01"]}))
    with pytest.raises(RecsysError, match="user_id"):
        land(tmp_path, events=path)


def test_absent_optional_columns_are_there_and_missing_throughout(tmp_path: Path) -> None:
    path = write(tmp_path / "events.csv", HEADER + ROW + ROW)
    events = read(land(tmp_path, events=path), "events")
    optional = set(TABLES["events"]) - {"user_id", "item_id", "event_at"}
    assert events.column_names == list(TABLES["events"])
    assert all(events[name].null_count == 2 for name in optional)


def test_columns_that_nobody_asked_for_are_left_out(tmp_path: Path) -> None:
    path = write(tmp_path / "events.csv", "email,user_id,item_id,event_at,note,note\na@b.c,u,i,2024-01-01,x,y\n")
    assert not {"email", "note"} & set(read(land(tmp_path, events=path), "events").column_names)


def test_items_and_users_that_are_not_given_are_empty_tables(tmp_path: Path) -> None:
    folder = land(tmp_path, events=write(tmp_path / "events.csv", HEADER + ROW))
    items, users = read(folder, "items"), read(folder, "users")
    assert items.column_names == list(TABLES["items"])
    assert users.column_names == list(TABLES["users"])
    assert len(items) == len(users) == 0


def test_items_and_users_land_when_given(tmp_path: Path) -> None:
    events = write(tmp_path / "events.csv", HEADER + ROW)
    items = write(tmp_path / "items.csv", "item_id,title,is_available\n007,A title,false\n")
    users = write(tmp_path / "users.parquet", pa.table({"user_id": [7], "segment": ["north"]}))
    folder = land(tmp_path, events=events, items=items, users=users)
    assert read(folder, "items").to_pylist() == [
        dict.fromkeys(TABLES["items"]) | {"item_id": "007", "title": "A title", "is_available": False}
    ]
    assert read(folder, "users").to_pylist() == [{"user_id": "7", "segment": "north", "valid_from": None}]


BROKEN: dict[str, tuple[str, str | bytes]] = {
    "missing column": ("events.csv", "user_id,item_id\nu,i\n"),
    "two columns that read the same": ("events.csv", "User_ID,userId,item_id,event_at\nu,v,i,2024-01-01\n"),
    "column named twice": ("events.csv", "user_id,item_id,event_at,user_id\nu,i,2024-01-01,v\n"),
    "empty": ("events.csv", ""),
    "empty parquet": ("events.parquet", ""),
    "header only": ("events.csv", HEADER),
    "header without an end": ("events.csv", HEADER.strip()),
    "row too short": ("events.csv", HEADER + ROW + "u,i\n"),
    "row too long": ("events.csv", HEADER + ROW + "u,i,2024-01-01,more\n"),
    "quote without an end": ("events.csv", HEADER + '"' + ROW + ROW),
    "binary": ("events.csv", bytes(range(256)) * 20),
    "parquet named csv": ("events.csv", parquet_bytes()),
    "csv named parquet": ("events.parquet", HEADER + ROW),
    "parquet cut short": ("events.parquet", parquet_bytes()[:-20]),
    "json lines": ("events.csv", '{"user_id": "u", "item_id": "i"}\n{"user_id": "u", "item_id": "i"}\n'),
    "json list": ("events.csv", '[\n  {"user_id": "u", "item_id": "i", "event_at": "2024-01-01"}\n]\n'),
    "prose": ("events.csv", "no table at all\njust words\n"),
    "another encoding without a mark": ("events.csv", (HEADER + ROW).encode("utf-16-le")),
    "another code page": ("events.csv", (HEADER + ROW.replace("u1", "Zoë")).encode("latin-1")),
    "wrong ending": ("events.xlsx", HEADER + ROW),
    "csv named json": ("events.json", HEADER + ROW),
    "json list of one line": ("events.jsonl", '[{"user_id": "u", "item_id": "i", "event_at": "2024-01-01"}]'),
    "json over several lines": ("events.json", '{\n  "user_id": "u",\n  "item_id": "i"\n}\n'),
    "json cut short": ("events.jsonl", '{"user_id": "u", "item_id": "i", "event_at": "2024-01-01"}\n{"user_id": "u'),
    "json that is nested": ("events.jsonl", '{"user_id": {"id": "u"}, "item_id": "i", "event_at": "2024-01-01"}'),
    "json with half a character": ("events.jsonl", '{"user_id": "\\ud800", "item_id": "i", "event_at": "2024-01-01"}'),
    "gzip cut short": ("events.csv.gz", gzip.compress((HEADER + ROW).encode())[:-9]),
    "gzip of something else": ("events.csv.gz", gzip.compress(bytes(range(256)))),
    "compressed parquet": ("events.parquet.gz", gzip.compress(parquet_bytes())),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_file_is_one_error_that_names_source_setting_and_file(tmp_path: Path, case: str) -> None:
    name, content = BROKEN[case]
    path = write(tmp_path / name, content)
    with pytest.raises(
        RecsysError, match=f'^EVENTS "{re.escape(str(path))}":? .*([;:] (pass|rename|repair|store|if)|write in)'
    ) as error:
        land(tmp_path, events=path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["events.csv", "events.jsonl"])
def test_a_file_of_latin_1_is_told_how_to_convert_it(tmp_path: Path, name: str) -> None:
    content = (
        '{"user_id": "Zoë", "item_id": "i", "event_at": "2024-01-01"}' if name.endswith("l") else HEADER + "Zoë,i,2024-01-01\n"
    )
    with pytest.raises(RecsysError, match="is not UTF-8; if it is Latin-1, convert it: iconv"):
        land(tmp_path, events=write(tmp_path / name, content.encode("latin-1")))


def test_a_missing_column_is_named_beside_those_that_are_there(tmp_path: Path) -> None:
    path = write(tmp_path / "events.csv", "user_id,item,event_time\nu,i,2024-01-01\n")
    with pytest.raises(RecsysError, match="has no column item_id, event_at; it has user_id, item, event_time: write in") as error:
        land(tmp_path, events=path)
    assert 'columns = {item_id = "item", event_at = "event_time"}' in str(error.value)


def test_a_column_that_the_section_leaves_out_is_not_read(tmp_path: Path) -> None:
    path = write(tmp_path / "events.csv", "user_id,item_id,event_at,price\nu,i,2024-01-01,1\n")
    for number, key in enumerate(("price", "events.price")):
        target = tmp_path / str(number)
        target.mkdir()
        dataset = Dataset("events", 7, 7, columns={key: ""}, source_settings={"events": str(path)})
        open_source(dataset).land(target)
        assert read(target, "events")["price"].to_pylist() == [None]


@pytest.mark.parametrize("key", ["user_id", "users.user_id"])
def test_a_required_column_cannot_be_left_out(key: str) -> None:
    with pytest.raises(RecsysError, match=f'columns has {key} = "", but user_id is required'):
        open_source(Dataset("events", 7, 7, columns={key: ""}, source_settings={"events": "events.csv"}))


def test_a_misspelt_column_is_told_with_the_one_that_is_meant(tmp_path: Path) -> None:
    path = write(tmp_path / "events.csv", "client,item_id,event_at\nu,i,2024-01-01\n")
    dataset = Dataset("events", 7, 7, columns={"user_id": "clientt"}, source_settings={"events": str(path)})
    with pytest.raises(RecsysError, match='columns names "clientt" for user_id, which it lacks: did you mean "client"') as error:
        open_source(dataset).land(tmp_path)
    assert 'columns = {user_id = "client"}' in str(error.value)


def test_the_file_of_a_folder_that_is_broken_is_named(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    write(tmp_path / "in" / "january.csv", HEADER + ROW)
    bad = write(tmp_path / "in" / "march.csv", "user_id,item_id\nu,i\n")
    with pytest.raises(RecsysError, match=f'^EVENTS "{re.escape(str(bad))}" has no column event_at'):
        land(tmp_path, events=tmp_path / "in")


@pytest.mark.parametrize("name", ["nowhere.csv", "nowhere", "nowhere/*.csv"])
def test_a_path_that_is_not_there_is_named(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    with pytest.raises(RecsysError, match=f'^EVENTS "{re.escape(str(path))}" is not a file; pass EVENTS=path'):
        land(tmp_path, events=path)


def test_a_folder_with_nothing_in_it_is_named(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    with pytest.raises(RecsysError, match=f'^EVENTS "{re.escape(str(tmp_path / "in"))}" holds no file to read; pass'):
        land(tmp_path, events=tmp_path / "in")


@pytest.mark.parametrize(("source_setting", "column"), [("items", "item_id"), ("users", "user_id")])
def test_items_and_users_are_named_by_their_own_source_settings(tmp_path: Path, source_setting: str, column: str) -> None:
    events = write(tmp_path / "events.csv", HEADER + ROW)
    path = write(tmp_path / f"{source_setting}.csv", "name\nx\n")
    with pytest.raises(RecsysError, match=f'^{source_setting.upper()} "{re.escape(str(path))}" has no column {column}'):
        land(tmp_path, events=events, **{source_setting: path})


def test_a_file_that_the_source_does_not_take_is_told_with_those_that_it_takes() -> None:
    check_inputs("events", {"events": "a.csv", "items": "b.csv"}, "orders")
    with pytest.raises(
        RecsysError, match=r'RAW is "a.csv", but dataset "orders" .* takes no RAW=; pass EVENTS= or ITEMS= or USERS='
    ):
        check_inputs("events", {"raw": "a.csv"}, "orders")
