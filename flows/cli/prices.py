"""The verb `cost`, which estimates the monthly cost of the deployed flows. It reads CPU seconds from bench.json, container sizes
and schedules from config.toml, and prices and assumptions from deploy/prices.toml."""

import json
import tomllib
from collections.abc import Mapping
from typing import Any

from cli.production import ROOT
from cli.terminal import console, table
from cli.variables import read_config
from recsys.settings import WEEKDAYS, Operations, Schedule, read_operations

DAYS = 365 / 12
ALWAYS = ("start", "publish", "end")
TRAIN = (*ALWAYS, "land", "build_features", "select", "recommend", "validate")  # plus `train` for each recommender
RECOMMEND = (*ALWAYS, "land", "build_features serving", "recommend", "gather", "validate")
NEAREST = {"judge": "validate", "gather": "recommend"}  # steps that bench.json lacks, each with a measured one of similar cost
MONITOR = ("start", "land", "build_features serving", "judge", "end")


def cost() -> None:
    """Estimates the monthly cost of the deployed flows for each size of data in bench.json.

    Example: make cost
    """
    prices = tomllib.loads((ROOT / "deploy" / "prices.toml").read_text())
    operations = read_operations(read_config())
    made = table(("a month", "containers", "hours", "compute", "storage", "rest", "total"))
    for size, measured in json.loads((ROOT / "bench.json").read_text()).items():
        containers, *others = month(measured, operations, prices).values()
        made.add_row(f"{size} events", f"{containers:,.0f}", *(f"{value:,.2f}" for value in others))
    console.print(made)
    nearest = ", ".join(f"{step} counts as {other}" for step, other in NEAREST.items())
    console.print(
        f"US dollars at the list prices of {prices['date']} in deploy/prices.toml, which also lists the assumptions\n"
        f"{nearest}; select as an idle container\n"
        "storage is what remains after `make gc YES=1`: run it every month, or storage costs grow every day"
    )


def month(measured: Mapping[str, Any], operations: Operations, table: Mapping[str, Any]) -> dict[str, float]:
    """The monthly cost for one size of data in bench.json: containers and their hours, then dollars by what they are for.

    A step without a measurement costs as much as its NEAREST step or, without one, only the start and end of a container. table:
    the content of deploy/prices.toml.
    """
    prices, assumed = table["prices"], table["assumed"]
    seconds = {one["step"]: one["cpu_seconds"] for one in measured["steps"]}
    train = [*TRAIN, *(step for step in seconds if step.startswith("train "))]
    containers = hours = compute = 0.0
    for name, steps in {"train": train, "recommend": RECOMMEND, "monitor": MONITOR}.items():
        times = starts(operations.schedule[name]) if name in operations.schedule else 0
        containers += times * len(steps)
        for step in steps:
            container = operations.resources_of(step.split()[0])
            spent = assumed["start_seconds"] + assumed["slower"] * (
                assumed["own_seconds"] + seconds.get(NEAREST.get(step, step), 0)
            )
            hour = times * max(60, spent) / 3600
            hours += hour
            per_hour = container.cpu * prices["vcpu_hour"] + container.memory / 1024 * prices["gb_hour"] + prices["ip_hour"]
            compute += hour * per_hour
    kept = assumed["kept"] * measured["counts"]["events"] * assumed["bytes_per_event"] / 1e9
    storage = kept * prices["s3_gb_month"] + assumed["image_gb"] * prices["image_gb_month"]
    each = 2 * prices["transition"] + assumed["puts"] * prices["s3_put"] + assumed["log_gb"] * prices["log_gb"]
    dollars = {"compute": compute, "storage": storage, "rest": containers * each}
    return {"containers": containers, "hours": hours, **dollars, "total": sum(dollars.values())}


def starts(schedule: Schedule) -> float:
    """Number of times that a crontab line runs in a month."""
    minute, hour, day, month, weekday = schedule.cron.split()
    days = _count(weekday, 7) / 7 * DAYS if day == "*" else _count(day, 31) / 31 * DAYS
    return _count(minute, 60) * _count(hour, 24) * days * _count(month, 12) / 12


def _count(field: str, whole: int) -> int:
    """Number of values that a field of a crontab line selects. whole: number of all its values."""
    if field.startswith("*"):
        return -(-whole // int(field[2:] or 1))
    bounds = [part.partition("-") for part in field.split(",")]
    return sum(_place(last or first) - _place(first) + 1 for first, _, last in bounds)


def _place(value: str) -> int:
    return WEEKDAYS.index(value) if value in WEEKDAYS else int(value)
