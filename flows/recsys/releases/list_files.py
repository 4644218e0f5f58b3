"""Writes and reads files of lists: those of releases, and temporary ones on the holdout."""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from recsys import RecsysError
from recsys.recommenders import LIST_KINDS, Lists, Recommender
from recsys.releases.business_rules import RULES, BusinessRules

PAGE = 2**14  # bytes of a SQLite page; a row that is larger than a quarter of a page needs pages of its own
CHUNK = 20_000  # users that are read at a time, which limits memory

RuleCounts = dict[str, dict[str, int]]  # number of items that each rule removed, by kind of list
ListRow = tuple[str, bytes, bytes]  # user id, packed all_items list, packed new_items list


def write_lists(file: Path, recommender: Recommender, rules: BusinessRules, user_ids: NDArray[np.str_]) -> RuleCounts:
    """Writes lists to a new file. Returns how many items each rule removed or moved down, by kind of list."""
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
    """Writes rows, sorted by user id, to a new file. Equal rows give equal bytes."""
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("pragma journal_mode = off")
        connection.execute(f"pragma page_size = {PAGE}")
        connection.execute(
            "create table lists (user_id text primary key, all_items blob not null, new_items blob not null) without rowid"
        )
        connection.executemany("insert into lists values (?, ?, ?)", rows)


def read_rows(file: Path) -> Iterator[ListRow]:
    """Reads the rows of a file in the order of user ids."""
    with closing(connect(file)) as connection:
        yield from connection.execute("select user_id, all_items, new_items from lists order by user_id")


def connect(file: Path) -> sqlite3.Connection:
    """Opens a file that never changes, read-only and for use by any thread."""
    return sqlite3.connect(f"file:{quote(str(file))}?mode=ro&immutable=1", uri=True, check_same_thread=False)


def read_lists(file: Path, list_kind: str, length: int, user: str = "") -> Iterator[tuple[NDArray[np.str_], Lists]]:
    """Yields chunks of users, in the order of their ids, with their lists of at most `length` items. user: read only this user."""
    if list_kind not in LIST_KINDS:
        raise RecsysError(f'kind of list "{list_kind}" is unknown; choose one of {", ".join(LIST_KINDS)}')
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
    """All users and lists of a file at once, as in `read_lists`."""
    users, lists = zip(*read_lists(file, list_kind, length), strict=True)
    return np.concatenate(users), concatenate(lists)


def concatenate(parts: Sequence[Lists]) -> Lists:
    """Lists of several groups of users as one."""
    return Lists(np.concatenate([part.items for part in parts]), np.concatenate([part.scores for part in parts]))


def pack(lists: Lists) -> Iterator[bytes]:
    """Packs each list into bytes: its items as int32, then its scores as float32, both little-endian."""
    for items, scores in zip(lists.items, lists.scores, strict=True):
        length = int((items >= 0).sum())
        yield items[:length].astype("<i4").tobytes() + scores[:length].astype("<f4").tobytes()


def unpack(blob: bytes) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """The items and scores of a packed list."""
    values = np.frombuffer(blob, "<i4")
    return values[: len(values) // 2], values[len(values) // 2 :].view("<f4")
