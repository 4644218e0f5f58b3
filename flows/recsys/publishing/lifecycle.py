"""What can be done with releases after they are made: list them, roll back, try one as a canary, promote it."""

import io
import json
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import pyarrow.parquet as pq

from recsys import RecsysError
from recsys.publishing.publication import ValidatedRelease, publish, same_champion
from recsys.publishing.verification import read_report, verify
from recsys.settings import Settings
from recsys.store import Canary, Conflict, Store
from recsys.validation_report import ValidationReport, require

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ReleaseSummary:
    """A release as `make releases` shows it. as_of: cutoff of its lists, None if release.json is damaged. days: first and last day
    of its data, empty if its manifest lacks them. metrics: mean NDCG@k on the holdout by kind of list, empty if that file is
    damaged. roles: live, previous, canary, pinned."""

    id: str
    as_of: date | None
    days: list[str]
    recommender: str
    metrics: dict[str, float]
    roles: list[str]


def listed(store: Store, settings: Settings) -> list[ReleaseSummary]:
    """All releases whose manifest can be read, newest first. A damaged pointer only logs a warning, so that people can choose a
    release to point to."""
    pointed, metric, summaries = dict[str, list[str]](), settings.evaluation.metric, []
    try:
        pointed = roles(store)
    except RecsysError as error:
        log.warning("%s", error)
    for id in store.newest("release"):
        if manifest := store.readable("release", id):
            days, recommender = manifest.made_from.get("days", []), manifest.made_from["recommender"]
            means = _means(store.read("release", id, "holdout.parquet"), metric)
            facts = store.read("release", id, "release.json")
            as_of = date.fromisoformat(json.loads(facts)["as_of"]) if facts else None
            summaries.append(ReleaseSummary(id, as_of, days, recommender, means, pointed.get(id, [])))
    return summaries


def _means(holdout: bytes | None, metric: str) -> dict[str, float]:
    table = pq.read_table(io.BytesIO(holdout)) if holdout else None
    if table is None or metric not in table.column_names:
        return {}
    means = table.group_by("list_kind").aggregate([(metric, "mean")]).to_pydict()
    return dict(zip(means["list_kind"], means[f"{metric}_mean"], strict=True))


def roles(store: Store) -> dict[str, list[str]]:
    """The roles of each release that is live, previous, canary or pinned."""
    canary = store.canary()
    by_role: dict[str, Sequence[str | None]] = {
        "live": [store.current()],
        "previous": [previous(store)],
        "canary": [canary.release if canary else None],
        "pinned": store.pins(),
    }
    releases = {id for ids in by_role.values() for id in ids if id}
    return {id: [role for role, ids in by_role.items() if id in ids] for id in releases}


def previous(store: Store) -> str | None:
    """The release that was live before the present one and still exists; None if there is none. Releases that were rolled back from
    do not count: after a, b, c and a rollback to b, it is a; after a rollback to x, which was never live, it is b."""
    stack: list[str] = []
    seen: set[str] = set()
    for move in store.history():
        release = move["release"]
        if "rolled_back" in move and (release in stack or release not in seen):
            last = release if release in stack else move["rolled_back"]
            while stack and stack.pop() != last:
                pass
        stack.append(release)
        seen.add(release)
    return next((id for id in stack[-2::-1] if id != stack[-1] and store.readable("release", id)), None)


def rollback(store: Store, checks: Iterable[str], release: str = "", **facts: Any) -> str:
    """Moves `CURRENT` to the previous release, or to `release`, after verifying it; returns its id. `release` may be any release,
    even if CURRENT is damaged. One that was never live needs results of all `checks`. `facts` are recorded in the history."""
    live = store.current(strict=not release)
    target = release or previous(store)
    if target is None:
        raise RecsysError(
            f"no earlier release than {live} was live and still exists; pass RELEASE=, one of `make releases`"
            if live
            else f"no release was ever live in {store.backend}, so there is none to go back to; `make run` makes one"
        )
    if target == store.pointed()[0]:
        raise RecsysError(f"release {target} is live already; pass another RELEASE=, one of `make releases`")
    report = _verify(store, target, checks)
    store.point(target, live, strict=not release, model=report.model, rolled_back=live, **facts)
    return target


def _verify(store: Store, release: str, checks: Iterable[str]) -> ValidationReport:
    """Verifies a release and returns its validation report. Raises RecsysError if the release was never live and the report lacks a
    result of one of `checks`: nothing is shown to users before it passed what `publish` demands."""
    report = verify(store, release)
    if all(move["release"] != release for move in store.history()):
        require(report.checks, checks, f"validation report of release {release}, which was never live")
    return report


def try_out(store: Store, checks: Iterable[str], release: str, share: float) -> None:
    """Makes a release the canary of a share of the users, after verifying it. With share 0, it is asked but shown to nobody. One
    that was never live needs results of all `checks`."""
    live = store.current()
    if not 0 <= share <= 1:
        raise RecsysError(f"SHARE {share:g} is not a share of the users; pass a number from 0, which shows it to nobody, to 1")
    if release == live:
        raise RecsysError(f"release {release} is live already and cannot be the canary; pass another one of `make releases`")
    _verify(store, release, checks)
    store.point_canary(Canary(release, share), live)


def promote(store: Store, checks: Iterable[str], **facts: Any) -> str:
    """Publishes the canary, removes the canary pointer, and returns the id. Raises Conflict if another model went live since the
    canary was made. If only the live lists are newer, the canary's older lists go live until the next daily run."""
    live, canary = store.current(), store.canary()
    if canary is None:
        raise RecsysError("there is no canary to promote; `make canary RELEASE= SHARE=` makes one")
    if canary.release != live:  # if it is live, an earlier call was interrupted before the last line
        report = read_report(store, canary.release)
        publish(store, ValidatedRelease(canary.release, report, _replaced(store, canary)), checks, **facts)
    store.point_canary(None, canary.release)
    return canary.release


def _replaced(store: Store, canary: Canary) -> str | None:
    """The release that the canary replaces: the one that was live when it was made, or a daily update of that one."""
    if store.current() == canary.champion:
        return canary.champion
    try:
        return same_champion(store, canary.champion)
    except Conflict:
        raise Conflict(
            f"canary {canary.release} was compared with {canary.champion or 'nothing'}, but {store.current()} is live now; start"
            f" it again with `make canary RELEASE={canary.release} SHARE=`, or train again"
        ) from None
