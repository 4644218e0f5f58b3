"""Leaks: a label, a window or a feature on the wrong side of its cutoff is found under its name."""

import shutil
from copy import copy
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest

from conftest import failed
from recsys.features.snapshot import Features
from recsys.store.snapshots import Snapshot
from recsys.validation.check_input import CheckInput
from recsys.validation.checks.leaks import LeaksLimits, check


def test_a_healthy_release_passes(inputs: CheckInput) -> None:
    assert failed("leaks", inputs) == []


def relabelled(inputs: CheckInput, folder: Path, labels: str) -> CheckInput:
    """The subject with other labels, by a query of `labels`."""
    shutil.copytree(inputs.features.path, folder, dirs_exist_ok=True)
    with duckdb.connect() as connection:
        connection.execute(f"create table labels as from '{folder}/labels.parquet'")
        connection.execute(f"copy ({labels}) to '{folder}/labels.parquet' (format parquet)")
    manifest = inputs.store.load("features", inputs.features.id).manifest
    return replace(inputs, features=Features(Snapshot(folder, manifest), inputs.settings))


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        ("select * replace ((item_index + 1) % 150 as item_index) from labels", ["labels_have_an_event"]),
        ("select * replace (cutoff - interval 28 day as cutoff) from labels", ["labels_have_an_event"]),
        ("select * replace (cutoff + interval 14 day as cutoff) from labels", ["labels_have_an_event", "labels_horizon_is_over"]),
    ],
    ids=["other items", "too early", "too late"],
)
def test_labels_off_their_horizon_are_found(inputs: CheckInput, tmp_path: Path, labels: str, names: list[str]) -> None:
    assert failed("leaks", relabelled(inputs, tmp_path, labels)) == names


def test_a_window_that_reaches_past_its_cutoff_is_found(inputs: CheckInput, monkeypatch: pytest.MonkeyPatch) -> None:
    windows = Features.windows
    monkeypatch.setattr(Features, "windows", lambda self, cutoff: windows(self, cutoff + timedelta(days=14)))
    assert failed("leaks", inputs) == ["windows_are_over"]


@pytest.mark.parametrize("table", ["users", "items", "user_items", "history"])
def test_a_feature_that_has_seen_the_future_is_found(inputs: CheckInput, table: str) -> None:
    sick, state = replace(inputs), inputs.holdout_state
    sicker: dict[str, Any] = {table: getattr(state, table) | {"days_since_last_look": np.array([1.0, np.nan, -0.5])}}
    vars(sick)["holdout_state"] = replace(state, **sicker)
    assert failed("leaks", sick) == ["nothing_is_from_the_future"]


def described(inputs: CheckInput, leaks: dict[tuple[str, str], float]) -> CheckInput:
    """The subject with these attributes, numbers but for those called a status."""
    features = copy(inputs.features)
    entities, names = np.array(list(leaks)).T
    facts = {"is_number": names != "status", "is_dated": names == "dated", "described": np.where(names == "empty", 0, 9)}
    vars(features)["attributes"] = {"entity": entities, "attribute": names, **facts}
    vars(features)["leaks"] = {key: leak for key, leak in leaks.items() if key[1] not in ("dated", "empty")}
    items, users = ([name for kind, name in leaks if kind == entity] for entity in ("item", "user"))
    dataset = replace(inputs.settings.dataset, item_attributes=items, user_attributes=users)
    return replace(inputs, features=features, settings=replace(inputs.settings, dataset=dataset))


def test_an_attribute_that_tells_later_events_is_named_with_its_value(inputs: CheckInput) -> None:
    leaks = {("item", "price"): 0.1, ("item", "total_sold"): 0.934, ("user", "status"): 0.7}
    (found,) = [one for one in check(described(inputs, leaks), LeaksLimits()) if one.name == "attributes_leak"]
    assert (found.passed, found.blocks, found.value) == (False, False, 0.934)
    assert "item total_sold 0.93, left out; user status 0.70, text, so still in use" in found.message
    assert "price" not in found.message


def test_attributes_without_valid_from_are_named_and_pass(inputs: CheckInput) -> None:
    inputs = described(inputs, {("item", "price"): 0.1, ("item", "dated"): 0.0, ("user", "status"): 0.2})
    found = {one.name: one for one in check(inputs, LeaksLimits())}["attributes_without_valid_from"]
    assert found.passed
    assert found.message.startswith("2 of 3 attributes have no valid_from")
    assert found.message.endswith(": item price (number), user status (text)")


def test_an_attribute_without_a_value_is_named(inputs: CheckInput) -> None:
    assert failed("leaks", described(inputs, {("item", "price"): 0.1, ("item", "empty"): 0.0})) == ["attributes_have_values"]
