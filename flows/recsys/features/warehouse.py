"""Runs dbt over a raw snapshot in a temporary DuckDB file, and opens DuckDB connections."""

import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import date, timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any

import duckdb

from recsys import RecsysError
from recsys.features.formulas import FORMULA, SAFE
from recsys.features.unreadable import advise
from recsys.settings import Settings
from recsys.store import Manifest, Snapshot, digest, processes, remedy, with_remedy, work_of

SELECTED = ("+path:models/marts", "+path:models/features", "int_events_rejected")
IDLE = 60.0  # seconds without work after which dbt is ended
PER_RUN = ("as_of", "landed_before")  # of `parameters`; a table for dbt, since other variables make it parse the project anew
PARSED_KEPT = 30  # parsed projects of 1 MB that are kept
MD5_SPACE = 2**128
ADVISED = 3  # reasons, the most frequent ones, for which messages say what to write instead
MAX_TOLERATED = 0.3  # share of rejected events up to which messages suggest raising max_quarantine


def parameters(raw: Manifest, settings: Settings, serving: bool = False) -> dict[str, Any]:
    """Returns the parameters of a dbt run. With the raw snapshot and the SQL they determine the feature snapshot.

    serving: only the last cutoff, which is enough to make lists.
    """
    landed_on = date.fromisoformat(raw.made_from["landed_on"])
    return {
        "source": settings.dataset.source,
        "time_zone": settings.dataset.time_zone,
        "as_of": settings.as_of.isoformat() if settings.as_of else "",
        "landed_before": (landed_on + timedelta(days=2)).isoformat(),  # one day after today, for time zones ahead of the clock
        "target": settings.dataset.target,
        "event_types": settings.dataset.own_types,
        "min_rating": settings.dataset.min_rating,
        "horizon_days": settings.dataset.horizon_days,
        "cutoff_days": [0] if serving else settings.cutoff_days,
        "sample_users": settings.features.sample_users,
        "max_daily_events": settings.dataset.max_daily_events,
        "earliest_day": settings.dataset.earliest_day,
        "max_id_length": settings.dataset.max_id_length,
        "item_attributes": settings.dataset.attributes["item"],
        "user_attributes": settings.dataset.attributes["user"],
        "text_attributes": settings.dataset.text_only,
        "attribute_values": settings.features.attribute_values,
        "sample_below": f"{int(settings.sample * MD5_SPACE):032x}" if settings.sample < 1 else "",
    }


def features_id(variables: dict[str, Any], raw_id: str, project: Path) -> str:
    """Returns the id of the feature snapshot that `build` makes with these variables."""
    versions = {name: version(name) for name in ("dbt-core", "dbt-duckdb", "duckdb")}
    return digest([raw_id, variables, project_hashes(project)["project"], versions])


def project_hashes(project: Path) -> dict[str, Any]:
    """Hashes the dbt files: `project` is the hash of all, `files` has one for each file."""
    files = {
        path.relative_to(project).as_posix(): digest(path.read_text())
        for folder in ("models", "macros")
        for path in sorted((project / folder).rglob("*"))
        if path.suffix in (".sql", ".yml")
    }
    files["dbt_project.yml"] = digest((project / "dbt_project.yml").read_text())
    return {"project": digest(files), "files": files}


def build(raw: Snapshot, variables: dict[str, Any], settings: Settings, project: Path, folder: Path) -> float:
    """Runs dbt over a raw snapshot, and writes every model with a contract to the folder as `<model>.parquet`. Returns the CPU
    seconds of dbt besides SQL.

    Raises RecsysError if a model or test fails, too many events are rejected, or `as_of` is outside the data.
    """
    with tempfile.TemporaryDirectory(prefix="warehouse-") as scratch:
        file = Path(scratch) / "warehouse.duckdb"
        expose(raw, file)
        overhead, target = run_dbt(project, file, variables, settings)
        with connect(file, settings) as connection:
            if not connection.execute("from duckdb_tables() where table_name = 'quarantine'").fetchall():
                _refuse_failures(target)
            _refuse_quarantine(quarantine(connection), settings)
            _refuse_no_events(connection)
            _refuse_failures(target)
            if not raw.manifest.parents:  # raw data of a replay may end with days without events
                _refuse_as_of(connection, settings)
            for model, order in _contracts(target).items():
                to = f"'{escaped(folder / model)}.parquet' (format parquet, compression zstd)"
                connection.execute(f"copy (from {model} order by {order}) to {to}")
    return overhead


def check_events(raw: Snapshot, settings: Settings, project: Path, file: Path) -> None:
    """Runs only the models up to the quarantine, in a new DuckDB file.

    It then has `int_events_checked`, `int_events_accepted`, `int_events_rejected`, `quarantine` and `int_cutoffs`.
    """
    expose(raw, file)
    command = ("run", "--select", "+quarantine", "+int_cutoffs")
    _, target = run_dbt(project, file, parameters(raw.manifest, settings), settings, *command)
    _refuse_failures(target)


def write_rejected(relation: str, file: Path | None, settings: Settings, target: Path, is_escaped: bool = False) -> int:
    """Writes rejected events to a .csv or .parquet file, and returns their number.

    relation: a table of the DuckDB file `file`, or the quoted path of a Parquet file. is_escaped: in a .csv file, put an apostrophe
    before texts that a spreadsheet would run as a formula.
    """
    kind = "csv, header" if target.suffix == ".csv" else "parquet, compression zstd"
    rejected = f"select reason, reasons, * exclude (reason, reasons) from {relation} order by all"
    with connect(file, settings) as connection:
        if is_escaped and target.suffix == ".csv":
            texts = [name for name, kind, *_ in connection.execute(f"describe {rejected}").fetchall() if kind == "VARCHAR"]
            safe = ", ".join(
                f"regexp_replace({identifier(name)}, {literal(FORMULA)}, {literal(SAFE)}) as {identifier(name)}" for name in texts
            )
            rejected = f"select * replace ({safe}) from ({rejected})"
        written = connection.execute(f"copy ({rejected}) to {literal(target)} (format {kind})")
        return int(written.fetchall()[0][0])


def expose(raw: Snapshot, file: Path) -> None:
    """Creates a view in the schema `raw` of a DuckDB file for each raw table; the dbt sources read them."""
    with duckdb.connect(str(file)) as connection:
        connection.execute("create schema raw")
        for table in sorted({_table(name) for name in raw.manifest.files}):
            files = ", ".join(literal(file) for file in files_of(raw, table))
            connection.execute(f"create view raw.{table} as select * from read_parquet([{files}], union_by_name = true)")


def files_of(raw: Snapshot, table: str) -> list[str]:
    """Returns the paths of a raw table's Parquet files; none if the source has no such table."""
    return [str(raw.path / name) for name in raw.manifest.files if _table(name) == table]


def _table(file: str) -> str:
    return Path(file).parts[0].removesuffix(".parquet")


def run_dbt(project: Path, file: Path, variables: dict[str, Any], settings: Settings, *arguments: str) -> tuple[float, Path]:
    """Runs dbt in a process of its own, since inside this one it would keep the file's lock and its memory.

    variables: see `parameters`. arguments: by default `build` of all models. Returns the CPU seconds of dbt besides SQL,
    and the folder with dbt's results. Raises RecsysError if dbt does not start; failed models are left to the caller.
    """
    project, folder = project.resolve(), file.parent.resolve()
    target = folder / "target"
    places = {"--project-dir": project, "--profiles-dir": project, "--target-path": target, "--log-path": folder / "logs"}
    bind = f"import runpy; own = runpy.run_path({processes.__file__!r}); own['end_with_parent'](); own['collect_rarely']()"
    program = [sys.executable, "-P", "-c", f"{bind}; from dbt.cli.main import cli; cli()"]
    command = [*program, "--quiet", "--no-use-colors", "--log-level-file", "none"]
    command += arguments or ("build", "--select", *SELECTED, "--exclude-resource-type", "unit_test")
    command += [str(part) for pair in places.items() for part in pair]
    fixed = {name: value for name, value in variables.items() if name not in PER_RUN}
    command += ["--vars", json.dumps(fixed, ensure_ascii=False)]
    environment = os.environ | {
        "WAREHOUSE_FILE": file.name,  # relative to the folder, since dbt parses the project anew if the profile changes
        "WAREHOUSE_MEMORY": settings.warehouse.memory_limit,
        "WAREHOUSE_THREADS": str(settings.warehouse.threads),
    }
    results = target / "run_results.json"
    results.unlink(missing_ok=True)
    _write_per_run(file, variables)
    parsed = _Parsed(project, [fixed, (project / "profiles.yml").read_text(), vars(settings.warehouse)], target)
    parsed.take()
    before = _children_cpu()
    output = _run(command, folder, environment)
    total = _children_cpu() - before
    parsed.keep()
    if not results.exists() or not (executed := json.loads(results.read_text())["results"]):
        lines = output.splitlines()[-1:] + [line for line in output.splitlines() if remedy(line)]
        raise RecsysError(f"dbt could not start: {with_remedy(lines[-1] if lines else 'it was killed, maybe out of memory')}")
    return max(0.0, total - sum(result["execution_time"] for result in executed)), target


def _write_per_run(file: Path, variables: dict[str, Any]) -> None:
    with duckdb.connect(str(file)) as connection:
        connection.execute("create schema if not exists raw")
        columns = ", ".join(f"nullif(?, '')::timestamp as {name}" for name in PER_RUN)
        values = [variables.get(name) for name in PER_RUN]
        connection.execute(f"create or replace table raw.parameters as select {columns}", values)


class _Parsed:
    """The project as dbt has parsed it, which takes longer than most queries. It is kept in the project's folder `target`, for runs
    with the same SQL and settings.

    It is only a cache: if it is lost, wrong or cannot be written, dbt parses the project again.
    """

    def __init__(self, project: Path, settings: Any, target: Path) -> None:
        versions = {name: version(name) for name in ("dbt-core", "dbt-duckdb")}
        self.own = target / "partial_parse.msgpack"
        self.kept = project / "target" / "parsed" / f"{digest([project_hashes(project), settings, versions])}.msgpack"

    def take(self) -> None:
        self.own.parent.mkdir(parents=True, exist_ok=True)
        with suppress(OSError):
            shutil.copy2(self.kept, self.own)

    def keep(self) -> None:
        with suppress(OSError):
            if self.kept.exists() and self.kept.stat().st_mtime == self.own.stat().st_mtime:
                return  # dbt only read it
            self.kept.parent.mkdir(parents=True, exist_ok=True)
            partial = self.kept.with_suffix(f".{os.getpid()}")
            shutil.copy2(self.own, partial)
            partial.replace(self.kept)
            for path in sorted(self.kept.parent.iterdir(), key=lambda path: path.stat().st_mtime)[:-PARSED_KEPT]:
                path.unlink()


def _run(command: list[str], folder: Path, environment: dict[str, str]) -> str:
    """Runs dbt in a folder and returns its output. Ends it after IDLE seconds without work: if memory is short, dbt waits forever
    for threads that could not start."""
    with subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as process:
        try:
            done = work_of(process.pid)
            while True:
                try:
                    return process.communicate(timeout=IDLE)[0]
                except subprocess.TimeoutExpired:
                    before, done = done, work_of(process.pid)
                    if done and before == done:
                        raise RecsysError(
                            f"dbt has done nothing for {IDLE:.0f} seconds, maybe because {remedy('out of memory')}"
                        ) from None
        finally:
            process.kill()


def document(variables: dict[str, Any], settings: Settings, project: Path, folder: Path) -> None:
    """Writes dbt's documentation of the models to the folder as one page, `index.html`. It reads no data."""
    with tempfile.TemporaryDirectory(prefix="warehouse-") as scratch:
        command = ("docs", "generate", "--static", "--empty-catalog")
        _, target = run_dbt(project, Path(scratch) / "warehouse.duckdb", variables, settings, *command)
        folder.mkdir(parents=True)
        (folder / "index.html").write_bytes((target / "static_index.html").read_bytes())


def _children_cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def failures(target: Path) -> list[str]:
    """Returns a line for each failure of the last dbt call."""
    results = json.loads((target / "run_results.json").read_text())["results"]
    bad = [result for result in results if result["status"] not in ("success", "pass", "skipped")]
    return [f"{result['unique_id'].split('.', 2)[2]}: {' '.join((result['message'] or '').split())[:300]}" for result in bad]


def _refuse_no_events(connection: duckdb.DuckDBPyConnection) -> None:
    if not connection.execute("select * from int_events_accepted limit 1").fetchall():
        raise RecsysError("no event is left, since all were rejected or not sampled; pass a larger SAMPLE, or other data")


def _refuse_failures(target: Path) -> None:
    if failed := failures(target):
        raise RecsysError(f"dbt: {'; '.join(failed)}; {remedy(' '.join(failed)) or 'correct the model or the data it names'}")


def _refuse_as_of(connection: duckdb.DuckDBPyConnection, settings: Settings) -> None:
    as_of, last, first = connection.execute(
        "select max(as_of)::date, max(last_as_of)::date, (select min(event_at)::date from int_events_accepted) from int_cutoffs"
    ).fetchall()[0]
    if as_of > last or as_of <= first:
        raise RecsysError(
            f"AS_OF {as_of} is outside the data: the first event is of {first}, the last of {last - timedelta(days=1)};"
            f" pass AS_OF={last} or earlier"
        )


def _contracts(target: Path) -> dict[str, str]:
    """Models with a contract, and the columns that order their rows: the keys of feature tables, all columns of others."""
    nodes = json.loads((target / "manifest.json").read_text())["nodes"].values()
    public = [node for node in nodes if node["resource_type"] == "model" and node["config"]["contract"]["enforced"]]
    ids = ("cutoff", "entity", "attribute", "value")
    keys = {node["name"]: [name for name in node["columns"] if name in ids or name.endswith("_index")] for node in public}
    return {name: ", ".join(keys[name]) if name.startswith("feat_") else "all" for name in sorted(keys)}


@dataclass(frozen=True)
class Quarantine:
    """Rejected events by reason.

    sent: number of all events. rejected: events counted under the first reason that applied. affected: events counted under every
    reason that applied. unreadable: values that could not be read, of one event for each of the most frequent reasons.
    """

    sent: int
    rejected: dict[str, int]
    affected: dict[str, int]
    unreadable: Sequence[str] = ()

    @property
    def share(self) -> float:
        return sum(self.rejected.values()) / max(self.sent, 1)

    def __str__(self) -> str:
        """`120 of 10,000 events (1.2%): 100 duplicate, 20 bad_price`, the most frequent reason first."""
        ordered = sorted(self.rejected.items(), key=lambda found: -found[1])
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in ordered if count)
        return f"{sum(self.rejected.values()):,} of {self.sent:,} events ({self.share:.1%})" + (f": {reasons}" if reasons else "")

    def excess(self, limit: float) -> str:
        """Says that more than this share is rejected, and what to do; "" if it is not."""
        if self.share <= limit:
            return ""
        raising = ", or raise the limit in config.toml if these events are known to be bad" if self.share < MAX_TOLERATED else ""
        values = advise(*self.unreadable)
        return f"{self}, more than max_quarantine = {limit:.1%}; correct the data{raising}" + (f": {values}" if values else "")


def read_quarantine(folder: Path, settings: Settings) -> Quarantine:
    """Reads the quarantine of a feature snapshot's folder. Raises RecsysError if too many events are rejected."""
    with connect(None, settings) as connection:
        found = quarantine(connection, *(f"'{escaped(folder)}/{name}.parquet'" for name in ("quarantine", "int_events_rejected")))
    _refuse_quarantine(found, settings)
    return found


def quarantine(
    connection: duckdb.DuckDBPyConnection, relation: str = "quarantine", rejected: str = "int_events_rejected"
) -> Quarantine:
    """Reads the models `quarantine` and `int_events_rejected`, given as relations."""
    rows = connection.execute(f"select reason, events_rejected, events_affected, events_sent from {relation}").fetchall()
    counts = {row[0]: row[1] for row in rows}
    most_frequent = sorted(counts, key=lambda reason: -counts[reason])[:ADVISED]
    # max() likely returns a date of the 31st, which shows which part is the day.
    examples = dict(connection.execute(f"select reason, max(unreadable) from {rejected} group by reason").fetchall())
    unreadable = [examples[reason] for reason in most_frequent if examples.get(reason)]
    return Quarantine(rows[0][3], counts, {row[0]: row[2] for row in rows}, unreadable)


def _refuse_quarantine(found: Quarantine, settings: Settings) -> None:
    if excess := found.excess(settings.dataset.max_quarantine):
        raise RecsysError(f"quarantine holds {excess}; `make quarantine DATASET={settings.dataset_name}` writes them to a file")


def escaped(text: object) -> str:
    """Escapes a text or a path for use between apostrophes in SQL."""
    return str(text).replace("'", "''")


def literal(value: object) -> str:
    """Returns a value as a text literal of SQL."""
    return f"'{escaped(value)}'"


def identifier(name: str) -> str:
    """Returns a column name as a quoted identifier of SQL."""
    return '"' + name.replace('"', '""') + '"'


@contextmanager
def connect(file: Path | None, settings: Settings) -> Iterator[duckdb.DuckDBPyConnection]:
    """Opens DuckDB on a file, or in memory, with the memory limit and threads of the settings."""
    with tempfile.TemporaryDirectory(prefix="spill-") as spill, duckdb.connect(str(file) if file else ":memory:") as connection:
        connection.execute(f"set memory_limit = '{settings.warehouse.memory_limit}'")
        connection.execute(f"set threads = {settings.warehouse.threads}")
        connection.execute("set enable_progress_bar = false")  # it would write to standard output after two seconds
        connection.execute(f"set temp_directory = '{escaped(spill)}'")
        yield connection


def profile(raw: Snapshot, settings: Settings) -> list[dict[str, Any]]:
    """Returns one row per table and column of a raw snapshot, with `table`, `column`, `rows` and `null_share`."""
    rows: list[dict[str, Any]] = []
    with connect(None, settings) as connection:
        for table in sorted({_table(name) for name in raw.manifest.files}):
            relation = f"read_parquet([{', '.join(map(literal, files_of(raw, table)))}], union_by_name = true)"
            columns = [name for name, *_ in connection.execute(f"describe select * from {relation}").fetchall()]
            counts = ", ".join(f'count("{column}")' for column in columns)
            total, *present = connection.execute(f"select count(*), {counts} from {relation}").fetchall()[0]
            rows += [
                {"table": table, "column": column, "rows": total, "null_share": 1 - count / max(total, 1)}
                for column, count in zip(columns, present, strict=True)
            ]
    return rows
