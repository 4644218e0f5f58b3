"""Scores of answers to sessions, on sessions whose next items are known by construction."""

from dataclasses import dataclass, replace
from datetime import date
from typing import Any, cast

import numpy as np
import pytest

from conftest import make_settings, make_state
from recsys.evaluation.sessions import K, ScoredSessions, score_sessions
from recsys.features import Features, State, Table

ITEMS = 60  # more than K, so that a list has not all of them
CUTOFF = date(2024, 2, 1)
METHODS = {"popularity", "item_to_item", "same_session", "session_knn"}


def table(*sessions: list[int], seconds: list[int] | None = None) -> Table:
    """Sessions of users 0, 1, ... by their items; `seconds`: the times within each session."""
    lengths = [len(items) for items in sessions]
    number = np.repeat(np.arange(len(sessions)), lengths)
    times = np.concatenate([np.array(seconds or range(length))[:length] for length in lengths])
    return {"session": number, "user_index": number, "item_index": np.concatenate(sessions), "second": times}


@dataclass
class Given:
    """In place of features: a state, the sessions before its cutoff and those after it."""

    known: State
    past: Table
    after: Table

    def state(self, cutoff: date) -> State:
        return self.known

    def sessions(self, start: date, end: date) -> Table:
        return self.after if start == CUTOFF else self.past


def scored(past: Table, after: Table, repeats: int = 2, **items: Any) -> dict[str, ScoredSessions]:
    """Scores where everybody views what `past` says and has bought the last item only."""
    bought = np.zeros((10, ITEMS), int)
    bought[:, -1] = 1
    state = make_state(bought)
    views = {"user_index": past["user_index"], "item_index": past["item_index"], "days": np.ones(len(past["session"]), np.int64)}
    state = replace(state, views_and_carts=views, items=state.items | items)
    settings = make_settings(lists={"session_repeats": repeats})
    return score_sessions(cast(Features, Given(state, past, after)), settings, CUTOFF)


PAIRS = table(*[[40 + place, 50 + place] for place in range(5)] * 2)  # item 50 is viewed together with 40, and so on


def hit_rate(found: ScoredSessions) -> float:
    return float(found.scores[f"hr@{K}"].mean())


def test_methods_that_know_sessions_find_what_was_viewed_together() -> None:
    found = scored(PAIRS, table([40, 50], [41, 51]))
    assert {name.removesuffix(", repeats") for name in found} == METHODS
    for name in ("same_session", "session_knn"):
        assert found[name].scores[f"mrr@{K}"].tolist() == [1.0, 1.0]
        assert found[name].users.tolist() == [0, 1]
    assert hit_rate(found["popularity"]) == hit_rate(found["item_to_item"]) == 0


@pytest.mark.parametrize("method", sorted(METHODS))
def test_an_earlier_item_is_found_only_where_it_may_return(method: str) -> None:
    found = scored(PAIRS, table([44, 43, 44]))
    assert hit_rate(found[f"{method}, repeats"]) >= 0.5 > hit_rate(found[method])


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
