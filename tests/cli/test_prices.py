"""The estimate of `make cost`."""

import math
from types import SimpleNamespace

import pytest

from cli.prices import DAYS, month, starts
from recsys.settings.deployment import Resources, Schedule

TABLE = {
    "prices": {
        "vcpu_hour": 1.0,
        "gb_hour": 0.5,
        "ip_hour": 0.0,
        "transition": 0.0,
        "s3_gb_month": 2.0,
        "s3_put": 0.0,
        "image_gb_month": 0.0,
        "log_gb": 0.0,
    },
    "assumed": {
        "start_seconds": 90,
        "own_seconds": 0,
        "slower": 2.0,
        "image_gb": 0.0,
        "puts": 0,
        "log_gb": 0.0,
        "kept": 2,
        "bytes_per_event": 500,
    },
}


@pytest.mark.parametrize(
    ("cron", "times"),
    [
        ("0 2 * * SUN", DAYS / 7),
        ("0 2 * * MON-FRI", 5 * DAYS / 7),
        ("0 4 * * *", DAYS),
        ("*/30 4,5 * * *", 4 * DAYS),
        ("0 0 1 * *", DAYS / 31),
        ("0 0 * 1 *", DAYS / 12),
    ],
)
def test_a_schedule_fires_so_often(cron: str, times: float) -> None:
    assert starts(Schedule(cron)) == pytest.approx(times)


def test_a_month_is_its_containers_at_their_size_and_its_bytes() -> None:
    small = Resources(cpu=1, memory=2048)
    known = SimpleNamespace(schedule={"monitor": Schedule("0 6 * * *")}, resources_of=lambda step: small)
    measured = {"steps": [{"step": "land", "cpu_seconds": 45.0}], "counts": {"events": 1_000_000}}
    made = month(measured, known, TABLE)  # type: ignore[arg-type]
    assert made["containers"] == pytest.approx(5 * DAYS)
    assert made["hours"] == pytest.approx(DAYS * (4 * 90 + 180) / 3600)
    assert made["compute"] == pytest.approx(made["hours"] * (1 + 2 * 0.5))
    assert made["storage"] == pytest.approx(2 * 1e6 * 500 / 1e9 * 2.0)
    assert math.isclose(made["total"], made["compute"] + made["storage"])


def test_a_step_that_was_not_measured_counts_as_the_nearest_one() -> None:
    known = SimpleNamespace(schedule={"monitor": Schedule("0 6 * * *")}, resources_of=lambda step: Resources(cpu=1, memory=2048))
    measured = {"steps": [{"step": "validate", "cpu_seconds": 45.0}], "counts": {"events": 1}}
    assert month(measured, known, TABLE)["hours"] == pytest.approx(DAYS * (4 * 90 + 180) / 3600)  # type: ignore[arg-type]
