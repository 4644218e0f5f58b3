"""Impressions: what was shown to whom, at which position, by which release. Kept in the store, so that a later run can hold it
against target events. Users are named by a keyed hash: a log tells nothing about a person without the store's salt."""

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
MOST = 100_000  # answers kept in memory while the store cannot be written to
Shown = tuple[datetime, str, Reader, str, Answer]
encode = json.JSONEncoder(ensure_ascii=False).encode
log = logging.getLogger("recsys.serving")


@dataclass(frozen=True)
class Impression:
    """One list that was shown: its items in the order of their positions, the first at 1."""

    at: datetime
    user: str
    release: str
    model: str
    source: str
    items: list[str]


class Impressions:
    """Gathers what was shown, and lays it into the store as one file at every `flush`. `dropped` counts the lists that found no
    room in memory and are lost."""

    def __init__(self, store: Store):
        self.store = store
        self.dropped = 0
        self._shown: list[Shown] = []
        self._buffer, self._flushing = threading.Lock(), threading.Lock()  # the first is never held while the store is asked
        self._writer, self._number = secrets.token_hex(4), 0

    def add(self, at: datetime, user_id: str, reader: Reader, model: str, answer: Answer) -> None:
        with self._buffer:
            if len(self._shown) < MOST:
                self._shown.append((at, user_id, reader, model, answer))
            else:
                self.dropped += 1

    def flush(self) -> None:
        """Writes what was gathered, a file for each day. What the store refuses is kept for the next time, if there is room."""
        with self._flushing:
            with self._buffer:
                shown, self._shown = self._shown, []
            for day in sorted({one[0].date() for one in shown}):
                part = [one for one in shown if one[0].date() == day]
                try:
                    self._write(day, part)
                except Exception as error:  # a full or read-only disk stops no answer
                    dropped = self._put_back(part)
                    log.error("%d impressions could not be written: %s; %d find no room in memory", len(part), error, dropped)

    def _put_back(self, shown: list[Shown]) -> int:
        """Keeps the oldest of what waits; returns how many lists find no room."""
        with self._buffer:
            waiting = shown + self._shown
            self._shown = waiting[:MOST]
            dropped = len(waiting) - len(self._shown)
            self.dropped += dropped
        return dropped

    def _write(self, day: date, shown: list[Shown]) -> None:
        key = salt(self.store)
        lines = "".join(f"{encode(_line(key, *one))}\n" for one in shown)
        self.store.backend.write(f"{FOLDER}/{day.isoformat()}/{self._writer}-{self._number:06}.jsonl", lines.encode())
        self._number += 1


def _line(key: bytes, at: datetime, user_id: str, reader: Reader, model: str, answer: Answer) -> list[Any]:
    return [at.isoformat(timespec="milliseconds"), hash_user(user_id, key), reader.id, model, answer.source, reader.ids(answer)]


def hash_user(user_id: str, salt: bytes) -> str:
    return hashlib.blake2b(user_id.encode(), key=salt, digest_size=8).hexdigest()


def salt(store: Store) -> bytes:
    """The store's own, made when it is first asked for; of two that make it at once, one."""
    name = f"{FOLDER}/salt"
    if not store.note(name):
        with suppress(Conflict):  # another made it just now
            store.update(name, lambda known: known or secrets.token_hex(16).encode())
    return store.note(name) or b""


def read(store: Store, day: date) -> Iterator[Impression]:
    """What was shown on a day, in no particular order."""
    for name in store.notes(f"{FOLDER}/{day.isoformat()}"):
        for line in (store.note(name) or b"").decode().splitlines():
            at, user, release, model, source, items = json.loads(line)
            yield Impression(datetime.fromisoformat(at), user, release, model, source, items)


def export(store: Store, day: date, target: Path) -> int:
    """Writes what was shown on a day to a Parquet file, a row for each item, `position` from 1; returns the number of rows."""
    shown = list(read(store, day))
    rows = [(one, place, item) for one in shown for place, item in enumerate(one.items, 1)]
    columns = {name: [getattr(one, name) for one, _, _ in rows] for name in ("at", "user", "release", "model", "source")}
    columns |= {"position": [place for _, place, _ in rows], "item_id": [item for _, _, item in rows]}
    pq.write_table(pa.table(columns), target)
    return len(rows)
