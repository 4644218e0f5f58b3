"""Publishing while others publish too: where only the live lists changed meanwhile, the release follows them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

from recsys import publishing, releases, validation
from recsys.pipeline import Choice, build_features, open_features, recommend
from recsys.settings import Settings
from recsys.store import Conflict, Snapshot, Store
from recsys.validation import CheckInput
from recsys.validation_report import ValidationReport

ATTEMPTS = 3


@dataclass(frozen=True)
class Candidate:
    """A release with its validation report, and what was live when it was judged."""

    id: str
    report: ValidationReport
    champion: str | None


def publish(
    store: Store,
    candidate: Candidate,
    choice: Choice,
    checks: Sequence[str],
    today: date,
    settings: Settings,
    project: Path,
    share: float | None = None,
    **facts: Any,
) -> Candidate:
    """Publishes a release, or makes it the canary of a share of the users, and returns it. Where another release of the same
    champion went live meanwhile it tries again, with lists as new as those. Raises Conflict where the champion is another one.
    May be called again after a kill. `facts` stand beside the move in the history."""
    if share is None and (move := publishing.published(store, candidate.id)):
        return _published(store, candidate, move)
    for attempt in range(ATTEMPTS):
        try:
            publishing.publish(store, candidate.id, candidate.report, candidate.champion, checks, share, **facts)
            break
        except Conflict:
            if attempt == ATTEMPTS - 1:
                raise
            live = store.load("release", publishing.same_champion(store, candidate.champion))
            if releases.as_of(live) > releases.as_of(store.load("release", candidate.id)):
                facts = {"instead_of": candidate.id} | facts
                candidate = _list_again(store, candidate, choice, live, today, settings, project)
            candidate = replace(candidate, champion=live.manifest.id)
    return candidate


def _published(store: Store, candidate: Candidate, move: dict[str, Any]) -> Candidate:
    """What went live before the kill: the candidate, or its lists made again."""
    if move["release"] == candidate.id:
        return candidate
    report = ValidationReport.read(store.report(move["release"])) or candidate.report
    return Candidate(move["release"], report, move["previous"])


def _list_again(
    store: Store, candidate: Candidate, choice: Choice, live: Snapshot, today: date, settings: Settings, project: Path
) -> Candidate:
    """The same model's lists on the live release's data. What was proven of the model stays; data and lists are judged again."""
    made, parents = store.load("release", candidate.id).manifest.made_from, live.manifest.parents
    raw_id = store.load("features", parents["features"]).manifest.parents["raw"]
    later = replace(settings, as_of=releases.as_of(live))
    features_id = build_features(store, raw_id, later, project).id
    id = recommend(store, choice, features_id, later, made["code"], made["audited"])
    release, features = store.load("release", id), open_features(store, features_id, later)
    inputs = CheckInput(store, later, project, release, features, choice.winner, choice.evaluations, today, live)
    seen = ValidationReport.read(store.report(live.manifest.id))
    on_data = {"raw": seen.on_data.get("raw", []) if seen else []} | validation.examine(inputs, audit=False, on=("data",))
    report = replace(candidate.report, features=features_id, content=release.manifest.content, on_data=on_data)
    store.attach_report(id, report.to_json())
    return Candidate(id, report, live.manifest.id)
