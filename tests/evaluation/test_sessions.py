"""Scores of answers to sessions, on sessions whose next items are known by construction."""

from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import Any, cast
from unittest.mock import patch

import numpy as np
import pytest

from conftest import make_settings, make_state
from recsys.evaluation.sessions import (
    DECAY,
    REPEATS,
    Beginnings,
    K,
    ScoredSessions,
    _ranks,
    _scorer,
    score_sessions,
    select_sessions,
)
from recsys.features import Features, State, Table, matrix
from recsys.recommenders import SessionItems
from recsys.releases import SIMILARITIES, SIMPLEST, SessionAnswers
from recsys.validation.check_input import CheckInput

ITEMS = 60  # more than K, so that a list has not all of them
CUTOFF = date(2024, 2, 1)
DAY = timedelta(1)
METHODS = {"popularity", "item_to_item", "session_items", "smoothed_session", "session_knn"}


def table(*sessions: list[int], seconds: list[int] | None = None) -> Table:
    """Sessions of users 0, 1, ... by their items; `seconds`: the times within each session."""
    lengths = [len(items) for items in sessions]
    number = np.repeat(np.arange(len(sessions)), lengths)
    times = np.concatenate([np.array(seconds or range(length))[:length] for length in lengths])
    return {"session": number, "user_index": number, "item_index": np.concatenate(sessions), "second": times}


@dataclass
class Given:
    """In place of features: a state, the sessions before each cutoff, and those after it by cutoff. The first is the holdout's."""

    known: State
    past: Table
    after: dict[date, Table]

    @property
    def evaluated(self) -> list[date]:
        return list(self.after)

    def state(self, cutoff: date) -> State:
        return replace(self.known, cutoff=cutoff)

    def sessions(self, start: date, end: date) -> Table:
        return self.after.get(start, self.past)


def given(past: Table, *after: Table, **items: Any) -> Features:
    """Everybody views what `past` says, and has bought the last item only, long ago. after: the sessions after the holdout's
    cutoff, then those of selection."""
    bought = np.zeros((10, ITEMS), int)
    bought[:, -1] = 1
    state = make_state(bought)
    views = {"user_index": past["user_index"], "item_index": past["item_index"], "days": np.ones(len(past["session"]), np.int64)}
    history = state.history | {"days": np.full(10, 200, np.float32)}
    state = replace(state, views_and_carts=views, history=history, items=state.items | items)
    cutoffs = [CUTOFF - 28 * place * DAY for place in range(len(after))]
    return cast(Features, Given(state, past, dict(zip(cutoffs, after, strict=True))))


def scored(past: Table, after: Table, repeats: int = 2, **items: Any) -> dict[str, ScoredSessions]:
    return score_sessions(given(past, after, **items), make_settings(), CUTOFF, SessionAnswers(repeats=repeats))


PAIRS = table(*[[40 + place, 50 + place] for place in range(5)] * 2)  # item 50 is viewed together with 40, and so on


def hit_rate(found: ScoredSessions) -> float:
    return float(found.scores[f"hr@{K}"].mean())


def test_methods_that_know_sessions_find_what_was_viewed_together() -> None:
    found = scored(PAIRS, table([40, 50], [41, 51]))
    assert {name.removesuffix(", repeats") for name in found} == METHODS
    for name in ("session_items", "session_knn"):
        assert found[name].scores[f"mrr@{K}"].tolist() == [1.0, 1.0]
        assert found[name].users.tolist() == ["u0", "u1"]
    assert hit_rate(found["popularity"]) == hit_rate(found["item_to_item"]) == 0


@pytest.mark.parametrize("method", sorted(METHODS))
def test_an_earlier_item_is_found_only_where_it_may_return(method: str) -> None:
    found = scored(PAIRS, table([44, 43, 44]))
    assert hit_rate(found[f"{method}, repeats"]) == hit_rate(found[method]) + 0.5


def test_only_the_last_earlier_items_may_return() -> None:
    after = table([40, 41, 42, 43, 40])  # the next items 41, 42 and 43 are found by nobody
    assert hit_rate(scored(PAIRS, after, repeats=2)["popularity, repeats"]) == 0
    assert hit_rate(scored(PAIRS, after, repeats=3)["popularity, repeats"]) == 0.25


def test_items_at_the_same_time_repeated_at_once_or_unavailable_are_no_next_items() -> None:
    available = np.arange(ITEMS) != 52
    assert scored(PAIRS, table([40, 50], seconds=[7, 7]), is_available=available) == {}
    assert scored(PAIRS, table([40, 40]), is_available=available) == {}
    assert scored(PAIRS, table([42, 52]), is_available=available) == {}
    assert scored(PAIRS, table([40, 50]), is_available=available) != {}


def test_without_earlier_sessions_they_are_answered_by_popularity() -> None:
    nothing = {name: column[:0] for name, column in PAIRS.items()}
    found = scored(nothing, table([40, ITEMS - 1]))
    assert {hit_rate(one) for one in found.values()} == {1.0}  # the last item is the most popular


def test_target_events_belong_to_sessions_too() -> None:
    """Where views are the target, there are no other events."""
    features = cast(Given, given(PAIRS, table([40, 50])))
    views = features.known.views_and_carts
    bought = {"user_index": views["user_index"], "item_index": views["item_index"], "days": np.full(len(views["days"]), 0.5)}
    bought["basket_number"] = np.ones(len(views["days"]), np.int32)
    nothing = {name: column[:0] for name, column in views.items()}
    only_targets = replace(features.known, history=bought, views_and_carts=nothing)
    expected = SessionItems().learn(features.known).similarity_
    assert (SessionItems().learn(only_targets).similarity_ != expected).nnz == 0
    assert expected.nnz == 2 * 5


def test_an_item_without_sessions_is_answered_by_what_goes_with_its_category() -> None:
    """Items 40 to 45 are of one category. What goes with 45 is not known yet; with the others go items 50 to 54."""
    categories = np.where((np.arange(ITEMS) >= 40) & (np.arange(ITEMS) <= 45), "shirts", "other")
    found = scored(PAIRS, table([45, 50]), category=categories)
    assert hit_rate(found["smoothed_session"]) == 1
    assert hit_rate(found["session_items"]) == hit_rate(found["item_to_item"]) == 0


def test_the_prior_is_the_mean_of_the_category() -> None:
    """By the formula, on a matrix of all pairs."""
    draw = np.random.default_rng(0)
    sessions = [draw.choice(ITEMS, size, replace=False).tolist() for size in draw.integers(2, 6, 10)]
    features = cast(Given, given(table(*sessions), table([40, 50]), category=draw.choice(["a", "b", "c"], ITEMS)))
    state, had = features.known, np.zeros((10, ITEMS))
    for row, items in enumerate(sessions):
        had[row, items] = 1
    together = had.T @ (had * had.sum(1, keepdims=True) ** -0.5)
    np.fill_diagonal(together, 0)
    same = state.items["category"][:, None] == state.items["category"]
    count = had.sum(0)
    prior = (same @ together) / (same @ count)[:, None]
    expected = (together + 3 * prior) / np.outer(count + 3, np.maximum(count, 1)) ** 0.2
    np.fill_diagonal(expected, 0)
    whole = SessionItems(neighbours=ITEMS, shrinkage=0, prior=3).learn(state).similarity_
    np.testing.assert_allclose(whole.toarray(), expected, rtol=1e-6)
    short = SessionItems(neighbours=4, shrinkage=0, prior=3).learn(state).similarity_.toarray()
    np.testing.assert_allclose(np.sort(short)[:, -4:], np.sort(expected)[:, -4:], rtol=1e-6)
    assert ((short > 0).sum(1) <= 4).all()


# Sessions of ten users. NEXT: to what went with the first item. BACK: to another item, then back to the first.
NEXT = table(*[[40 + place % 5, 50 + place % 5] for place in range(10)])
BACK = table(*[[40 + place % 5, 10 + place, 40 + place % 5] for place in range(10)])
NOBODY_KNOWS = table(*[[place, 20 + place] for place in range(10)])


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        ([NEXT], SessionAnswers("session_items", 0)),
        ([BACK], SessionAnswers("item_to_item", REPEATS)),
        ([NOBODY_KNOWS], SIMPLEST),
        ([table([40, 50], [41, 51])], SIMPLEST),  # too few users to decide anything
        ([], SIMPLEST),
    ],
    ids=["what went together", "going back", "nothing helps", "two users", "no earlier days"],
)
@pytest.mark.parametrize("holdout", [NEXT, BACK], ids=["holdout like the first", "holdout like the second"])
def test_the_simplest_way_that_no_other_beats_on_earlier_days_is_selected(
    selection: list[Table], expected: SessionAnswers, holdout: Table
) -> None:
    assert select_sessions(given(PAIRS, holdout, *selection), make_settings()) == expected


def test_a_setting_decides_about_repeats() -> None:
    for number in (0, 3):
        settings = make_settings(lists={"session_repeats": number})
        assert select_sessions(given(PAIRS, NEXT, BACK), settings).repeats == number


def test_where_windows_have_few_users_more_of_them_are_used() -> None:
    small = make_settings(evaluation={"selection_users": 10, "selection_windows": 1})
    few = table([40, 50])
    assert select_sessions(given(PAIRS, BACK, few, NEXT), small) == SessionAnswers("session_items", 0)
    enough = make_settings(evaluation={"selection_users": 1, "selection_windows": 1})
    assert select_sessions(given(PAIRS, BACK, few, NEXT), enough) == SIMPLEST


@pytest.mark.parametrize("repeats", [0, 2])
def test_what_is_scored_is_what_the_service_answers_to_a_stranger(inputs: CheckInput, repeats: int) -> None:
    state, reader, items = inputs.state, inputs.reader, inputs.state.shape[1]
    available = np.flatnonzero(state.items["is_available"])
    draw = np.random.default_rng(0)
    scorer = _scorer(inputs.sessions.similarity, state, inputs.settings)
    assert inputs.sessions.similarity in SIMILARITIES[1:]
    for size in (1, 2, 5, 9):
        seen = draw.choice(available, size, replace=False).tolist()
        weights = matrix(DECAY ** np.arange(size), np.zeros(size, int), np.array(seen[::-1]), (1, items))[np.zeros(items, int)]
        every = Beginnings(weights, np.zeros(items, np.int32), np.arange(items, dtype=np.int32))
        ranks = np.hstack([*_ranks(scorer, every, state, (repeats,))])[0]
        with patch.dict(reader.about, session_repeats=repeats):
            assert reader.session(seen, K).items == np.argsort(ranks, kind="stable")[: np.isfinite(ranks).sum()].tolist()
