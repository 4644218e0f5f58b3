"""Exposures: what was shown to whom, at which position, by which release. Kept in the store, so that a later run can hold it
against what was bought. Users are named by a keyed hash: a log tells nothing about a person without the store's salt."""

import hashlib
import json
import logging
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime

from recsys.store import Store

FOLDER = "exposures"
MOST = 100_000  # answers kept in memory while the store cannot be written to
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
        self._lines: list[str] = []
        self._writer, self._number = secrets.token_hex(4), 0

    def add(self, at: datetime, user_id: str, release: str, source: str, items: Sequence[str]) -> None:
        if len(self._lines) >= MOST:
            self.dropped += 1
            return
        line = [at.isoformat(timespec="milliseconds"), hash_user(user_id, self.salt), release, source, list(items)]
        self._lines.append(json.dumps(line, ensure_ascii=False))

    def flush(self) -> None:
        """Writes what was gathered. If the store refuses, it is kept for the next time."""
        lines, self._lines = self._lines, []
        if not lines:
            return
        name = f"{FOLDER}/{datetime.now(UTC).date().isoformat()}/{self._writer}-{self._number:06}.jsonl"
        try:
            self.store.backend.write(name, ("\n".join(lines) + "\n").encode())
            self._number += 1
        except Exception as error:  # a full or read-only disk stops no answer
            log.error("%d exposures could not be written and are kept in memory: %s", len(lines), error)
            self._lines = (lines + self._lines)[:MOST]


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
