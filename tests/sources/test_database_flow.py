"""PostgreSQL to a release, as people run it; and the password in no file and no line."""

import subprocess
from urllib.parse import quote

import pyarrow.parquet as pq
import pytest

from conftest import Fork, assert_refused
from postgresql import PASSWORD, QUERIES, Server, configure, leaks, write_queries

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def fork(tmp_path_factory: pytest.TempPathFactory, warehouse: Server) -> Fork:
    """A fork with a release from the database."""
    fork = Fork(tmp_path_factory.mktemp("fork"))
    configure(fork.root)
    assert_refused(run(fork, warehouse.url), "dbt_project/queries/warehouse/events.sql is not there")
    write_queries(fork.root)
    first = run(fork, warehouse.url)
    assert first.returncode == 0, first.stdout + first.stderr
    return fork


def run(fork: Fork, url: str, verb: str = "run") -> subprocess.CompletedProcess[str]:
    """Whatever comes of it, no line tells the password."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SHOP_URL", url)
        done = fork.run(verb, DATASET="warehouse")
    assert not leaks(done.stdout + done.stderr)
    return done


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
    assert "missing: SHOP_URL is not set" in run(fork, "", "doctor").stdout
    assert "nothing is missing" in run(fork, warehouse.url, "doctor").stdout


def test_the_password_is_in_no_file(fork: Fork) -> None:
    """Of store, runs and code packages, after all that went wrong above."""
    files = [path for path in fork.root.rglob("*") if path.is_file()]
    assert any("metaflow" in path.parts for path in files)
    assert [path for path in files if leaks(path.read_bytes())] == []
