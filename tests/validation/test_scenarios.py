"""Healthy scenarios: nothing that a real shop lives through is blocked, and warnings stay rare.

`make test-all` looks at 14 days of three scenarios. By hand, SCENARIOS=days looks at 60 days of all with three seeds, and
SCENARIOS=runs makes whole runs, a training every fourth week and daily lists every seventh day; each prints what warned:

    SCENARIOS=days .venv/bin/python -m pytest tests/validation/test_scenarios.py -s
"""

import os
import random
from datetime import timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest

from conftest import make_settings
from recsys.features import daily_profile
from recsys.store.snapshots import open_store
from recsys.validation.checks import history
from recsys.validation.registry import limits
from runs import Run, settings_of, write_files
from scenarios import DAYS, FIRST_DAY, SCENARIOS, START, write_stream

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3_600)]
ASKED = os.environ.get("SCENARIOS", "")
MOST_WARNED = 3  # days with a warning
SEEDS = (1, 2, 3)
FIRST = START + 1  # the first day as of which there is a day of the scenario to look at


def chosen() -> list[tuple[str, int, range]]:
    """Scenarios with a seed and the days to look at."""
    if ASKED:
        return [(name, seed, range(FIRST, START + DAYS + 1)) for name in SCENARIOS for seed in SEEDS]
    return [(name, 1, range(START + 8, START + 22)) for name in random.Random(12).sample(list(SCENARIOS), 3)]


@pytest.mark.skipif(ASKED == "runs", reason="whole runs were asked for")
@pytest.mark.parametrize(("name", "seed", "days"), chosen())
def test_days_that_are_healthy_pass(name: str, seed: int, days: range, tmp_path: Path) -> None:
    write_stream(name, seed, tmp_path / "stream")
    profile = profile_of(tmp_path / "stream")
    found = {day: history.detect(profile, FIRST_DAY + timedelta(day), LIMITS) for day in days}
    failed = {day: [one for one in results if not one.passed] for day, results in found.items()}
    warned = {day: [one.name for one in results] for day, results in failed.items() if results}
    tell(f"{name}, seed {seed}", warned)
    assert not [one.message for results in failed.values() for one in results if one.blocks]
    assert len(warned) <= MOST_WARNED, warned


def profile_of(stream: Path) -> daily_profile.DailyProfile:
    """The profile of all days, without dbt."""
    with duckdb.connect() as connection:
        for table, id, number in (("users", "user_id", "user_index"), ("items", "item_id", "item_index")):
            ids = f"select distinct {id} from '{stream}/events.parquet'"
            connection.execute(
                f"create table {table} as select *, (row_number() over (order by {id}) - 1)::int as {number}"
                f" from ({ids}) left join '{stream}/{table}.parquet' using ({id})"
            )
        connection.execute("update users set segment = 'unknown' where segment is null")
        connection.execute(
            f"""create table events as select user_index, item_index, event_type, event_at, events.quantity, events.price
                from '{stream}/events.parquet' events join users using (user_id) join items using (item_id)"""
        )
        return daily_profile.read(connection, "events", "items", "users")


LIMITS: Any = limits("history", make_settings())


@pytest.mark.skipif(ASKED != "runs", reason="takes minutes a scenario: SCENARIOS=runs")
@pytest.mark.parametrize("name", SCENARIOS)
def test_runs_that_are_healthy_are_published(name: str, tmp_path: Path) -> None:
    write_stream(name, 1, tmp_path / "stream")
    dataset = {"horizon_days": 14, "step_days": 7, "max_age_days": 8, "max_daily_events": 500}
    store, warned = open_store(str(tmp_path / "store"), "events"), {}
    for place, day in enumerate(range(START, START + DAYS + 1, 7)):
        today = FIRST_DAY + timedelta(day)
        settings = settings_of(dataset, write_files(tmp_path / "stream", tmp_path / f"until-{today}", today), as_of=str(today))
        run = Run(store, settings, today, lists_only=place % 4 > 0)
        run.go()
        assert run.report
        told = run.report.results if not run.lists_only else [one for found in run.report.on_data.values() for one in found]
        if place and (warnings := [one.name for one in told if not one.passed]):
            warned[day] = warnings
    tell(f"{name}, runs", warned)  # daily lists repeat what their model was warned of; this counts on the day of its training
    assert len(warned) <= MOST_WARNED, warned


def tell(what: str, warned: dict[int, list[str]]) -> None:
    if ASKED:
        days = "; ".join(f"day {day - START}: {', '.join(names)}" for day, names in warned.items())
        print(f"\n{what}: {len(warned)} days with a warning {days}")  # noqa: T201
