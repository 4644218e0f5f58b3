"""What every recommender must do, on a checkerboard: even users buy even items and odd users odd ones."""

from contextlib import suppress
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import pytest

from conftest import make_state
from recsys import RecsysError
from recsys.features.state import State, TrainingWindow
from recsys.recommenders.base import Recommender, TooLittleData
from recsys.recommenders.rankers import RANKERS
from recsys.recommenders.rankers.base import NothingLearned
from recsys.recommenders.rankers.hist_gradient_boosting import HistGradientBoosting
from recsys.recommenders.registry import RECOMMENDERS, create, load

USERS, ITEMS = 40, 12
EVERYBODY = np.array([f"u{row}" for row in range(USERS)])


def checkerboard(available: list[bool] | None = None) -> State:
    """Every user has bought all items of its colour but one, some twice."""
    baskets = np.zeros((USERS, ITEMS), int)
    for user in range(USERS):
        own = np.arange(user % 2, ITEMS, 2)
        baskets[user, own] = 1 + (own < 4)
        baskets[user, own[(user // 2) % len(own)]] = 0
    state = make_state(baskets, available)
    order = np.argsort(state.user_ids)
    assert (state.item_ids[:2] == ["i0", "i1"]).all()
    return by_id(state, order)


def by_id(state: State, users: np.ndarray) -> State:
    """The state with users and items in the order of their ids, as the warehouse gives it."""
    items = np.argsort(state.item_ids)
    user_place, item_place = np.argsort(users), np.argsort(items)

    def moved(table: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        table = table | {"user_index": user_place[table["user_index"]], "item_index": item_place[table["item_index"]]}
        order = np.lexsort((table["item_index"], table["user_index"]))
        return {name: column[order] for name, column in table.items()}

    return replace(
        state,
        user_ids=state.user_ids[users],
        item_ids=state.item_ids[items],
        users={name: column[users] for name, column in state.users.items()},
        items={name: column[items] for name, column in state.items.items()},
        user_items=moved(state.user_items),
        history=moved(state.history),
    )


@pytest.fixture(params=[*sorted(RECOMMENDERS), *(f"two_stage {name}" for name in list(RANKERS)[1:])])
def recommender(request: pytest.FixtureRequest) -> Recommender:
    name, _, ranker = request.param.partition(" ")
    return create(name, {"ranker": ranker} if ranker else {})


def colour_window() -> TrainingWindow:
    """A window in which everybody took the item of their colour that they lacked."""
    before = checkerboard()
    users = np.arange(USERS)
    numbers = np.array([int(user[1:]) for user in before.user_ids])
    missing = [f"i{number % 2 + 2 * ((number // 2) % (ITEMS // 2))}" for number in numbers]
    items = np.searchsorted(before.item_ids, missing)
    return TrainingWindow(("window", date(2024, 1, 1)), lambda: before, lambda: (users.astype(np.int32), items.astype(np.int32)))


def fitted(recommender: Recommender, state: State) -> Recommender:
    """Fitted; those that learn from outcomes do so on `colour_window`."""
    with suppress(TooLittleData):  # so few titles share no word: those that read titles learn nothing, and rank all the same
        recommender.fit(state, [colour_window()])
    return recommender


def listed(recommender: Recommender, state: State, k: int = 4, exclude_seen: bool = False) -> list[list[str]]:
    lists = recommender.recommend(EVERYBODY, k, state, exclude_seen).items
    return [[str(state.item_ids[item]) for item in row if item >= 0] for row in lists]


def test_lists_are_full_without_doubles_and_scores_fall(recommender: Recommender) -> None:
    state = checkerboard()
    lists = fitted(recommender, state).recommend(EVERYBODY, ITEMS, state)
    assert (np.sort(lists.items, 1) == np.arange(ITEMS)).all()
    scores = np.where(lists.scores == 0, -np.inf, lists.scores)  # what fills a list up comes last
    assert (scores[:, 1:] <= scores[:, :-1]).all()


def test_new_items_lists_hold_nothing_bought(recommender: Recommender) -> None:
    state = checkerboard()
    owned = state.owned().toarray() > 0
    fitted(recommender, state)
    for row, user in enumerate(state.rows(EVERYBODY)):
        items = recommender.recommend(EVERYBODY[row : row + 1], ITEMS, state, exclude_seen=True).items[0]
        assert sorted(items[items >= 0]) == sorted(np.flatnonzero(~owned[user]))


def test_unavailable_items_are_never_listed(recommender: Recommender) -> None:
    state = checkerboard(available=[item != 2 for item in range(ITEMS)])
    assert not any("i2" in row for row in listed(fitted(recommender, state), state, ITEMS))


def test_strangers_get_recent_popularity(recommender: Recommender) -> None:
    baskets = np.array([[0, 1, 1], [0, 1, 1], [0, 0, 1]])
    state = make_state(baskets)
    lists = fitted(recommender, state).recommend(np.array(["nobody"]), 3, state)
    assert lists.items[0].tolist() == [2, 1, 0]


def test_saved_and_loaded_it_ranks_the_same(recommender: Recommender, tmp_path: Path) -> None:
    state = checkerboard()
    fitted(recommender, state).save(tmp_path)
    loaded = load(tmp_path)
    assert loaded.parameters() == recommender.parameters()
    for exclude_seen in (False, True):
        before, after = (each.recommend(EVERYBODY, ITEMS, state, exclude_seen) for each in (recommender, loaded))
        assert (before.items == after.items).all()
        assert (before.scores == after.scores).all()


def test_saving_twice_writes_the_same_bytes(recommender: Recommender, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        fitted(create(recommender.name, recommender.parameters()), checkerboard()).save(tmp_path / name)
    written = [{path.relative_to(tmp_path / name): path.read_bytes() for path in (tmp_path / name).rglob("*.*")} for name in "ab"]
    assert written[0] == written[1]


def test_a_saved_model_holds_no_format_that_runs_code(recommender: Recommender, tmp_path: Path) -> None:
    fitted(recommender, checkerboard()).save(tmp_path)
    assert {path.suffix for path in tmp_path.rglob("*") if path.is_file()} <= {".npz", ".json", ".txt"}
    with np.load(tmp_path / "learned.npz", allow_pickle=False) as arrays:
        assert all(arrays[name].dtype != object for name in arrays.files)


def test_fitted_on_one_state_it_ranks_a_later_one_with_other_items(recommender: Recommender) -> None:
    fitted(recommender, checkerboard())
    later = make_state(np.array([[1, 0], [0, 1], [1, 1]]))
    later = replace(later, item_ids=np.array(["i3", "new"]))
    lists = recommender.recommend(later.user_ids, 2, later)
    assert (np.sort(lists.items, 1) == [0, 1]).all()


def test_users_asked_in_another_order_get_their_own_lists(recommender: Recommender) -> None:
    state = checkerboard()
    fitted(recommender, state)
    straight, reversed_ = (recommender.recommend(users, 4, state).items for users in (EVERYBODY, EVERYBODY[::-1]))
    assert (straight == reversed_[::-1]).all()


def test_repeat_purchase_ranks_by_own_baskets_then_recent_popularity() -> None:
    state = make_state(np.array([[1, 3, 1, 0], [0, 0, 1, 1]]), recent=[1, 0, 5, 9])
    assert create("repeat_purchase", {}).fit(state).recommend(np.array(["u0"]), 4, state).items[0].tolist() == [1, 2, 0, 3]


def test_item_to_item_finds_the_missing_item_of_each_colour() -> None:
    state = checkerboard()
    first = listed(create("item_to_item", {}).fit(state), state, k=1, exclude_seen=True)
    assert first == [[f"i{user % 2 + 2 * ((user // 2) % (ITEMS // 2))}"] for user in range(USERS)]


def test_item_regression_solves_the_ridge_regression_of_each_item_on_its_neighbours() -> None:
    state = checkerboard()
    learned = create("item_regression", {"ridge": 3.0}).fit(state).similarity_.toarray()  # type: ignore[attr-defined]
    together = (state.bought().T @ state.bought()).toarray().astype(float)
    for item in range(ITEMS):
        others = np.flatnonzero((together[item] > 0) & (np.arange(ITEMS) != item))
        weights = np.linalg.solve(together[np.ix_(others, others)] + 3.0 * np.eye(len(others)), together[others, item])
        expected = np.zeros(ITEMS)
        expected[others] = np.maximum(weights, 0)
        assert learned[:, item] == pytest.approx(expected, abs=1e-6)


def test_similar_titles_follow_the_titles_of_the_state() -> None:
    def pairs(titles: list[str]) -> set[tuple[int, int]]:
        state = make_state(np.ones((2, len(titles)), int))
        state.items["title"] = np.array(titles)
        rows, columns = create("similar_titles", {}).learn(state).similarity_.nonzero()  # type: ignore[attr-defined]
        return set(zip(rows.tolist(), columns.tolist(), strict=True))

    other = [f"only{item}" for item in range(38)]  # so that a word of two titles is in 5% of them
    assert pairs(["red cup", "blue cup", *other]) == {(0, 1), (1, 0)}
    assert pairs(["red cup", "blue mug", *other[:-1], "blue jug"]) == {(1, 39), (39, 1)}
    assert pairs(["red cup", "blue cup", *other]) == {(0, 1), (1, 0)}


def test_popularity_of_a_window_that_no_feature_counts_is_refused() -> None:
    with pytest.raises(RecsysError, match="target_events_3d"):
        create("popularity", {"days": 3}).fit(checkerboard())


def test_unknown_names_and_parameters_are_refused_by_name() -> None:
    with pytest.raises(RecsysError, match="magic"):
        create("magic", {})
    with pytest.raises(RecsysError, match="neighbors"):
        create("item_to_item", {"neighbors": 3})


@pytest.mark.parametrize("name", sorted(set(RECOMMENDERS) - {"popularity"}))
def test_without_anything_to_learn_from_it_says_so(name: str) -> None:
    nothing = np.zeros((3, 2), int)
    with pytest.raises(TooLittleData, match=f"^{name}: "):
        create(name, {}).fit(make_state(nothing))


def test_where_all_candidates_are_taken_there_is_nothing_to_tell_apart() -> None:
    state = make_state(np.ones((4, 3), int))
    users, items = (index.ravel().astype(np.int32) for index in np.indices((4, 3)))
    window = TrainingWindow(("all", date(2024, 1, 1)), lambda: state, lambda: (users, items))
    with pytest.raises(TooLittleData, match="12 of 12 candidates"):
        create("two_stage", {}).fit(state, [window])


def test_a_ranker_that_learns_nothing_leaves_two_stage_with_too_little_data(monkeypatch: pytest.MonkeyPatch) -> None:
    def learn_nothing(*data: object) -> None:
        raise NothingLearned("no tree found a split")

    monkeypatch.setattr(HistGradientBoosting, "fit", learn_nothing)
    two_stage = create("two_stage", {})
    with pytest.raises(TooLittleData, match=r"^two_stage: .* candidates .* no tree found a split$"):
        two_stage.fit(checkerboard(), [colour_window()])
