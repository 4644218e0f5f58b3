"""Data of another kind than the winner was judged on is seen; time that passes is not taken for it."""

from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from conftest import failures, make_state, sabotage
from recsys.features.state import State
from recsys.store.snapshots import Snapshot
from recsys.validation.check_input import CheckInput
from recsys.validation.distributions import movements, stability, value_stability


def severities(inputs: CheckInput) -> dict[str, str]:
    return {name: result.severity for name, result in failures("drift", inputs).items()}


def test_a_shop_that_goes_on_as_before_passes(inputs: CheckInput) -> None:
    assert severities(inputs) == {}


def test_features_that_moved_far_only_warn(inputs: CheckInput) -> None:
    users = inputs.state.users | {"mean_price": 100 * inputs.state.users["mean_price"]}
    found = failures("drift", sabotage(inputs, state=replace(inputs.state, users=users)))
    assert {name: result.severity for name, result in found.items()} == {"feature_drift": "warn"}
    assert "feat_users.mean_price" in found["feature_drift"].message


@pytest.mark.parametrize(("every", "severity"), [(2, "block"), (5, "warn"), (50, None)], ids=["half", "a fifth", "a few"])
def test_items_that_sold_and_are_gone(inputs: CheckInput, every: int, severity: str | None) -> None:
    left = inputs.state.items["is_available"] & (np.arange(inputs.state.shape[1]) % every > 0)
    state = replace(inputs.state, items=inputs.state.items | {"is_available": left})
    assert severities(sabotage(inputs, state=state)).get("catalogue_turnover") == severity


def test_stability_is_known_by_hand() -> None:
    assert stability(np.array([5, 5]), np.array([50, 50])) == 0
    assert stability(np.array([5, 5]), np.array([9, 1])) == pytest.approx(0.4 * np.log(1.8) - 0.4 * np.log(0.2))


def test_missing_is_a_bin_and_a_column_of_one_value_has_no_distribution() -> None:
    numbers = np.arange(100, dtype=np.float32)
    assert value_stability(numbers, np.where(numbers < 50, np.nan, numbers)) > 1
    assert value_stability(np.zeros(100, np.float32), numbers) == 0
    assert value_stability(numbers, 100 * numbers) > 4


def test_time_that_passes_is_no_drift(inputs: CheckInput) -> None:
    """Half the users joined on the first day, so all of them are 28 days older now than anybody was."""
    day = inputs.holdout_state.users["days_since_first_event"]
    then = np.where(np.arange(len(day)) % 2, np.nanmax(day), day).astype(np.float32)
    states = {
        "holdout_state": replace(inputs.holdout_state, users=inputs.holdout_state.users | {"days_since_first_event": then}),
        "state": replace(inputs.state, users=inputs.state.users | {"days_since_first_event": then + np.float32(28)}),
    }
    assert value_stability(then[~np.isnan(then)], then[~np.isnan(then)] + 28) > 1
    assert severities(sabotage(inputs, **states)) == {}


def test_items_of_the_live_release_that_are_gone(inputs: CheckInput, tmp_path: Path) -> None:
    """Half of those that sold are gone since; what the live release did not have is nothing to miss."""
    now = inputs.state
    table = pa.table({"item_id": now.item_ids, "is_available": now.items["is_available"]})
    pq.write_table(table, tmp_path / "items.parquet")
    live = sabotage(inputs, live=Snapshot(tmp_path, inputs.release.manifest))
    assert severities(live) == {}
    left = now.items["is_available"] & (np.arange(now.shape[1]) % 2 > 0)
    half = replace(now, items=now.items | {"is_available": left})
    assert severities(sabotage(live, state=half)) == {"catalogue_turnover": "block"}
    pq.write_table(table.set_column(1, "is_available", pa.array(left)), tmp_path / "items.parquet")
    assert severities(sabotage(live, state=half)) == {}


def test_items_that_were_gone_and_are_all_back(inputs: CheckInput, tmp_path: Path) -> None:
    now = inputs.state
    was = now.items["is_available"] & (np.arange(now.shape[1]) % 2 > 0)
    pq.write_table(pa.table({"item_id": now.item_ids, "is_available": was}), tmp_path / "items.parquet")
    live = sabotage(inputs, live=Snapshot(tmp_path, inputs.release.manifest))
    back = replace(now, items=now.items | {"is_available": np.ones(now.shape[1], bool)})
    assert severities(sabotage(live, state=back)) == {"catalogue_returned": "warn"}
    assert severities(sabotage(live, state=replace(now, items=now.items | {"is_available": was}))) == {}


def test_of_few_items_many_may_sell_out(inputs: CheckInput) -> None:
    """Three of four are gone: a warning, for no lost file takes so few along."""
    sold = np.flatnonzero(inputs.holdout_state.items["is_available"] & (inputs.holdout_state.items["target_events_28d"] > 0))
    then = inputs.holdout_state.items | {"is_available": np.isin(np.arange(inputs.holdout_state.shape[1]), sold[:4])}
    now = inputs.state.items | {"is_available": ~np.isin(np.arange(inputs.state.shape[1]), sold[:3])}
    holdout = replace(inputs.holdout_state, items=then)
    found = severities(sabotage(inputs, state=replace(inputs.state, items=now), holdout_state=holdout))
    assert found["catalogue_turnover"] == "warn"


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
