"""One release, asked as the service asks it."""

import json
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pyarrow.parquet as pq
import pytest
from scipy import sparse

from recsys import RecsysError
from recsys.features.state import places
from recsys.recommenders.base import LIST_KINDS, popularity_order
from recsys.releases.files import prices, read_all
from recsys.releases.reader import NO_FILTER, Answer, Filter, Reader
from recsys.releases.session_index import similar_items
from recsys.validation.check_input import CheckInput


@pytest.fixture(scope="module")
def reader(inputs: CheckInput) -> Reader:
    return Reader(inputs.release)


Broken = Callable[[Callable[[Path], object]], Reader]


@pytest.fixture
def broken(inputs: CheckInput, tmp_path: Path) -> Broken:
    """A copy of the release after somebody has laid hands on its files."""

    def make(hurt: Callable[[Path], object]) -> Reader:
        shutil.copytree(inputs.release.path, tmp_path / "release")
        hurt(tmp_path / "release")
        return Reader(replace(inputs.release, path=tmp_path / "release"))

    return make


@pytest.mark.parametrize("list_kind", LIST_KINDS)
def test_a_user_gets_the_list_that_was_released(reader: Reader, inputs: CheckInput, list_kind: str) -> None:
    users, lists = read_all(inputs.release, list_kind)
    answer = reader.recommend(str(users[3]), 5, list_kind)
    assert answer.items == lists.items[3, :5].tolist()
    assert answer.scores == pytest.approx(lists.scores[3, :5])
    assert answer.source == "personal"


def test_an_item_has_the_price_it_was_last_sold_at(reader: Reader, inputs: CheckInput) -> None:
    known = {id: reader.item(id)["price"] for id in reader.item_ids}
    expected = prices(inputs.state)
    assert not np.isnan(expected).all()
    assert [price is None for price in known.values()] == np.isnan(expected).tolist()
    assert [price for price in known.values() if price is not None] == expected[~np.isnan(expected)].tolist()


def test_a_release_without_prices_and_examples_is_read(broken: Broken) -> None:
    def hurt(folder: Path) -> None:
        (folder / "examples.json").unlink()
        items = pq.read_table(folder / "items.parquet")
        pq.write_table(items.drop_columns("price"), folder / "items.parquet")

    reader = broken(hurt)
    assert reader.examples == []
    assert reader.item(reader.item_ids[0])["price"] is None


def test_a_stranger_gets_the_segment_then_everybodys(reader: Reader) -> None:
    segment = next(name for rung, name in reader.fallback if rung == "segment")
    answer = reader.recommend("nobody", 100, segment=segment)
    assert answer.source == "segment"
    assert answer.items[0] == reader.fallback["segment", segment][0]
    assert set(reader.fallback["popular", ""]) <= set(answer.items)
    assert len(set(answer.items)) == len(answer.items)


def test_a_stranger_of_no_segment_gets_what_is_popular(reader: Reader) -> None:
    assert reader.recommend("nobody", 5).items == reader.fallback["popular", ""][:5]
    assert reader.recommend("nobody", 5).source == "popular"


def test_a_blocked_item_is_in_no_answer(reader: Reader, inputs: CheckInput) -> None:
    user = str(inputs.state.user_ids[3])
    gone = reader.recommend(user, 1).items[0]
    blocking = Reader(inputs.release, blocked=[reader.item_ids[gone], "no such item"])
    assert blocking.recommend(user, 49).items == [item for item in reader.recommend(user, 50).items if item != gone][:49]
    assert gone not in blocking.recommend("nobody", 50).items
    assert all(gone not in blocking.similar(item, 50).items for item in range(len(reader.item_ids)))


def test_similar_items_are_the_strongest_neighbours(reader: Reader) -> None:
    item = reader.recommend("nobody", 1).items[0]
    near = reader.neighbours[item].toarray().ravel() * reader.listed
    answer = reader.similar(item, 5)
    assert answer.scores == pytest.approx(np.sort(near)[::-1][: len(answer.scores)])
    assert item not in answer.items


def test_a_session_shows_nothing_that_was_seen_and_ends_with_the_users_list(reader: Reader, inputs: CheckInput) -> None:
    seen = reader.recommend("nobody", 3).items
    with patch.dict(reader.about, session_repeats=0):
        answer = reader.session(seen, 20, str(inputs.state.user_ids[3]))
    assert answer.source == "session"
    assert not set(seen) & set(answer.items)
    assert {"session", "personal"} <= set(answer.sources)
    assert answer.scores == sorted(answer.scores, reverse=True)


def test_the_last_items_of_a_session_come_first_but_the_very_last(reader: Reader, inputs: CheckInput) -> None:
    first, second, third, last = reader.recommend("nobody", 4).items
    with patch.dict(reader.about, session_repeats=2):
        answer = reader.session([first, second, third, second, last], 20, str(inputs.state.user_ids[3]))
    assert answer.items[:2] == [second, third]
    assert not {first, last} & set(answer.items)
    assert answer.scores == sorted(answer.scores, reverse=True)
    assert answer.source == "session"


def test_earlier_items_of_a_session_that_may_not_be_listed_stay_out(reader: Reader, inputs: CheckInput) -> None:
    blocked, excluded, kept, last = reader.recommend("nobody", 4).items
    blocking = Reader(inputs.release, blocked=[reader.item_ids[blocked]])
    answer = blocking.session([kept, excluded, blocked, last], 10, filter=Filter(frozenset([excluded])))
    assert answer.items[0] == kept
    assert not {blocked, excluded, last} & set(answer.items)


def test_where_seen_items_are_excluded_a_session_lists_none_that_the_user_had(reader: Reader, inputs: CheckInput) -> None:
    user = str(inputs.state.user_ids[3])
    known = reader.user(user)
    assert known is not None
    with patch.dict(reader.about, exclude_seen=True):
        answer = reader.session([*known.seen[:2], 0], 10, user)
    assert not set(known.seen) & set(answer.items)


def test_a_session_is_answered_by_similarity_over_sessions(reader: Reader, inputs: CheckInput) -> None:
    similar = similar_items(inputs.sessions.similarity, inputs.settings).learn(inputs.state).similarity_
    item = reader.recommend("nobody", 1).items[0]
    expected = similar[item].toarray().ravel() * reader.listed
    answer = reader._of_session([item], 5)
    assert answer.scores == pytest.approx(np.sort(expected)[::-1][: len(answer.scores)])


def test_a_release_without_sessions_is_answered_by_similarity_over_users(broken: Broken) -> None:
    reader = broken(lambda folder: (folder / "session_neighbours.npz").unlink())
    item = reader.recommend("nobody", 1).items[0]
    assert reader._of_session([item], 5).items == reader.similar(item, 5).items
    reader.check()


def test_for_a_user_without_a_list_popular_items_follow_those_of_the_session(reader: Reader) -> None:
    first, *popular = reader.fallback["popular", ""][:20]
    near, size = [popular[5], int(np.flatnonzero(reader.listed)[0]), popular[2]], len(reader.item_ids)
    similar = sparse.csr_matrix(([3.0, 2.0, 1.0], ([first] * 3, near)), (size, size))
    with patch.object(reader, "session_neighbours", similar), patch.dict(reader.about, session_repeats=0):
        answers = reader.session([first], 9), reader.recommend("nobody", 9, "new_items", seen=[first])
    for answer in answers:
        assert [*answer.items] == [*near, *(item for item in popular if item not in near)][:9]
        assert answer.scores == sorted(answer.scores, reverse=True)
        assert answer.sources == ["session"] * 3 + ["popular"] * 6
        assert answer.source == "session"


def test_an_item_seen_last_counts_more_than_one_seen_first(reader: Reader) -> None:
    first, last = reader.recommend("nobody", 2).items
    forth, back = reader._of_session([first, last], 500), reader._of_session([last, first], 500)
    near = set(reader.near_session(last, 500).items) - {first, *reader.near_session(first, 500).items}
    only = [item for item in near if reader.listed[item]]
    assert only
    for item in only:
        assert forth.scores[forth.items.index(item)] > back.scores[back.items.index(item)]


def test_a_user_is_shown_with_the_items_of_the_last_target_events(reader: Reader, inputs: CheckInput) -> None:
    state, row = inputs.state, int(inputs.state.history["user_index"][0])
    user = reader.user(str(state.user_ids[row]))
    mine = state.history["user_index"] == row
    assert user is not None
    assert user.segment == state.users["segment"][row]
    assert user.days == sorted(user.days)
    assert user.days[0] == pytest.approx(state.history["days"][mine].min())
    assert set(user.seen) <= set(state.history["item_index"][mine].tolist())
    assert len(set(user.seen)) == len(user.seen)


def test_nobody_is_no_user(reader: Reader) -> None:
    assert reader.user("nobody") is None


def test_reasons_name_the_item_that_speaks(reader: Reader) -> None:
    answer = reader.recommend("nobody", 5)
    item = answer.items[0]
    neighbour = int(reader._near(item)[0][0])
    assert reader.reason(item, answer, [item]) == ("seen_before", item)
    assert reader.reason(item, answer, [neighbour]) == ("goes_with", neighbour)
    assert reader.reason(item, answer, []) == ("popular", -1)


def test_a_healthy_release_passes_its_canaries(reader: Reader) -> None:
    reader.check()


def _rewrite(folder: Path, query: str, *values: object) -> None:
    with closing(sqlite3.connect(folder / "lists.sqlite")) as connection, connection:
        connection.execute(query, values)


def test_a_release_that_lists_an_unknown_item_is_refused(broken: Broken) -> None:
    blob = np.array([10_000], "<i4").tobytes() + np.array([0.5], "<f4").tobytes()
    reader = broken(lambda folder: _rewrite(folder, "update lists set all_items = ?", blob))
    with pytest.raises(RecsysError, match=r"is not in its items\.parquet"):
        reader.check()


def test_scores_below_0_are_the_users_own_and_pass(broken: Broken) -> None:
    blob = np.array([0, 1, 2], "<i4").tobytes() + np.array([-0.25, -1.5, 0], "<f4").tobytes()
    reader = broken(lambda folder: _rewrite(folder, "update lists set all_items = ?", blob))
    reader.listed[:3] = True
    reader.check()
    answer = reader.recommend(reader.users("", 1)[0], 5, "all_items")
    told = json.loads(reader.write(answer, reader.as_of))["items"]
    assert [(one["score"], one["source"]) for one in told] == [(-0.25, "personal"), (-1.5, "personal"), (0, "popular")]


@pytest.mark.parametrize("item", [10_000, -1])
def test_an_item_that_is_none_is_told_whoever_asks(broken: Broken, item: int) -> None:
    blob = np.array([item], "<i4").tobytes() + np.array([0.5], "<f4").tobytes()

    def hurt(folder: Path) -> None:
        _rewrite(folder, "update lists set all_items = ?", blob)
        _rewrite(folder, "update users set bought = ?", blob)

    reader = broken(hurt)
    user = reader.users("", 1)[0]
    for ask in (lambda: reader.recommend(user, 5, "all_items"), lambda: reader.user(user)):
        with pytest.raises(RecsysError, match=r"is not in its items\.parquet"):
            ask()


def test_neighbours_that_point_outside_their_arrays_are_refused(broken: Broken) -> None:
    def hurt(folder: Path) -> None:
        with np.load(folder / "neighbours.npz") as parts:
            arrays = {name: parts[name] for name in parts.files}
        arrays["indices"][0] = 1 << 30
        np.savez(folder / "neighbours.npz", **arrays)

    with pytest.raises(RecsysError, match=r"neighbours\.npz"):
        broken(hurt)


def test_a_release_may_lie_in_a_folder_of_any_name(inputs: CheckInput, tmp_path: Path) -> None:
    folder = tmp_path / "it's #1 of 100%? yes"
    shutil.copytree(inputs.release.path, folder)
    Reader(replace(inputs.release, path=folder)).check()


def test_a_release_of_no_user_is_refused(broken: Broken) -> None:
    reader = broken(lambda folder: _rewrite(folder, "delete from lists"))
    with pytest.raises(RecsysError, match="has no users"):
        reader.check()


def test_a_release_whose_tables_are_gone_is_refused(broken: Broken) -> None:
    reader = broken(lambda folder: _rewrite(folder, "drop table users"))
    with pytest.raises(RecsysError, match="cannot be read: no such table: users"):
        reader.check()


def test_a_release_without_fallback_is_refused(broken: Broken) -> None:
    reader = broken(lambda folder: (folder / "fallback.json").write_text(json.dumps({"all": [], "segments": {}})))
    with pytest.raises(RecsysError, match="is empty"):
        reader.check()


def test_where_each_item_stands_is_what_the_pipeline_meant(reader: Reader, inputs: CheckInput) -> None:
    assert (places(inputs.state.item_ids, np.array(reader.item_ids)) == np.arange(len(reader.item_ids))).all()


@pytest.fixture(scope="module")
def listed(reader: Reader) -> dict[str, list[int]]:
    """Rows of the items that may be listed, by category."""
    rows: dict[str, list[int]] = {}
    for row in np.flatnonzero(reader.listed).tolist():
        rows.setdefault(reader.categories[row], []).append(row)
    return rows


Asked = Callable[[Reader, str, Filter], Answer]
KINDS: dict[str, Asked] = {
    "all_items": lambda reader, user, filter: reader.recommend(user, 10, "all_items", filter=filter),
    "new_items": lambda reader, user, filter: reader.recommend(user, 10, "new_items", filter=filter),
    "stranger": lambda reader, user, filter: reader.recommend("nobody", 10, filter=filter),
    "since the release": lambda reader, user, filter: reader.recommend(user, 10, filter=filter, seen=[0, 1]),
    "session": lambda reader, user, filter: reader.session([0, 0], 10, user, filter),
    "similar": lambda reader, user, filter: reader.similar(0, 10, filter),
}


@pytest.mark.parametrize("kind", KINDS)
def test_an_answer_with_excluded_items_has_others_instead(reader: Reader, inputs: CheckInput, kind: str) -> None:
    user = str(inputs.state.user_ids[3])
    excluded = frozenset(KINDS[kind](reader, user, NO_FILTER).items[:5])
    answer = KINDS[kind](reader, user, Filter(excluded))
    assert len(set(answer.items)) == len(answer.items) == 10
    assert not excluded & set(answer.items)
    assert reader.listed[answer.items].all()


@pytest.mark.parametrize("kind", KINDS)
def test_an_answer_has_items_of_the_wanted_categories_only(
    reader: Reader, inputs: CheckInput, listed: dict[str, list[int]], kind: str
) -> None:
    user = str(inputs.state.user_ids[3])
    user_seen = reader.user(user)
    assert user_seen is not None
    for category, items in listed.items():
        answer = KINDS[kind](reader, user, Filter(categories=frozenset([category])))
        hidden = {"session": {0}, "similar": {0}, "new_items": set(user_seen.seen)}.get(kind, set())
        assert len(set(answer.items)) == len(answer.items) == min(10, len(set(items) - hidden))
        assert set(answer.items) <= set(items) - hidden


def test_several_categories_may_be_wanted(reader: Reader, listed: dict[str, list[int]]) -> None:
    first, second = sorted(listed, key=lambda category: len(listed[category]))[:2]
    answer = reader.recommend("nobody", 50, filter=reader.filter(categories=[first, second]))
    assert sorted(answer.items) == sorted(listed[first] + listed[second])


def test_the_users_own_items_come_first_and_the_source_says_so(reader: Reader, inputs: CheckInput) -> None:
    user = str(inputs.state.user_ids[3])
    own = reader.recommend(user, 50)
    filter = Filter(frozenset(own.items[:-3]))
    answer = reader.recommend(user, 10, filter=filter)
    assert answer.items[:3] == own.items[-3:]
    assert answer.sources[:3] == own.sources[-3:]
    assert answer.source == answer.sources[0]
    assert set(answer.sources[3:]) <= {"segment", "popular"}
    assert set(answer.scores[3:]) == {0.0}
    assert reader.recommend(user, 10, filter=Filter(frozenset(own.items))).source == "segment"


def test_after_the_fallback_lists_come_all_other_items_by_popularity(reader: Reader, inputs: CheckInput) -> None:
    fallback = frozenset(item for items in reader.fallback.values() for item in items)
    order = popularity_order(inputs.state)
    answer = reader.recommend("nobody", 10, filter=Filter(fallback))
    assert answer.items == [item for item in order.tolist() if item not in fallback][:10]
    assert answer.source == "popular"


def test_a_filled_up_list_of_new_items_has_none_of_the_users_last_items(reader: Reader, inputs: CheckInput) -> None:
    for user in inputs.state.user_ids[:20].tolist():
        known = reader.user(user)
        assert known is not None
        filter = Filter(frozenset(reader.recommend(user, 50, "new_items").items))
        answer = reader.recommend(user, 30, "new_items", filter=filter)
        assert len(answer.items) == 30
        assert not set(answer.items) & set(known.seen)


def test_a_category_that_no_item_has_gives_no_items(reader: Reader, inputs: CheckInput) -> None:
    known = reader.categories[0]
    assert reader.unknown([known, "no such category"]) == ["no such category"]
    for ask in KINDS.values():
        answer = ask(reader, str(inputs.state.user_ids[3]), reader.filter(categories=["no such category"]))
        assert (answer.items, answer.source) == ([], "none")


def test_a_blocked_item_is_in_no_answer_with_a_filter(reader: Reader, inputs: CheckInput) -> None:
    user = str(inputs.state.user_ids[3])
    gone = reader.recommend("nobody", 1).items[0]
    blocking = Reader(inputs.release, blocked=[reader.item_ids[gone]])
    filter = blocking.filter(categories=[reader.categories[gone]])
    assert all(gone not in ask(blocking, user, filter).items for ask in KINDS.values())


def test_events_since_the_release_count_and_are_not_new(reader: Reader, inputs: CheckInput) -> None:
    user = str(inputs.state.user_ids[3])
    before = reader.recommend(user, 20, "new_items")
    seen = before.items[:2]
    near = reader._of_session(seen, 50).items
    assert set(near) - set(before.items)
    answer = reader.recommend(user, 20, "new_items", seen=seen)
    assert answer.source == "session"
    assert {"session", "personal"} == set(answer.sources)
    assert not set(seen) & set(answer.items)
    assert len(answer.items) == 20
    assert len(set(near) & set(answer.items)) > len(set(near) & set(before.items))


def test_a_release_without_popularity_ranks_is_filtered_as_far_as_its_lists_reach(broken: Broken) -> None:
    def hurt(folder: Path) -> None:
        items = pq.read_table(folder / "items.parquet")
        pq.write_table(items.drop_columns("popularity_rank"), folder / "items.parquet")

    reader = broken(hurt)
    popular = reader.fallback["popular", ""]
    assert reader.recommend("nobody", 100, filter=Filter(frozenset(popular[:5]))).items == popular[5:]
