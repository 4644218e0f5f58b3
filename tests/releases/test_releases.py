"""What a release tells besides lists: prices, and users to try it with."""

from dataclasses import replace

import numpy as np

from conftest import make_state
from recsys.features.state import State
from recsys.releases.files import example_users, prices


def bought(**days: list[float]) -> State:
    """Target events of users, a list of days ago for each, on items of their own."""
    state = make_state(np.eye(len(days), max(map(len, days.values())), dtype=int))
    users = np.repeat(np.arange(len(days), dtype=np.int32), [len(found) for found in days.values()])
    at = np.array([day for found in days.values() for day in found], np.float32)
    history = {"user_index": users, "item_index": np.zeros_like(users), "basket_number": np.ones_like(users), "days": at}
    return replace(state, user_ids=np.array(list(days)), history=history)


def examples(state: State) -> dict[str, str]:
    return {str(state.user_ids[row]): why for row, why in example_users(state).items()}


def test_example_users_are_the_most_active_a_typical_one_and_a_newcomer() -> None:
    state = bought(often=[1, 2, 3, 4], once=[50], thrice=[5, 6, 80], twice=[5, 80], new=[3], gone=[200] * 9, never=[])
    assert examples(state) == {"often": "active", "twice": "typical", "new": "newcomer"}


def test_each_larger_segment_has_an_example_user_of_its_own() -> None:
    state = bought(a=[1, 2, 3, 4], b=[1, 2], c=[9], d=[30, 31, 32])
    state = replace(state, users=state.users | {"segment": np.array(["north", "south", "north", "south"])})
    assert examples(state) == {"a": "active", "b": "typical", "c": "segment", "d": "segment"}


def test_without_target_events_there_is_nobody_to_try() -> None:
    assert example_users(bought(a=[], b=[])) == {}


def test_a_price_is_that_of_the_last_weeks_where_it_is_known() -> None:
    state = make_state(np.ones((1, 3), int))
    columns = {"mean_price": np.array([10, 10, np.nan], np.float32), "price_change": np.array([1.25, np.nan, np.nan], np.float32)}
    np.testing.assert_array_equal(prices(replace(state, items=state.items | columns)), [12.5, 10.0, np.nan])
