"""The one module that runs dbt and opens DuckDB: raw snapshot in, feature snapshot out."""

import json
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
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
from recsys.store import Manifest, Snapshot, describe, digest, processes, remedy, with_remedy, work_of

SELECTED = ("+path:models/marts", "+path:models/features", "int_events_rejected")
IDLE = 60.0  # seconds
MD5_SPACE = 2**128
MOST_TOLERATED = 0.3  # share of rejected events, above which nobody is told to raise max_quarantine


@dataclass(frozen=True)
class DbtCost:
    """CPU seconds of a dbt call, and the part of them that was SQL."""

    total: float
    sql: float


def parameters(raw: Manifest, settings: Settings, serving: bool = False) -> dict[str, Any]:
    """The dbt variables of a run. All that a feature snapshot depends on besides the raw one and the SQL. `serving` asks for
    the last cutoff alone, which is all that ranking needs."""
    landed_on = date.fromisoformat(raw.made_from["landed_on"])
    return {
        "source": settings.dataset.source,
        "time_zone": settings.dataset.time_zone,
        "as_of": settings.as_of.isoformat() if settings.as_of else "",
        "landed_before": (landed_on + timedelta(days=2)).isoformat(),  # a day more than the clock, for zones ahead of it
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
    """Name of the feature snapshot that `build` makes with these variables, known before it is made."""
    versions = {name: version(name) for name in ("dbt-core", "dbt-duckdb", "duckdb")}
    return digest([raw_id, variables, project_hashes(project)["project"], versions])


def project_hashes(project: Path) -> dict[str, Any]:
    """One hash of all dbt files that features depend on, and one of each, by which two projects are told apart file by file."""
    files = {
        path.relative_to(project).as_posix(): digest(path.read_text())
        for folder in ("models", "macros")
        for path in sorted((project / folder).rglob("*"))
        if path.suffix in (".sql", ".yml")
    }
    files["dbt_project.yml"] = digest((project / "dbt_project.yml").read_text())
    return {"project": digest(files), "files": files}


def build(raw: Snapshot, variables: dict[str, Any], settings: Settings, project: Path, folder: Path) -> DbtCost:
    """Runs dbt over a raw snapshot and writes every model with a contract to the folder as `<model>.parquet`."""
    with tempfile.TemporaryDirectory(prefix="warehouse-") as scratch:
        file = Path(scratch) / "warehouse.duckdb"
        expose(raw, file)
        cost, target = run_dbt(project, file, variables, settings)
        with connect(file, settings) as connection:
            if not connection.execute("from duckdb_tables() where table_name = 'quarantine'").fetchall():
                _refuse_failures(target)
            _refuse_quarantine(quarantine(connection), settings)
            _refuse_nothing(connection)
            _refuse_failures(target)
            if not raw.manifest.parents:  # what is replayed ends on its day, whether or not anything happened on it
                _refuse_as_of(connection, settings)
            for model, order in _contracts(target).items():
                to = f"'{escaped(folder / model)}.parquet' (format parquet, compression zstd)"
                connection.execute(f"copy (from {model} order by {order}) to {to}")
    return cost


def check_events(raw: Snapshot, settings: Settings, project: Path, file: Path) -> None:
    """Runs the models up to the quarantine alone, in a new DuckDB file: `int_events_checked`, `int_events_accepted`,
    `int_events_rejected`, `quarantine` and `int_cutoffs`."""
    expose(raw, file)
    asked = ("run", "--select", "+quarantine", "+int_cutoffs")
    _, target = run_dbt(project, file, parameters(raw.manifest, settings), settings, *asked)
    _refuse_failures(target)


def write_rejected(relation: str, file: Path | None, settings: Settings, target: Path, is_escaped: bool = False) -> int:
    """Writes the rejected events of a DuckDB file or of a Parquet file to a .csv or .parquet file; returns how many. `is_escaped`:
    in a .csv file, texts that start like a formula get an apostrophe."""
    if target.suffix not in (".csv", ".parquet"):
        raise RecsysError(f'TO "{target}" ends in "{target.suffix}"; pass a .csv or .parquet file')
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.partial")
    kind = "csv, header" if target.suffix == ".csv" else "parquet, compression zstd"
    rejected = f"select reason, reasons, * exclude (reason, reasons) from {relation} order by all"
    with connect(file, settings) as connection:
        if is_escaped and target.suffix == ".csv":
            texts = [name for name, kind, *_ in connection.execute(f"describe {rejected}").fetchall() if kind == "VARCHAR"]
            safe = ", ".join(
                f"regexp_replace({identifier(name)}, {literal(FORMULA)}, {literal(SAFE)}) as {identifier(name)}" for name in texts
            )
            rejected = f"select * replace ({safe}) from ({rejected})"
        written = connection.execute(f"copy ({rejected}) to {literal(partial)} (format {kind})")
        rows = int(written.fetchall()[0][0])
    partial.replace(target)
    return rows


def expose(raw: Snapshot, file: Path) -> None:
    """Makes the raw files views of a schema `raw`, which the sources of the dbt project name."""
    with duckdb.connect(str(file)) as connection:
        connection.execute("create schema raw")
        for table in sorted({_table(name) for name in raw.manifest.files}):
            files = ", ".join(literal(file) for file in files_of(raw, table))
            connection.execute(f"create view raw.{table} as select * from read_parquet([{files}], union_by_name = true)")


def files_of(raw: Snapshot, table: str) -> list[str]:
    """Paths of a raw table's Parquet files; none where the source has no such table."""
    return [str(raw.path / name) for name in raw.manifest.files if _table(name) == table]


def _table(file: str) -> str:
    return Path(file).parts[0].removesuffix(".parquet")


def run_dbt(project: Path, file: Path, variables: dict[str, Any], settings: Settings, *arguments: str) -> tuple[DbtCost, Path]:
    """dbt in a process of its own (inside this one it would keep the file's lock and its memory): `build` of the pipeline's
    models, or other arguments. Returns the cost and the folder with dbt's own results."""
    target = file.parent / "target"
    places = {"--project-dir": project, "--profiles-dir": project, "--target-path": target, "--log-path": file.parent / "logs"}
    bind = f"import runpy; runpy.run_path({processes.__file__!r})['end_with_parent']()"
    program = [sys.executable, "-c", f"{bind}; from dbt.cli.main import cli; cli()"]
    command = [*program, "--quiet", "--no-use-colors", "--log-level-file", "none"]
    command += arguments or ("build", "--select", *SELECTED, "--exclude-resource-type", "unit_test")
    command += [str(part) for pair in places.items() for part in pair] + ["--vars", json.dumps(variables, ensure_ascii=False)]
    environment = os.environ | {
        "WAREHOUSE_FILE": str(file),
        "WAREHOUSE_MEMORY": settings.warehouse.memory_limit,
        "WAREHOUSE_THREADS": str(settings.warehouse.threads),
    }
    results = target / "run_results.json"
    results.unlink(missing_ok=True)
    before = _children_cpu()
    said = _run(command, environment)
    total = _children_cpu() - before
    if not results.exists() or not (ran := json.loads(results.read_text())["results"]):
        lines = said.splitlines()[-1:] + [line for line in said.splitlines() if remedy(line)]
        raise RecsysError(f"dbt could not start: {with_remedy(lines[-1] if lines else 'it was killed, maybe out of memory')}")
    return DbtCost(total, min(total, sum(result["execution_time"] for result in ran))), target


def _run(command: list[str], environment: dict[str, str]) -> str:
    """Runs dbt and returns what it said. Where memory is short, dbt waits for ever for threads that could not start, so it is ended
    once it has done nothing for a while."""
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
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
    """Writes dbt's documentation of the models as one page, `index.html`. It reads SQL and descriptions, no data."""
    with tempfile.TemporaryDirectory(prefix="warehouse-") as scratch:
        asked = ("docs", "generate", "--static", "--empty-catalog")
        _, target = run_dbt(project, Path(scratch) / "warehouse.duckdb", variables, settings, *asked)
        folder.mkdir(parents=True)
        (folder / "index.html").write_bytes((target / "static_index.html").read_bytes())


def _children_cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def failures(target: Path) -> list[str]:
    """What failed in dbt's last call, a line each."""
    results = json.loads((target / "run_results.json").read_text())["results"]
    bad = [result for result in results if result["status"] not in ("success", "pass", "skipped")]
    return [f"{result['unique_id'].split('.', 2)[2]}: {' '.join((result['message'] or '').split())[:300]}" for result in bad]


def _refuse_nothing(connection: duckdb.DuckDBPyConnection) -> None:
    if not connection.execute("select * from int_events_accepted limit 1").fetchall():
        raise RecsysError("no event is left to learn from; pass a larger SAMPLE, or data with more than rejected rows in it")


def _refuse_failures(target: Path) -> None:
    if failed := failures(target):
        raise RecsysError(f"dbt: {'; '.join(failed)}; {remedy(' '.join(failed)) or 'mend the model or the data it names'}")


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
    """Models with a contract, and what puts their rows in the one order: the keys of wide features, or else every column."""
    nodes = json.loads((target / "manifest.json").read_text())["nodes"].values()
    public = [node for node in nodes if node["resource_type"] == "model" and node["config"]["contract"]["enforced"]]
    ids = ("cutoff", "entity", "attribute", "value")
    keys = {node["name"]: [name for name in node["columns"] if name in ids or name.endswith("_index")] for node in public}
    return {name: ", ".join(keys[name]) if name.startswith("feat_") else "all" for name in sorted(keys)}


@dataclass(frozen=True)
class Quarantine:
    """Rejected events by reason: under the first that applied, and under every one. unreadable: the values that could not be read
    of one event of the most frequent reason."""

    sent: int
    rejected: dict[str, int]
    affected: dict[str, int]
    unreadable: str = ""

    @property
    def share(self) -> float:
        return sum(self.rejected.values()) / max(self.sent, 1)

    def __str__(self) -> str:
        """`120 of 10,000 events (1.2%): 100 duplicate, 20 bad_price`."""
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in self.rejected.items() if count)
        return f"{sum(self.rejected.values()):,} of {self.sent:,} events ({self.share:.1%})" + (f": {reasons}" if reasons else "")

    def excess(self, limit: float) -> str:
        """What is wrong if more than this share is rejected, and what to do; "" if it is not."""
        if self.share <= limit:
            return ""
        raising = ", or raise the limit in config.toml if these events are known to be bad" if self.share < MOST_TOLERATED else ""
        values = advise(self.unreadable)
        return f"{self}, more than max_quarantine = {limit:.1%}; mend the data{raising}" + (f": {values}" if values else "")


def read_quarantine(folder: Path, settings: Settings) -> Quarantine:
    with connect(None, settings) as connection:
        found = quarantine(connection, *(f"'{escaped(folder)}/{name}.parquet'" for name in ("quarantine", "int_events_rejected")))
    _refuse_quarantine(found, settings)
    return found


def quarantine(
    connection: duckdb.DuckDBPyConnection, relation: str = "quarantine", rejected: str = "int_events_rejected"
) -> Quarantine:
    """The models `quarantine` and `int_events_rejected`, under these names."""
    rows = connection.execute(f"select reason, events_rejected, events_affected, events_sent from {relation}").fetchall()
    counts = {row[0]: row[1] for row in rows}
    most = max(counts, key=lambda reason: counts[reason])
    # The last in the alphabet: of dates it is likely one of the 31st, which tells the day from the month.
    (unreadable,) = connection.execute(f"select max(unreadable) from {rejected} where reason = {literal(most)}").fetchall()[0]
    return Quarantine(rows[0][3], counts, {row[0]: row[2] for row in rows}, unreadable or "")


def _refuse_quarantine(found: Quarantine, settings: Settings) -> None:
    if excess := found.excess(settings.dataset.max_quarantine):
        raise RecsysError(f"quarantine holds {excess}")


def escaped(text: object) -> str:
    """A text or a path as it stands between apostrophes in SQL."""
    return str(text).replace("'", "''")


def literal(value: object) -> str:
    """A value as SQL writes a text."""
    return f"'{escaped(value)}'"


def identifier(name: str) -> str:
    """The name of a column as SQL writes it."""
    return '"' + name.replace('"', '""') + '"'


@contextmanager
def connect(file: Path | None, settings: Settings) -> Iterator[duckdb.DuckDBPyConnection]:
    """DuckDB on a file, or in memory, that keeps to the settings' memory and threads."""
    with tempfile.TemporaryDirectory(prefix="spill-") as spill, duckdb.connect(str(file) if file else ":memory:") as connection:
        connection.execute(f"set memory_limit = '{settings.warehouse.memory_limit}'")
        connection.execute(f"set threads = {settings.warehouse.threads}")
        connection.execute("set enable_progress_bar = false")  # it would write to standard output after two seconds
        connection.execute(f"set temp_directory = '{escaped(spill)}'")
        yield connection


def profile(raw: Snapshot, settings: Settings) -> list[dict[str, Any]]:
    """One row per table and column of a raw snapshot: rows, and the share of missing values."""
    rows: list[dict[str, Any]] = []
    tables = sorted({Path(name).parts[0].removesuffix(".parquet") for name in describe(raw.path) if name.endswith(".parquet")})
    with connect(None, settings) as connection:
        for table in tables:
            files = f"{table}/*.parquet" if (raw.path / table).is_dir() else f"{table}.parquet"
            relation = f"read_parquet('{escaped(raw.path)}/{files}', union_by_name = true)"
            columns = [name for name, *_ in connection.execute(f"describe select * from {relation}").fetchall()]
            counts = ", ".join(f'count("{column}")' for column in columns)
            total, *present = connection.execute(f"select count(*), {counts} from {relation}").fetchall()[0]
            rows += [
                {"table": table, "column": column, "rows": total, "null_share": 1 - count / max(total, 1)}
                for column, count in zip(columns, present, strict=True)
            ]
    return rows
