"""Which recommender is chosen where some have too little to learn from."""

from dataclasses import replace
from datetime import date

import numpy as np
import pytest

from conftest import make_settings
from recsys import RecsysError
from recsys.evaluation.holdout import ScoredWindow
from recsys.pipeline import Recipe, Trained, select
from recsys.recommenders.base import LIST_KINDS

SETTINGS = make_settings(evaluation={"bootstraps": 50})
USERS = np.array([f"u{row:02}" for row in range(30)])


def trained(name: str, score: float, windows: int = 3) -> Trained:
    """A recommender with the same score for everybody on the holdout and the windows of selection before it."""
    found = [
        ScoredWindow(date(2024, 6 - month, 1), USERS, {"ndcg@10": np.full(30, score)}, np.zeros((30, 1), np.int32), 1)
        for month in range(windows)
    ]
    return Trained(Recipe(name, {}), dict.fromkeys(LIST_KINDS, found), {}, f"model of {name}")


def skipped(name: str) -> Trained:
    return Trained(Recipe(name, {}), {}, {}, "", skipped=f"{name}: no title has a word")


def test_one_that_is_skipped_is_told_and_the_others_compete() -> None:
    selection = select([trained("popularity", 0.1), trained("item_to_item", 0.2), skipped("two_stage")], SETTINGS)
    assert selection.winner == "item_to_item"
    assert selection.skipped == {"two_stage": "two_stage: no title has a word"}
    assert set(selection.evaluations) == set(selection.models) == {"popularity", "item_to_item"}


def test_a_skipped_resample_does_not_skip_its_recommender() -> None:
    resample = replace(skipped("two_stage"), recipe=Recipe("two_stage", {}, "resample"))
    selection = select([trained("popularity", 0.1), trained("two_stage", 0.2), resample], SETTINGS)
    assert (selection.winner, selection.skipped, selection.refits) == ("two_stage", {}, [])


def test_all_are_compared_on_the_windows_that_all_have() -> None:
    selection = select([trained("popularity", 0.1), trained("two_stage", 0.2, windows=2)], SETTINGS)
    assert (selection.winner, selection.skipped) == ("two_stage", {})


def test_one_that_learns_only_on_the_holdout_is_skipped_for_nothing_chose_it() -> None:
    selection = select([trained("popularity", 0.1), trained("two_stage", 0.2, windows=1)], SETTINGS)
    assert selection.winner == "popularity"
    assert "two_stage" in selection.skipped


def test_without_a_window_of_selection_the_simplest_is_taken() -> None:
    selection = select([trained("popularity", 0.1, windows=1), trained("two_stage", 0.2, windows=1)], SETTINGS)
    assert (selection.winner, selection.skipped) == ("popularity", {})


def test_lists_of_a_skipped_recommender_cannot_be_released() -> None:
    asked = replace(SETTINGS, lists=replace(SETTINGS.lists, alternatives=["two_stage"]))
    with pytest.raises(RecsysError, match=r"lists\.alternatives.*two_stage: no title has a word"):
        select([trained("popularity", 0.1), skipped("two_stage")], asked)
