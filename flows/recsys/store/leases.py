"""Leases: one run of a flow at a time on one dataset, in one store. A second one would be refused anyway, once it had cost all."""

import json
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from recsys import RecsysError
from recsys.store.backends import Conflict
from recsys.store.processes import host, is_dead, own_name
from recsys.store.snapshots import Store

EXPIRES, BEAT = 300.0, 60.0  # seconds without a sign of life, after which another host may take over; and between two signs


@contextmanager
def lease(store: Store, flow: str) -> Iterator[None]:
    """Keeps other runs of a flow out for the length of a block. Raises if one is under way. One whose process is dead does not
    count; where that cannot be told, because it ran on another host, it counts until it has given no sign of life for a while."""
    name, owner = f"runs/{flow}.json", {"process": own_name(), "host": host(), "token": secrets.token_hex(4)}
    mine = json.dumps(owner | {"since": datetime.now(UTC).isoformat(timespec="seconds")}).encode()

    def take(known: bytes | None) -> bytes:
        if holder := _holder(store, name, known):
            raise RecsysError(
                f"another run of {flow} in {store.backend} is under way, process {holder['process']} on {holder['host']} since"
                f" {holder['since']}; wait for its end, or stop it. If it was killed on another machine, run again in"
                f" {EXPIRES / 60:.0f} minutes"
            )
        return mine

    try:
        store.update(name, take)
    except Conflict:
        raise RecsysError(f"another run of {flow} in {store.backend} started at the same time; wait for its end") from None
    ended = threading.Event()
    beats = threading.Thread(target=_beat, args=(store, name, ended), daemon=True)
    beats.start()
    try:
        yield
    finally:
        ended.set()
        beats.join()
        if store.note(name) == mine:
            store.backend.remove(name)


def _holder(store: Store, name: str, known: bytes | None) -> dict[str, Any] | None:
    """Who holds a lease; nobody if it is damaged or has run out."""
    try:
        holder = {key: str(json.loads(known or b"")[key]) for key in ("process", "host", "since")}
        is_over = is_dead(holder["process"]) if holder["host"] == host() else store.backend.usage(name).hours > EXPIRES / 3600
    except (ValueError, TypeError, LookupError):
        return None
    return None if is_over else holder


def _beat(store: Store, name: str, ended: threading.Event) -> None:
    while not ended.wait(BEAT):
        try:
            store.backend.renew(name)
        except Exception:  # the store is away: the run itself will tell
            continue
