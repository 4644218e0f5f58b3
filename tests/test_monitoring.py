"""Monitoring, on a made-up history and made-up days whose answers are known."""

import json
import shutil
from datetime import date
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from conftest import make_settings
from recsys import RecsysError
from recsys.evaluation.holdout import ScoredWindow
from recsys.evaluation.metrics import Interval
from recsys.features.snapshot import Features
from recsys.monitoring import LivePeriod, _check_scores, _realised, live_periods, report
from recsys.releases.files import about
from recsys.settings.deployment import MonitorSettings
from recsys.settings.run import Settings
from recsys.store.snapshots import MANIFEST, REPORT, Snapshot, Store, open_store
from recsys.validation.check_input import CheckInput

SETTINGS = make_settings(evaluation={"bootstraps": 100})
LIMITS = MonitorSettings(days=28, min_users=50, min_kept=0.5, max_release_age_days=2, max_without_list=0.05)
TODAY = date(2024, 6, 10)
LIVE_DATA = make_settings(dataset={"max_age_days": 2})
CLOSED_HISTORY = make_settings(dataset={"max_age_days": 0})


def history(*moves: tuple[str, str | None, str]) -> Any:
    """A store in which these releases went live one after the other: each with its `as_of`, or none where the release is gone, and
    with the day of its move, or an empty text where the move has no time."""
    days = {release: as_of for release, as_of, _ in moves if as_of}
    kept = [{"release": release} | ({"at": f"{at}T04:00:00+00:00"} if at else {}) for release, _, at in moves]

    def read(kind: str, id: str, name: str) -> bytes | None:
        if days.get(id) == "damaged":
            raise RecsysError(f"the manifest of {id} cannot be read")
        return json.dumps({"as_of": days[id]}).encode() if id in days else None

    return SimpleNamespace(history=lambda: kept, read=read)


def stay(release: str, start: str, end: str) -> LivePeriod:
    return LivePeriod(release, date.fromisoformat(start), date.fromisoformat(end))


def test_a_release_is_live_from_the_day_it_was_published_until_the_next_one_is() -> None:
    store = history(("a", "2024-05-20", "2024-06-01"), ("b", "2024-06-01", "2024-06-04"), ("c", "2024-06-05", "2024-06-05"))
    assert live_periods(store, TODAY, 28, LIVE_DATA) == [
        stay("a", "2024-06-01", "2024-06-04"),
        stay("b", "2024-06-04", "2024-06-05"),
        stay("c", "2024-06-05", "2024-06-10"),
    ]


def test_a_release_made_of_old_data_is_not_credited_with_the_days_before_it_was_published() -> None:
    store = history(("a", "2024-06-01", "2024-06-01"), ("b", "2024-06-02", "2024-06-09"))
    assert live_periods(store, TODAY, 28, LIVE_DATA) == [
        stay("a", "2024-06-01", "2024-06-09"),
        stay("b", "2024-06-09", "2024-06-10"),
    ]


def test_a_release_is_not_credited_with_days_that_its_data_hold() -> None:
    store = history(("a", "2024-06-05", "2024-06-04"))
    assert live_periods(store, TODAY, 28, LIVE_DATA) == [stay("a", "2024-06-05", "2024-06-10")]


@pytest.mark.parametrize("as_of", [None, "damaged"])
def test_the_days_of_a_release_that_is_gone_are_not_credited_to_another(as_of: str | None) -> None:
    store = history(("a", "2024-06-01", "2024-06-01"), ("gone", as_of, "2024-06-03"), ("b", "2024-06-06", "2024-06-06"))
    assert live_periods(store, TODAY, 28, LIVE_DATA) == [
        stay("a", "2024-06-01", "2024-06-03"),
        stay("b", "2024-06-06", "2024-06-10"),
    ]


@pytest.mark.parametrize("settings", [LIVE_DATA, CLOSED_HISTORY])
def test_where_nobody_knows_when_a_release_that_is_gone_went_live_the_one_before_it_has_no_days(settings: Settings) -> None:
    store = history(("a", "2024-06-01", ""), ("gone", None, ""), ("b", "2024-06-06", ""))
    assert live_periods(store, TODAY, 28, settings) == [stay("b", "2024-06-06", "2024-06-10")]


def test_in_a_closed_history_a_release_is_live_from_the_end_of_its_data() -> None:
    store = history(("a", "2024-06-01", "2026-11-01"), ("b", "2024-06-02", "2026-11-01"), ("c", "2024-06-05", "2026-11-02"))
    assert live_periods(store, TODAY, 28, CLOSED_HISTORY) == [
        stay("a", "2024-06-01", "2024-06-02"),
        stay("b", "2024-06-02", "2024-06-05"),
        stay("c", "2024-06-05", "2024-06-10"),
    ]


def test_only_the_last_days_are_looked_at() -> None:
    store = history(("a", "2024-01-01", "2024-01-01"), ("b", "2024-06-02", "2024-06-02"))
    assert live_periods(store, TODAY, 9, LIVE_DATA) == [
        stay("a", "2024-06-01", "2024-06-02"),
        stay("b", "2024-06-02", "2024-06-10"),
    ]


def test_of_two_published_on_a_day_the_later_counts() -> None:
    store = history(("a", "2024-06-05", "2024-06-05"), ("b", "2024-06-05", "2024-06-05"))
    assert live_periods(store, TODAY, 28, LIVE_DATA) == [stay("b", "2024-06-05", "2024-06-10")]


def test_a_release_rolled_back_to_counts_from_the_day_of_the_rollback() -> None:
    moves = ("a", "2024-06-01", "2024-06-01"), ("b", "2024-06-05", "2024-06-05"), ("a", "2024-06-01", "2024-06-08")
    assert live_periods(history(*moves), TODAY, 28, LIVE_DATA) == [
        stay("a", "2024-06-01", "2024-06-05"),
        stay("b", "2024-06-05", "2024-06-08"),
        stay("a", "2024-06-08", "2024-06-10"),
    ]


def test_a_rollback_in_a_closed_history_takes_place_on_the_last_day_that_was_reached() -> None:
    moves = ("a", "2024-06-01", "2026-11-01"), ("b", "2024-06-05", "2026-11-01"), ("a", "2024-06-01", "2026-11-02")
    assert live_periods(history(*moves), TODAY, 28, CLOSED_HISTORY) == [
        stay("a", "2024-06-01", "2024-06-05"),
        stay("a", "2024-06-05", "2024-06-10"),
    ]


def windows(ours: float, popular: float, users: int = 60) -> list[tuple[ScoredWindow, ScoredWindow]]:
    def window(mean: float) -> ScoredWindow:
        hits = np.zeros(users)
        hits[: round(mean * users)] = 1
        names = np.array([f"u{row:03}" for row in range(users)])
        return ScoredWindow(TODAY, names, {"hit_rate@10": hits, "ndcg@10": hits}, np.zeros((users, 20), np.int32), 40)

    return [(window(ours), window(popular))]


def failures(ours: float, popular: float, users: int = 60) -> list[str]:
    """Names of what fails where the holdout promised 0.5 of both."""
    seen = windows(ours, popular, users)
    promised = {"hit_rate@10": 0.5, "ndcg@10": 0.5}
    return [one.name for one in _check_scores(seen, _realised(seen, SETTINGS), promised, LIMITS, SETTINGS) if not one.passed]


def test_what_keeps_its_promise_passes() -> None:
    assert failures(0.4, 0.2) == []


def test_what_falls_far_below_it_fails_and_so_does_what_popularity_beats() -> None:
    assert failures(0.05, 0.05) == ["hit_rate@10_kept", "ndcg@10_kept"]
    assert failures(0.4, 0.9) == ["better_than_popularity"]


def test_few_users_are_too_early_to_tell() -> None:
    seen = windows(0.0, 0.9, 49)
    (result,) = _check_scores(seen, _realised(seen, SETTINGS), {"ndcg@10": 0.5}, LIMITS, SETTINGS)
    assert result.passed
    assert "too early: 49 users" in result.message


def test_a_user_counts_once_over_all_days() -> None:
    first, second = windows(1.0, 0.0)[0], windows(0.0, 0.0)[0]
    assert _realised([first, second], SETTINGS)["ndcg@10"] == Interval(0.5, 0.5, 0.5)


def test_without_a_live_release_there_is_nothing_to_monitor(tmp_path: Path) -> None:
    with pytest.raises(RecsysError, match="`make run` first"):
        report(open_store(str(tmp_path), "shop"), cast(Any, None), TODAY, LIMITS, SETTINGS)


def copy(store: Store, source: Snapshot, id: str, parents: dict[str, str], as_of: date | None = None) -> None:
    """Commits a snapshot's files to another store under another id; a release is dated back to `as_of`."""
    with store.draft() as folder:
        shutil.copytree(source.path, folder, dirs_exist_ok=True)
        for name in (MANIFEST, REPORT):
            (folder / name).unlink(missing_ok=True)
        if as_of:
            facts = about(source) | {"as_of": as_of.isoformat()}
            (folder / "release.json").write_text(json.dumps(facts))
        store.commit(folder, source.manifest.kind, source.manifest.made_from, parents, id)


def test_a_report_keeps_no_copy_of_what_it_fetched_but_the_features_it_was_given(
    s3: str, tmp_path: Path, inputs: CheckInput
) -> None:
    store, features = open_store(f"{s3}/{tmp_path.name}", "shop"), inputs.store.load("features", inputs.features.id)
    earlier = inputs.features.evaluated[0]
    for id in ("then", "now"):
        copy(store, features, id, {"raw": "raw"})
    copy(store, inputs.release, "old", {"features": "then", "model": "m"}, earlier)
    copy(store, inputs.release, "live", {"features": "now", "model": "m"})
    store.point("old", None, at=f"{earlier}T04:00:00+00:00")
    store.point("live", "old", at=f"{inputs.features.as_of}T04:00:00+00:00")
    given = Features(store.load("features", "now"), inputs.settings)
    made = report(store, given, inputs.features.as_of, LIMITS, inputs.settings)
    assert {day.release for day in made.days} == {"old"}
    assert given.counts()["events"] > 0
    names = ("features/now", "features/then", "releases/live", "releases/old")
    assert [name for name in names if store.backend.fetch(name, {}).exists()] == ["features/now"]
