"""Impressions: which items were shown to which user, at which position, by which release. They are written to the store,
where `make exposures` reads them. Users are named by a keyed hash, which only the store's salt links to a person."""

import hashlib
import json
import logging
import secrets
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from recsys.releases import Answer, Reader
from recsys.store import Conflict, Store

FOLDER = "impressions"
MAX_WAITING = 100_000  # answers that are kept in memory while the store cannot be written to
Shown = tuple[datetime, str, Reader, str, Answer]
encode = json.JSONEncoder(ensure_ascii=False).encode
log = logging.getLogger("recsys.serving")


@dataclass(frozen=True)
class Impression:
    """A list that was shown. at: the time. items: ids in the order of their positions, which start at 1."""

    at: datetime
    user: str
    release: str
    model: str
    source: str
    items: list[str]


class Impressions:
    """Collects shown lists in memory and writes them to the store at every `flush`. dropped: number of lists that were lost because
    the memory was full."""

    def __init__(self, store: Store):
        self.store = store
        self.dropped = 0
        self._shown: list[Shown] = []
        self._buffer, self._flushing = threading.Lock(), threading.Lock()  # _buffer is never held during access to the store
        self._writer, self._number = secrets.token_hex(4), 0

    def add(self, at: datetime, user_id: str, reader: Reader, model: str, answer: Answer) -> None:
        with self._buffer:
            if len(self._shown) < MAX_WAITING:
                self._shown.append((at, user_id, reader, model, answer))
            else:
                self.dropped += 1

    def flush(self) -> None:
        """Writes the collected lists, one file for each day. If a write fails, they are kept for the next time, up to
        MAX_WAITING."""
        with self._flushing:
            with self._buffer:
                shown, self._shown = self._shown, []
            for day in sorted({at.date() for at, *_ in shown}):
                part = [entry for entry in shown if entry[0].date() == day]
                try:
                    self._write(day, part)
                except Exception as error:  # answers must go on with a full or read-only disk
                    dropped = self._put_back(part)
                    log.error("%d impressions could not be written: %s; %d are lost", len(part), error, dropped)

    def _put_back(self, shown: list[Shown]) -> int:
        """Keeps the oldest MAX_WAITING lists; returns how many are dropped."""
        with self._buffer:
            waiting = shown + self._shown
            self._shown = waiting[:MAX_WAITING]
            dropped = len(waiting) - len(self._shown)
            self.dropped += dropped
        return dropped

    def _write(self, day: date, shown: list[Shown]) -> None:
        key = salt(self.store)
        lines = "".join(f"{encode(_line(key, *entry))}\n" for entry in shown)
        self.store.backend.write(f"{FOLDER}/{day.isoformat()}/{self._writer}-{self._number:06}.jsonl", lines.encode())
        self._number += 1


def _line(key: bytes, at: datetime, user_id: str, reader: Reader, model: str, answer: Answer) -> list[Any]:
    return [at.isoformat(timespec="milliseconds"), hash_user(user_id, key), reader.id, model, answer.source, reader.ids(answer)]


def hash_user(user_id: str, salt: bytes) -> str:
    return hashlib.blake2b(user_id.encode(), key=salt, digest_size=8).hexdigest()


def salt(store: Store) -> bytes:
    """The key that user ids of a store are hashed with. It is made at the first call; simultaneous callers get the same one."""
    name = f"{FOLDER}/salt"
    if not store.note(name):
        with suppress(Conflict):  # another process has just made it
            store.update(name, lambda known: known or secrets.token_hex(16).encode())
    return store.note(name) or b""


def read(store: Store, day: date) -> Iterator[Impression]:
    """The impressions of a day, in no particular order."""
    for name in store.notes(f"{FOLDER}/{day.isoformat()}"):
        for line in (store.note(name) or b"").decode().splitlines():
            at, user, release, model, source, items = json.loads(line)
            yield Impression(datetime.fromisoformat(at), user, release, model, source, items)


def export(store: Store, day: date, target: Path) -> int:
    """Writes the impressions of a day to a Parquet file, one row per item with its position from 1; returns the number of rows."""
    rows = [(shown, position, item) for shown in read(store, day) for position, item in enumerate(shown.items, 1)]
    columns = {name: [getattr(shown, name) for shown, _, _ in rows] for name in ("at", "user", "release", "model", "source")}
    columns |= {"position": [position for _, position, _ in rows], "item_id": [item for _, _, item in rows]}
    pq.write_table(pa.table(columns), target)
    return len(rows)
