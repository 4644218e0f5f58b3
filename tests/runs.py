"""Whole runs by library calls, from files of events to a live release: a training, or daily lists by the live model. Each result
may be replaced before the next step reads it, which is how tests break a run."""

import itertools
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

import duckdb

from conftest import PROJECT, make_settings
from odd_data import shop
from recsys import daily_lists, pipeline
from recsys.pipeline import Selection
from recsys.publishing.lifecycle import promote, rollback, try_out
from recsys.publishing.publication import ValidatedRelease, give_way, publish
from recsys.publishing.retention import free
from recsys.settings.run import Settings
from recsys.store.snapshots import Store, open_store
from recsys.validation import registry
from recsys.validation_report import CheckResult, ValidationReport, require

TABLES = ("events", "items", "users")
DAILY_FILES = 7  # the last days have a file each, as a nightly export writes them; older days have one a month


@dataclass
class Run:
    """One run and what its steps have made so far. `lists_only`: daily lists by the live model, without training."""

    store: Store
    settings: Settings
    today: date
    lists_only: bool = False
    raw_id: str = ""
    raw_results: list[CheckResult] = field(default_factory=list)
    features_id: str = ""
    selection: Selection | None = None
    champion: Any = None
    release_id: str = ""
    report: ValidationReport | None = None

    def land(self) -> None:
        if self.lists_only:
            self.champion = daily_lists.champion(self.store)
            daily_lists.check_target(self.champion, self.settings)
        else:
            self.champion = self.store.current()
        self.raw_id, self.raw_results = pipeline.land(self.store, self.settings, self.today)
        require({"raw": self.raw_results}, ["raw"], "raw data")

    def build(self) -> None:
        self.features_id = pipeline.build_features(self.store, self.raw_id, self.settings, PROJECT, serving=self.lists_only).id

    def train(self) -> None:
        if not self.lists_only:
            pipeline.require_outcomes(self.store, self.features_id, self.settings)
            recipes = pipeline.recipes(self.settings, audit=False)
            trained = [pipeline.train(self.store, recipe, self.features_id, {}, self.settings) for recipe in recipes]
            sessions = pipeline.select_sessions(self.store, self.features_id, self.settings)
            self.selection = pipeline.select(trained, self.settings, sessions)

    def recommend(self) -> None:
        if self.lists_only:
            shards = daily_lists.shards(self.store, self.features_id, 1, self.settings)
            parts = [daily_lists.recommend(self.store, self.champion, self.features_id, rows, self.settings) for rows in shards]
            self.release_id = daily_lists.gather(self.store, self.champion, self.features_id, parts, self.settings, {})
        else:
            assert self.selection
            self.release_id = pipeline.recommend(self.store, self.selection, self.features_id, self.settings, {})

    def validate(self) -> None:
        how, raw = (self.today, self.settings, PROJECT), self.raw_results
        if self.lists_only:
            self.report = daily_lists.validate(self.store, self.release_id, self.champion, raw, *how)
        else:
            assert self.selection
            self.report = pipeline.validate(self.store, self.release_id, raw, self.selection, self.champion, {}, *how)

    def publish(self) -> None:
        assert self.report
        if self.lists_only:
            release = ValidatedRelease(self.release_id, self.report, self.champion.release)
            publish(self.store, release, daily_lists.required(self.report, self.settings), on_conflict=give_way)
        else:
            publish(self.store, ValidatedRelease(self.release_id, self.report, self.champion), registry.required(audit=False))

    def go(self, first: str = "land", last: str = "publish") -> None:
        """Every step from one to another."""
        for step in STEPS[STEPS.index(first) : STEPS.index(last) + 1]:
            getattr(self, step)()

    def warnings(self) -> dict[str, str]:
        """Messages of the check results that did not pass, by name."""
        found = [*(self.report.results if self.report else self.raw_results)]
        return {result.name: result.message for result in found if not result.passed}


STEPS = ("land", "build", "train", "recommend", "validate", "publish")
AFTERWARDS: dict[str, Callable[[Store], object]] = {  # what people do with a release: back to the one before it, and forth again
    "rollback": lambda store: rollback(store, registry.required(audit=False)),
    "canary": lambda store: try_out(store, registry.required(audit=False), store.history()[-1]["rolled_back"], 0.5),
    "promote": lambda store: promote(store, registry.required(audit=False)),
    "gc": lambda store: free(store, keep=1, grace_hours=0),
}


def copied(run: Run, root: Path) -> Run:
    """The same run in a copy of its store, so that whatever is done to it harms no other."""
    name = run.settings.name
    shutil.copytree(str(run.store.backend), root / name)
    return replace(run, store=open_store(str(root), name))


def write_files(source: Path, target: Path, as_of: date, queries: dict[str, str] = {}) -> dict[str, str]:
    """The events before a day, the items and the users of a folder of Parquet files, as files that a run can read: paths by table.
    `queries` put other rows in the place of a table's, and may read all three."""
    found = {}
    with duckdb.connect() as connection:
        for table in TABLES:
            if (source / f"{table}.parquet").exists():
                until = f" where event_at < timestamp '{as_of}'" if table == "events" else ""
                connection.execute(f"create view {table} as from read_parquet('{source}/{table}.parquet'){until}")
                found[table] = queries.get(table, f"from {table}")
        for table, query in found.items():
            folder = target / table
            folder.mkdir(parents=True)
            parts = {folder / "all.parquet": f"from ({query})"} if table != "events" else _by_day(folder, query, as_of, connection)
            for file, part in parts.items():
                connection.execute(f"copy ({part} order by all) to '{file}' (format parquet)")
            found[table] = str(folder)
    return found


def _by_day(folder: Path, query: str, as_of: date, connection: duckdb.DuckDBPyConnection) -> dict[Path, str]:
    connection.execute(f"create temp table written as from ({query})")
    recent = as_of - timedelta(days=DAILY_FILES)
    name = f"case when event_at < timestamp '{recent}' then strftime(event_at, '%Y-%m') else strftime(event_at, '%Y-%m-%d') end"
    names = connection.execute(f"select distinct {name} from written where event_at is not null order by 1").fetchall()
    return {folder / f"{one}.parquet": f"from written where coalesce({name}, '{names[-1][0]}') = '{one}'" for (one,) in names}


def settings_of(dataset: dict[str, Any], inputs: dict[str, str], **changes: Any) -> Settings:
    """Settings of a run on such files, with a small ranker."""
    small: dict[str, Any] = {
        "features": {"training_windows": 2},
        "evaluation": {"selection_windows": 1, "selection_users": 1, "bootstraps": 300},
        "recommenders": {"two_stage": {"windows": 2, "trees": 30, "leaves": 31, "rate": 0.1, "negatives": 0.1}},
    }
    return make_settings("events", inputs=inputs, dataset=dataset, **small | changes)


def land_as_files(store: Store, settings: Settings, today: date, target: Path, tables: Sequence[str] = TABLES) -> None:
    """Raw data of any source as one Parquet file a table, with typed columns."""
    raw_id, _ = pipeline.land(store, settings, today)
    raw = store.load("raw", raw_id).path
    target.mkdir(parents=True)
    with duckdb.connect() as connection:
        for table in tables:
            files = f"{raw}/{table}/*.parquet" if (raw / table).is_dir() else f"{raw}/{table}.parquet"
            connection.execute(f"copy (from read_parquet('{files}', union_by_name = true)) to '{target}/{table}.parquet'")


def tiny_run(folder: Path) -> Run:
    """A run on data of 60 users, whose release is live. `cheap` gives its features to all later ones."""
    export = shop(users=60)
    settings = settings_of(export.dataset | {"max_age_days": 0}, export.write(folder))
    settings = replace(settings, recommenders={"popularity": {"days": 7}, "repeat_purchase": {}})
    run = Run(open_store(str(folder / "store"), "events"), settings, date(2024, 5, 4))
    run.go()
    shutil.copytree(run.store.load("features", run.features_id).path, folder / "features")
    return run


def take(run: Run, step: str) -> None:
    """One step of a run, or of what people do with its release."""
    if step in STEPS:
        getattr(run, step)()
    else:
        AFTERWARDS[step](run.store)


def features_of(run: Run) -> Path:
    """A copy of a tiny run's features, since freeing what is not needed takes the first ones too."""
    return Path(str(run.store.backend)).parents[1] / "features"


def add_event(run: Run) -> None:
    """One more event among those of a tiny run, so that the next one lands other data."""
    with Path(run.settings.dataset.source_settings["events"]).open("a") as events:
        events.write(f"u001,i01,2024-05-03 12:00:00.{time.time_ns() % 10**6:06},view,,\n")


@contextmanager
def cheap(prepared: Path) -> Iterator[None]:
    """Building features copies prepared ones, for dbt takes seconds. All databases in memory are in one DuckDB, since starting one
    takes longer than its queries here. Nothing is synced: what a killed process wrote stays."""
    main, names = duckdb.connect(), map("memory_{}".format, itertools.count())

    def build(raw: Any, variables: Any, settings: Any, project: Path, folder: Path) -> float:
        with tempfile.TemporaryDirectory(prefix="warehouse-"):
            for path in prepared.glob("*.parquet"):
                shutil.copyfile(path, folder / path.name)
        return 0.0

    @contextmanager
    def connect(_: str) -> Iterator[duckdb.DuckDBPyConnection]:
        name = next(names)
        with main.cursor() as connection:
            connection.execute(f"attach ':memory:' as {name}; use {name}")
            yield connection
            connection.execute(f"use memory; detach {name}")

    with patch("recsys.features.warehouse.build", build), patch("os.fsync"), patch("duckdb.connect", connect):
        yield


def watch_changes(act: Callable[[], object]) -> None:
    """Calls `act` before each change to files that this process makes."""

    def watch(event: str, arguments: Any) -> None:
        writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        if writes or event in ("os.mkdir", "os.rename", "os.remove", "os.rmdir"):
            act()

    sys.addaudithook(watch)
