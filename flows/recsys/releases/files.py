"""Writes the files of a release, and reads them. A release is written completely before it can be published."""

import json
import secrets
import shutil
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from datetime import date
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
from numpy.typing import NDArray

from recsys.features import State, formulas, places
from recsys.recommenders import (
    FILL_DAYS,
    LIST_KINDS,
    ItemToItem,
    Lists,
    Recommender,
    popularity_order,
    position,
    rank_by_truth,
)
from recsys.releases import list_files
from recsys.releases.business_rules import BusinessRules
from recsys.releases.list_files import RuleCounts, pack
from recsys.releases.session_index import SIMILARITIES, SIMPLEST, SessionAnswers, similar_items
from recsys.settings import Settings
from recsys.sources import open_simulation
from recsys.store import Snapshot

SESSIONS = "session_neighbours.npz"  # similar items that answer sessions; none where those of neighbours.npz do
HISTORY = 20  # most recent items of each user that a release contains
RECENT_DAYS = 91  # days in which the activity of example users is counted
SEGMENTS = 4  # the largest segments, each of which gets an example user


def new_id(state: State) -> str:
    """A new id of a release: its day and random letters."""
    return f"{state.cutoff:%Y%m%d}-{secrets.token_hex(4)}"


def write(
    folder: Path,
    recommender: Recommender,
    alternatives: Mapping[str, Recommender],
    state: State,
    holdout: pa.Table,
    settings: Settings,
    trained_as_of: date | None = None,
    sessions: SessionAnswers = SIMPLEST,
) -> None:
    """Writes all files of a release to a folder. alternatives: other recommenders whose lists are released too. holdout: scores of
    each user on the holdout, see `holdout_table`. trained_as_of: cutoff of the model, if it is older than the state. sessions: how
    live sessions are answered."""
    rules = BusinessRules(state, settings)
    counts = write_ranked(folder, recommender, alternatives, rules, state.user_ids)
    pq.write_table(holdout, folder / "holdout.parquet")
    write_others(folder, recommender.name, counts, rules, settings, trained_as_of or state.cutoff, sessions)


def write_others(
    folder: Path,
    recommender: str,
    counts: RuleCounts,
    rules: BusinessRules,
    settings: Settings,
    trained_as_of: date,
    sessions: SessionAnswers = SIMPLEST,
) -> None:
    """Writes all files of a release except its lists, which must exist already, and holdout.parquet."""
    state = rules.state
    _write_users(lists_file(folder), state)
    pq.write_table(_items(rules), folder / "items.parquet")
    (folder / "fallback.json").write_text(json.dumps(_fallback(rules, settings), ensure_ascii=False, sort_keys=True))
    (folder / "examples.json").write_text(json.dumps(_examples(rules, settings), ensure_ascii=False, sort_keys=True))
    _write_similar(folder / "neighbours.npz", ItemToItem(neighbours=settings.lists.length), state)
    if sessions.similarity != SIMILARITIES[0]:
        _write_similar(folder / SESSIONS, similar_items(sessions.similarity, settings), state)
    facts = {
        "as_of": state.cutoff.isoformat(),
        "trained_as_of": trained_as_of.isoformat(),
        "horizon_days": settings.dataset.horizon_days,
        "recommender": recommender,
        "target": settings.dataset.target,
        "exclude_seen": settings.dataset.exclude_seen,
        "length": settings.lists.length,
        "session_similarity": sessions.similarity,
        "session_repeats": sessions.repeats,
        "rules": counts,
    }
    (folder / "release.json").write_text(json.dumps(facts, sort_keys=True))


def _write_similar(file: Path, recommender: ItemToItem, state: State) -> None:
    similar = recommender.learn(state).similarity_
    np.savez(file, data=similar.data, indices=similar.indices, indptr=similar.indptr)


def write_ranked(
    folder: Path, recommender: Recommender, alternatives: Mapping[str, Recommender], rules: BusinessRules, users: NDArray[np.str_]
) -> RuleCounts:
    """Writes the lists of some users by the winner and the alternatives. Returns the counts of rules for the winner's lists."""
    counts = list_files.write_lists(lists_file(folder), recommender, rules, users)
    for name, other in alternatives.items():
        lists_file(folder, name).parent.mkdir(exist_ok=True)
        if name == recommender.name:
            shutil.copyfile(lists_file(folder), lists_file(folder, name))
        else:
            list_files.write_lists(lists_file(folder, name), other, rules, users)
    return counts


def lists_file(folder: Path, alternative: str = "") -> Path:
    """The file of the winner's lists in a release's folder, or of an alternative recommender's lists."""
    return folder / "alternatives" / f"{alternative}.sqlite" if alternative else folder / "lists.sqlite"


def _write_users(file: Path, state: State) -> None:
    """Adds the table of users to the file of the winner's lists."""
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("pragma journal_mode = off")
        connection.execute("create table users (user_id text primary key, segment text, bought blob not null) without rowid")
        connection.executemany("insert into users values (?, ?, ?)", _users(state))


def _users(state: State) -> Iterator[tuple[str, str, bytes]]:
    """For each user: id, segment, and the packed items of the last target events with how many days ago they were, newest first."""
    rows, items, days = (state.history[name] for name in ("user_index", "item_index", "days"))
    order = np.lexsort((items, days, rows))
    first = order[np.sort(np.unique(rows[order].astype(np.int64) << 32 | items[order], return_index=True)[1])]
    place = position(rows[first])
    bought = Lists(np.full((state.shape[0], HISTORY), -1, np.int32), np.zeros((state.shape[0], HISTORY), np.float32))
    last, column = first[place < HISTORY], place[place < HISTORY]
    bought.items[rows[last], column], bought.scores[rows[last], column] = items[last], days[last]
    yield from zip(state.user_ids.tolist(), state.users["segment"].tolist(), pack(bought), strict=True)


def _items(rules: BusinessRules) -> pa.Table:
    """The table of items.parquet. price: see `prices`. is_listed: available, and not hidden by a rule. popularity_rank: place in
    `popularity_order`, from 0; null for items that are not available."""
    state = rules.state
    return pa.table(
        {
            "item_id": state.item_ids,
            "title": state.items["title"],
            "category": state.items["category"],
            "price": pa.array(prices(state), from_pandas=True),
            "is_available": state.items["is_available"],
            "is_listed": rules.listed,
            "popularity_rank": popularity_ranks(state),
        }
    )


def popularity_ranks(state: State) -> pa.Array:
    order = popularity_order(state)
    ranks = np.full(state.shape[1], -1, np.int32)
    ranks[order] = np.arange(len(order))
    return pa.array(ranks, mask=ranks < 0)


def prices(state: State) -> NDArray[np.float64]:
    """Mean price of each item's target events in the last 28 days, or of all days if there are none; NaN without target events."""
    mean, change = (state.items[name].astype(np.float64) for name in ("mean_price", "price_change"))
    return np.round(mean * np.where(np.isnan(change), 1.0, change), 2)


def _examples(rules: BusinessRules, settings: Settings) -> dict[str, Any]:
    """Example users of a release. For a simulated source, with the oracle's lists by kind of list."""
    state = rules.state
    rows = example_users(state)
    users: list[dict[str, Any]] = [
        {"user_id": str(state.user_ids[row]), "segment": str(state.users["segment"][row]), "why": why, "oracle": {}}
        for row, why in rows.items()
    ]
    if users and (source := open_simulation(settings.dataset)):
        rank = rank_by_truth(source, state, rules.listed, settings)
        for list_kind, is_new_items in LIST_KINDS.items():
            for user, items in zip(users, rank(np.array(list(rows)), is_new_items), strict=True):
                user["oracle"][list_kind] = state.item_ids[items[items >= 0]].tolist()
    return {"users": users}


def example_users(state: State) -> dict[int, str]:
    """Rows of different users with a target event, each with the reason: the most active user of the last weeks, a typical user, a
    newcomer, and the most active user of each of the largest segments."""
    users, days = state.history["user_index"], state.history["days"]
    recent = np.bincount(users[days <= RECENT_DAYS], minlength=state.shape[0])
    first = np.zeros(state.shape[0])
    np.maximum.at(first, users, days)
    known = np.unique(users)
    if not len(known):
        return {}
    ranked = known[np.argsort(-recent[known], kind="stable")]
    examples = {int(ranked[0]): "active"}
    examples.setdefault(int(ranked[(recent > 0).sum() // 2]), "typical")
    examples.setdefault(int(known[first[known].argmin()]), "newcomer")
    segment_of = state.users["segment"][ranked]
    segments, counts = np.unique(segment_of, return_counts=True)
    for segment in segments[np.argsort(-counts, kind="stable")][:SEGMENTS] if len(segments) > 1 else ():
        others = (row for row in ranked[segment_of == segment].tolist() if row not in examples)
        examples |= dict.fromkeys(islice(others, 1), "segment")
    return examples


def _fallback(rules: BusinessRules, settings: Settings) -> dict[str, Any]:
    """The fallback lists, for users without a list of their own: recently popular items by segment and of all users, and the static
    list of config.toml."""
    state = rules.state
    order = popularity_order(state)
    recent = state.history["days"] <= FILL_DAYS
    items, users = state.history["item_index"][recent], state.history["user_index"][recent]
    lists = {}
    for segment in np.unique(state.users["segment"]):
        counts = np.bincount(items[state.users["segment"][users] == segment], minlength=state.shape[1])
        best = order[np.argsort(-counts[order], kind="stable")]
        lists[str(segment)] = rules.shorten(best)
    static = places(state.item_ids, np.array(settings.rules.static, str))
    static = static[static >= 0]
    return {"all": rules.shorten(order), "segments": lists, "static": state.item_ids[static[rules.listed[static]]].tolist()}


def about(release: Snapshot) -> dict[str, Any]:
    """The content of release.json: as_of, trained_as_of, horizon_days, recommender, target, exclude_seen, length, how sessions are
    answered, and what the rules removed from the lists."""
    facts = json.loads((release.path / "release.json").read_text())
    defaults = {"target": "purchase", "exclude_seen": facts.get("repeat") == "new_items"}  # for older releases that lack these
    return defaults | facts


def served(about: Mapping[str, Any]) -> str:
    """The kind of list that is served by default."""
    return "new_items" if about["exclude_seen"] else "all_items"


def as_of(release: Snapshot) -> date:
    """The cutoff of a release's lists."""
    return date.fromisoformat(about(release)["as_of"])


def trained_as_of(release: Snapshot) -> date:
    """The cutoff that a release's model was trained at; the lists may be newer."""
    facts = about(release)
    return date.fromisoformat(facts.get("trained_as_of", facts["as_of"]))


def session_answers(release: Snapshot, settings: Settings) -> SessionAnswers:
    """How a release answers live sessions, but for the setting `lists.session_repeats`. Older releases do not say by what."""
    facts, own = about(release), settings.lists.session_repeats
    older = "session_items" if (release.path / SESSIONS).exists() else SIMILARITIES[0]
    return SessionAnswers(facts.get("session_similarity", older), facts.get("session_repeats", 0) if own is None else own)


def read_lists(
    release: Snapshot, list_kind: str, alternative: str = "", user: str = ""
) -> Iterator[tuple[NDArray[np.str_], Lists]]:
    """Yields chunks of users, in the order of their ids, with their lists. alternative: name of another recommender whose lists are
    in the release. user: read only this user's list; nothing is yielded if there is none."""
    return list_files.read_lists(lists_file(release.path, alternative), list_kind, about(release)["length"], user)


def read_all(release: Snapshot, list_kind: str, alternative: str = "") -> tuple[NDArray[np.str_], Lists]:
    """All users and lists of one kind at once, as in `read_lists`."""
    return list_files.read_file(lists_file(release.path, alternative), list_kind, about(release)["length"])


def read_lists_for(state: State, release: Snapshot, list_kind: str) -> tuple[NDArray[np.str_], NDArray[np.int32]]:
    """User ids and lists of a release, with items as rows of a state: -1 for no item, or one that the state does not have."""
    users, lists = read_all(release, list_kind)
    rows = np.append(places(state.item_ids, *read_items(release, "item_id")), -1).astype(np.int32)
    return users, rows[lists.items]


def read_items(release: Snapshot, *columns: str) -> list[NDArray]:
    """Columns of a release's items.parquet, in the order of the rows that lists hold."""
    table = pq.read_table(release.path / "items.parquet", columns=list(columns))
    arrays = [table[name].to_numpy(zero_copy_only=False) for name in columns]
    return [array.astype(str) if array.dtype == object else array for array in arrays]


def export(release: Snapshot, list_kind: str, target: Path, is_escaped: bool = False) -> int:
    """Writes user_id, item_id, rank (from 1) and score to a .parquet or .csv file; returns the number of rows. is_escaped: in a
    .csv file, put an apostrophe before ids that a spreadsheet would take for a formula."""
    schema = pa.schema([("user_id", pa.string()), ("item_id", pa.string()), ("rank", pa.int32()), ("score", pa.float32())])
    (item_ids,) = read_items(release, "item_id")
    writer = pq.ParquetWriter(target, schema) if target.suffix == ".parquet" else pyarrow.csv.CSVWriter(target, schema)
    count = 0
    with writer:
        for users, lists in read_lists(release, list_kind):
            rows, ranks = np.nonzero(lists.items >= 0)
            columns = [users[rows], item_ids[lists.items[rows, ranks]], (ranks + 1).astype(np.int32), lists.scores[rows, ranks]]
            arrays = [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)]
            if is_escaped and target.suffix == ".csv":
                arrays[:2] = map(formulas.escape, arrays[:2])
            writer.write_table(pa.table(arrays, schema))
            count += len(rows)
    return count
