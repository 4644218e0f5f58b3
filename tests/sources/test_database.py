"""A database as a source: what lands, what is refused, and that no message repeats the connection."""

import datetime as dt
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from postgresql import PASSWORD, Server
from recsys import RecsysError
from recsys.settings.run import Dataset
from recsys.sources import database
from recsys.sources.base import Access, Source
from recsys.sources.database import Database, hide
from recsys.sources.registry import open_source

ROW = "select 'u' as user_id, 'i' as item_id, '2024-01-01' as event_at"
SECRET = "secret-Pa55"
FORMS = (PASSWORD, quote(PASSWORD, safe=""))


def write(folder: Path, **queries: str) -> Path:
    """The queries' folder."""
    target = folder / "dbt_project" / "queries" / "mine"
    target.mkdir(parents=True)
    for name, query in queries.items():
        (target / f"{name}.sql").write_text(query)
    return target


def prepare(queries: Path, connection: str = "postgresql://h/d", **source_settings: Any) -> Source:
    dataset = Dataset(
        source="database", horizon_days=28, step_days=14, source_settings={"connection_env": "SHOP_URL"} | source_settings
    )
    source = open_source(dataset)
    source.prepare(Access(queries, {"SHOP_URL": connection}))
    return source


def land(folder: Path, connection: str, **queries: str) -> Path:
    target = folder / "landed"
    target.mkdir()
    prepare(write(folder, **queries), connection).land(target)
    return target


def read(folder: Path, table: str) -> pa.Table:
    return pa.concat_tables(map(pq.read_table, sorted((folder / table).iterdir())), promote_options="default")


def refused(call: Any, *arguments: Any, **queries: Any) -> str:
    """The one line of an error."""
    with pytest.raises(RecsysError) as error:
        call(*arguments, **queries)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    ("connection", "said"),
    [
        (f"postgresql://recs:{SECRET}@db:5432/shop", f'cannot read "postgresql://recs:{SECRET}@db:5432/shop"'),
        (f"postgresql://recs:{SECRET}@db/shop", f"password {SECRET} is wrong"),
        (f"postgresql://recs@db/shop?password={SECRET}", f"password {SECRET} is wrong"),
        ("postgresql://recs:secret%2DPa55@db/shop", f'"secret%2DPa55" decodes to {SECRET}'),
        (f"postgresql://recs:{SECRET}%%@db/shop", f'invalid percent-encoded token: "{SECRET}%%"'),
        (f"postgresql://recs:p@{SECRET}@db/shop", f'could not translate host name "{SECRET}@db"'),
        (f"postgresql://recs:{SECRET}/x@db/shop", f'invalid port "{SECRET}"'),
        (f"host=db password='{SECRET}' user=recs", f"password {SECRET} is wrong"),
        (f'{{"private_key": "{SECRET}"}}', f"key {SECRET} is wrong"),
        (f"recs:{SECRET}@account/shop/public?warehouse=small", f"password {SECRET} is wrong"),
    ],
)
def test_no_form_of_a_secret_is_repeated(connection: str, said: str) -> None:
    told = hide(said, connection)
    assert "***" in told
    assert SECRET not in told
    assert unquote("secret%2DPa55") not in told
    assert "secret%2DPa55" not in told


def test_user_host_and_database_of_a_well_formed_uri_are_told() -> None:
    said = 'database "shop" on db:5432 does not exist for user recs'
    assert hide(said, f"postgresql://recs:{SECRET}@db:5432/shop?sslmode=require") == said


def test_a_word_that_only_contains_the_password_stays() -> None:
    assert hide("the shops of a shop", "postgresql://recs:shop@db/x") == "the shops of a ***"


@pytest.mark.parametrize(
    ("source_settings", "words"),
    [
        ({"driver": "oracle7"}, 'driver "oracle7" is not installed; add adbc-driver-oracle7'),
        ({"driver": "../x"}, 'driver is "../x"'),
        ({"connection_env": "OTHER_URL"}, "OTHER_URL is not set in the environment"),
    ],
)
def test_what_is_wrong_is_told_before_anything_is_read(tmp_path: Path, source_settings: dict[str, str], words: str) -> None:
    assert words in refused(prepare, write(tmp_path, events=ROW), **source_settings)


def test_a_connection_in_the_place_of_its_name_is_not_repeated(tmp_path: Path) -> None:
    told = refused(prepare, write(tmp_path, events=ROW), connection_env=f"postgresql://recs:{SECRET}@db/shop")
    assert "connection_env" in told
    assert SECRET not in told


def test_a_missing_query_is_named_with_its_path_and_columns(tmp_path: Path) -> None:
    told = refused(prepare, write(tmp_path, items="select 1"))
    assert told.startswith("dbt_project/queries/mine/events.sql is not there")
    assert "user_id, item_id, event_at" in told


def test_a_query_of_no_known_table_is_refused(tmp_path: Path) -> None:
    told = refused(prepare, write(tmp_path, events=ROW, item=ROW))
    assert told.startswith("dbt_project/queries/mine/item.sql ")
    assert "items.sql" in told


def test_the_environment_shows_in_no_text_of_an_access(tmp_path: Path) -> None:
    assert SECRET not in repr(Access(tmp_path, {"SHOP_URL": SECRET}))


def test_every_type_lands_as_staging_reads_it(tmp_path: Path, postgresql: Server) -> None:
    events = """
        select
            '6f1f2ad9-7d1c-4b37-a2b8-2f0d4b0b6f5e'::uuid as user_id,
            9007199254740993::bigint as item_id,
            timestamptz '2024-01-01 10:00:00+02' as event_at,
            2::numeric as quantity,
            12.50::numeric(10, 2) as price,
            null as session_id,
            '{"a": 1}'::jsonb as event_id,
            inet '10.0.0.1' as address -- nobody asked for it
        union all
        select null, 7, timestamp '2024-01-02 12:00:00', null, 'NaN', null, null, null
    """
    items = "select 1.50::numeric as item_id, true as is_available, date '2024-01-03' as available_from;\n"
    folder = land(tmp_path, postgresql.url, events=events, items=items)
    assert read(folder, "events").drop_columns("rating").to_pylist() == [
        {
            "user_id": "6f1f2ad9-7d1c-4b37-a2b8-2f0d4b0b6f5e",
            "item_id": "9007199254740993",
            "event_at": dt.datetime(2024, 1, 1, 8, tzinfo=dt.UTC),
            "event_type": None,
            "quantity": "2",
            "price": "12.50",
            "session_id": None,
            "event_id": '{"a": 1}',
        },
        {
            "user_id": None,
            "item_id": "7",
            "event_at": dt.datetime(2024, 1, 2, 12, tzinfo=dt.UTC),
            "event_type": None,
            "quantity": None,
            "price": "nan",
            "session_id": None,
            "event_id": None,
        },
    ]
    (item,) = read(folder, "items").to_pylist()
    assert (item["item_id"], item["is_available"]) == ("1.50", True)
    assert item["available_from"] == dt.datetime(2024, 1, 3, tzinfo=dt.UTC)
    assert read(folder, "users").num_rows == 0


def test_columns_are_found_by_the_names_that_the_dataset_gives_them(tmp_path: Path, postgresql: Server) -> None:
    queries = write(tmp_path, events="select 7 as customer, 8 as \"ItemID\", '2024-01-01' as event_at, 1::money as tip")
    names = {"user_id": "customer"}
    dataset = Dataset(
        source="database", horizon_days=28, step_days=14, columns=names, source_settings={"connection_env": "SHOP_URL"}
    )
    source = open_source(dataset)
    source.prepare(Access(queries, {"SHOP_URL": postgresql.url}))
    (ignored,) = source.land(tmp_path)
    assert "events.sql tip" in ignored.message
    (event,) = read(tmp_path, "events").to_pylist()
    assert (event["user_id"], event["item_id"]) == ("7", "8")


def test_large_results_are_written_in_batches(tmp_path: Path, postgresql: Server) -> None:
    query = "select i as user_id, repeat('x', 100) as item_id, now() as event_at from generate_series(1, 300000) as i"
    folder = land(tmp_path, postgresql.url, events=query)
    written = pq.ParquetFile(folder / "events" / "0000.parquet")
    assert written.metadata.num_rows == 300_000
    assert written.num_row_groups > 1


def test_all_queries_see_the_same_moment(tmp_path: Path, postgresql: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    postgresql.execute("create table seen (id text)", "insert into seen values ('before')")
    read_table = Database._read

    def write_meanwhile(self: Database, connection: Any, table: str, choose: Any) -> Any:
        if table == "items":
            postgresql.execute("insert into seen values ('meanwhile')")
        return read_table(self, connection, table, choose)

    monkeypatch.setattr(Database, "_read", write_meanwhile)
    events = "select id as user_id, id as item_id, now() as event_at from seen"
    folder = land(tmp_path, postgresql.url, events=events, items="select id as item_id from seen")
    assert read(folder, "items")["item_id"].to_pylist() == ["before"]


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("selec 1", 'syntax error at or near "selec"'),
        ("select * from nowhere", 'relation "nowhere" does not exist'),
        ("select 1; select 2", "multiple commands"),
        ("", "correct the query"),
        ("-- nothing", "correct the query"),
        (f"{ROW} where false", "has no rows"),
        ("select 1 as user_id, 2 as item", "has no column item_id, event_at; it has user_id, item:"),
        (f"{ROW}, 'v' as user_id", "has 2 columns user_id"),
        ("select 1.5::float8 as user_id, 1 as item_id, now() as event_at", "user_id is of type double"),
        (f"{ROW}, 12.50::money as price", "price is of type money"),
        (f"{ROW}, inet '10.0.0.1' as session_id", "session_id is of type inet"),
        (f"{ROW}, 1 / (3 - i) as price from generate_series(1, 5) as i", "division by zero"),
        ("with made as (create table made (a int)) select 1", "syntax error"),
        (f"{ROW}, pg_terminate_backend(pg_backend_pid()) as price", "terminating connection"),
        (f"{ROW} from pg_read_file('no/such/file')", "no/such/file"),
    ],
)
def test_a_query_that_fails_is_one_line_with_the_database_s_words(
    tmp_path: Path, postgresql: Server, query: str, words: str
) -> None:
    told = refused(land, tmp_path, postgresql.url, events=query)
    assert told.startswith("dbt_project/queries/mine/events.sql")
    assert words in told
    assert not [form for form in FORMS if form in told]


def test_a_query_cannot_write(tmp_path: Path, postgresql: Server) -> None:
    postgresql.execute("create table kept (id text)")
    query = (
        "with made as (insert into kept values ('x') returning id) select id as user_id, id as item_id, now() as event_at from made"
    )
    assert "read-only transaction" in refused(land, tmp_path, postgresql.url, events=query)


def test_a_fault_in_the_middle_of_a_large_result_is_told_at_once(tmp_path: Path, postgresql: Server) -> None:
    query = "select i as user_id, 1 / (400000 - i) as item_id, now() as event_at from generate_series(1, 1000000) as i"
    assert "division by zero" in refused(land, tmp_path, postgresql.url, events=query)


def test_a_database_that_cannot_be_reached_is_one_line_without_the_password(tmp_path: Path, postgresql: Server) -> None:
    queries, right = write(tmp_path, events=ROW), quote(PASSWORD, safe="")
    for connection, words in {
        postgresql.url_with(f"{right}x"): 'password authentication failed for user "recs"',
        postgresql.url_with(PASSWORD): "cannot be reached",
        postgresql.url.replace(str(postgresql.port), "1"): "port 1 failed",
        postgresql.url.replace("/postgres", "/none"): 'database "none" does not exist',
        postgresql.url.replace("postgresql:", "mysql:"): "cannot be reached",
    }.items():
        source = prepare(queries, connection)
        told = refused(source.land, tmp_path)
        assert told.startswith("the database of SHOP_URL cannot be reached: ")
        assert words in told
        assert not [part for part in (*FORMS, "ss/w", "w@rd", "100%") if part in told]


def test_another_driver_takes_its_own_options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As BigQuery's, whose credentials are no URI."""
    from adbc_driver_manager import dbapi

    seen: dict[str, Any] = {}

    def connect(library: str, db_kwargs: dict[str, str], autocommit: bool) -> Any:
        seen.update(db_kwargs, autocommit=autocommit)
        raise OSError(f"key {SECRET} is wrong")

    monkeypatch.setattr(dbapi, "connect", connect)
    monkeypatch.setattr(database, "_find_library", lambda driver: f"lib{driver}.so")
    source = prepare(
        write(tmp_path, events=ROW), f'{{"key": "{SECRET}"}}', driver="bigquery", connection_option="auth", options={"project": "p"}
    )
    assert isinstance(source, Database)
    assert SECRET not in refused(source.land, tmp_path)
    assert seen == {"auth": f'{{"key": "{SECRET}"}}', "project": "p", "autocommit": True}
