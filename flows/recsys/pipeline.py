"""The steps of the pipeline: each takes the ids of snapshots, makes the next snapshot and returns its id.

The flow files call them in order. The work itself is done by the packages that they call.
"""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import Any, Literal

from recsys import RecsysError, evaluation, recommenders, releases, sources, validation
from recsys.evaluation import Costs, Robustness, ScoredWindow, ScoredWindows, evaluate
from recsys.features import Features, Quarantine, warehouse
from recsys.publishing import ValidatedRelease, follow_champion
from recsys.recommenders import Recommender, TooLittleData, TwoStage, create, load
from recsys.releases import SIMPLEST, SessionAnswers, lineage
from recsys.settings import Settings, event_types
from recsys.sources import Access, open_simulation, open_source
from recsys.store import Snapshot, Store
from recsys.validation import CHECKS, CheckInput, perturbations
from recsys.validation_report import CheckResult, Limits, ValidationReport

LARGER = 8  # sample of users whose features are permuted in tuning, as a multiple of that in a run


def check_settings(settings: Settings) -> None:
    """Checks the settings of the source, the recommenders and the checks. Raises RecsysError naming the key, the value and what is
    allowed."""
    sources.check_config(settings)
    recommenders.check_config(settings)
    validation.check_config(settings)


def land(store: Store, settings: Settings, today: date, access: Access | None = None) -> tuple[str, list[CheckResult]]:
    """Makes a raw snapshot of the source. Returns its id, and the check results on it.

    Landing the same data again returns the first snapshot. access: only needed for a database. Raises RecsysError if no event is of
    the target, or event types are not known.
    """
    source = open_source(settings.dataset, settings.store.endpoint)
    if access:
        source.prepare(access)
    with store.draft() as folder:
        results = source.land(folder, settings.as_of)
        made_from = {"source": settings.dataset.source, "landed_on": today.isoformat()}
        manifest = store.commit(folder, "raw", made_from)
    raw = store.load("raw", manifest.id)
    _check_types(raw, settings)
    profile = warehouse.profile(raw, settings)
    results += validation.raw.check(profile, source.max_null_share, validation.limits("raw", settings))
    return manifest.id, validation.complete_raw(results, store, settings, today)


def _check_types(raw: Snapshot, settings: Settings) -> None:
    """Checks event types and ratings, for sources with a table `events`."""
    section = f"datasets.{settings.dataset_name}"
    with warehouse.connect(None, settings) as connection:
        if events := warehouse.files_of(raw, "events"):
            connection.read_parquet(events, union_by_name=True).create_view("events")
            event_types.check_types(event_types.count_types(connection, "events"), settings.dataset, section)
            event_types.check_ratings(connection, "events", settings.dataset)


@dataclass(frozen=True)
class BuiltFeatures:
    """A feature snapshot. reused: whether it existed already. dbt_overhead: CPU seconds of dbt besides SQL."""

    id: str
    reused: bool
    quarantine: Quarantine
    counts: dict[str, Any]
    dbt_overhead: float


def build_features(store: Store, raw_id: str, settings: Settings, project: Path, serving: bool = False) -> BuiltFeatures:
    """Makes a feature snapshot of a raw snapshot with dbt, or reuses the one made of the same data, settings and SQL.

    serving: only at the last cutoff, which is enough to make lists.
    """
    raw = store.load("raw", raw_id)
    variables = warehouse.parameters(raw.manifest, settings, serving)
    id = warehouse.features_id(variables, raw_id, project)
    reused, overhead = store.reuse("features", id) is not None, 0.0
    if not reused:
        with store.draft() as folder:
            overhead = warehouse.build(raw, variables, settings, project, folder)
            made_from = variables | {"dbt": warehouse.project_hashes(project)}
            store.commit(folder, "features", made_from, {"raw": raw_id}, id)
    features = open_features(store, id, settings)
    return BuiltFeatures(id, reused, warehouse.read_quarantine(features.path, settings), features.counts(), overhead)


def write_rejected(store: Store, raw_id: str, settings: Settings, project: Path, target: Path, is_escaped: bool = False) -> int:
    """Writes the rejected events of a raw snapshot with their reasons to a .csv or .parquet file. Returns their number.

    They are read from the feature snapshot of these settings. If a run stopped before it was made, the events are checked again.
    is_escaped: in a .csv file, put an apostrophe before texts that a spreadsheet would run as a formula.
    """
    raw = store.load("raw", raw_id)
    id = warehouse.features_id(warehouse.parameters(raw.manifest, settings), raw_id, project)
    stored = store.read("features", id, "int_events_rejected.parquet")
    with tempfile.TemporaryDirectory(prefix="quarantine-") as scratch:
        if stored:
            (Path(scratch) / "rejected.parquet").write_bytes(stored)
            return warehouse.write_rejected(f"'{warehouse.escaped(scratch)}/rejected.parquet'", None, settings, target, is_escaped)
        file = Path(scratch) / "warehouse.duckdb"
        warehouse.check_events(raw, settings, project, file)
        return warehouse.write_rejected("int_events_rejected", file, settings, target, is_escaped)


def open_features(store: Store, features_id: str, settings: Settings) -> Features:
    """Opens a feature snapshot."""
    return Features(store.load("features", features_id), settings)


def make_bad_days(store: Store, features_id: str, settings: Settings, project: Path) -> dict[str, str]:
    """Makes the feature snapshots of an audit, and returns their ids by name.

    Those of perturbations.BAD_DAYS have the events before the holdout's cutoff, perturbed in one way each. perturbations.WORLD has
    the last cutoff, and perturbs each group of users in another way.
    """
    features = open_features(store, features_id, settings)
    plan = perturbations.plan(features.state(features.as_of))

    def build(until: date, perturbed: dict[str, str]) -> str:
        raw_id = perturbations.replay(store, features, settings, until, perturbed, plan)
        known = replace(
            settings.dataset, source="events", time_zone="UTC", event_types={}, min_rating=None
        )  # they are already applied
        replayed = replace(settings, dataset=known, as_of=until, sample=1.0)
        return build_features(store, raw_id, replayed, project, serving=True).id

    bad_days = {name: build(features.evaluated[0], perturbed) for name, perturbed in perturbations.BAD_DAYS.items()}
    return bad_days | {perturbations.WORLD: build(features.as_of, perturbations.QUERIES)}


def require_outcomes(store: Store, features_id: str, settings: Settings) -> None:
    """Raises RecsysError if the holdout has too few events to evaluate any recommender."""
    features = open_features(store, features_id, settings)
    evaluation.require_outcomes(features, settings, features.evaluated[0])


@dataclass(frozen=True)
class Recipe:
    """A recommender with its parameters. kind: "own" for those of config.toml, "seed" for another seed, "resample" for another
    seed and a bootstrap sample of the users."""

    name: str
    parameters: dict[str, Any]
    kind: Literal["own", "seed", "resample"] = "own"

    def __str__(self) -> str:
        resampled = "resample, " if self.kind == "resample" else ""
        return self.name if self.kind == "own" else f"{self.name} ({resampled}seed {self.parameters['seed']})"


def recipes(settings: Settings, audit: bool) -> list[Recipe]:
    """Returns the recommenders to train. An audit adds further seeds and resamples of those that use random numbers."""
    own = [Recipe(name, parameters) for name, parameters in settings.recommenders.items()]
    refits = []
    for name, parameters in settings.recommenders.items():
        if audit and "seed" in create(name, parameters).parameters():
            seeds = range(settings.seed + 1, settings.seed + max(settings.validation.seeds, settings.validation.resamples + 1))
            refits += [Recipe(name, parameters | {"seed": seed}, "seed") for seed in seeds[: settings.validation.seeds - 1]]
            refits += [
                Recipe(name, parameters | {"seed": seed, "resample": True}, "resample")
                for seed in seeds[: settings.validation.resamples]
            ]
    return own + refits


@dataclass(frozen=True)
class Trained:
    """A recipe with its scores and its model, which is fitted on everything before `as_of`.

    windows: scores on the holdout and selection windows. robustness: scores on perturbed data, in an audit.
    left_out: features that the model does not use, since they have too few values.
    skipped: why there is no model; "" if there is one.
    """

    recipe: Recipe
    windows: ScoredWindows
    robustness: Robustness
    model_id: str
    left_out: Sequence[str] = ()
    skipped: str = ""


def train(store: Store, recipe: Recipe, features_id: str, bad_days: Mapping[str, str], settings: Settings) -> Trained:
    """Scores a recommender on the evaluated windows and on bad days, and makes a model snapshot.

    bad_days: ids of feature snapshots from `make_bad_days`; empty without an audit. With too little data the result is `skipped`.
    """
    features = open_features(store, features_id, settings)
    worlds = {name: open_features(store, id, settings) for name, id in bad_days.items() if name in perturbations.BAD_DAYS}
    recommender = create(recipe.name, recipe.parameters, settings.seed)
    try:
        windows = evaluate(recommender, features, settings, features.evaluated)
        robustness = evaluation.robustness(recommender, features, worlds, settings) if worlds else {}
        model_id = fit(store, recommender, features)
    except TooLittleData as reason:
        return Trained(recipe, {}, {}, "", skipped=str(reason))
    return Trained(recipe, windows, robustness, model_id, recommender.left_out)


def fit(store: Store, recommender: Recommender, features: Features) -> str:
    """Fits a recommender on everything before `as_of`, makes a model snapshot and returns its id."""
    with store.draft() as folder:
        recommender.fit(features.state(features.as_of), features.windows(features.as_of)).save(folder)
        made_from = {
            "recommender": recommender.name,
            "parameters": recommender.parameters(),
            "as_of": features.as_of.isoformat(),
            "target": features.settings.dataset.target,
            "exclude_seen": features.settings.dataset.exclude_seen,
        } | ({"left_out": list(recommender.left_out)} if recommender.left_out else {})
        if leaking := {f"{entity} {name}": round(leak, 3) for (entity, name), leak in features.leaking.items()}:
            made_from["attributes_left_out"] = leaking
        return store.commit(folder, "model", made_from, {"features": features.id}).id


@dataclass(frozen=True)
class Selection:
    """The result of selection.

    winner, model_id: the selected recommender and its model. evaluations: scores of each recommender. robustness: scores on
    perturbed data. refits: scores of the winner's other seeds and resamples. models: model id of each recommender. skipped: reasons
    by recommender with too little data. left_out: by recommender, features with too few values. sessions: how live sessions are
    answered.
    """

    winner: str
    model_id: str
    evaluations: dict[str, ScoredWindows]
    robustness: dict[str, Robustness]
    refits: list[ScoredWindows]
    models: dict[str, str] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, Sequence[str]] = field(default_factory=dict)
    sessions: SessionAnswers = SIMPLEST


def select_sessions(store: Store, features_id: str, settings: Settings) -> SessionAnswers:
    """Selects how live sessions are answered: the simplest way that no other beats significantly on the selection windows."""
    return evaluation.select_sessions(open_features(store, features_id, settings), settings)


def select(trained: Sequence[Trained], settings: Settings, sessions: SessionAnswers = SIMPLEST) -> Selection:
    """Selects the simplest recommender that no other beats significantly on the selection windows. sessions: what `select_sessions`
    selected.

    An audit also selects among its seeds: of those that no other seed beats there, the one with the best worst score on perturbed
    data. Those are of the holdout, so its holdout scores are slightly too good.
    """
    trained, skipped = _usable(trained, settings)
    evaluations = {one.recipe.name: one.windows for one in trained if one.recipe.kind == "own"}
    winner = evaluation.select(evaluations, settings)
    fitted = {one.model_id: one for one in trained if one.recipe.name == winner}
    seeds = {id: (one.windows, one.robustness) for id, one in fitted.items() if one.recipe.kind != "resample"}
    best = fitted[evaluation.steadiest(seeds, settings)]
    refits = [one.windows for one in fitted.values() if one is not best]
    robustness = {one.recipe.name: one.robustness for one in trained if one.recipe.kind == "own" and one.robustness}
    if best.robustness:
        robustness[winner] = best.robustness
    models = {one.recipe.name: one.model_id for one in trained if one.recipe.kind == "own"} | {winner: best.model_id}
    left_out = {one.recipe.name: one.left_out for one in trained if one.recipe.kind == "own" and one.left_out}
    evaluations |= {winner: best.windows}
    return Selection(winner, best.model_id, evaluations, robustness, refits, models, skipped, left_out, sessions)


def _usable(trained: Sequence[Trained], settings: Settings) -> tuple[list[Trained], dict[str, str]]:
    """Those that can be compared, and the reasons why others cannot. Raises RecsysError if lists.alternatives has one of these."""
    depths = [len(one.windows.get(settings.list_kind, ())) for one in trained]
    needed = min(2, max(depths))  # the holdout, and a selection window if there is one
    usable, skipped = [one for one, depth in zip(trained, depths, strict=True) if depth >= needed], {}
    for one, depth in zip(trained, depths, strict=True):
        if depth < needed and one.recipe.kind == "own":
            early = f"{one.recipe.name}: there are too few data before the first selection window"
            skipped[one.recipe.name] = one.skipped or early
    for name in settings.lists.alternatives:
        if name in skipped:
            raise RecsysError(
                f"lists.alternatives names a recommender that is skipped: {skipped[name]}; remove it from config.toml"
            )
    return usable, skipped


def oracle(store: Store, features_id: str, settings: Settings) -> dict[str, ScoredWindow]:
    """Scores the oracle's lists on the holdout. Empty unless the source is a simulation of the target."""
    source = open_simulation(settings.dataset)
    return evaluation.oracle(source, open_features(store, features_id, settings), settings) if source else {}


def try_variant(store: Store, name: str, parameters: dict[str, Any], features_id: str, settings: Settings) -> ScoredWindows:
    """Scores a recommender with these parameters on the selection windows. The holdout is not used."""
    features = open_features(store, features_id, settings)
    return evaluate(create(name, parameters, settings.seed), features, settings, features.evaluated[1:])


def examine(store: Store, name: str, features_id: str, settings: Settings) -> tuple[dict[str, Limits], Costs | None]:
    """Examines the candidates and features of a recommender on the first selection window, with a larger sample than a run. Returns
    nothing and None for a recommender without candidates."""
    features = open_features(store, features_id, settings)
    recommender, cutoff = create(name, settings.recommenders[name], settings.seed), features.evaluated[1]
    if not isinstance(recommender, TwoStage):
        return {}, None
    state, labels, windows = features.state(cutoff), features.labels(cutoff), features.windows(cutoff)
    recommender.fit(state, windows)
    found = evaluation.measure_limits(recommender, state, labels, settings, LARGER * evaluation.PREDICTIONS)
    return found, evaluation.measure_costs(recommender, state, labels, windows)


def recommend(
    store: Store, selection: Selection, features_id: str, settings: Settings, code: dict[str, Any], audited: bool = False
) -> str:
    """Makes an unpublished release with the lists of all users, and returns its id."""
    features = open_features(store, features_id, settings)
    state = features.state(features.as_of)
    holdout = {list_kind: windows[0] for list_kind, windows in selection.evaluations[selection.winner].items()}
    with store.draft() as folder:
        model = store.load("model", selection.model_id)
        recommender = load(model.path)
        models = {name: selection.models[name] for name in settings.lists.alternatives}
        alternatives = {name: load(store.load("model", id).path) for name, id in models.items()}
        trained_as_of = date.fromisoformat(model.manifest.made_from["as_of"])
        table, sessions = evaluation.holdout_table(holdout), selection.sessions
        releases.write(folder, recommender, alternatives, state, table, settings, trained_as_of, sessions)
        made_from = lineage.origin(recommender, models, features, settings, code, audited)
        parents = {"model": selection.model_id, "features": features_id}
        return store.commit(folder, "release", made_from, parents, releases.new_id(state)).id


def validate(
    store: Store,
    release_id: str,
    raw_results: list[CheckResult],
    selection: Selection,
    live_id: str | None,
    bad_days: Mapping[str, str],
    today: date,
    settings: Settings,
    project: Path,
) -> ValidationReport:
    """Runs the checks on a release and stores its validation report. live_id: the release that was live when the run began. The
    costly checks run if there are bad days."""
    release, live = store.load("release", release_id), store.load("release", live_id) if live_id else None
    rival = lineage.proven_by(store, live) if live else None
    parents = release.manifest.parents
    features = open_features(store, parents["features"], settings)
    inputs = CheckInput(
        store,
        settings,
        project,
        release,
        features,
        selection.winner,
        selection.evaluations,
        today,
        live,
        _past(store, rival, features, settings, project),
        selection.refits,
        selection.robustness,
        {name: open_features(store, id, settings) for name, id in bad_days.items()},
        rival=rival,
        sessions=selection.sessions,
    )
    results = {"raw": raw_results} | validation.examine(inputs, audit=bool(bad_days))
    on_model, on_data = ({name: results[name] for name in results if CHECKS[name].on == part} for part in ("model", "data"))
    measured = validation.measure(inputs, oracle(store, features.id, settings))
    rival_id, content = rival.manifest.id if rival else "", release.manifest.content
    report = ValidationReport(parents["model"], features.id, content, on_model, on_data, *measured, rival_id)
    store.attach_report(release_id, report.to_json())
    return report


def _past(store: Store, rival: Snapshot | None, features: Features, settings: Settings, project: Path) -> Features | None:
    """Features of this run's raw data as of the rival's day; None if that is not earlier."""
    if rival is None or releases.as_of(rival) >= features.as_of:
        return None
    raw_id = store.load("features", features.id).manifest.parents["raw"]
    built = build_features(store, raw_id, replace(settings, as_of=releases.as_of(rival)), project)
    return open_features(store, built.id, settings)


def recommend_again(
    store: Store, release: ValidatedRelease, live: Snapshot, selection: Selection, today: date, settings: Settings, project: Path
) -> ValidatedRelease:
    """Updates a release for `publish` if another release went live during the run.

    If that release has newer lists by the same champion, makes lists of this run's model on its data. The model keeps its check
    results; data and lists are checked again. Raises Conflict if there is another champion.
    """
    release = follow_champion(store, release, live)
    manifest = store.load("release", release.id).manifest
    later = replace(settings, as_of=releases.as_of(live))
    if releases.as_of(live) <= releases.as_of(store.load("release", release.id)):
        return release
    raw_id = store.load("features", live.manifest.parents["features"]).manifest.parents["raw"]
    features_id = build_features(store, raw_id, later, project).id
    id = recommend(store, selection, features_id, later, manifest.made_from["code"], manifest.made_from["audited"])
    made, features = store.load("release", id), open_features(store, features_id, later)
    chosen = selection.winner, selection.evaluations
    inputs = CheckInput(store, later, project, made, features, *chosen, today, live, sessions=selection.sessions)
    seen = ValidationReport.read(store.report(live.manifest.id))
    on_data = {"raw": seen.on_data.get("raw", []) if seen else []} | validation.examine(inputs, audit=False, on=("data",))
    report = replace(release.report, features=features_id, content=made.manifest.content, on_data=on_data)
    store.attach_report(id, report.to_json())
    return ValidatedRelease(id, report, release.replaces)
