"""The data of the tests: 300 days of a small shop with 500 users and 150 items, in tests/data/shop. The simulator wrote them once
(seed 3); they are read by the source `events`, so the tests need no simulator."""

import re
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import duckdb

FILES = {table: str(Path(__file__).parent / "data" / "shop" / f"{table}.parquet") for table in ("events", "items", "users")}
FIRST_DAY = date(2024, 1, 1)
DATASET: dict[str, Any] = {
    "source": "events",
    "horizon_days": 28,
    "step_days": 14,
    "max_quarantine": 0.03,
    "max_daily_events": 500,
    "max_age_days": 0,
    "source_settings": FILES,
}


def write(folder: Path, users: int, days: int) -> dict[str, str]:
    """The first users and days of it as files of their own: paths by table."""
    end = FIRST_DAY + timedelta(days)
    kept = {
        "events": f"event_at < '{end}' and user_id < 'u{users:07}'",
        "items": f"available_from < '{end}'",
        "users": f"user_id < 'u{users:07}' and user_id in (select user_id from '{FILES['events']}' where event_at < '{end}')",
    }
    written = {table: str(folder / f"{table}.parquet") for table in kept}
    folder.mkdir(parents=True, exist_ok=True)
    with duckdb.connect() as connection:
        for table, condition in kept.items():
            connection.execute(f"copy (from '{FILES[table]}' where {condition}) to '{written[table]}' (format parquet)")
    return written


def put_into(config: str, files: dict[str, str]) -> str:
    """The text of config.toml with it as dataset `shop`, in place of a dataset of that name."""
    others = re.split(r"^(?=\[)", config, flags=re.M)
    kept = [section for section in others if not section.startswith(("[datasets.shop]", "[datasets.shop."))]
    lines = [f"{key} = {value!r}" for key, value in DATASET.items() if key != "source_settings"]
    paths = [f"{table} = {path!r}" for table, path in files.items()]
    return "\n".join(["".join(kept), "[datasets.shop]", *lines, "[datasets.shop.source_settings]", *paths, ""])
