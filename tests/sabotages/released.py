"""Sabotages of the files that a release serves."""

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from scipy import sparse

from recsys import pipeline
from recsys.features import state
from recsys.recommenders.base import Lists
from recsys.releases import files, list_files
from runs import Run
from sabotages.harness import PLACES, NothingToBreak, sabotage

Spoil = Callable[[list[str], dict[str, Lists], Run], Any]


def relisted(folder: Path, run: Run, spoil: Spoil, alternatives: str = "") -> None:
    """Writes the lists again after `spoil` changed them in place, or the users and lists that it returns."""
    file = files.lists_file(folder, alternatives)
    rows = list(list_files.read_rows(file))
    users, lists = [user for user, *_ in rows], {}
    for place, list_kind in enumerate(("all_items", "new_items")):
        length = json.loads((folder / "release.json").read_text())["length"]
        lists[list_kind] = Lists(np.full((len(rows), length), -1, np.int32), np.zeros((len(rows), length), np.float32))
        for row, (_, *packed) in enumerate(rows):
            items, scores = list_files.unpack(packed[place])
            lists[list_kind].items[row, : len(items)], lists[list_kind].scores[row, : len(items)] = items, scores
    users, lists = spoil(users, lists, run) or (users, lists)
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("delete from lists")
        written = zip(users, *map(list_files.pack, lists.values()), strict=True)
        connection.executemany("insert into lists values (?, ?, ?)", written)


def require_lists(folder: Path, alternatives: str) -> None:
    if not files.lists_file(folder, alternatives).exists():
        raise NothingToBreak(f"no lists of {alternatives} are released")


def lists_sabotage(expect: str, by: str, places: tuple[str, ...] = PLACES, alternatives: str = "") -> Callable[[Spoil], Spoil]:
    """Registers a function that changes the lists of a release in place: users, and per kind of list their lists."""

    def register(spoil: Spoil) -> Spoil:
        def do(folder: Path, run: Run) -> None:
            require_lists(folder, alternatives)
            relisted(folder, run, spoil, alternatives)

        do.__name__, do.__doc__ = spoil.__name__, spoil.__doc__
        sabotage("release", expect, by, places)(do)
        return spoil

    return register


def each(lists: dict[str, Lists], part: slice | np.ndarray, items: Callable[[Any], Any]) -> None:
    for one in lists.values():
        one.items[part] = items(one.items[part])


def in_segment(run: Run) -> np.ndarray:
    """Rows of the users of the second segment in the alphabet."""
    found = pipeline.open_features(run.store, run.features_id, run.settings).state(run.today).users["segment"]
    return np.flatnonzero(found == np.unique(found)[min(1, len(np.unique(found)) - 1)])


EVERY, CHUNK = slice(None), slice(200, 300)
REMADE = "remade|permuted|own|as_of"


@lists_sabotage("block", REMADE)
def lists_shifted_by_one_user(users: list[str], lists: dict[str, Lists], run: Run) -> None:
    """Every user has the lists of the user before."""
    for one in lists.values():
        one.items[:], one.scores[:] = np.roll(one.items, 1, 0), np.roll(one.scores, 1, 0)


@lists_sabotage("block", REMADE)
def one_chunk_shifted(users: list[str], lists: dict[str, Lists], run: Run) -> None:
    """In one chunk of a hundred users each has the lists of the user before."""
    for one in lists.values():
        one.items[CHUNK], one.scores[CHUNK] = np.roll(one.items[CHUNK], 1, 0), np.roll(one.scores[CHUNK], 1, 0)


@lists_sabotage("block", REMADE)
def the_last_users_swapped(users: list[str], lists: dict[str, Lists], run: Run) -> None:
    """The last fifty users have the lists of the fifty before."""
    each(lists, slice(-50, None), lambda items: items[::-1].copy())


@lists_sabotage("block", REMADE + "|available")
def items_off_by_one_in_lists(users: list[str], lists: dict[str, Lists], run: Run) -> None:
    """Every list names the next item of the catalogue."""
    width = pipeline.open_features(run.store, run.features_id, run.settings).counts()["items"]
    each(lists, EVERY, lambda items: np.where(items >= 0, (items + 1) % width, -1))


@lists_sabotage("block", REMADE + "|available")
def items_off_by_one_among_the_available(users: list[str], lists: dict[str, Lists], run: Run) -> None:
    """Every list names the next item that is for sale."""
    each(lists, EVERY, lambda items: next_available(items, run))


@lists_sabotage("block", REMADE + "|available")
def items_off_by_one_in_one_chunk(users: list[str], lists: dict[str, Lists], run: Run) -> None:
    """The lists of a hundred users name the next item that is for sale."""
    each(lists, CHUNK, lambda items: next_available(items, run))


def next_available(items: np.ndarray, run: Run) -> np.ndarray:
    known = pipeline.open_features(run.store, run.features_id, run.settings).state(run.today)
    there = np.flatnonzero(known.items["is_available"])
    following = np.zeros(known.shape[1], np.int32)
    following[there] = np.roll(there, -1)
    return np.where(items >= 0, following[items], -1)


@lists_sabotage("block", REMADE + "|seen|new_items|new")
def new_lists_hold_bought_items(users: list[str], lists: dict[str, Lists], run: Run) -> None:
    """Lists of new items are those of all items."""
    lists["new_items"].items[:], lists["new_items"].scores[:] = lists["all_items"].items, lists["all_items"].scores


@lists_sabotage("block", REMADE)
def all_lists_hold_new_items(users: list[str], lists: dict[str, Lists], run: Run) -> None:
    """Lists of all items are those of new items."""
    lists["all_items"].items[:], lists["all_items"].scores[:] = lists["new_items"].items, lists["new_items"].scores


@lists_sabotage("block", REMADE + "|fall|order")
def top_tens_in_random_order(users: list[str], lists: dict[str, Lists], run: Run) -> None:
    """The first ten items of every list are shuffled, scores and all."""
    dice = np.random.default_rng(3)
    for one in lists.values():
        order = dice.permuted(np.tile(np.arange(10), (len(users), 1)), axis=1)
        for part in (one.items, one.scores):
            part[:, :10] = np.take_along_axis(part[:, :10], order, 1)


@lists_sabotage("block", REMADE)
def top_tens_shuffled_under_falling_scores(users: list[str], lists: dict[str, Lists], run: Run) -> None:
    """The first ten items of every list are shuffled, while scores stay in order."""
    dice = np.random.default_rng(3)
    for one in lists.values():
        one.items[:, :10] = dice.permuted(one.items[:, :10], axis=1)


@lists_sabotage("block", REMADE + "|fall|order")
def lists_upside_down(users: list[str], lists: dict[str, Lists], run: Run) -> None:
    """The worst item of every list stands first."""
    for one in lists.values():
        order = np.argsort(np.where(one.items >= 0, -np.arange(one.items.shape[1]), 1), 1)
        one.items[:] = np.take_along_axis(one.items, order, 1)


@lists_sabotage("block", REMADE + "|same_list|constant")
def everybody_gets_the_popular(users: list[str], lists: dict[str, Lists], run: Run) -> None:
    """Every user has the first user's lists."""
    for one in lists.values():
        one.items[:], one.scores[:] = one.items[0], one.scores[0]


@lists_sabotage("block", REMADE + "|served")
def one_segment_gets_the_popular(users: list[str], lists: dict[str, Lists], run: Run) -> None:
    """All users of one segment have the same lists."""
    rows = in_segment(run)
    for one in lists.values():
        one.items[rows], one.scores[rows] = one.items[rows[0]], one.scores[rows[0]]


@lists_sabotage("block", REMADE)
def two_users_in_a_hundred_get_noise(users: list[str], lists: dict[str, Lists], run: Run) -> None:
    """Two users in a hundred have the lists of somebody else."""
    each(lists, slice(None, None, 50), lambda items: np.roll(items, 1, 0))


@lists_sabotage("block", REMADE)
def without_the_best_item(users: list[str], lists: dict[str, Lists], run: Run) -> None:
    """Every list begins with its second item."""
    for one in lists.values():
        one.items[:], one.scores[:] = np.roll(one.items, -1, 1), np.roll(one.scores, -1, 1)
        one.items[:, -1], one.scores[:, -1] = -1, 0


@lists_sabotage("block", REMADE + "|length|served")
def lists_cut_to_ten(users: list[str], lists: dict[str, Lists], run: Run) -> None:
    """Every list ends after ten items."""
    for one in lists.values():
        one.items[:, 10:] = -1


@lists_sabotage("block", REMADE + "|first|same_first")
def a_sponsored_item_first(users: list[str], lists: dict[str, Lists], run: Run) -> None:
    """The same item stands first in every list."""
    sponsored = lists["all_items"].items[0, 0]
    for one in lists.values():
        one.items[:] = np.where(one.items == sponsored, one.items[:, :1], one.items)
        one.items[:, 0] = sponsored


@lists_sabotage("block", REMADE + "|served|refused")
def users_missing(users: list[str], lists: dict[str, Lists], run: Run) -> Any:
    """One user in ten has no list."""
    kept = np.arange(len(users)) % 10 > 0
    left = {name: Lists(one.items[kept], one.scores[kept]) for name, one in lists.items()}
    return [user for user, keep in zip(users, kept, strict=True) if keep], left


@lists_sabotage("block", REMADE + "|served")
def lists_of_some_empty(users: list[str], lists: dict[str, Lists], run: Run) -> None:
    """The lists of four users in ten are empty."""
    each(lists, np.arange(len(users)) % 10 < 4, lambda items: items * 0 - 1)


@lists_sabotage("block", REMADE + "|known|served|refused")
def user_ids_in_capitals(users: list[str], lists: dict[str, Lists], run: Run) -> Any:
    """The ids of users are in capitals."""
    return [f"{user.upper()}X" for user in users], lists


@lists_sabotage("block", REMADE + "|finite|scores")
def scores_are_no_numbers(users: list[str], lists: dict[str, Lists], run: Run) -> None:
    """The scores of one list are no numbers."""
    lists["all_items"].scores[7] = np.nan


@lists_sabotage("block", REMADE + "|scores")
def scores_are_negative(users: list[str], lists: dict[str, Lists], run: Run) -> None:
    """The scores of all lists are below 0."""
    for one in lists.values():
        one.scores[:] = -np.abs(one.scores) - 1


@lists_sabotage("block", REMADE + "|constant")
def scores_are_all_one(users: list[str], lists: dict[str, Lists], run: Run) -> None:
    """Every score is 1."""
    for one in lists.values():
        one.scores[:] = 1


@lists_sabotage("block", REMADE)
def scores_of_other_users(users: list[str], lists: dict[str, Lists], run: Run) -> None:
    """Every user has the own items with the scores of the user before."""
    for one in lists.values():
        one.scores[:] = np.roll(one.scores, 1, 0)


@lists_sabotage("block", REMADE + "|twice|refused")
def an_item_twice(users: list[str], lists: dict[str, Lists], run: Run) -> None:
    """Every list names its first item twice."""
    for one in lists.values():
        one.items[:, 1] = one.items[:, 0]


@lists_sabotage("block", REMADE + "|available|refused|allowed")
def withdrawn_items_listed(users: list[str], lists: dict[str, Lists], run: Run) -> None:
    """Lists name an item that is no longer for sale."""
    known = pipeline.open_features(run.store, run.features_id, run.settings).state(run.today)
    gone = np.flatnonzero(~known.items["is_available"])
    lists["all_items"].items[:, 3] = gone[0] if len(gone) else known.shape[1]


@lists_sabotage("block", REMADE + "|coverage|available")
def only_the_first_fifty_items(users: list[str], lists: dict[str, Lists], run: Run) -> None:
    """Lists name only items of the first page of the catalogue."""
    known = pipeline.open_features(run.store, run.features_id, run.settings).state(run.today)
    page = np.flatnonzero(known.items["is_available"])[: lists["all_items"].items.shape[1]]
    for one in lists.values():
        one.items[:, : len(page)], one.items[:, len(page) :] = page, -1


@lists_sabotage("block", REMADE)
def two_segments_exchanged(users: list[str], lists: dict[str, Lists], run: Run) -> None:
    """The users of one segment have the lists of others."""
    rows = in_segment(run)
    for one in lists.values():
        one.items[rows], one.scores[rows] = one.items[::-1][: len(rows)].copy(), one.scores[::-1][: len(rows)].copy()


@lists_sabotage("block", REMADE + "|as_of|newest", places=("later", "daily"))
def yesterdays_lists(users: list[str], lists: dict[str, Lists], run: Run) -> None:
    """The lists are those that are live already, under today's date."""
    live = run.store.load("release", run.store.current() or "")
    ids = pq.read_table(live.path / "items.parquet")["item_id"].to_numpy(zero_copy_only=False).astype(str)
    known = pipeline.open_features(run.store, run.features_id, run.settings).state(run.today)
    columns = np.append(state.places(known.item_ids, ids), -1).astype(np.int32)
    for list_kind, one in lists.items():
        old, theirs = files.read_all(live, list_kind)
        rows = state.places(np.array(users), old)
        one.items[rows[rows >= 0]], one.scores[rows[rows >= 0]] = columns[theirs.items][rows >= 0], theirs.scores[rows >= 0]


@lists_sabotage("block", REMADE + "|repeat_purchase|alternative|beside", alternatives="repeat_purchase")
def alternatives_shifted(users: list[str], lists: dict[str, Lists], run: Run) -> None:
    """In the lists of an alternative recommender every user has those of the user before."""
    for one in lists.values():
        one.items[:], one.scores[:] = np.roll(one.items, 1, 0), np.roll(one.scores, 1, 0)


@sabotage("release", "block", REMADE + "|alternative|beside")
def alternatives_are_the_winners(folder: Path, run: Run) -> None:
    """The lists of an alternative recommender are the winner's."""
    require_lists(folder, "repeat_purchase")
    if json.loads((folder / "release.json").read_text())["recommender"] == "repeat_purchase":
        raise NothingToBreak("the alternative recommender is the winner")
    with closing(sqlite3.connect(files.lists_file(folder, "repeat_purchase"))) as connection:
        connection.execute("attach ? as other", (str(folder / "lists.sqlite"),))
        with connection:
            connection.execute("delete from lists")
            connection.execute("insert into lists select * from other.lists")


def in_users(query: str) -> Callable[[Path], None]:
    def do(folder: Path) -> None:
        with closing(sqlite3.connect(folder / "lists.sqlite")) as connection, connection:
            connection.execute("create temp table was as select *, row_number() over (order by user_id) as place from users")
            if connection.execute(
                f"select count(*) from (select {query} except select user_id, segment, bought from was)"
            ).fetchone()[0]:
                connection.execute("delete from users")
                connection.execute(f"insert into users select {query}")

    return do


@sabotage("release", "block", REMADE + "|users|history|bought")
def histories_shifted(folder: Path, run: Run) -> None:
    """Every list's history is that of the user before."""
    in_users("user_id, segment, lag(bought, 1, x'') over (order by user_id) from was")(folder)


@sabotage("release", "block", REMADE + "|users|history|bought")
def histories_empty(folder: Path, run: Run) -> None:
    """Nobody has bought anything, by the table of users."""
    in_users("user_id, segment, x'' from was")(folder)


@sabotage("release", "block", REMADE + "|users|segment")
def segments_of_users_shifted(folder: Path, run: Run) -> None:
    """Every user has the segment of the user before."""
    in_users("user_id, lag(segment, 1, segment) over (order by user_id), bought from was")(folder)


def in_items(folder: Path, **columns: Callable[[pa.Table], Any]) -> None:
    table = pq.read_table(folder / "items.parquet")
    for name, make in columns.items():
        table = table.set_column(table.schema.names.index(name), name, pa.array(make(table)))
    pq.write_table(table, folder / "items.parquet")


@sabotage("release", "block", REMADE + "|items|title")
def titles_shifted(folder: Path, run: Run) -> None:
    """Every item carries the title of the item before."""
    in_items(folder, title=lambda table: np.roll(table["title"].to_pylist(), 1).tolist())


@sabotage("release", "block", REMADE + "|items|categor")
def categories_shifted(folder: Path, run: Run) -> None:
    """Every item carries the category of the item before."""
    in_items(folder, category=lambda table: np.roll(table["category"].to_pylist(), 1).tolist())


@sabotage("release", "block", REMADE + "|items|listed")
def withdrawn_items_may_be_shown(folder: Path, run: Run) -> None:
    """Items that are no longer for sale may be shown, by the table of items."""
    in_items(folder, is_listed=lambda table: [True] * table.num_rows)


@sabotage("release", "block", REMADE + "|items|refused|known|served")
def ids_of_items_shifted(folder: Path, run: Run) -> None:
    """Every item carries the id of the item before."""
    in_items(folder, item_id=lambda table: np.roll(table["item_id"].to_pylist(), 1).tolist())


def in_neighbours(folder: Path, spoil: Callable[[sparse.csr_matrix], sparse.csr_matrix]) -> None:
    with np.load(folder / "neighbours.npz") as parts:
        size = len(parts["indptr"]) - 1
        matrix = sparse.csr_matrix((parts["data"], parts["indices"], parts["indptr"]), (size, size))
    matrix = spoil(matrix).tocsr()
    np.savez(
        folder / "neighbours.npz", data=matrix.data, indices=matrix.indices.astype(np.int32), indptr=matrix.indptr.astype(np.int32)
    )


@sabotage("release", "block", REMADE + "|neighbour|similar")
def similar_items_shifted(folder: Path, run: Run) -> None:
    """Every item has the similar items of the item before."""
    in_neighbours(folder, lambda matrix: matrix[np.roll(np.arange(matrix.shape[0]), 1)])


@sabotage("release", "block", REMADE + "|neighbour|similar")
def similar_items_gone(folder: Path, run: Run) -> None:
    """No item has similar items."""
    in_neighbours(folder, lambda matrix: sparse.csr_matrix(matrix.shape, dtype=np.float32))


@sabotage("release", "block", REMADE + "|neighbour|similar")
def similar_items_upside_down(folder: Path, run: Run) -> None:
    """The least similar items count most."""

    def spoil(matrix: sparse.csr_matrix) -> sparse.csr_matrix:
        matrix.data = (matrix.data.max() + 0.01 - matrix.data).astype(np.float32)
        return matrix

    in_neighbours(folder, spoil)


def in_json(folder: Path, file: str, spoil: Callable[[dict[str, Any]], Any]) -> None:
    facts = json.loads((folder / file).read_text())
    facts |= spoil(facts) or {}
    (folder / file).write_text(json.dumps(facts, ensure_ascii=False, sort_keys=True))


@sabotage("release", "block", REMADE + "|fallback")
def fallback_upside_down(folder: Path, run: Run) -> None:
    """Strangers get the least popular of the popular items first."""
    in_json(folder, "fallback.json", lambda facts: {"all": facts["all"][::-1]})


@sabotage("release", "block", REMADE + "|fallback")
def fallback_of_other_segments(folder: Path, run: Run) -> None:
    """Strangers of one segment get what is popular in another."""
    in_json(
        folder,
        "fallback.json",
        lambda facts: {
            "segments": dict(zip(facts["segments"], [*list(facts["segments"].values())[1:], facts["all"][::-1]], strict=True))
        },
    )


@sabotage("release", "block", REMADE + "|fallback|served")
def fallback_empty(folder: Path, run: Run) -> None:
    """Strangers get nothing."""
    in_json(folder, "fallback.json", lambda facts: {"all": [], "segments": {}, "static": []})


@sabotage("release", "block", REMADE + "|as_of")
def another_as_of(folder: Path, run: Run) -> None:
    """The release says that it is of the day before."""
    in_json(folder, "release.json", lambda facts: {"as_of": (run.today - timedelta(1)).isoformat()})


@sabotage("release", "block", REMADE + "|as_of|trained|model_age")
def another_trained_as_of(folder: Path, run: Run) -> None:
    """The release says that its model learned up to another day."""
    in_json(folder, "release.json", lambda facts: {"trained_as_of": (run.today - timedelta(3)).isoformat()})


@sabotage("release", "block", REMADE + "|recommender|release_json|refused")
def another_recommender(folder: Path, run: Run) -> None:
    """The release names another recommender."""
    in_json(folder, "release.json", lambda facts: {"recommender": "popularity"})


@sabotage("release", "block", REMADE + "|release_json|refused")
def another_list_kind(folder: Path, run: Run) -> None:
    """The release says to serve lists of new items where those of all items were chosen, or the other way round."""
    in_json(folder, "release.json", lambda facts: {"exclude_seen": not facts["exclude_seen"]})


@sabotage("release", "block", REMADE + "|release_json|refused")
def another_target(folder: Path, run: Run) -> None:
    """The release names another target."""
    in_json(folder, "release.json", lambda facts: {"target": "subscribe"})


@sabotage("release", "block", REMADE + "|holdout|metric")
def better_metrics_than_measured(folder: Path, run: Run) -> None:
    """The metrics that the release keeps, which the next winner must beat, are twice too low."""
    table = pq.read_table(folder / "holdout.parquet")
    for place, name in enumerate(table.schema.names):
        if name not in ("list_kind", "user_id"):
            table = table.set_column(place, name, pa.array(table[name].to_numpy() / 2))
    pq.write_table(table, folder / "holdout.parquet")
