"""A database as a source: one query per table, read in batches with ADBC."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import date
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import unquote

import pyarrow as pa

from recsys import RecsysError
from recsys.settings import Dataset
from recsys.sources import columns
from recsys.sources.base import Access, Source
from recsys.sources.events import Events
from recsys.sources.files import Choose
from recsys.sources.landing import Input, Origin, land
from recsys.validation_report import CheckResult

# By driver, the statement after which all queries see the database at one moment. Other drivers run each query at its own moment.
SNAPSHOT = {"postgresql": "set transaction isolation level repeatable read, read only"}

UNFAITHFUL = {"money"}  # types that a driver converts to another meaning: PostgreSQL's money becomes a number of cents
URI = re.compile(
    r"(\w+://)?([^\s:/?#@]*(:(?P<password>([^\s:/?#@%]|%[0-9A-Fa-f]{2})*))?@)?[\w.,:\[\]-]*(/[\w./-]*)?(\?(?P<options>\S*))?"
)


class Database(Source):
    """Runs events.sql, and items.sql and users.sql where they exist, of the folder in `Access.queries`.

    connection_env: name of the environment variable that holds the connection. The connection is never written or logged.
    driver: name of the package after adbc-driver-.
    connection_option: the driver's option for the connection. options: its other options, which must not be secrets.
    """

    max_null_share: ClassVar = Events.max_null_share

    def __init__(
        self, connection_env: str, driver: str = "postgresql", connection_option: str = "uri", options: Mapping[str, str] = {}
    ):
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", connection_env):
            raise RecsysError(  # without the value, which may be the connection itself
                'connection_env is not a name of an environment variable; write one, such as "DATABASE_URL", and set that variable'
            )
        if not re.fullmatch(r"[a-z0-9_]+", driver):
            raise RecsysError(
                f'driver is "{driver}"; write the part of the package\'s name after adbc-driver-, such as "postgresql"'
            )
        self.connection_env, self.driver, self.connection_option, self.options = connection_env, driver, connection_option, options

    def configure(self, dataset: Dataset, endpoint: str) -> None:
        columns.check_keys(dataset)
        self.dataset = dataset

    def prepare(self, access: Access) -> None:
        """Checks the variable, the driver and the queries. `land` connects."""
        self.connection, self.queries = access.environment.get(self.connection_env, "").strip(), access.queries
        if not self.connection:
            raise RecsysError(
                f"{self.connection_env} is not set in the environment; set it to the connection of your database, such as"
                " postgresql://user:password@host:5432/name (deployed flows get it from a secret: unattended.secrets)"
            )
        self.library = _find_library(self.driver)
        if not (self.queries / "events.sql").is_file():
            raise RecsysError(
                f"{self._name('events')} is not there; write a query that returns {', '.join(columns.REQUIRED['events'])}"
            )
        known = [f"{table}.sql" for table in columns.TABLES]
        if unread := sorted(path.stem for path in self.queries.glob("*.sql") if path.name not in known):
            raise RecsysError(f"{self._name(unread[0])} is not read; rename it to one of {', '.join(known)}")

    def land(self, folder: Path, until: date | None = None) -> list[CheckResult]:
        given = [table for table in columns.TABLES if (self.queries / f"{table}.sql").is_file()]
        with self._connect() as connection:
            origins = {table: Origin(self._name(table), partial(self._read, connection, table)) for table in given}
            return land(folder, {table: Input(one.where, [one]) for table, one in origins.items()}, self.dataset)

    @contextmanager
    def _connect(self) -> Iterator[Any]:
        """Opens a connection. Its queries see the database at one moment if SNAPSHOT has the driver."""
        from adbc_driver_manager import dbapi

        snapshot = SNAPSHOT.get(self.driver)
        options = {**self.options, self.connection_option: self.connection}
        with self._plain(f"the database of {self.connection_env} cannot be reached", "correct the variable, or start the server"):
            connection = dbapi.connect(self.library, db_kwargs=options, autocommit=not snapshot)
        with connection, connection.cursor() as cursor:
            if snapshot:
                with self._plain("the database gives no consistent view", "read from a server that does"):
                    cursor.execute(snapshot)
            yield connection

    def _read(self, connection: Any, table: str, choose: Choose) -> Iterator[pa.RecordBatch]:
        name, query = self._name(table), (self.queries / f"{table}.sql").read_text().strip().removesuffix(";")
        failed = (f"{name} failed", "correct the query, or run again if the connection was lost")
        with connection.cursor() as cursor:
            with self._plain(*failed):
                cursor.execute(query)
                reader = cursor.fetch_record_batch()
            wanted = [number for number, field in enumerate(reader.schema) if field.name in choose(reader.schema.names)]
            for number in wanted:
                _refuse_unfaithful(reader.schema.field(number), name)
            while True:
                with self._plain(*failed):
                    batch = next(reader, None)
                if batch is None:
                    return
                yield pa.RecordBatch.from_pydict({batch.schema.names[number]: _to_plain(batch.column(number)) for number in wanted})

    def _name(self, table: str) -> str:
        """Path of a table's query, from the repository's root."""
        return f"{'/'.join(self.queries.parts[-3:])}/{table}.sql"

    @contextmanager
    def _plain(self, what: str, advice: str) -> Iterator[None]:
        """Turns any error of a driver into a RecsysError of one line without secrets."""
        try:
            yield
        except Exception as error:
            message = " ".join(str(error).partition("\n\nQuery was:")[0].split())
            raise RecsysError(f"{what}: {hide(message, self.connection)[:500]}; {advice}") from None


def hide(text: str, connection: str) -> str:
    """Replaces every part of a connection that may be secret by *** in a text.

    In a well-formed URI, the password and the values of options are secret. In anything else, such as a URI whose password is not
    percent-encoded, every part is.
    """
    found = URI.fullmatch(connection)
    secrets = [found["password"] or "", *re.findall("=([^&]*)", found["options"] or "")] if found else [connection]
    forms = [*secrets, *map(unquote, secrets)]
    parts = {connection, *forms, *(part for form in forms for part in re.split(r"[^\w.%!$*+~-]+", form))} - {""}
    longest_first = sorted(parts, key=len, reverse=True)
    return re.sub("|".join(rf"(?<!\w){re.escape(part)}(?!\w)" for part in longest_first), "***", text)


def _find_library(driver: str) -> str:
    """Path of the driver's library, which has the same name on every system."""
    package = f"adbc_driver_{driver}"
    found = find_spec(package)
    library = Path(found.origin).parent / f"lib{package}.so" if found and found.origin else None
    if library is None or not library.is_file():
        raise RecsysError(
            f'driver "{driver}" is not installed; add adbc-driver-{driver} to the dependencies in pyproject.toml, run `make lock`'
        )
    return str(library)


def _refuse_unfaithful(field: pa.Field, where: str) -> None:
    kind = (field.metadata or {}).get(b"POSTGRESQL:type", b"").decode()
    if kind in UNFAITHFUL or (isinstance(field.type, pa.OpaqueType) and not pa.types.is_string(field.type.storage_type)):
        raise RecsysError(
            f"{where}: {field.name} is of type {kind or field.type.type_name}, whose values the driver changes;"
            " cast it to text or numeric in the query"
        )


def _to_plain(column: pa.Array) -> pa.Array:
    """Unwraps extension types: PostgreSQL's numeric and JSON arrive as text in one."""
    extended = isinstance(column, pa.ExtensionArray) and not isinstance(column.type, pa.UuidType)
    return column.storage if extended else column
