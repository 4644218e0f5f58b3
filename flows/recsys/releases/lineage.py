"""Lineage: what a release was made from, according to its manifest and the manifests of its parents."""

import platform
import sqlite3
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

from recsys import RecsysError
from recsys.features import Features
from recsys.recommenders import Recommender
from recsys.settings import Settings, build
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
    """Everything that a release depends on besides its parents, for its manifest.

    alternatives: model ids by recommender; they are not parents, because a snapshot has one parent of each kind. code: commit,
    dirty flag and hash of the lock. audited: whether an audit chose the winner's seed. `dbt` in the result describes the run that
    made the features, which may be an earlier one.
    """
    return {
        "recommender": recommender.name,
        "code": dict(code),
        "config": asdict(settings),
        "seeds": {
            "run": settings.seed,
            "model": recommender.parameters().get("seed"),  # None for recommenders without random numbers
            "source": settings.dataset.source_settings.get("seed"),
        },
        "dbt": features.made_from.get("dbt"),
        "versions": versions(),
        "audited": audited,
        "alternatives": dict(alternatives),
        "days": [features.counts()[f"{end}_day"] for end in ("first", "last")],
    }


def proven_by(store: Store, release: Snapshot) -> Snapshot:
    """The release that a release's model was trained for, or the release itself if that one was deleted."""
    first = release.manifest.parents.get("release")
    return store.load("release", first) if first and store.find("release", first) else release


def versions() -> dict[str, str]:
    """Versions that the bytes of a release depend on. SQLite writes its version into files, and sums differ between processors."""
    own = {"python": platform.python_version(), "sqlite": sqlite3.sqlite_version, "machine": platform.machine()}
    return own | {name: version(name) for name in PACKAGES}


def trace(store: Store, release: str) -> dict[str, Manifest]:
    """Manifests of a release and its ancestors by kind; deleted ancestors are missing. Raises RecsysError for an unknown
    release."""
    found, wanted = {}, {"release": release}
    while wanted:
        kind, id = wanted.popitem()
        if manifest := store.find(kind, id):
            found[kind] = manifest
            wanted = {parent: its for parent, its in manifest.parents.items() if parent not in found} | wanted
    if "release" not in found:
        raise store.unknown("release", release)
    return found


def made_under(release: Manifest) -> Settings:
    """The settings that a release was made with. Raises RecsysError if the present code has other settings."""
    try:
        return build(Settings, release.made_from["config"], "")
    except RecsysError as error:
        commit = release.made_from["code"].get("commit") or "that made it"
        raise RecsysError(
            f"release {release.id} was made by code with other settings ({error}); check out commit {commit}"
        ) from None


def changes(old: Any, new: Any, name: str = "") -> dict[str, tuple[Any, Any]]:
    """Differences between two JSON values by dotted name: the old and the new value, None if there is none."""
    if not all(value is None or isinstance(value, Mapping) for value in (old, new)):
        return {} if old == new else {name: (old, new)}
    old, new = old or {}, new or {}
    found: dict[str, tuple[Any, Any]] = {}
    for key in [*old, *(key for key in new if key not in old)]:
        found |= changes(old.get(key), new.get(key), f"{name}.{key}" if name else key)
    return found
