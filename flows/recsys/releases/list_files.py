"""Files of lists: a release's, and those of the holdout while they are scored. Both are written and read by this code alone."""

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from recsys import RecsysError
from recsys.recommenders import LIST_KINDS, Lists, Recommender
from recsys.releases.business_rules import RULES, BusinessRules

PAGE = 2**14  # bytes of SQLite's pages: lists that do not fit into a quarter of one take a page of their own
CHUNK = 20_000  # users read at a time: bounds the memory

RuleCounts = dict[str, dict[str, int]]  # per kind of list, what each rule kept out of lists
ListRow = tuple[str, bytes, bytes]  # a user with the packed lists of both kinds of list


def write_lists(file: Path, recommender: Recommender, rules: BusinessRules, user_ids: NDArray[np.str_]) -> RuleCounts:
    """Lists into a new file. Returns, per kind of list, how often each rule kept an item out or moved it behind."""
    counts = {list_kind: np.zeros(len(RULES), np.int64) for list_kind in LIST_KINDS}

    def rows() -> Iterator[ListRow]:
        for start, ruled in rules.rank(recommender, user_ids):
            lists = [part.lists for part in ruled.values()]
            yield from zip(user_ids[start : start + len(lists[0].items)].tolist(), *map(pack, lists), strict=True)
            for list_kind, part in ruled.items():
                counts[list_kind] += part.counts

    write_rows(file, rows())
    return {list_kind: dict(zip(RULES, found.tolist(), strict=True)) for list_kind, found in counts.items()}


def write_rows(file: Path, rows: Iterable[ListRow]) -> None:
    """Users with their packed lists, in the order of their ids, into a new file: the same rows make the same bytes."""
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("pragma journal_mode = off")
        connection.execute(f"pragma page_size = {PAGE}")
        connection.execute(
            "create table lists (user_id text primary key, all_items blob not null, new_items blob not null) without rowid"
        )
        connection.executemany("insert into lists values (?, ?, ?)", rows)


def read_rows(file: Path) -> Iterator[ListRow]:
    """What `write_rows` wrote."""
    with closing(connect(file)) as connection:
        yield from connection.execute("select user_id, all_items, new_items from lists order by user_id")


def connect(file: Path) -> sqlite3.Connection:
    """To read only, from any thread, a file that never changes."""
    return sqlite3.connect(f"file:{quote(str(file))}?mode=ro&immutable=1", uri=True, check_same_thread=False)


def read_lists(file: Path, list_kind: str, length: int, user: str = "") -> Iterator[tuple[NDArray[np.str_], Lists]]:
    """All users in the order of their ids, some at a time, with their lists of at most `length` items; or one user alone, if there
    is such a list."""
    if list_kind not in LIST_KINDS:
        raise RecsysError(f'kind of list "{list_kind}" is not known; choose one of {", ".join(LIST_KINDS)}')
    one = "where user_id = ?" if user else ""
    with closing(connect(file)) as connection:
        cursor = connection.execute(f"select user_id, {list_kind} from lists {one} order by user_id", (user,) if user else ())
        while rows := cursor.fetchmany(CHUNK):
            lists = Lists(np.full((len(rows), length), -1, np.int32), np.zeros((len(rows), length), np.float32))
            for row, (_, blob) in enumerate(rows):
                items, scores = unpack(blob)
                lists.items[row, : len(items)], lists.scores[row, : len(scores)] = items, scores
            yield np.array([user for user, _ in rows]), lists


def read_file(file: Path, list_kind: str, length: int) -> tuple[NDArray[np.str_], Lists]:
    """Every user and list at once."""
    users, lists = zip(*read_lists(file, list_kind, length), strict=True)
    return np.concatenate(users), Lists(
        np.concatenate([part.items for part in lists]), np.concatenate([part.scores for part in lists])
    )


def pack(lists: Lists) -> Iterator[bytes]:
    """A list as one blob: its int32 item rows, then as many float32 scores, little-endian."""
    for items, scores in zip(lists.items, lists.scores, strict=True):
        length = int((items >= 0).sum())
        yield items[:length].astype("<i4").tobytes() + scores[:length].astype("<f4").tobytes()


def unpack(blob: bytes) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Items and scores of a packed list."""
    values = np.frombuffer(blob, "<i4")
    return values[: len(values) // 2], values[len(values) // 2 :].view("<f4")
