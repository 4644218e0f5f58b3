"""Changes of lists from one release to the next, by lists written by hand: what stays, what shrinks, what turns to hits."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from conftest import failures, make_settings, make_state, sabotage
from recsys.recommenders.base import Lists
from recsys.store.snapshots import Manifest, Snapshot
from recsys.validation.check_input import CheckInput
from recsys.validation.checks import list_stability
from recsys.validation.registry import limits

USERS, ITEMS = 100, 40
SETTINGS = make_settings()
STATE = replace(make_state(np.eye(ITEMS, dtype=int)), item_ids=np.array([f"i{item:02}" for item in range(ITEMS)]))


def rotated(by: int = 0) -> np.ndarray:
    """Ten items for each user, one place further for each next one."""
    return ((np.arange(USERS)[:, None] + np.arange(10) + by) % ITEMS).astype(np.int32)


def judged(monkeypatch: pytest.MonkeyPatch, was: np.ndarray, now: np.ndarray, winner: str = "two_stage") -> dict[str, Any]:
    """Check results by name."""
    lists = {Path("live"): was, Path("new"): now}
    users = np.array([f"u{row:03}" for row in range(USERS)])

    def top(release: Snapshot, list_kind: str, k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        items = lists[release.path]
        return users[: len(items)], STATE.item_ids, items

    def read_lists_for(state: object, release: Snapshot, list_kind: str) -> tuple[np.ndarray, np.ndarray]:
        return users[: len(lists[release.path])], lists[release.path]

    monkeypatch.setattr("recsys.evaluation.release_diff.top", top)
    monkeypatch.setattr("recsys.validation.registry.list_stability.read_lists_for", read_lists_for)
    manifest = Manifest("release", "r", {}, {}, {})
    live = Snapshot(Path("live"), manifest)
    fields: Any = SimpleNamespace(
        settings=SETTINGS,
        served_kind="all_items",
        live=live,
        release=Snapshot(Path("new"), manifest),
        state=STATE,
        winner=winner,
    )
    inputs: CheckInput = fields
    return {result.name: result for result in list_stability.check(inputs, limits("list_stability", SETTINGS))}


def test_lists_of_a_first_release_are_as_broad_as_those_of_simple_recommenders(inputs: CheckInput) -> None:
    assert failures("list_stability", inputs) == {}
    users, lists = inputs.lists["all_items"]
    same = Lists(np.tile(lists.items[:1], (len(users), 1)), lists.scores)
    rare = np.argsort(inputs.state.items["target_users"])[: lists.items.shape[1]]
    hardly_bought = Lists(np.tile(rare.astype(np.int32), (len(users), 1)), lists.scores)
    assert failures("list_stability", sabotage(inputs, lists={"all_items": (users, same)}))["list_stability_coverage"].blocks
    assert failures("list_stability", sabotage(inputs, lists={"all_items": (users, hardly_bought)}))[
        "list_stability_popularity"
    ].blocks


def test_the_same_lists_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    found = judged(monkeypatch, rotated(), rotated())
    assert {name: result.passed for name, result in found.items()} == dict.fromkeys(
        ("list_stability_users", "list_stability_items", "list_stability_coverage", "list_stability_popularity"), True
    )
    assert (
        found["list_stability_items"].value,
        found["list_stability_coverage"].value,
        found["list_stability_popularity"].value,
    ) == (0, 1, 1)


@pytest.mark.parametrize(("by", "share", "severity"), [(3, 0.3, None), (7, 0.7, "warn"), (10, 1.0, "block")])
def test_what_goes_is_the_share_of_items_that_stand_no_more(
    monkeypatch: pytest.MonkeyPatch, by: int, share: float, severity: str | None
) -> None:
    result = judged(monkeypatch, rotated(), rotated(by))["list_stability_items"]
    assert result.value == pytest.approx(share)
    assert (None if result.passed else result.severity) == severity


def test_lists_that_show_a_fraction_of_the_items_block_unless_popularity_won(monkeypatch: pytest.MonkeyPatch) -> None:
    narrow = np.tile(np.arange(3, dtype=np.int32), (USERS, 1))
    narrow = np.pad(narrow, ((0, 0), (0, 7)), constant_values=-1)
    found = judged(monkeypatch, rotated(), narrow)["list_stability_coverage"]
    assert found.value == pytest.approx(ITEMS / 3)
    assert found.blocks
    assert not judged(monkeypatch, rotated(), narrow, "popularity")["list_stability_coverage"].blocks


def test_lists_that_turned_to_hits_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    is_hit = np.arange(ITEMS) < 10
    popular = {"target_users": np.where(is_hit, 50, 1), "target_events_28d": np.where(is_hit, 49, 0)}
    hits = replace(STATE, items=STATE.items | popular)
    monkeypatch.setattr("test_list_stability.STATE", hits)
    found = judged(monkeypatch, rotated(), np.tile(np.arange(10, dtype=np.int32), (USERS, 1)))
    assert found["list_stability_popularity"].value == pytest.approx(50 / ((10 * 50 + 30) / ITEMS), rel=0.1)
    assert not found["list_stability_popularity"].passed


def test_new_items_that_sell_are_no_unpopular_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    is_new = np.arange(ITEMS) < 10
    sales = {"target_users": np.where(is_new, 2, 50), "target_events_28d": np.where(is_new, 6, 5)}
    monkeypatch.setattr("test_list_stability.STATE", replace(STATE, items=STATE.items | sales))
    assert judged(monkeypatch, rotated(), np.tile(np.arange(10, dtype=np.int32), (USERS, 1)))["list_stability_popularity"].passed


def test_too_few_users_of_both_only_warn(monkeypatch: pytest.MonkeyPatch) -> None:
    found = judged(monkeypatch, rotated()[:20], rotated(10))
    assert [(result.name, result.blocks, result.passed) for result in found.values()] == [("list_stability_users", False, False)]
