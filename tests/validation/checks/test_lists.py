"""Lists that disobey a rule are found, wherever they are."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from conftest import failures, sabotage
from recsys.recommenders.base import Lists
from recsys.settings.run import Settings
from recsys.store.snapshots import Snapshot
from recsys.validation.check_input import CheckInput


def ruled(inputs: CheckInput, **rules: Any) -> Settings:
    return replace(inputs.settings, rules=replace(inputs.settings.rules, **rules))


def test_lists_that_obey_pass(inputs: CheckInput) -> None:
    assert failures("lists", inputs) == {}


def test_a_blocked_item_is_found_in_lists_and_fallback(inputs: CheckInput) -> None:
    _, lists = inputs.lists["all_items"]
    item = str(inputs.state.item_ids[lists.items[0, 0]])
    found = failures("lists", sabotage(inputs, settings=ruled(inputs, blocked=[item])))
    assert {"all_items_items_allowed", "new_items_items_allowed", "fallback_items_allowed"} <= found.keys()
    assert all(result.blocks for result in found.values())
    assert item in found["fallback_items_allowed"].message


def test_a_list_beside_the_winners_is_held_to_the_same(inputs: CheckInput, tmp_path: Path) -> None:
    shutil.copytree(inputs.release.path, tmp_path / "release")
    (tmp_path / "release" / "alternatives").mkdir()
    shutil.copyfile(tmp_path / "release" / "lists.sqlite", tmp_path / "release" / "alternatives" / "popularity.sqlite")
    lists = replace(inputs.settings.lists, alternatives=["popularity"])
    release = Snapshot(tmp_path / "release", inputs.release.manifest)
    assert failures("lists", sabotage(inputs, release=release, settings=replace(inputs.settings, lists=lists))) == {}
    category = str(inputs.state.items["category"][inputs.lists["all_items"][1].items[0, 0]])
    chosen = replace(ruled(inputs, blocked_categories=[category]), lists=lists)
    assert "popularity_all_items_items_allowed" in failures("lists", sabotage(inputs, release=release, settings=chosen))


def with_scores(inputs: CheckInput, change: Callable[[np.ndarray], np.ndarray]) -> CheckInput:
    users, lists = inputs.lists["all_items"]
    return sabotage(inputs, lists=inputs.lists | {"all_items": (users, Lists(lists.items, change(lists.scores.copy())))})


def below_0(scores: np.ndarray) -> np.ndarray:
    """Falling scores below 0, and 0 for the last five items, which fill the list up."""
    falling = -np.arange(1, scores.shape[1] + 1, dtype=np.float32) * np.ones_like(scores)
    falling[:, -5:] = 0
    return falling


def test_scores_may_be_below_0_and_what_fills_up_comes_last(inputs: CheckInput) -> None:
    assert failures("lists", with_scores(inputs, below_0)) == {}
    assert set(failures("lists", with_scores(inputs, lambda scores: below_0(scores)[:, ::-1]))) == {"all_items_scores_fall"}


def test_what_fills_a_list_up_stands_behind_scores_below_0(inputs: CheckInput) -> None:
    def first(scores: np.ndarray) -> np.ndarray:
        found = below_0(scores)
        found[7, 0] = 0
        return found

    assert set(failures("lists", with_scores(inputs, first))) == {"all_items_scores_fall"}


def test_an_id_that_nobody_knows_warns(inputs: CheckInput) -> None:
    chosen = ruled(inputs, blocked=["i_misspelt"], blocked_categories=["nowhere"])
    (found,) = failures("lists", sabotage(inputs, settings=chosen)).values()
    assert (found.name, found.blocks) == ("rules_known", False)
    assert "i_misspelt, nowhere" in found.message


def test_who_has_had_nearly_everything_has_a_short_list_of_new_items(inputs: CheckInput) -> None:
    """A user who has had all but two items for sale can get two; one who has had nothing cannot."""
    available = np.flatnonzero(inputs.state.items["is_available"])
    users, lists = inputs.lists["new_items"]
    short = Lists(np.where(np.arange(lists.items.shape[1]) < 2, lists.items, -1), lists.scores)
    pairs = {name: column[:0] for name, column in inputs.state.user_items.items()}
    had = np.repeat(np.arange(len(users)), len(available) - 2), np.tile(available[2:], len(users))
    pairs |= {"user_index": had[0], "item_index": had[1], "baskets": np.ones(len(had[0]), int)}
    cut = sabotage(inputs, lists=inputs.lists | {"new_items": (users, short)})
    assert failures("lists", cut)["new_items_users_served"].blocks
    assert failures("lists", sabotage(cut, state=replace(inputs.state, user_items=pairs))) == {}
