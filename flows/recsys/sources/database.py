"""A database as a source: a query for each entity, read by ADBC in batches."""

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

# What makes all queries see the database at the same moment, by driver. With any other driver each query sees a moment of its own.
SNAPSHOT = {"postgresql": "set transaction isolation level repeatable read, read only"}

UNFAITHFUL = {"money"}  # types that a driver hands over as another: PostgreSQL's money comes as a number of cents
URI = re.compile(
    r"(\w+://)?([^\s:/?#@]*(:(?P<password>([^\s:/?#@%]|%[0-9A-Fa-f]{2})*))?@)?[\w.,:\[\]-]*(/[\w./-]*)?(\?(?P<options>\S*))?"
)


class Database(Source):
    """Runs events.sql, items.sql and users.sql of the folder that it is given; only the first must be there.

    connection_env: name of the environment variable with the connection, which no file, message or log repeats.
    driver: the package adbc-driver-<driver>.
    connection_option, options: the driver's option that takes the connection, and its further ones, which are no secrets.
    """

    max_null_share: ClassVar = Events.max_null_share

    def __init__(
        self, connection_env: str, driver: str = "postgresql", connection_option: str = "uri", options: Mapping[str, str] = {}
    ):
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", connection_env):
            raise RecsysError(  # its value is not repeated: it may be the connection itself
                'connection_env is no name of an environment variable; write a name, such as "DATABASE_URL", and set that variable'
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
        """Connects to nothing: landing, which comes next, does."""
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
        for path in sorted(self.queries.glob("*.sql")):
            if path.name not in known:
                raise RecsysError(f"{self._name(path.stem)} is not read; rename it to one of {', '.join(known)}")

    def land(self, folder: Path, until: date | None = None) -> list[CheckResult]:
        given = [table for table in columns.TABLES if (self.queries / f"{table}.sql").is_file()]
        with self._connect() as connection:
            origins = {table: Origin(self._name(table), partial(self._read, connection, table)) for table in given}
            return land(folder, {table: Input(one.where, [one]) for table, one in origins.items()}, self.dataset)

    @contextmanager
    def _connect(self) -> Iterator[Any]:
        """A connection whose queries see the database at one moment, where SNAPSHOT knows how."""
        from adbc_driver_manager import dbapi

        snapshot = SNAPSHOT.get(self.driver)
        options = {**self.options, self.connection_option: self.connection}
        with self._plain(f"the database of {self.connection_env} cannot be reached", "mend the variable, or start the server"):
            connection = dbapi.connect(self.library, db_kwargs=options, autocommit=not snapshot)
        with connection, connection.cursor() as cursor:
            if snapshot:
                with self._plain("the database gives no consistent view", "read from a server that does"):
                    cursor.execute(snapshot)
            yield connection

    def _read(self, connection: Any, table: str, choose: Choose) -> Iterator[pa.RecordBatch]:
        name, query = self._name(table), (self.queries / f"{table}.sql").read_text().strip().removesuffix(";")
        refused = (f"{name} failed", "mend the query, or run again if the connection was lost")
        with connection.cursor() as cursor:
            with self._plain(*refused):
                cursor.execute(query)
                reader = cursor.fetch_record_batch()
            wanted = [number for number, field in enumerate(reader.schema) if field.name in choose(reader.schema.names)]
            for number in wanted:
                _refuse_unfaithful(reader.schema.field(number), name)
            while True:
                with self._plain(*refused):
                    batch = next(reader, None)
                if batch is None:
                    return
                yield pa.RecordBatch.from_pydict({batch.schema.names[number]: _to_plain(batch.column(number)) for number in wanted})

    def _name(self, table: str) -> str:
        """Path of a table's query, from the repository's root."""
        return f"{'/'.join(self.queries.parts[-3:])}/{table}.sql"

    @contextmanager
    def _plain(self, what: str, advice: str) -> Iterator[None]:
        """Turns whatever a driver raises, its own errors, Arrow's or the system's, into one line without secrets."""
        try:
            yield
        except Exception as error:
            words = " ".join(str(error).partition("\n\nQuery was:")[0].split())
            raise RecsysError(f"{what}: {hide(words, self.connection)[:500]}; {advice}") from None


def hide(text: str, connection: str) -> str:
    """The text with *** for every part of a connection that may be secret. Of a well-formed URI user, host, port and database are
    not; of anything else, such as a URI whose password is not percent-encoded, every part is."""
    found = URI.fullmatch(connection)
    secrets = [found["password"] or "", *re.findall("=([^&]*)", found["options"] or "")] if found else [connection]
    forms = [*secrets, *map(unquote, secrets)]
    parts = {connection, *forms, *(part for form in forms for part in re.split(r"[^\w.%!$*+~-]+", form))} - {""}
    longest_first = sorted(parts, key=len, reverse=True)
    return re.sub("|".join(rf"(?<!\w){re.escape(part)}(?!\w)" for part in longest_first), "***", text)


def _find_library(driver: str) -> str:
    """The driver in its package, under the name that it has on every system."""
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
            f"{where}: {field.name} is of type {kind or field.type.type_name}, which the driver hands over as something else;"
            " cast it to text or numeric in the query"
        )


def _to_plain(column: pa.Array) -> pa.Array:
    """PostgreSQL's numeric and JSON come as text under a type of their own."""
    extended = isinstance(column, pa.ExtensionArray) and not isinstance(column.type, pa.UuidType)
    return column.storage if extended else column
