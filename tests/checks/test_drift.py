"""Data of another kind than the winner was judged on is seen; time that passes is not taken for it."""

from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import duckdb
import numpy as np
import pytest

from conftest import failures, make_settings, make_state, sabotage
from recsys.checks import Subject
from recsys.checks.distributions import movements, stability, value_stability
from recsys.features import Features
from recsys.state import State
from recsys.store import Snapshot


def daily(closed: tuple[int, ...] = (), weekday: int = -1) -> dict[str, np.ndarray]:
    """Eight weeks of 100 events a day, none on some of the last days and on one day of every week."""
    day = np.arange(56)
    events = np.where(np.isin(day, closed) | (day % 7 == weekday), 0, 100)
    return {"day": day, "category": np.array(["toys", "food"] * 28), "events": events, "target_events": events}


def severities(subject: Subject) -> dict[str, str]:
    return {name: verdict.severity for name, verdict in failures("drift", subject).items()}


def test_a_shop_that_goes_on_as_before_passes(subject: Subject) -> None:
    assert severities(subject) == {}


def test_prices_times_100_block(subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    now, before = subject.features.median_prices(28)
    monkeypatch.setattr(subject.features, "median_prices", lambda days: (100 * now, before))
    users = subject.state.users | {"mean_price": 100 * subject.state.users["mean_price"]}
    found = failures("drift", sabotage(subject, state=replace(subject.state, users=users)))
    assert {name: verdict.severity for name, verdict in found.items()} == {"feature_drift": "block", "price_drift": "block"}
    assert "feat_users.mean_price" in found["feature_drift"].message


@pytest.mark.parametrize(("prices", "severity"), [((2, 1), "warn"), ((0, 1), "block"), ((np.nan, 1), None), ((0, 0), None)])
def test_prices(subject: Subject, monkeypatch: pytest.MonkeyPatch, prices: tuple[float, float], severity: str | None) -> None:
    monkeypatch.setattr(subject.features, "median_prices", lambda days: prices)
    assert severities(subject).get("price_drift") == severity


@pytest.mark.parametrize(
    ("closed", "weekday", "severity"),
    [((), -1, None), ((), 3, None), ((2,), -1, "warn"), ((0, 2, 5), -1, "warn"), ((0, 1, 2, 3), -1, "block")],
    ids=["open", "closed every week", "a day lost", "easter", "four days lost"],
)
def test_days_without_events(
    subject: Subject, monkeypatch: pytest.MonkeyPatch, closed: tuple[int, ...], weekday: int, severity: str | None
) -> None:
    monkeypatch.setattr(subject.features, "daily", lambda days: daily(closed, weekday))
    assert severities(subject).get("daily_events") == severity


def test_another_mix_of_categories_blocks(subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    swapped = daily() | {"category": np.where(np.arange(56) < 28, "toys", "food")}
    monkeypatch.setattr(subject.features, "daily", lambda days: swapped)
    assert severities(subject) == {"category_drift": "block"}


@pytest.mark.parametrize(("every", "severity"), [(2, "block"), (5, "warn"), (50, None)], ids=["half", "a fifth", "a few"])
def test_items_that_sold_and_are_gone(subject: Subject, every: int, severity: str | None) -> None:
    left = subject.state.items["is_available"] & (np.arange(subject.state.shape[1]) % every > 0)
    state = replace(subject.state, items=subject.state.items | {"is_available": left})
    assert severities(sabotage(subject, state=state)).get("catalogue_turnover") == severity


def test_stability_is_known_by_hand() -> None:
    assert stability(np.array([5, 5]), np.array([50, 50])) == 0
    assert stability(np.array([5, 5]), np.array([9, 1])) == pytest.approx(0.4 * np.log(1.8) - 0.4 * np.log(0.2))


def test_missing_is_a_bin_and_a_column_of_one_value_has_no_distribution() -> None:
    numbers = np.arange(100, dtype=np.float32)
    assert value_stability(numbers, np.where(numbers < 50, np.nan, numbers)) > 1
    assert value_stability(np.zeros(100, np.float32), numbers) == 0
    assert value_stability(numbers, 100 * numbers) > 4


def test_time_that_passes_is_no_drift(subject: Subject) -> None:
    """Half the users joined on the first day, so all of them are 28 days older now than anybody was."""
    day = subject.holdout_state.users["days_since_first_event"]
    then = np.where(np.arange(len(day)) % 2, np.nanmax(day), day).astype(np.float32)
    states = {
        "holdout_state": replace(subject.holdout_state, users=subject.holdout_state.users | {"days_since_first_event": then}),
        "state": replace(subject.state, users=subject.state.users | {"days_since_first_event": then + np.float32(28)}),
    }
    assert value_stability(then[~np.isnan(then)], then[~np.isnan(then)] + 28) > 1
    assert severities(sabotage(subject, **states)) == {}


def test_the_last_days_are_counted_and_priced(tmp_path: Path) -> None:
    tables = {
        "int_cutoffs": "select timestamp '2024-03-01' as cutoff",
        "dim_items": "select * from (values (0, 'toys'), (1, 'food')) items(item_index, category)",
        "fct_events": """select * from (values
            (0, 'purchase', 1, 2.0, timestamp '2024-02-29 10:00'), (0, 'purchase', 2, 4.0, timestamp '2024-02-29 11:00'),
            (1, 'view', null, null, timestamp '2024-02-28 10:00'), (1, 'purchase', 3, 9.0, timestamp '2024-02-27 10:00'),
            (1, 'purchase', 4, 7.0, timestamp '2024-02-25 10:00')
        ) events(item_index, event_type, target_number, price, event_at)""",
    }
    for name, query in tables.items():
        duckdb.sql(f"copy ({query}) to '{tmp_path}/{name}.parquet' (format parquet)")
    snapshot: Any = SimpleNamespace(path=tmp_path, manifest=SimpleNamespace(id="f", made_from={}))
    features = Features(cast(Snapshot, snapshot), make_settings())
    found = features.daily(4)
    assert list(zip(*(found[name].tolist() for name in ("day", "category", "events", "target_events")), strict=True)) == [
        (0, "toys", 2, 2),
        (1, "food", 1, 0),
        (2, "food", 1, 1),
    ]
    assert features.median_prices(2) == (3.0, 9.0)
    assert np.isnan(features.median_prices(1)[1])


def test_of_few_items_many_may_sell_out(subject: Subject) -> None:
    """Three of four are gone: a warning, for no lost file takes so few along."""
    sold = np.flatnonzero(subject.holdout_state.items["is_available"] & (subject.holdout_state.items["target_events_28d"] > 0))
    then = subject.holdout_state.items | {"is_available": np.isin(np.arange(subject.holdout_state.shape[1]), sold[:4])}
    now = subject.state.items | {"is_available": ~np.isin(np.arange(subject.state.shape[1]), sold[:3])}
    holdout = replace(subject.holdout_state, items=then)
    found = severities(sabotage(subject, state=replace(subject.state, items=now), holdout_state=holdout))
    assert found["catalogue_turnover"] == "warn"


def test_in_young_data_features_still_fill_up(subject: Subject) -> None:
    """The same movement blocks where the history is longer than features look back."""
    users = subject.state.users | {"mean_price": 100 * subject.state.users["mean_price"]}
    moved = sabotage(subject, state=replace(subject.state, users=users))
    assert severities(moved)["feature_drift"] == "block"
    age = subject.holdout_state.users["days_since_first_event"]
    young = replace(subject.holdout_state, users=subject.holdout_state.users | {"days_since_first_event": np.minimum(age, 60)})
    assert severities(sabotage(moved, holdout_state=young))["feature_drift"] == "warn"


def test_counts_that_grow_with_the_history_have_not_moved() -> None:
    """Everybody has an event a day, over 100 days and then over 130."""
    events = np.random.default_rng(0).poisson(100, 500)

    def after(days: int) -> State:
        users = {"days_since_first_event": np.full(500, days, np.float32), "target_events": (events * days // 100).astype(np.int32)}
        state = make_state(np.ones((500, 2), int))
        return replace(state, cutoff=date(2024, 1, 1) + timedelta(days), users=state.users | users)

    then, now = after(100), after(130)
    assert movements(then, now, 100)["feat_users.target_events"] < 0.2
    assert value_stability(*(state.users["target_events"].astype(np.float32) for state in (then, now))) > 1
