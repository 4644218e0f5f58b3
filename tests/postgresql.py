"""A PostgreSQL server on loopback, from Debian's package, and a small shop in it."""

import gzip
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import small_shop

NO_SERVER = "a PostgreSQL server is needed; install it (Debian: apt-get install postgresql)"
PASSWORD = "pa:ss/w@rd 100%"

QUERIES = {
    "events": """
        select customer_ref as user_id, sku as item_id, happened_at as event_at, kind as event_type, pieces as quantity,
            unit_price as price, line_id as event_id
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
    "price": "unit_price", "event_id": "line_id",
}  # fmt: skip
OTHERS = {"title": "name", "category": "department", "price": "list_price", "is_available": "on_sale", "segment": "region"}
SECTION = """
[datasets.warehouse]
source = "database"
horizon_days = 28
step_days = 14
max_age_days = 0
[datasets.warehouse.source_settings]
connection_env = "SHOP_URL"
"""


@dataclass(frozen=True)
class Server:
    port: int

    @property
    def url(self) -> str:
        return self.url_with(quote(PASSWORD, safe=""))

    def url_with(self, password: str) -> str:
        return f"postgresql://recs:{password}@127.0.0.1:{self.port}/postgres"

    @contextmanager
    def cursor(self) -> Iterator[Any]:
        from adbc_driver_postgresql import dbapi

        with dbapi.connect(self.url, autocommit=True) as connection, connection.cursor() as cursor:
            yield cursor

    def execute(self, *statements: str) -> None:
        with self.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)

    def create(self, table: str, rows: pa.Table) -> None:
        with self.cursor() as cursor:
            cursor.adbc_ingest(table, rows, mode="create")


@pytest.fixture(scope="session")
def postgresql(request: pytest.FixtureRequest) -> Iterator[Server]:
    """Where none is installed, the quick tests do without; `make test-all` does not."""
    initdb = shutil.which("initdb") or max(map(str, Path("/usr/lib/postgresql").glob("*/bin/initdb")), default="")
    if not initdb:
        (pytest.skip if request.config.option.markexpr == "not slow" else pytest.fail)(NO_SERVER)
    with serve(Path(initdb).resolve().parent) as server:
        yield server


@contextmanager
def serve(programs: Path) -> Iterator[Server]:
    """Runs as nobody where we are root, which PostgreSQL refuses to be."""
    with tempfile.TemporaryDirectory(prefix="postgresql-", ignore_cleanup_errors=True) as name, socket.socket() as probe:
        folder, owner = Path(name), dict[str, Any]()
        (folder / "password").write_text(PASSWORD)
        if os.geteuid() == 0:
            owner = {"user": "nobody", "extra_groups": []}
            for path in (folder, folder / "password"):
                shutil.chown(path, "nobody")
        made: list[str | Path] = [
            "--username=recs",
            "--pwfile",
            folder / "password",
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            "--no-locale",
        ]
        done = subprocess.run([programs / "initdb", "-D", folder / "data", *made], capture_output=True, text=True, cwd="/", **owner)
        assert done.returncode == 0, done.stdout + done.stderr
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        probe.close()
        options = ("listen_addresses=127.0.0.1", f"port={port}", f"unix_socket_directories={folder}", "fsync=off")
        command: list[str | Path] = [
            programs / "postgres",
            "-D",
            folder / "data",
            *(part for option in options for part in ("-c", option)),
        ]
        with (folder / "log").open("w") as log:
            process: subprocess.Popen[Any] = subprocess.Popen(command, stdout=log, stderr=log, cwd="/", **owner)
        try:
            server = Server(port)
            wait_for(server, process, folder / "log")
            yield server
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(30)


def wait_for(server: Server, process: subprocess.Popen[Any], log: Path) -> None:
    from adbc_driver_manager import dbapi

    for _ in range(300):
        assert process.poll() is None, log.read_text()
        try:
            server.execute("select 1")
        except dbapi.Error:
            time.sleep(0.1)
        else:
            return
    raise AssertionError(log.read_text())


@pytest.fixture(scope="session")
def warehouse(tmp_path_factory: pytest.TempPathFactory, postgresql: Server) -> Server:
    """A small shop under names of its own."""
    files = small_shop.write(tmp_path_factory.mktemp("shop"), users=300, days=200)

    def rename(table: pa.Table, names: dict[str, str]) -> pa.Table:
        return table.rename_columns([names.get(name, name) for name in table.column_names])

    postgresql.create("lines", rename(pq.read_table(files["events"]), COLUMNS))
    postgresql.create("catalogue", rename(pq.read_table(files["items"]), COLUMNS | OTHERS))
    postgresql.create("customers", rename(pq.read_table(files["users"]), COLUMNS | OTHERS))
    postgresql.execute(
        "create schema tracking",
        "alter table lines set schema tracking",
        "alter table tracking.lines alter column happened_at type timestamptz using happened_at at time zone 'UTC'",
        "alter table tracking.lines alter column unit_price type numeric(10, 2)",
    )
    return postgresql


def configure(root: Path) -> None:
    """Adds a dataset to a fork."""
    with (root / "config.toml").open("a") as config:
        config.write(SECTION)


def write_queries(root: Path) -> None:
    folder = root / "dbt_project" / "queries" / "warehouse"
    folder.mkdir(parents=True)
    for name, query in QUERIES.items():
        (folder / f"{name}.sql").write_text(query)


def leaks(data: str | bytes) -> bool:
    """Whether the password is in it, in either form, or a part of it; compressed or not."""
    data = data.encode() if isinstance(data, str) else data
    data = gzip.decompress(data) if data.startswith(b"\x1f\x8b") else data
    return any(form.encode() in data for form in (PASSWORD, quote(PASSWORD, safe=""), "pa:ss", "w@rd", "pa%3Ass", "w%40rd"))
