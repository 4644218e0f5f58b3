"""Reproduces a release from its raw snapshot in a store of its own, and compares the two."""

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recsys import RecsysError, pipeline
from recsys.evaluation import compare_lists
from recsys.pipeline import Recipe, Selection
from recsys.recommenders import LIST_KINDS, create
from recsys.releases import changes, made_under, session_answers, trace
from recsys.settings import Settings
from recsys.store import Manifest, Store


@dataclass(frozen=True)
class Reproduction:
    """Result of a reproduction.

    content, remade: hashes of the release and of its reproduction. differences: files and lists that differ. other: differences of
    code, versions and dbt files.
    """

    content: str
    remade: str
    differences: list[str]
    other: list[str]

    @property
    def identical(self) -> bool:
        return self.content == self.remade


def reproduce(store: Store, release: str, scratch: Store, project: Path, code: Mapping[str, Any]) -> Reproduction:
    """Makes a release again with the settings in its manifest and the present code: copies its raw snapshot to an empty store,
    builds the features, fits the models and writes the release.

    scratch: the empty store. code: commit and other facts of the present code. Raises RecsysError if a snapshot is missing.
    """
    made = trace(store, release)
    settings = _settings(made)
    sessions = session_answers(store.load("release", release), settings)  # raises if a file has been changed
    _copy(store, made["raw"], scratch)
    built = pipeline.build_features(scratch, made["raw"].id, settings, project)
    name, parameters = (made["model"].made_from[part] for part in ("recommender", "parameters"))
    trained = pipeline.train(scratch, Recipe(name, parameters), built.id, {}, settings)
    models = {name: trained.model_id} | dict(_alternatives(scratch, name, built.id, settings))
    selection = Selection(name, trained.model_id, {name: trained.windows}, {}, [], models, sessions=sessions)
    audited = made["release"].made_from.get("audited", False)
    again = trace(scratch, pipeline.recommend(scratch, selection, built.id, settings, dict(code), audited))
    differences = [line for kind in ("features", "model", "release") for line in _files(made[kind], again[kind])]
    differences += _lists(store, made["release"], scratch, again["release"])
    return Reproduction(made["release"].content, again["release"].content, differences, list(_origins(made, again)))


def _alternatives(scratch: Store, winner: str, features_id: str, settings: Settings) -> Iterator[tuple[str, str]]:
    """Fits the models of the alternatives again."""
    for name in settings.lists.alternatives:
        if name != winner:
            recommender = create(name, settings.recommenders[name], settings.seed)
            yield name, pipeline.fit(scratch, recommender, pipeline.open_features(scratch, features_id, settings))


def _settings(made: Mapping[str, Manifest]) -> Settings:
    release = made["release"]
    if missing := [kind for kind in ("model", "features", "raw") if kind not in made]:
        raise RecsysError(
            f"release {release.id} cannot be made again: its {missing[0]} snapshot is missing; restore it from a backup"
        )
    if made["model"].parents != {"features": made["features"].id}:
        raise RecsysError(
            f"release {release.id} has daily lists: it uses features {made['features'].id} and a model of features"
            f" {made['model'].parents['features']}; reproduce the release that first served model {made['model'].id}"
        )
    return made_under(release)


def _copy(store: Store, raw: Manifest, scratch: Store) -> None:
    with scratch.draft() as folder:
        others = shutil.ignore_patterns("manifest.json")
        shutil.copytree(store.load("raw", raw.id).path, folder, ignore=others, dirs_exist_ok=True)
        scratch.commit(folder, "raw", raw.made_from, raw.parents, raw.id)


def _files(old: Manifest, new: Manifest) -> Iterator[str]:
    """A line for each file that differs between two snapshots."""
    for name in sorted(old.files.keys() | new.files.keys()):
        before, after = old.files.get(name), new.files.get(name)
        if before is None or after is None:
            yield f"{old.kind}: {name} {'is new' if before is None else 'is missing'}"
        elif before.sha256 != after.sha256:
            yield f"{old.kind}: {name} differs: sha256 {before.sha256[:12]} was released, {after.sha256[:12]} was made"


def _lists(store: Store, old: Manifest, scratch: Store, new: Manifest) -> Iterator[str]:
    """A line for each kind of list with the number of users whose lists differ; none if the files are equal."""
    if old.files["lists.sqlite"].sha256 == new.files["lists.sqlite"].sha256:
        return
    releases, length = (store.load("release", old.id), scratch.load("release", new.id)), old.made_from["config"]["lists"]["length"]
    for list_kind in LIST_KINDS:
        diff = compare_lists(*releases, list_kind, length)
        others = f"; {diff.came:,} users are new, {diff.went:,} are missing" if diff.came or diff.went else ""
        yield f"lists, {list_kind}: {diff.changed:,} of {diff.users:,} users get other items or another order{others}"


def _origins(made: Mapping[str, Manifest], again: Mapping[str, Manifest]) -> Iterator[str]:
    """A line for each difference in what made the two: commit, dirty flag, lock, dbt files, versions."""
    old, new = made["release"].made_from, again["release"].made_from
    for part in ("code", "dbt", "versions"):
        if not old.get(part):
            yield f"{part}: the manifest of release {made['release'].id} does not have it"
        else:
            for name, (was, now) in changes(old[part], new[part]).items():
                yield f"{part}: {name} was {'not recorded' if was is None else was}, is {now}"
    if old["code"].get("dirty"):
        yield f"code: release {made['release'].id} was made with uncommitted changes"
