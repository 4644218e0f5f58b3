"""Healthy runs to sabotage, on data of several shapes: for each, a first training, a later one, and daily lists, judged and not yet
published."""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pyarrow.parquet as pq

import exports
from conftest import PROJECT, make_settings
from recsys import pipeline
from recsys.store.snapshots import open_store
from recsys.validation.checks.history import MAX_NEW_DAYS, WEEK
from recsys.validation.past_days import WEEKS
from recsys.validation.perturbations import replay
from runs import Run, copied, land_as_files, settings_of, write_files
from sabotages.harness import Sabotage
from simulator import simulated

SOURCE_SETTINGS = {"users": 600, "items": 150, "days": 300, "events": 60_000, "first_day": "2024-01-01", "seed": 3}
APART = timedelta(7)  # from the live release to the runs


@dataclass(frozen=True)
class World:
    """`source`: folder of one Parquet file a table. `runs`: the healthy runs by place. `is_long`: whether detectors over time may
    block; in a short history they only warn."""

    name: str
    source: Path
    runs: dict[str, Run]
    is_long: bool = True

    def expected(self, one: Sabotage) -> str:
        """The level at which a sabotage must be told on this data."""
        if self.name in one.unnoticed_in:
            return "unnoticed"
        return "warn" if one.at == "source" and one.expect == "block" and not self.is_long else one.expect

    def copied(self, place: str, folder: Path) -> Run:
        """One of the runs in a store of its own."""
        return copied(self.runs[place], folder)


def make_world(name: str, folder: Path) -> World:
    """Trains and publishes as of a week before the end, then makes the three runs as of the end."""
    dataset = DATA[name](folder / "source")
    with duckdb.connect() as connection:
        days = f"select min(event_at)::date, max(event_at)::date from '{folder}/source/events.parquet'"
        ((first, last),) = connection.execute(days).fetchall()
    today = last + timedelta(1)
    live = Run(open_store(str(folder / "live"), "events"), _settings(dataset, folder, today - APART), today - APART)
    live.go()
    runs, settings = {}, _settings(dataset, folder, today)
    for place in ("daily", "later"):
        runs[place] = replace(copied(live, folder / place), settings=settings, today=today, lists_only=place == "daily")
        runs[place].go(last="validate")
    runs["first"] = replace(copied(runs["later"], folder / "first"), champion=None)
    for pointer in ("CURRENT", "history.jsonl"):
        (Path(str(runs["first"].store.backend)) / pointer).unlink()
    runs["first"].go("recommend", "validate")
    return World(name, folder / "source", runs, last - first >= timedelta(MAX_NEW_DAYS + WEEK * WEEKS))


def _settings(dataset: dict[str, Any], folder: Path, as_of: date) -> Any:
    inputs = write_files(folder / "source", folder / f"until-{as_of}", as_of)
    return settings_of(dataset, inputs, lists={"alternatives": ["repeat_purchase"] if not dataset.get("exclude_seen") else []})


def as_files(folder: Path, source_settings: dict[str, Any], until: date) -> dict[str, str]:
    """A simulated shop as files that a run can read: paths by table."""
    store = open_store(str(folder / "simulated"), "shop")
    land_as_files(store, simulated(source_settings), until, folder / "source")
    return write_files(folder / "source", folder / "files", until)


def shop(folder: Path) -> dict[str, Any]:
    """The simulated shop: views, carts, purchases and returns, with prices, a catalogue and segments."""
    store = open_store(str(folder.parent / "simulated"), "shop")
    land_as_files(store, simulated(SOURCE_SETTINGS), date(2026, 1, 1), folder)
    return {"horizon_days": 28, "step_days": 14, "max_age_days": 1, "max_daily_events": 500}


def retail(folder: Path) -> dict[str, Any]:
    """Online Retail: a year of purchases and returns at a wholesaler, without a catalogue's flags. RAW names its file, as it does
    for `make run`; without it the file is downloaded."""
    store = open_store(str(folder.parent / "retail"), "online_retail")
    raw_file = os.environ.get("RAW", "")
    settings = make_settings("online_retail", inputs={"raw": raw_file} if raw_file else {})
    raw_id, _ = pipeline.land(store, settings, date(2026, 1, 1))
    features = pipeline.open_features(store, pipeline.build_features(store, raw_id, settings, PROJECT, serving=True).id, settings)
    raw = store.load("raw", replay(store, features, settings, features.as_of)).path
    folder.mkdir(parents=True)
    for table in ("events", "items", "users"):
        rows = pq.read_table(raw / f"{table}.parquet")
        known = [name for name in rows.column_names if rows[name].null_count < len(rows)]
        pq.write_table(rows.select(known), folder / f"{table}.parquet")
    return {"horizon_days": 28, "step_days": 14, "max_age_days": 1, "max_daily_events": 1_000}


def views(folder: Path) -> dict[str, Any]:
    """Views alone, of six weeks, which users repeat: no prices, no catalogue, no segments."""
    rows = [(f"v{user:03}", f"c{item:02}", at) for user, item, at, _ in exports.history(300, 60, 45, 0.4, 1)]
    _write_events(folder, rows, "view")
    return {"horizon_days": 7, "step_days": 7, "max_age_days": 1, "target": "view"}


def films(folder: Path) -> dict[str, Any]:
    """Films watched, each once by a user, so that lists hold only new items."""
    seen = {(user, item): at for user, item, at, _ in reversed(list(exports.history(400, 200, 120, 0.15, 2)))}
    _write_events(folder, [(f"{user}", f"tt{item:03}", at) for (user, item), at in seen.items()], "watch")
    return {"horizon_days": 14, "step_days": 7, "max_age_days": 1, "target": "watch", "exclude_seen": True}


def _write_events(folder: Path, rows: list[Any], event_type: str) -> None:
    events = pd.DataFrame(sorted(rows, key=lambda row: row[2]), columns=["user_id", "item_id", "event_at"])
    events["event_at"] = events["event_at"].dt.tz_localize(None)
    events = events.assign(event_type=event_type, event_id=[f"e{row:06}" for row in range(len(events))])
    folder.mkdir(parents=True)
    events.to_parquet(folder / "events.parquet", index=False)


DATA: dict[str, Callable[[Path], dict[str, Any]]] = {one.__name__: one for one in (shop, retail, views, films)}
