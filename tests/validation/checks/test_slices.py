"""A winner that fails one group of users, or one kind of item, is told apart from one that is unlucky somewhere."""

from dataclasses import replace

import numpy as np
import pytest

from conftest import failures, sabotage
from recsys.evaluation.holdout import ScoredWindow, ScoredWindows
from recsys.validation.check_input import CheckInput
from recsys.validation.checks import slices
from recsys.validation.distributions import thirds


def scored(inputs: CheckInput, name: str, scores: np.ndarray) -> ScoredWindows:
    """A recommender's windows, with these scores of the holdout's users among all items."""
    window = replace(inputs.holdout(name, "all_items"), scores={inputs.metric: scores})
    return {**inputs.evaluations[name], "all_items": [window]}


def segments(inputs: CheckInput) -> np.ndarray:
    state = inputs.holdout_state
    return state.users["segment"][state.rows(inputs.holdout("two_stage", "all_items").users)]


def test_a_healthy_winner_passes(inputs: CheckInput) -> None:
    assert failures("slices", inputs) == {}


def test_a_segment_that_pays_for_the_mean_blocks_and_is_named(inputs: CheckInput) -> None:
    theirs = segments(inputs) == "offices"
    evaluations = {
        "two_stage": scored(inputs, "two_stage", np.where(theirs, 0.1, 0.9)),
        "popularity": scored(inputs, "popularity", np.where(theirs, 0.2, 0.1)),
    }
    found = failures("slices", sabotage(inputs, evaluations=evaluations))
    assert {name: result.severity for name, result in found.items()} == {
        "all_items_slices_not_worse": "block",
        "slices_floor": "warn",
    }
    assert all("segment offices" in result.message for result in found.values())


@pytest.mark.parametrize("seed", range(5))
def test_chance_alone_makes_no_slice_worse(inputs: CheckInput, seed: int) -> None:
    draw = np.random.default_rng(seed)
    evaluations = {name: scored(inputs, name, draw.random(len(segments(inputs)))) for name in ("two_stage", "popularity")}
    assert failures("slices", sabotage(inputs, evaluations=evaluations)) == {}


def test_lists_that_never_hold_what_sells_little_warn(inputs: CheckInput) -> None:
    window = inputs.holdout("two_stage", "all_items")
    hits = np.argsort(-inputs.holdout_state.items["target_events_28d"])[: window.lists.shape[1]].astype(np.int32)
    shown = {**inputs.evaluations["two_stage"], "all_items": [replace(window, lists=np.tile(hits, (len(window.users), 1)))]}
    found = failures("slices", sabotage(inputs, evaluations={**inputs.evaluations, "two_stage": shown}))
    assert {name: result.severity for name, result in found.items()} == {"item_slices_floor": "warn"}
    assert "popularity low" in found["item_slices_floor"].message


def test_slices_of_few_users_say_nothing(inputs: CheckInput) -> None:
    results = list(slices.check(inputs, slices.SlicesLimits(min_users=10_000, min_share=1.0, min_item_share=1.0)))
    assert len(results) == 4
    assert all(result.passed and "none is large enough" in result.message for result in results)


def test_ties_stay_in_one_third() -> None:
    found = thirds("age", np.array([1, 1, 1, 1, 2, 3]))
    assert {name: part.sum() for name, part in found.items()} == {"age low": 4, "age middle": 0, "age high": 2}


def test_where_nobody_bought_anything_new_there_are_no_slices(inputs: CheckInput) -> None:
    def nobody(windows: dict[str, list[ScoredWindow]]) -> dict[str, list[ScoredWindow]]:
        exclude_seen = windows["new_items"][0]
        scores = {name: values[:0] for name, values in exclude_seen.scores.items()}
        return windows | {
            "new_items": [replace(exclude_seen, users=exclude_seen.users[:0], scores=scores, lists=exclude_seen.lists[:0])]
        }

    repeats = {name: nobody(windows) for name, windows in inputs.evaluations.items()}
    for check in ("slices", "baseline"):
        assert not any(result.blocks for result in failures(check, sabotage(inputs, evaluations=repeats)).values())
