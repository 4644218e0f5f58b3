"""A PostgreSQL server on loopback, from Debian's package."""

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
import pytest

NO_SERVER = "a PostgreSQL server is needed; install it (Debian: apt-get install postgresql)"
PASSWORD = "pa:ss/w@rd 100%"


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
