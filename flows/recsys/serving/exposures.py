"""Exposures: what was shown to whom, at which position, by which release. Kept in the store, so that a later run can hold it
against what was bought. Users are named by a keyed hash: a log tells nothing about a person without the store's salt."""

import hashlib
import json
import logging
import secrets
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from recsys.serving.reader import Answer, Reader
from recsys.store import Store

FOLDER = "exposures"
MOST = 100_000  # answers kept in memory while the store cannot be written to
encode = json.JSONEncoder(ensure_ascii=False).encode
log = logging.getLogger("recsys.serving")


@dataclass(frozen=True)
class Exposure:
    """One list that was shown: its items in the order of their positions, the first at 1."""

    at: datetime
    user: str
    release: str
    source: str
    items: list[str]


class Exposures:
    """Gathers what was shown, and lays it into the store as one file at every `flush`."""

    def __init__(self, store: Store):
        self.store, self.salt = store, salt(store)
        self.dropped = 0
        self._shown: list[tuple[datetime, str, Reader, Answer]] = []
        self._lock = threading.Lock()
        self._writer, self._number = secrets.token_hex(4), 0

    def add(self, at: datetime, user_id: str, reader: Reader, answer: Answer) -> None:
        if len(self._shown) < MOST:
            self._shown.append((at, user_id, reader, answer))
        else:
            self.dropped += 1

    def flush(self) -> None:
        """Writes what was gathered. If the store refuses, it is kept for the next time."""
        with self._lock:
            self._write()

    def _write(self) -> None:
        shown, self._shown = self._shown, []
        if not shown:
            return
        name = f"{FOLDER}/{shown[0][0].date().isoformat()}/{self._writer}-{self._number:06}.jsonl"
        try:
            self.store.backend.write(name, "".join(f"{encode(self._line(*one))}\n" for one in shown).encode())
            self._number += 1
        except Exception as error:  # a full or read-only disk stops no answer
            log.error("%d exposures could not be written and are kept in memory: %s", len(shown), error)
            self._shown = (shown + self._shown)[:MOST]

    def _line(self, at: datetime, user_id: str, reader: Reader, answer: Answer) -> list[Any]:
        items = [reader.item_ids[item] for item in answer.items]
        return [at.isoformat(timespec="milliseconds"), hash_user(user_id, self.salt), reader.id, answer.source, items]


def hash_user(user_id: str, salt: bytes) -> str:
    return hashlib.blake2b(user_id.encode(), key=salt, digest_size=8).hexdigest()


def salt(store: Store) -> bytes:
    """The store's own, made when it is first asked for."""
    if (known := store.backend.read(f"{FOLDER}/salt")) is None:
        store.backend.write(f"{FOLDER}/salt", secrets.token_hex(16).encode())
        known = store.backend.read(f"{FOLDER}/salt")
    return known or b""


def read(store: Store, day: date) -> Iterator[Exposure]:
    """What was shown on a day, in no particular order."""
    folder = f"{FOLDER}/{day.isoformat()}"
    for name in store.backend.files(folder):
        for line in (store.backend.read(f"{folder}/{name}") or b"").decode().splitlines():
            at, user, release, source, items = json.loads(line)
            yield Exposure(datetime.fromisoformat(at), user, release, source, items)
