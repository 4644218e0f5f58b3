"""Monitoring, on a made-up history and made-up days whose answers are known."""

import json
from datetime import date
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from conftest import make_settings
from recsys import RecsysError
from recsys.evaluation import Window
from recsys.metrics import Interval
from recsys.monitoring import Stay, _kept, _realised, report, stays
from recsys.settings import MonitorSettings
from recsys.store import open_store

SETTINGS = make_settings(evaluation={"bootstraps": 100})
LIMITS = MonitorSettings(days=28, min_users=50, min_kept=0.5, max_release_age_days=2, max_without_list=0.05)
TODAY = date(2024, 6, 10)


def history(*moves: tuple[str, str | None]) -> Any:
    """A store in which these releases went live one after the other, each with its day; one without a day is gone."""
    days = {release: day for release, day in moves if day}

    def read(kind: str, id: str, name: str) -> bytes | None:
        return json.dumps({"as_of": days[id]}).encode() if id in days else None

    return SimpleNamespace(history=lambda: [{"release": release} for release, _ in moves], read=read)


def test_each_release_was_live_until_the_next_and_the_last_one_until_today() -> None:
    store = history(("a", "2024-06-01"), ("b", "2024-06-02"), ("c", "2024-06-05"))
    assert stays(store, TODAY, 28) == [
        Stay("a", date(2024, 6, 1), date(2024, 6, 2)),
        Stay("b", date(2024, 6, 2), date(2024, 6, 5)),
        Stay("c", date(2024, 6, 5), TODAY),
    ]


def test_only_the_last_days_are_looked_at() -> None:
    store = history(("a", "2024-01-01"), ("b", "2024-06-02"))
    assert stays(store, TODAY, 9) == [Stay("a", date(2024, 6, 1), date(2024, 6, 2)), Stay("b", date(2024, 6, 2), TODAY)]


def test_of_two_on_a_day_the_later_counts_and_what_is_gone_is_left_out() -> None:
    assert stays(history(("a", "2024-06-05"), ("gone", None), ("b", "2024-06-05")), TODAY, 28) == [
        Stay("b", date(2024, 6, 5), TODAY)
    ]


def test_a_release_rolled_back_to_counts_from_the_day_of_the_one_it_replaced() -> None:
    store = history(("a", "2024-06-01"), ("b", "2024-06-05"), ("a", "2024-06-01"))
    assert stays(store, TODAY, 28) == [Stay("a", date(2024, 6, 1), date(2024, 6, 5)), Stay("a", date(2024, 6, 5), TODAY)]


def test_a_dated_rollback_leaves_its_days_to_the_release_that_was_rolled_back_from() -> None:
    store = history(("a", "2024-06-01"), ("b", "2024-06-05"), ("a", "2024-06-01"))
    moves = [*store.history()[:2], {"release": "a", "rolled_back": "b", "at": "2024-06-08T09:30:00+00:00"}]
    store.history = lambda: moves
    assert stays(store, TODAY, 28) == [
        Stay("a", date(2024, 6, 1), date(2024, 6, 5)),
        Stay("b", date(2024, 6, 5), date(2024, 6, 8)),
        Stay("a", date(2024, 6, 8), TODAY),
    ]


def windows(ours: float, popular: float, users: int = 60) -> list[tuple[Window, Window]]:
    def window(mean: float) -> Window:
        hits = np.zeros(users)
        hits[: round(mean * users)] = 1
        names = np.array([f"u{row:03}" for row in range(users)])
        return Window(TODAY, names, {"hit_rate@10": hits, "ndcg@10": hits}, np.zeros((users, 20), np.int32), 40)

    return [(window(ours), window(popular))]


def failures(ours: float, popular: float, users: int = 60) -> list[str]:
    """Names of what fails where the holdout promised 0.5 of both."""
    seen = windows(ours, popular, users)
    promised = {"hit_rate@10": 0.5, "ndcg@10": 0.5}
    return [one.name for one in _kept(seen, _realised(seen, SETTINGS), promised, LIMITS, SETTINGS) if not one.passed]


def test_what_keeps_its_promise_passes() -> None:
    assert failures(0.4, 0.2) == []


def test_what_falls_far_below_it_fails_and_so_does_what_popularity_beats() -> None:
    assert failures(0.05, 0.05) == ["hit_rate@10_kept", "ndcg@10_kept"]
    assert failures(0.4, 0.9) == ["better_than_popularity"]


def test_few_buyers_are_too_early_to_tell() -> None:
    seen = windows(0.0, 0.9, 49)
    (verdict,) = _kept(seen, _realised(seen, SETTINGS), {"ndcg@10": 0.5}, LIMITS, SETTINGS)
    assert verdict.passed
    assert "too early: 49 users" in verdict.message


def test_a_user_counts_once_over_all_days() -> None:
    first, second = windows(1.0, 0.0)[0], windows(0.0, 0.0)[0]
    assert _realised([first, second], SETTINGS)["ndcg@10"] == Interval(0.5, 0.5, 0.5)


def test_without_a_live_release_there_is_nothing_to_monitor(tmp_path: Path) -> None:
    with pytest.raises(RecsysError, match="`make run` first"):
        report(open_store(str(tmp_path), "shop"), cast(Any, None), TODAY, LIMITS, SETTINGS)
