"""A winner that fails one group of users, or one kind of item, is told apart from one that is unlucky somewhere."""

from dataclasses import replace

import numpy as np
import pytest

from conftest import failures, sabotage
from recsys.evaluation.holdout import Window, Windows
from recsys.validation.check_input import Subject
from recsys.validation.checks import slices
from recsys.validation.distributions import thirds


def scored(subject: Subject, name: str, scores: np.ndarray) -> Windows:
    """A recommender's windows, with these scores of the holdout's users among all items."""
    window = replace(subject.holdout(name, "allow"), scores={subject.metric: scores})
    return {**subject.evaluations[name], "allow": [window]}


def segments(subject: Subject) -> np.ndarray:
    state = subject.holdout_state
    return state.users["segment"][state.rows(subject.holdout("two_stage", "allow").users)]


def test_a_healthy_winner_passes(subject: Subject) -> None:
    assert failures("slices", subject) == {}


def test_a_segment_that_pays_for_the_mean_blocks_and_is_named(subject: Subject) -> None:
    theirs = segments(subject) == "north"
    evaluations = {
        "two_stage": scored(subject, "two_stage", np.where(theirs, 0.1, 0.9)),
        "popularity": scored(subject, "popularity", np.where(theirs, 0.2, 0.1)),
    }
    found = failures("slices", sabotage(subject, evaluations=evaluations))
    assert {name: verdict.severity for name, verdict in found.items()} == {
        "allow_slices_not_worse": "block",
        "slices_floor": "warn",
    }
    assert all("segment north" in verdict.message for verdict in found.values())


@pytest.mark.parametrize("seed", range(5))
def test_chance_alone_makes_no_slice_worse(subject: Subject, seed: int) -> None:
    draw = np.random.default_rng(seed)
    evaluations = {name: scored(subject, name, draw.random(len(segments(subject)))) for name in ("two_stage", "popularity")}
    assert failures("slices", sabotage(subject, evaluations=evaluations)) == {}


def test_lists_that_never_hold_what_sells_little_warn(subject: Subject) -> None:
    window = subject.holdout("two_stage", "allow")
    hits = np.argsort(-subject.holdout_state.items["target_events_28d"])[: window.lists.shape[1]].astype(np.int32)
    shown = {**subject.evaluations["two_stage"], "allow": [replace(window, lists=np.tile(hits, (len(window.users), 1)))]}
    found = failures("slices", sabotage(subject, evaluations={**subject.evaluations, "two_stage": shown}))
    assert {name: verdict.severity for name, verdict in found.items()} == {"item_slices_floor": "warn"}
    assert "popularity low" in found["item_slices_floor"].message


def test_slices_of_few_users_say_nothing(subject: Subject) -> None:
    verdicts = list(slices.check(subject, slices.Limits(min_users=10_000, min_share=1.0, min_item_share=1.0)))
    assert len(verdicts) == 4
    assert all(verdict.passed and "none is large enough" in verdict.message for verdict in verdicts)


def test_ties_stay_in_one_third() -> None:
    found = thirds("age", np.array([1, 1, 1, 1, 2, 3]))
    assert {name: part.sum() for name, part in found.items()} == {"age low": 4, "age middle": 0, "age high": 2}


def test_where_nobody_bought_anything_new_there_are_no_slices(subject: Subject) -> None:
    def nobody(windows: dict[str, list[Window]]) -> dict[str, list[Window]]:
        novel = windows["novel"][0]
        scores = {name: values[:0] for name, values in novel.scores.items()}
        return windows | {"novel": [replace(novel, users=novel.users[:0], scores=scores, lists=novel.lists[:0])]}

    repeats = {name: nobody(windows) for name, windows in subject.evaluations.items()}
    for family in ("slices", "simpler"):
        assert not any(verdict.blocks for verdict in failures(family, sabotage(subject, evaluations=repeats)).values())
