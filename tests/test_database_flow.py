"""PostgreSQL to a release, as people run it; and the password in no file and no line."""

import gzip
import subprocess
from pathlib import Path
from urllib.parse import quote

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from conftest import Fork, assert_refused
from postgresql import PASSWORD, Server
from recsys.sources.shop import Shop

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

QUERIES = {
    "events": """
        select customer_ref as user_id, sku as item_id, happened_at as event_at, kind as event_type, pieces as quantity,
            unit_price as price, visit as session_id, line_id as event_id
        from tracking.lines
        order by line_id;
    """,
    "items": """
        -- what is sold now and was sold before
        select sku as item_id, name as title, department as category, list_price as price, on_sale as is_available,
            available_from, withdrawn_at
        from catalogue
    """,
    "users": "select customer_ref as user_id, region as segment from customers",
}
COLUMNS = {
    "user_id": "customer_ref", "item_id": "sku", "event_at": "happened_at", "event_type": "kind", "quantity": "pieces",
    "price": "unit_price", "session_id": "visit", "event_id": "line_id",
}  # fmt: skip
OTHERS = {"title": "name", "category": "department", "price": "list_price", "is_available": "on_sale", "segment": "region"}
SECTION = """
[datasets.warehouse]
source = "database"
horizon_days = 28
step_days = 14
max_age_days = 0
[datasets.warehouse.dials]
connection_env = "SHOP_URL"
"""


@pytest.fixture(scope="module")
def warehouse(tmp_path_factory: pytest.TempPathFactory, postgresql: Server) -> Server:
    """A small shop under names of its own."""
    folder = tmp_path_factory.mktemp("shop")
    Shop(users=300, items=120, days=200, events=25_000, first_day="2024-01-01", seed=7).land(folder)

    def rename(table: pa.Table, names: dict[str, str]) -> pa.Table:
        return table.rename_columns([names.get(name, name) for name in table.column_names])

    postgresql.create("lines", rename(pq.read_table(folder / "events"), COLUMNS))
    postgresql.create("catalogue", rename(pq.read_table(folder / "items.parquet"), COLUMNS | OTHERS))
    postgresql.create("customers", rename(pq.read_table(folder / "users.parquet"), COLUMNS | OTHERS))
    postgresql.execute(
        "create schema tracking",
        "alter table lines set schema tracking",
        "alter table tracking.lines alter column happened_at type timestamptz using happened_at at time zone 'UTC'",
        "alter table tracking.lines alter column unit_price type numeric(10, 2)",
    )
    return postgresql


@pytest.fixture(scope="module")
def fork(tmp_path_factory: pytest.TempPathFactory, warehouse: Server) -> Fork:
    """A fork with a release from the database."""
    fork = Fork(tmp_path_factory.mktemp("fork"))
    with (fork.root / "config.toml").open("a") as config:
        config.write(SECTION)
    assert_refused(run(fork, warehouse.url), "dbt_project/queries/warehouse/events.sql is not there")
    folder = fork.root / "dbt_project" / "queries" / "warehouse"
    folder.mkdir(parents=True)
    for name, query in QUERIES.items():
        (folder / f"{name}.sql").write_text(query)
    first = run(fork, warehouse.url)
    assert first.returncode == 0, first.stdout + first.stderr
    return fork


def run(fork: Fork, url: str) -> subprocess.CompletedProcess[str]:
    """Whatever comes of it, no line tells the password."""
    done = fork.run("run", DATASET="warehouse", SHOP_URL=url)
    assert not leaks(done.stdout + done.stderr)
    return done


def leaks(text: str | bytes) -> bool:
    """Whether the password is in it, in either form, or half of it."""
    data = text.encode() if isinstance(text, str) else text
    return any(form.encode() in data for form in (PASSWORD, quote(PASSWORD, safe=""), "pa:ss", "w@rd", "pa%3Ass", "w%40rd"))


def current(fork: Fork) -> str:
    return (fork.store("warehouse") / "CURRENT").read_text()


def test_a_database_becomes_a_release(fork: Fork, warehouse: Server) -> None:
    with warehouse.cursor() as cursor:
        cursor.execute("select count(*) from tracking.lines")
        (rows,) = cursor.fetchone()
    (events,) = (fork.store("warehouse") / "raw").glob("*/events/0000.parquet")
    assert pq.ParquetFile(events).metadata.num_rows == rows > 10_000
    (lists,) = (fork.store("warehouse") / "releases").glob("*/manifest.json")
    assert lists.parent.name == current(fork).strip()


@pytest.mark.parametrize(
    ("password", "words"),
    [
        (quote(f"{PASSWORD}!", safe=""), 'password authentication failed for user "recs"'),
        (PASSWORD, "the database of SHOP_URL cannot be reached"),
    ],
    ids=["wrong", "not encoded"],
)
def test_a_wrong_password_is_one_line(fork: Fork, warehouse: Server, password: str, words: str) -> None:
    before = current(fork)
    assert_refused(run(fork, warehouse.url_with(password)), words)
    assert current(fork) == before


def test_a_server_that_is_not_there_is_one_line(fork: Fork, warehouse: Server) -> None:
    before = current(fork)
    assert_refused(run(fork, warehouse.url.replace(str(warehouse.port), "1")), "port 1 failed", "SHOP_URL")
    assert current(fork) == before


def test_a_variable_that_is_not_set_is_one_line(fork: Fork) -> None:
    before = current(fork)
    assert_refused(run(fork, ""), "SHOP_URL is not set")
    assert current(fork) == before


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("select customer as user_id from tracking.lines", 'column "customer" does not exist'),
        (
            f"{QUERIES['events'].rstrip().removesuffix(';').replace('line_id', 'pg_terminate_backend(pg_backend_pid())', 1)}",
            "terminating",
        ),
    ],
    ids=["broken", "connection dropped"],
)
def test_a_query_that_fails_is_one_line(fork: Fork, warehouse: Server, query: str, words: str) -> None:
    before, path = current(fork), fork.root / "dbt_project" / "queries" / "warehouse" / "events.sql"
    path.write_text(query)
    try:
        assert_refused(run(fork, warehouse.url), "dbt_project/queries/warehouse/events.sql failed", words)
    finally:
        path.write_text(QUERIES["events"])
    assert current(fork) == before


def test_the_doctor_names_the_variable_that_is_missing(fork: Fork, warehouse: Server) -> None:
    assert "missing: SHOP_URL is not set" in fork.run("doctor", DATASET="warehouse", SHOP_URL="").stdout
    well = fork.run("doctor", DATASET="warehouse", SHOP_URL=warehouse.url).stdout
    assert "nothing is missing" in well
    assert not leaks(well)


def test_the_password_is_in_no_file(fork: Fork) -> None:
    """Of store, runs and code packages, after all that went wrong above."""
    files = [path for path in fork.root.rglob("*") if path.is_file()]
    assert any("metaflow" in path.parts for path in files)
    assert [path for path in files if leaks(content(path))] == []


def content(path: Path) -> bytes:
    data = path.read_bytes()
    return gzip.decompress(data) if data.startswith(b"\x1f\x8b") else data
