"""Releases: what is served. Written whole, and not served before it is published."""

import json
import secrets
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
from numpy.typing import NDArray

from recsys import RecsysError
from recsys.config import Settings
from recsys.evaluation import PROTOCOLS, Window
from recsys.ranking import position
from recsys.recommenders import Lists, Recommender
from recsys.recommenders.base import FILL_DAYS, popularity_order
from recsys.recommenders.item_to_item import ItemToItem
from recsys.state import State
from recsys.store import Snapshot

HISTORY = 20  # items of a user's past that a release keeps
CHUNK = 20_000  # users read at a time: bounds the memory


def new_id(state: State) -> str:
    """A release's name: its day, and letters of its own."""
    return f"{state.cutoff:%Y%m%d}-{secrets.token_hex(4)}"


def write(folder: Path, recommender: Recommender, state: State, holdout: Mapping[str, Window], settings: Settings) -> None:
    """Fills a release's folder. `holdout`: the winner's window per protocol."""
    with closing(sqlite3.connect(folder / "lists.sqlite")) as connection, connection:
        connection.execute("pragma journal_mode = off")
        connection.execute("create table lists (user_id text primary key, allow blob not null, novel blob not null) without rowid")
        for start, lists in recommender.rank(state.user_ids, settings.lists.length, state, tuple(PROTOCOLS.values())):
            users = state.user_ids[start : start + len(lists[0].items)].tolist()
            connection.executemany("insert into lists values (?, ?, ?)", zip(users, *map(_pack, lists), strict=True))
        connection.execute("create table users (user_id text primary key, segment text, bought blob not null) without rowid")
        connection.executemany("insert into users values (?, ?, ?)", _users(state))
    pq.write_table(_items(state), folder / "items.parquet")
    (folder / "fallback.json").write_text(json.dumps(_fallback(state, settings), ensure_ascii=False, sort_keys=True))
    similar = ItemToItem(neighbours=settings.lists.length).fit(state).similarity_
    np.savez(folder / "neighbours.npz", data=similar.data, indices=similar.indices, indptr=similar.indptr)
    pq.write_table(_holdout(holdout), folder / "holdout.parquet")
    facts = {
        "as_of": state.cutoff.isoformat(),
        "horizon_days": settings.dataset.horizon_days,
        "recommender": recommender.name,
        "repeat": settings.lists.repeat,
        "length": settings.lists.length,
    }
    (folder / "release.json").write_text(json.dumps(facts, sort_keys=True))


def _pack(lists: Lists) -> Iterator[bytes]:
    """A list as one blob: its int32 item rows, then as many float32 scores, little-endian."""
    for items, scores in zip(lists.items, lists.scores, strict=True):
        length = int((items >= 0).sum())
        yield items[:length].astype("<i4").tobytes() + scores[:length].astype("<f4").tobytes()


def _users(state: State) -> Iterator[tuple[str, str, bytes]]:
    """Of each user the items bought last, the newest first, and how many days ago: what a page shows beside a list."""
    rows, items, days = (state.history[name] for name in ("user_index", "item_index", "days"))
    order = np.lexsort((items, days, rows))
    first = order[np.sort(np.unique(rows[order].astype(np.int64) << 32 | items[order], return_index=True)[1])]
    place = position(rows[first])
    bought = Lists(np.full((state.shape[0], HISTORY), -1, np.int32), np.zeros((state.shape[0], HISTORY), np.float32))
    kept, at = first[place < HISTORY], place[place < HISTORY]
    bought.items[rows[kept], at], bought.scores[rows[kept], at] = items[kept], days[kept]
    yield from zip(state.user_ids.tolist(), state.users["segment"].tolist(), _pack(bought), strict=True)


def _items(state: State) -> pa.Table:
    return pa.table(
        {
            "item_id": state.item_ids,
            "title": state.items["title"],
            "category": state.items["category"],
            "is_available": state.items["is_available"],
        }
    )


def _fallback(state: State, settings: Settings) -> dict[str, Any]:
    """What strangers get: the recently popular items of their segment, and of everybody."""
    order = popularity_order(state)
    recent = state.history["days"] <= FILL_DAYS
    items, users = state.history["item_index"][recent], state.history["user_index"][recent]
    lists = {}
    for segment in np.unique(state.users["segment"]):
        counts = np.bincount(items[state.users["segment"][users] == segment], minlength=state.shape[1])
        best = order[np.argsort(-counts[order], kind="stable")]
        lists[str(segment)] = state.item_ids[best[: settings.lists.length]].tolist()
    return {"all": state.item_ids[order[: settings.lists.length]].tolist(), "segments": lists}


def _holdout(windows: Mapping[str, Window]) -> pa.Table:
    parts = [
        pa.table({"protocol": [protocol] * len(window.users), "user_id": window.users, **window.scores})
        for protocol, window in windows.items()
    ]
    return pa.concat_tables(parts)


def about(release: Snapshot) -> dict[str, Any]:
    """as_of, horizon_days, recommender, repeat and length."""
    return json.loads((release.path / "release.json").read_text())


def as_of(release: Snapshot) -> date:
    return date.fromisoformat(about(release)["as_of"])


def read_lists(release: Snapshot, protocol: str) -> Iterator[tuple[NDArray[np.str_], Lists]]:
    """All users in the order of their ids, some at a time, with their lists."""
    if protocol not in PROTOCOLS:
        raise RecsysError(f'protocol "{protocol}" is not known; choose one of {", ".join(PROTOCOLS)}')
    length = about(release)["length"]
    with closing(sqlite3.connect(f"file:{release.path / 'lists.sqlite'}?mode=ro&immutable=1", uri=True)) as connection:
        cursor = connection.execute(f"select user_id, {protocol} from lists order by user_id")
        while rows := cursor.fetchmany(CHUNK):
            lists = Lists(np.full((len(rows), length), -1, np.int32), np.zeros((len(rows), length), np.float32))
            for row, (_, blob) in enumerate(rows):
                half = len(blob) // 2
                lists.items[row, : half // 4] = np.frombuffer(blob[:half], "<i4")
                lists.scores[row, : half // 4] = np.frombuffer(blob[half:], "<f4")
            yield np.array([user for user, _ in rows]), lists


def read_all(release: Snapshot, protocol: str) -> tuple[NDArray[np.str_], Lists]:
    """Every user and list at once."""
    users, lists = zip(*read_lists(release, protocol), strict=True)
    return np.concatenate(users), Lists(
        np.concatenate([part.items for part in lists]), np.concatenate([part.scores for part in lists])
    )


def export(release: Snapshot, protocol: str, target: Path) -> int:
    """Writes user_id, item_id, rank (from 1) and score to a .parquet or .csv file; returns the number of rows."""
    if target.suffix not in (".parquet", ".csv"):
        raise RecsysError(f'TO "{target}" ends in "{target.suffix}"; pass a .parquet or .csv file')
    schema = pa.schema([("user_id", pa.string()), ("item_id", pa.string()), ("rank", pa.int32()), ("score", pa.float32())])
    item_ids = pq.read_table(release.path / "items.parquet", columns=["item_id"])["item_id"].to_numpy(zero_copy_only=False)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.partial")
    writer = pq.ParquetWriter(partial, schema) if target.suffix == ".parquet" else pyarrow.csv.CSVWriter(partial, schema)
    count = 0
    with writer:
        for users, lists in read_lists(release, protocol):
            rows, ranks = np.nonzero(lists.items >= 0)
            columns = [users[rows], item_ids[lists.items[rows, ranks]], (ranks + 1).astype(np.int32), lists.scores[rows, ranks]]
            writer.write_table(
                pa.table([pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)], schema)
            )
            count += len(rows)
    partial.replace(target)
    return count
