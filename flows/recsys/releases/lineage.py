"""Lineage: what a release was made from, as its manifest tells it, and the walk over manifests back to the raw data."""

import platform
import sqlite3
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

from recsys import RecsysError
from recsys.features import Features
from recsys.recommenders import Recommender
from recsys.settings import Settings, restore
from recsys.store import Manifest, Snapshot, Store

PACKAGES = ("dbt-core", "dbt-duckdb", "duckdb", "numpy", "pyarrow", "scikit-learn", "scipy")


def origin(
    recommender: Recommender,
    alternatives: Mapping[str, str],
    features: Features,
    settings: Settings,
    code: Mapping[str, Any],
    audited: bool,
) -> dict[str, Any]:
    """All that a release depends on besides its parents. `alternatives`: models whose lists are released too, for parents name
    one of a kind. `code`: commit, dirty flag and hash of the lock. `audited`: whether an audit chose the winner's seed.
    `dbt` is of the features, which may have been made by an earlier run."""
    return {
        "recommender": recommender.name,
        "code": dict(code),
        "config": asdict(settings),
        "seeds": {
            "run": settings.seed,
            "model": recommender.parameters().get("seed"),  # of a winner that draws nothing: none
            "source": settings.dataset.source_settings.get("seed"),
        },
        "dbt": features.made_from.get("dbt"),
        "versions": versions(),
        "audited": audited,
        "alternatives": dict(alternatives),
        "days": [features.counts()[f"{end}_day"] for end in ("first", "last")],
    }


def proven_by(store: Store, release: Snapshot) -> Snapshot:
    """The release that came of the training of a release's model; the release itself, where that is not kept."""
    first = release.manifest.parents.get("release")
    return store.load("release", first) if first and store.find("release", first) else release


def versions() -> dict[str, str]:
    """Of what decides about bytes. SQLite writes its own into every file; sums differ from one kind of processor to another."""
    own = {"python": platform.python_version(), "sqlite": sqlite3.sqlite_version, "machine": platform.machine()}
    return own | {name: version(name) for name in PACKAGES}


def trace(store: Store, release: str) -> dict[str, Manifest]:
    """Manifests by kind: the release's, and those of what it was made from as far as they are still kept."""
    found, wanted = {}, {"release": release}
    while wanted:
        kind, id = wanted.popitem()
        if manifest := store.find(kind, id):
            found[kind] = manifest
            wanted = {parent: its for parent, its in manifest.parents.items() if parent not in found} | wanted
    if "release" not in found:
        raise RecsysError(f"release {release} is not in {store.backend}; `make releases` lists what is")
    return found


def made_under(release: Manifest) -> Settings:
    """The settings of a release; raises if they are those of other code."""
    try:
        return restore(release.made_from["config"])
    except RecsysError as error:
        commit = release.made_from["code"].get("commit") or "that made it"
        raise RecsysError(
            f"release {release.id} was made by code with other settings ({error}); check out commit {commit}"
        ) from None


def changes(old: Any, new: Any, name: str = "") -> dict[str, tuple[Any, Any]]:
    """What differs between two JSON values, by its dotted name: old and new, None where it was not there."""
    if not all(value is None or isinstance(value, Mapping) for value in (old, new)):
        return {} if old == new else {name: (old, new)}
    old, new = old or {}, new or {}
    found: dict[str, tuple[Any, Any]] = {}
    for key in [*old, *(key for key in new if key not in old)]:
        found |= changes(old.get(key), new.get(key), f"{name}.{key}" if name else key)
    return found
