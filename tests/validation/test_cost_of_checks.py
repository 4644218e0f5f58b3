"""What all checks of a run cost together: CPU seconds by check, at a million events or as many as EVENTS says. By hand:

EVENTS=1e6 .venv/bin/python -m pytest tests/validation/test_cost_of_checks.py -s
"""

import os
import time
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from recsys.store.snapshots import open_store
from recsys.validation import registry
from recsys.validation.check_input import CheckInput
from recsys.validation.registry import CHECKS
from runs import Run, settings_of
from sabotages.worlds import as_files

EVENTS = int(float(os.environ.get("EVENTS", 0)))
pytestmark = [pytest.mark.slow, pytest.mark.timeout(7_200), pytest.mark.skipif(not EVENTS, reason="takes minutes: EVENTS=1e6")]


def test_the_cost_of_checks_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source_settings = {"users": EVENTS // 100, "items": 2_000, "days": 400, "events": EVENTS, "first_day": "2024-01-01", "seed": 7}
    today = date(2025, 2, 4)
    dataset = {"horizon_days": 28, "step_days": 14, "max_daily_events": 500}
    settings = settings_of(dataset, as_files(tmp_path, source_settings, today))
    run = Run(open_store(str(tmp_path / "store"), "events"), settings, today)
    costs: dict[str, float] = {}
    run.go(last="recommend")

    def examine(inputs: CheckInput, audit: bool, on: Any = ("model", "data")) -> dict[str, Any]:
        found = {}
        for name in registry.required(audit):
            if CHECKS[name].when != "landing" and CHECKS[name].on in on:
                start = time.process_time()
                found[name] = list(CHECKS[name].module.check(inputs, registry.limits(name, inputs.settings)))
                costs[name] = round(time.process_time() - start, 1)
        return found

    monkeypatch.setattr(registry, "examine", examine)
    start = time.process_time()
    run.validate()
    print(f"\n{sum(costs.values()):.1f} CPU seconds of {time.process_time() - start:.1f}: {costs}")  # noqa: T201
