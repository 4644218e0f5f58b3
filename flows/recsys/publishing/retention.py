"""Retention: which snapshots nobody needs any more, and freeing them."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from recsys import RecsysError
from recsys.publishing.lifecycle import roles
from recsys.store import KINDS, Canary, Conflict, Manifest, Store

SnapshotName = tuple[str, str]  # a snapshot's kind and id


@dataclass(frozen=True)
class Unneeded:
    kind: str
    id: str
    bytes: int


def unneeded(store: Store, keep: int, grace_hours: float) -> list[Unneeded]:
    """All snapshots, and folders without a manifest, that may be freed: not the newest `keep` releases, not what is live, previous,
    canary or pinned, nothing younger than the grace, for a run under way may build on it, and no parent of any of these. Nothing at
    all while a manifest cannot be read, for nobody knows what that was made from."""
    if keep < 1:
        raise RecsysError(f"KEEP {keep} is too few; pass 1 or more, the newest releases to keep")
    folders = {(kind, id): store.usage(kind, id, "") for kind in KINDS for id in store.backend.children(KINDS[kind])}
    manifests = {(kind, id): found for kind, id in folders if (found := store.readable(kind, id))}
    if any(store.usage(*name).written > -math.inf for name in folders.keys() - manifests.keys()):
        return []
    young = {name for name, usage in folders.items() if usage.hours < grace_hours}
    kept = {("release", id) for id in (*store.newest("release")[:keep], *roles(store))}
    needed = with_parents(young | kept, manifests)
    return [Unneeded(*name, usage.bytes) for name, usage in folders.items() if name not in needed]


def with_parents(names: Iterable[SnapshotName], manifests: dict[SnapshotName, Manifest]) -> set[SnapshotName]:
    """Snapshots, those they were made from, and so on back to the raw data."""
    found, wanted = set(), set(names)
    while wanted:
        name = wanted.pop()
        found.add(name)
        if name in manifests:
            alternatives = {("model", id) for id in manifests[name].made_from.get("alternatives", {}).values()}
            wanted |= (set(manifests[name].parents.items()) | alternatives) - found
    return found


def free(store: Store, keep: int, grace_hours: float) -> list[Unneeded]:
    """Frees what is not needed, found while nobody can move a pointer, releases first: what is left of a killed run is whole. An
    object store has no lock, so there a pointer or a pin that moves meanwhile puts an end to it."""
    with store.backend.exclusive([]):
        pointers = _pointers(store)
        found = sorted(unneeded(store, keep, grace_hours), key=lambda one: list(KINDS)[::-1].index(one.kind))
        for place, one in enumerate(found):
            if _pointers(store) != pointers:
                raise Conflict(
                    f"a pointer or a pin moved while snapshots were freed, {place} of {len(found)} so far, maybe one that it needs:"
                    " ask `make verify`, RELEASE= for a canary or a pin, then run again"
                )
            store.free(one.kind, one.id)
    return found


def _pointers(store: Store) -> tuple[str | None, Canary | None, list[str]]:
    return store.current(), store.canary(), store.pins()
