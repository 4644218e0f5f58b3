"""Leases: allow one run of a flow at a time on one dataset of a store, since a second one could not publish in the end."""

import json
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import Any

from recsys import RecsysError
from recsys.store.backends import Conflict
from recsys.store.processes import host, is_dead, own_name
from recsys.store.snapshots import Store

EXPIRES = 300.0  # seconds without a heartbeat after which another host may take the lease
BEAT = 60.0  # seconds between heartbeats


@contextmanager
def lease(store: Store, flow: str) -> Iterator[None]:
    """Holds the lease of a flow during a block, and renews it. Raises RecsysError if another run holds it.

    A run whose process is dead does not hold its lease. A run on another host holds it until it has sent no heartbeat for EXPIRES
    seconds.
    """
    name, owner = f"runs/{flow}.json", {"process": own_name(), "host": host(), "token": secrets.token_hex(4)}
    mine = json.dumps(owner | {"since": datetime.now(UTC).isoformat(timespec="seconds")}).encode()

    def take(present: bytes | None) -> bytes:
        if holder := _holder(store, name, present):
            process, machine = holder["process"].partition(".")[0], holder["host"].rsplit("-", 2)[0]
            raise RecsysError(
                f"another run of {flow} in {store.backend} is under way, process {process} on {machine} since"
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


def _holder(store: Store, name: str, data: bytes | None) -> dict[str, Any] | None:
    """The holder of a lease; None if the lease is damaged or has expired."""
    try:
        holder = {key: str(json.loads(data or b"")[key]) for key in ("process", "host", "since")}
        has_expired = is_dead(holder["process"]) if holder["host"] == host() else store.backend.usage(name).hours > EXPIRES / 3600
    except (ValueError, TypeError, LookupError):
        return None
    return None if has_expired else holder


def _beat(store: Store, name: str, ended: threading.Event) -> None:
    while not ended.wait(BEAT):
        with suppress(Exception):  # the run itself reports errors of the store
            store.backend.renew(name)
