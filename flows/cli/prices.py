"""The verb that estimates what the deployed flows cost in a month: seconds from bench.json, sizes and schedules from config.toml,
prices from deploy/prices.toml. It says what it assumes."""

import json
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from cli.production import ROOT
from cli.terminal import console, table
from cli.variables import read_config
from recsys.settings import DAYS as DAYS_OF_WEEK
from recsys.settings import Operations, Schedule
from recsys.settings import read as read_operations

DAYS = 365 / 12
ALWAYS = ("start", "publish", "end")
TRAIN = (*ALWAYS, "land", "build_features", "select", "recommend", "validate")  # and a `train` for each recommender
RECOMMEND = (*ALWAYS, "land", "build_features serving", "recommend", "gather", "validate")
NEAREST = {"judge": "validate", "gather": "recommend"}  # a measured step that does as much, of those that bench.json lacks
MONITOR = ("start", "land", "build_features serving", "judge", "end")


@dataclass(frozen=True)
class Month:
    """Of one size of shop, in dollars, with what they buy."""

    containers: float
    hours: float
    compute: float
    storage: float
    rest: float

    @property
    def total(self) -> float:
        return self.compute + self.storage + self.rest


def cost() -> None:
    """Estimates what a month of the deployed flows costs, at every size in bench.json."""
    prices = tomllib.loads((ROOT / "deploy" / "prices.toml").read_text())
    operations = read_operations(read_config())
    made = table(("a month", "containers", "hours", "compute", "storage", "rest", "total"))
    for size, measured in json.loads((ROOT / "bench.json").read_text()).items():
        one = month(measured, operations, prices)
        dollars = (f"{value:,.2f}" for value in (one.hours, one.compute, one.storage, one.rest, one.total))
        made.add_row(f"{size} events", f"{one.containers:,.0f}", *dollars)
    console.print(made)
    console.print(f"US dollars by list prices of {prices['date']} in deploy/prices.toml, which also says what is assumed")
    console.print(
        f"{', '.join(f'{one} counts as {other}' for one, other in NEAREST.items())}; select as a container that does nothing"
    )
    console.print("storage is what `make gc YES=1` leaves: run it every month, for without it each day adds to the bill")


def month(measured: Mapping[str, Any], operations: Operations, table: Mapping[str, Any]) -> Month:
    """`measured` is one size in bench.json. Steps it does not have cost what the nearest one does, or else a container's start and
    end alone."""
    prices, assumed = table["prices"], table["assumed"]
    seconds = {one["step"]: one["cpu_seconds"] for one in measured["steps"]}
    train = [*TRAIN, *(step for step in seconds if step.startswith("train "))]
    containers = hours = compute = 0.0
    for name, steps in {"train": train, "recommend": RECOMMEND, "monitor": MONITOR}.items():
        times = starts(operations.schedule[name]) if name in operations.schedule else 0
        containers += times * len(steps)
        for step, cpu, memory in sizes(steps, operations):
            spent = assumed["start_seconds"] + assumed["slower"] * (
                assumed["own_seconds"] + seconds.get(NEAREST.get(step, step), 0)
            )
            hour = times * max(60, spent) / 3600
            hours += hour
            compute += hour * (cpu * prices["vcpu_hour"] + memory / 1024 * prices["gb_hour"] + prices["ip_hour"])
    kept = assumed["kept"] * measured["counts"]["events"] * assumed["bytes_per_event"] / 1e9
    storage = kept * prices["s3_gb_month"] + assumed["image_gb"] * prices["image_gb_month"]
    each = 2 * prices["transition"] + assumed["puts"] * prices["s3_put"] + assumed["log_gb"] * prices["log_gb"]
    return Month(containers, hours, compute, storage, containers * each)


def sizes(steps: Iterable[str], operations: Operations) -> Iterable[tuple[str, float, int]]:
    """Cores and megabytes that each step's container has."""
    for step in steps:
        own = operations.resources_of(step.split()[0])
        yield step, own.cpu, own.memory


def starts(schedule: Schedule) -> float:
    """How often a month a crontab line fires."""
    minute, hour, day, month, weekday = schedule.cron.split()
    days = _count(weekday, 7) / 7 * DAYS if day == "*" else _count(day, 31) / 31 * DAYS
    return _count(minute, 60) * _count(hour, 24) * days * _count(month, 12) / 12


def _count(field: str, whole: int) -> int:
    """How many of the values a field may have it names."""
    if field.startswith("*"):
        return -(-whole // int(field[2:] or 1))
    bounds = [part.partition("-") for part in field.split(",")]
    return sum(_place(last or first) - _place(first) + 1 for first, _, last in bounds)


def _place(value: str) -> int:
    return DAYS_OF_WEEK.index(value) if value in DAYS_OF_WEEK else int(value)
