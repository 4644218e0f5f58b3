"""Retention: finds the snapshots that nothing refers to, and deletes them."""

import math
from collections.abc import Iterable

from recsys import RecsysError
from recsys.publishing.lifecycle import roles
from recsys.store import KINDS, Canary, Conflict, Manifest, Store

SnapshotName = tuple[str, str]  # a snapshot's kind and id


def unneeded(store: Store, keep: int, grace_hours: float) -> dict[SnapshotName, int]:
    """Snapshots, and folders without a manifest, that may be deleted, with their bytes.

    Kept are the newest `keep` releases, those that are live, previous, canary or pinned, everything younger than `grace_hours`,
    which a running flow may still use, and all parents of these. Returns nothing if a manifest cannot be read, because its parents
    are unknown.
    """
    if keep < 1:
        raise RecsysError(f"KEEP {keep} is too small; pass how many of the newest releases to keep, at least 1")
    folders = {(kind, id): store.usage(kind, id, "") for kind in KINDS for id in store.backend.children(KINDS[kind])}
    manifests = {(kind, id): manifest for kind, id in folders if (manifest := store.readable(kind, id))}
    if any(store.usage(*name).written > -math.inf for name in folders.keys() - manifests.keys()):
        return {}
    young = {name for name, usage in folders.items() if usage.hours < grace_hours}
    kept = {("release", id) for id in (*store.newest("release")[:keep], *roles(store))}
    needed = with_parents(young | kept, manifests)
    return {name: usage.bytes for name, usage in folders.items() if name not in needed}


def with_parents(names: Iterable[SnapshotName], manifests: dict[SnapshotName, Manifest]) -> set[SnapshotName]:
    """Snapshots and all their ancestors, back to the raw data."""
    found, wanted = set(), set(names)
    while wanted:
        name = wanted.pop()
        found.add(name)
        if name in manifests:
            alternatives = {("model", id) for id in manifests[name].made_from.get("alternatives", {}).values()}
            wanted |= (set(manifests[name].parents.items()) | alternatives) - found
    return found


def free(store: Store, keep: int, grace_hours: float) -> dict[SnapshotName, int]:
    """Deletes the snapshots of `unneeded` and returns them. Deletes children first, so an interruption leaves no dangling parents.

    A lock on the store keeps pointers from moving. An object store has no lock: there, raises Conflict once a pointer or pin moves.
    """
    with store.backend.exclusive([]):
        pointers = _pointers(store)
        sizes = unneeded(store, keep, grace_hours)
        snapshots = {(kind, id): sizes[kind, id] for child in reversed(KINDS) for kind, id in sizes if kind == child}
        for count, name in enumerate(snapshots):
            if _pointers(store) != pointers:
                raise Conflict(
                    f"a pointer or a pin moved after {count} of {len(snapshots)} snapshots were freed, and its release may need"
                    " one of them; check with `make verify` (RELEASE= for a canary or a pin), then run again"
                )
            store.free(*name)
    return snapshots


def _pointers(store: Store) -> tuple[str | None, Canary | None, list[str]]:
    return store.current(), store.canary(), store.pins()
