"""The life of a release after it was made: listed, rolled back to, tried as a canary, promoted."""

import io
import json
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from typing import Any

import pyarrow.parquet as pq

from recsys import RecsysError
from recsys.publishing.publication import ValidatedRelease, publish, same_champion
from recsys.publishing.verification import verify
from recsys.settings import Settings
from recsys.store import Canary, Conflict, Store
from recsys.validation_report import ValidationReport

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ReleaseSummary:
    """A release as people look for it. as_of: the day of its lists; days: the first and the last of its data, where its manifest
    tells them. metrics: means of its holdout by kind of list; none, and no as_of, where that file is damaged. roles: live,
    previous, canary, pinned."""

    id: str
    as_of: date | None
    days: list[str]
    recommender: str
    metrics: dict[str, float]
    roles: list[str]


def listed(store: Store, settings: Settings) -> list[ReleaseSummary]:
    """Every release that exists and can be read, newest first."""
    pointed, metric, found = dict[str, list[str]](), f"ndcg@{settings.evaluation.k}", []
    try:
        pointed = roles(store)
    except RecsysError as error:  # to mend a pointer, people look at what is kept
        log.warning("%s", error)
    for id in store.newest("release"):
        if manifest := store.readable("release", id):
            days, recommender = manifest.made_from.get("days", []), manifest.made_from["recommender"]
            means = _means(store.read("release", id, "holdout.parquet"), metric)
            facts = store.read("release", id, "release.json")
            as_of = date.fromisoformat(json.loads(facts)["as_of"]) if facts else None
            found.append(ReleaseSummary(id, as_of, days, recommender, means, pointed.get(id, [])))
    return found


def _means(holdout: bytes | None, metric: str) -> dict[str, float]:
    table = pq.read_table(io.BytesIO(holdout)) if holdout else None
    if table is None or metric not in table.column_names:
        return {}
    means = table.group_by("list_kind").aggregate([(metric, "mean")]).to_pydict()
    return dict(zip(means["list_kind"], means[f"{metric}_mean"], strict=True))


def roles(store: Store) -> dict[str, list[str]]:
    """Who points at which release."""
    canary = store.canary()
    pointers = [(store.current(), "live"), (previous(store), "previous"), (canary.release if canary else None, "canary")]
    pointers += [(id, "pinned") for id in store.pins()]
    found: dict[str, list[str]] = {}
    for id, role in pointers:
        if id:
            found.setdefault(id, []).append(role)
    return found


def previous(store: Store) -> str | None:
    """The release that was live before the present one and still exists. What was rolled back from does not count: after a, b, c
    and a rollback to b it is a, and after one to x, which was never live, it is b. (Back at a, then again at c, it is a.)"""
    lived: list[str] = []
    seen: set[str] = set()
    for move in store.history():
        release = move["release"]
        if "rolled_back" in move and (release in lived or release not in seen):
            last = release if release in lived else move["rolled_back"]
            while lived and lived.pop() != last:
                pass
        lived.append(release)
        seen.add(release)
    return next((id for id in lived[-2::-1] if id != lived[-1] and store.readable("release", id)), None)


def rollback(store: Store, release: str = "", **facts: Any) -> str:
    """Moves `CURRENT` back to the previous release, or to the one named, if it could be served, and returns its id. The one that is
    named may be any, whatever CURRENT holds. `facts` stand beside the move in the history."""
    live = store.current(strict=not release)
    target = release or previous(store)
    if target is None:
        raise RecsysError(f"nothing that is kept was live before {live or 'anything'}; pass RELEASE=, one of `make releases`")
    if target == store.pointed()[0]:
        raise RecsysError(f"release {target} is live already; pass another RELEASE=, one of `make releases`")
    report = verify(store, target)
    store.point(target, live, strict=not release, model=report.model, rolled_back=live, **facts)
    return target


def try_out(store: Store, release: str, share: float) -> None:
    """Makes a release that could be served the canary."""
    live = store.current()
    if not 0 <= share <= 1:
        raise RecsysError(f"SHARE {share:g} is no share of the users; pass a number from 0, where nobody sees it, to 1")
    if release == live:
        raise RecsysError(f"release {release} is live already; a canary is another one, see `make releases`")
    verify(store, release)
    store.point_canary(Canary(release, share), live)


def promote(store: Store, checks: Iterable[str], **facts: Any) -> str:
    """Moves `CURRENT` to the canary by the door that every release takes, and takes the canary away. Raises Conflict where the
    champion changed since the canary was made. Where only its lists did, the canary's own may be older, until the next day's."""
    live, canary = store.current(), store.canary()
    if canary is None:
        raise RecsysError("there is no canary to promote; `make canary RELEASE= SHARE=` makes one")
    if canary.release != live:  # else: killed before the canary was taken away
        report = ValidationReport.read(store.report(canary.release))
        if report is None:
            raise RecsysError(f"release {canary.release} has no validation report that can be read; run the flow again")
        publish(store, ValidatedRelease(canary.release, report, _replaced(store, canary)), checks, **facts)
    store.point_canary(None, canary.release)
    return canary.release


def _replaced(store: Store, canary: Canary) -> str | None:
    """The release that a canary was tried beside, or the one with its model that is live by now."""
    if store.current() == canary.champion:
        return canary.champion
    try:
        return same_champion(store, canary.champion)
    except Conflict:
        raise Conflict(
            f"canary {canary.release} was tried beside {canary.champion or 'nothing'}, and {store.current()} is live: another"
            f" champion is to be beaten; make it the canary again, `make canary RELEASE={canary.release} SHARE=`, or train again"
        ) from None
