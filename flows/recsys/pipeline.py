"""The pipeline's arrows: each takes the ids of what exists, makes the next snapshot and returns its id. Flows say in which
order; what an arrow does is in the module it calls."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any

from recsys import evaluation, releases, warehouse
from recsys.checks.lists import check_lists
from recsys.checks.model import check_model
from recsys.checks.raw import check_raw
from recsys.config import Settings
from recsys.evaluation import PROTOCOLS, Window, evaluate
from recsys.features import Features
from recsys.recommenders import create, load
from recsys.sources import open_source
from recsys.sources.base import Simulation
from recsys.store import Store
from recsys.verdicts import Evidence, Verdict
from recsys.warehouse import Quarantine


def land(store: Store, settings: Settings, today: date) -> tuple[str, list[Verdict]]:
    """source -> raw snapshot, with verdicts on it. Landing the same files again finds the first snapshot."""
    source = open_source(settings.dataset.source, settings.dataset.dials)
    with store.draft() as folder:
        verdicts = source.land(folder, settings.as_of)
        made_from = {"source": settings.dataset.source, "landed_on": today.isoformat()}
        manifest = store.commit(folder, "raw", made_from)
    profile = warehouse.profile(store.load("raw", manifest.id), settings)
    return manifest.id, [*verdicts, *check_raw(profile, source.max_null_share, settings)]


@dataclass(frozen=True)
class Built:
    """A feature snapshot, and whether it was found or made."""

    id: str
    reused: bool
    quarantine: Quarantine
    counts: dict[str, Any]
    dbt_overhead: float  # CPU seconds of dbt besides SQL


def build_features(store: Store, raw_id: str, settings: Settings, project: Path, serving: bool = False) -> Built:
    """raw snapshot -> dbt -> feature snapshot; an unchanged one is found, not rebuilt. `serving`: at the last cutoff alone."""
    raw = store.load("raw", raw_id)
    variables = warehouse.parameters(raw.manifest, settings, serving)
    id = warehouse.features_id(variables, raw_id, project)
    reused, overhead = store.find("features", id) is not None, 0.0
    if not reused:
        with store.draft() as folder:
            cost = warehouse.build(raw, variables, settings, project, folder)
            store.commit(folder, "features", variables, {"raw": raw_id}, id)
            overhead = cost.total - cost.sql
    features = open_features(store, id, settings)
    return Built(id, reused, warehouse.read_quarantine(features.path, settings), features.counts(), overhead)


def open_features(store: Store, features_id: str, settings: Settings) -> Features:
    return Features(store.load("features", features_id), settings)


def train(store: Store, name: str, features_id: str, settings: Settings) -> tuple[dict[str, list[Window]], str]:
    """feature snapshot -> scores of a recommender on the evaluated windows, and its model snapshot, fitted on everything
    before `as_of`."""
    features = open_features(store, features_id, settings)
    parameters = settings.recommenders[name]
    recommender = create(name, parameters, settings.seed)
    windows = evaluate(recommender, features, settings, features.evaluated)
    with store.draft() as folder:
        recommender.fit(features.state(features.as_of), features.windows(features.as_of)).save(folder)
        made_from = {"recommender": name, "parameters": parameters, "seed": settings.seed, "as_of": features.as_of.isoformat()}
        return windows, store.commit(folder, "model", made_from, {"features": features_id}).id


def oracle(store: Store, features_id: str, settings: Settings) -> dict[str, Window]:
    """feature snapshot -> the holdout's windows by what its source alone knows; empty if the source is no simulation."""
    source = open_source(settings.dataset.source, settings.dataset.dials)
    if not isinstance(source, Simulation):
        return {}
    return evaluation.oracle(source, open_features(store, features_id, settings), settings)


def try_variant(
    store: Store, name: str, parameters: dict[str, Any], features_id: str, settings: Settings
) -> dict[str, list[Window]]:
    """feature snapshot -> scores of a recommender with these parameters on the selection windows. The holdout stays unseen."""
    features = open_features(store, features_id, settings)
    return evaluate(create(name, parameters, settings.seed), features, settings, features.evaluated[1:])


def recommend(
    store: Store, model_id: str, features_id: str, holdout: Mapping[str, Window], settings: Settings, code: dict[str, Any]
) -> str:
    """model and feature snapshots -> release, not yet published."""
    features = open_features(store, features_id, settings)
    state = features.state(features.as_of)
    with store.draft() as folder:
        recommender = load(store.load("model", model_id).path)
        releases.write(folder, recommender, state, holdout, settings)
        made_from = {"recommender": recommender.name, "code": code, "config": asdict(settings)}
        parents = {"model": model_id, "features": features_id}
        return store.commit(folder, "release", made_from, parents, releases.new_id(state)).id


def validate(
    store: Store,
    release_id: str,
    raw_verdicts: list[Verdict],
    winner: str,
    evaluations: Mapping[str, dict[str, list[Window]]],
    settings: Settings,
) -> Evidence:
    """release -> evidence on it, laid beside it."""
    release = store.load("release", release_id)
    parents = release.manifest.parents
    features = open_features(store, parents["features"], settings)
    state = features.state(features.as_of)
    on_lists = [
        verdict
        for protocol in PROTOCOLS
        for verdict in check_lists(protocol, *releases.read_all(release, protocol), state, settings)
    ]
    evidence = Evidence(
        parents["model"],
        parents["features"],
        release.manifest.content,
        check_model(winner, evaluations, settings),
        [*raw_verdicts, *on_lists],
    )
    store.attach_evidence(release_id, evidence.to_json())
    return evidence
