"""Daily lists: new lists by the live release's model, on new data.

Users are ranked in shards. Their lists are stored as parts and joined into one release, whose bytes do not depend on the number of
shards. The model keeps its check results; data and lists are checked again.
"""

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

from recsys import RecsysError, releases, validation
from recsys.pipeline import open_features
from recsys.recommenders import CHUNK, load
from recsys.releases import BusinessRules, RuleCounts, lineage, read_rows, write_rows
from recsys.settings import Settings
from recsys.store import Store
from recsys.validation import CHECKS, CheckInput
from recsys.validation_report import CheckResult, ValidationReport


@dataclass(frozen=True)
class Champion:
    """The live release, and what is needed to make new lists with its models.

    alternatives: model ids by recommender. proven_by: the release of the run that trained the model. target, exclude_seen: settings
    of that run; `exclude_seen` is None for older models, which do not record it.
    """

    release: str
    recommender: str
    model_id: str
    alternatives: dict[str, str]
    proven_by: str
    audited: bool
    target: str
    exclude_seen: bool | None


def champion(store: Store) -> Champion:
    """Returns the live release. Raises RecsysError if nothing is live."""
    live = store.current()
    manifest = store.find("release", live) if live else None
    if live is None or manifest is None:
        raise RecsysError(
            f"nothing is live in {store.backend}, so there is no model to make lists with; `make run` first, or"
            " `make trigger FLOW=TrainFlow` where it is deployed"
        )
    made = manifest.made_from
    model_id = manifest.parents["model"]
    model = store.load("model", model_id).manifest.made_from
    return Champion(
        live,
        made["recommender"],
        model_id,
        made.get("alternatives", {}),
        manifest.parents.get("release", live),
        made.get("audited", False),
        model.get("target", "purchase"),
        model.get("exclude_seen"),
    )


def check_target(champion: Champion, settings: Settings) -> None:
    """Raises RecsysError if the champion's model predicts another target than that of the settings."""
    if champion.target != settings.dataset.target:
        raise RecsysError(
            f'the live model predicts "{champion.target}", but the target is "{settings.dataset.target}" now; `make run` first'
        )


def _as_chosen(champion: Champion, settings: Settings) -> tuple[Settings, list[CheckResult]]:
    """The settings with the champion's own `exclude_seen`, and a warning if it differs: the model was selected and checked by lists
    of that kind."""
    own, configured = champion.exclude_seen, settings.dataset.exclude_seen
    if own is None or own == configured:
        return settings, []
    message = f"the live model was chosen with exclude_seen = {str(own).lower()}, which stays in use until the next `make run`"
    setting = f"datasets.{settings.dataset_name}.exclude_seen in config.toml"
    warning = CheckResult("exclude_seen_of_the_model", str(configured).lower(), str(own).lower(), "warn", False, message, setting)
    return replace(settings, dataset=replace(settings.dataset, exclude_seen=own)), [warning]


def shards(store: Store, features_id: str, users_per_shard: int, settings: Settings) -> list[tuple[int, int]]:
    """Returns the first row, and the row after the last, of each shard's users.

    Shards are whole chunks, so that each user is ranked together with the same users as without shards, since sums of floats may
    depend on it.
    """
    users = open_features(store, features_id, settings).counts()["users"]
    size = -(-users_per_shard // CHUNK) * CHUNK
    return [(start, min(start + size, users)) for start in range(0, users, size)]


def recommend(store: Store, champion: Champion, features_id: str, rows: tuple[int, int], settings: Settings) -> str:
    """Writes the lists of one shard, and counts of what the business rules changed, as a part. Returns its id.

    rows: first row and the row after the last, as `shards` returns them.
    """
    features = open_features(store, features_id, settings)
    rules = BusinessRules(features.state(features.as_of), settings)
    recommender = load(store.load("model", champion.model_id).path)
    alternatives = {name: load(store.load("model", id).path) for name, id in _alternatives(champion, settings).items()}
    with store.draft() as folder:
        counts = releases.write_ranked(folder, recommender, alternatives, rules, rules.state.user_ids[slice(*rows)])
        (folder / "counts.json").write_text(json.dumps(counts))
        parents = {"model": champion.model_id, "features": features_id}
        return store.commit(folder, "part", {"rows": list(rows)}, parents).id


def _alternatives(champion: Champion, settings: Settings) -> dict[str, str]:
    if missing := [name for name in settings.lists.alternatives if name not in champion.alternatives]:
        raise RecsysError(f"lists.alternatives names {', '.join(missing)}, of which the champion has no model; `make run` first")
    return {name: champion.alternatives[name] for name in settings.lists.alternatives}


def gather(
    store: Store, champion: Champion, features_id: str, parts: Sequence[str], settings: Settings, code: dict[str, Any]
) -> str:
    """Joins parts, given in the order of their users, to an unpublished release, and returns its id. Its holdout.parquet is the
    champion's, and so is how it answers sessions."""
    features = open_features(store, features_id, settings)
    folders = [store.load("part", part).path for part in parts]
    settings, _ = _as_chosen(champion, settings)
    model, live = store.load("model", champion.model_id), store.load("release", champion.release)
    rules = BusinessRules(features.state(features.as_of), settings)
    with store.draft() as folder:
        _join(folder, folders)
        shutil.copyfile(live.path / "holdout.parquet", folder / "holdout.parquet")
        trained_as_of, sessions = date.fromisoformat(model.manifest.made_from["as_of"]), releases.session_answers(live, settings)
        releases.write_others(folder, champion.recommender, _sum(folders), rules, settings, trained_as_of, sessions)
        recommender = load(model.path)
        made_from = lineage.origin(recommender, _alternatives(champion, settings), features, settings, code, champion.audited)
        parents = {"model": champion.model_id, "features": features_id, "release": champion.proven_by}
        return store.commit(folder, "release", made_from, parents, releases.new_id(rules.state)).id


def _join(folder: Path, parts: Sequence[Path]) -> None:
    for name in sorted(path.relative_to(parts[0]) for path in parts[0].rglob("*.sqlite")):
        (folder / name).parent.mkdir(exist_ok=True)
        write_rows(folder / name, (row for part in parts for row in read_rows(part / name)))


def _sum(parts: Sequence[Path]) -> RuleCounts:
    all_counts = [json.loads((part / "counts.json").read_text()) for part in parts]
    return {
        list_kind: {rule: sum(counts[list_kind][rule] for counts in all_counts) for rule in rules}
        for list_kind, rules in all_counts[0].items()
    }


def validate(
    store: Store,
    release_id: str,
    champion: Champion,
    raw_results: list[CheckResult],
    today: date,
    settings: Settings,
    project: Path,
) -> ValidationReport:
    """Checks the data and lists of a release, and stores its validation report. The champion's results on the model are kept."""
    release, live = store.load("release", release_id), store.load("release", champion.release)
    settings, warnings = _as_chosen(champion, settings)
    proven, parents = ValidationReport.read(store.report(champion.release)), release.manifest.parents
    if proven is None or proven.model != parents["model"]:
        raise RecsysError(
            f"release {champion.release} has no validation report on model {parents['model']}; train again, with `make run`"
        )
    features = open_features(store, parents["features"], settings)
    trained = store.load("model", parents["model"]).manifest
    judged = open_features(store, trained.parents["features"], settings)
    sessions = releases.session_answers(live, settings)
    inputs = CheckInput(
        store, settings, project, release, features, champion.recommender, {}, today, live, judged=judged, sessions=sessions
    )
    on_data = {"raw": [*raw_results, *warnings]} | validation.examine(inputs, audit=False, on=("data",))
    report = replace(proven, features=parents["features"], content=release.manifest.content, on_data=on_data)
    store.attach_report(release_id, report.to_json())
    return report


def required(report: ValidationReport, settings: Settings) -> list[str]:
    """Returns the names of the checks that must have a result: all on data and lists, those on the model that ran when it was
    trained, and those that a training would need now."""
    needed = {*report.on_model, *validation.required(settings.validation.audit)}
    return [name for name, check in CHECKS.items() if check.on == "data" or name in needed]
