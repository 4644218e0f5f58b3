"""Features as of a cutoff are what they would have been on that day: later events change nothing, whoever adds a column."""

import shutil
from dataclasses import replace
from datetime import date
from pathlib import Path

from conftest import PROJECT, make_settings
from recsys.features import Features
from recsys.pipeline import build_features, land, open_features
from recsys.store import open_store

SMALL = {"dials": {"users": 60, "items": 40, "days": 130, "events": 3_000, "first_day": "2024-01-01", "seed": 1}}


def now_and_then(project: Path, folder: Path) -> tuple[Features, Features]:
    """The features of today, and those built on the day of the holdout's cutoff."""
    settings = make_settings(dataset=SMALL)
    store = open_store(str(folder), "shop")
    raw, _ = land(store, settings, date(2026, 1, 1))
    now = open_features(store, build_features(store, raw, settings, project).id, settings)
    then = build_features(store, raw, replace(settings, as_of=now.evaluated[0]), project, serving=True)
    return now, open_features(store, then.id, settings)


def test_features_of_a_past_day_are_those_built_on_that_day(tmp_path: Path) -> None:
    now, then = now_and_then(PROJECT, tmp_path)
    assert then.cutoffs == [now.evaluated[0]]
    assert now.differences(then) == {}


def test_a_new_feature_that_peeks_one_day_past_the_cutoff_is_caught(tmp_path: Path) -> None:
    project = tmp_path / "dbt_project"
    shutil.copytree(PROJECT, project, ignore=shutil.ignore_patterns("target", "logs"))
    model = project / "models" / "features" / "feat_items"
    change(
        model.with_suffix(".sql"),
        "final as (",
        """peeking as (
            select cutoffs.cutoff, events.item_index, count(*) as trend
            from cutoffs inner join events on events.event_at < cutoffs.cutoff + interval 1 day
            group by events.item_index, cutoffs.cutoff
        ),

        final as (""",
    )
    change(model.with_suffix(".sql"), "        -- numbers: time", "        coalesce(peeking.trend, 0)::int as trend,")
    change(
        model.with_suffix(".sql"),
        "    left join counted on",
        "    left join peeking using (cutoff, item_index)\n    left join counted on",
    )
    column = "      - {name: days_since_last_purchase,"
    change(model.with_suffix(".yml"), column, f"      - {{name: trend, data_type: int}}\n{column}")
    now, then = now_and_then(project, tmp_path / "store")
    assert list(now.differences(then)) == ["feat_items.trend"]


def change(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert text.count(old) == 1
    file.write_text(text.replace(old, new))
