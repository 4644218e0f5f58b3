"""The function `publish`, by which every release goes live. No flag turns off its conditions."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

from recsys import RecsysError
from recsys.publishing.verification import read_report, verify
from recsys.releases import as_of
from recsys.store import Canary, Conflict, Snapshot, Store
from recsys.validation_report import ValidationReport, require

ATTEMPTS = 3


@dataclass(frozen=True)
class ValidatedRelease:
    """A release with its validation report. replaces: id of the release that was live when it was validated; it may replace no
    other."""

    id: str
    report: ValidationReport
    replaces: str | None


OnConflict = Callable[[Store, ValidatedRelease, Snapshot], ValidatedRelease | None]


def publish(
    store: Store,
    release: ValidatedRelease,
    checks: Iterable[str],
    share: float | None = None,
    on_conflict: OnConflict | None = None,
    **facts: Any,
) -> ValidatedRelease:
    """Makes a release live and returns the release that is live then. With `share`, makes it the canary of that share of the users.

    The validation report must be the release's own, all of `checks` must have results, none of them may block, and the service must
    be able to answer from the release; raises RecsysError otherwise. `facts` are recorded in the history.

    Raises Conflict if another release went live since this one was validated. If `on_conflict` is given, it is called with the live
    release first. It returns the release to publish instead, or None to keep the live one, or raises Conflict.

    Retries are safe: with `on_conflict`, a release that was published before is not published again, even after a rollback.
    """
    checks, wanted = list(checks), release.id
    if on_conflict and share is None and (published := _published(store, release)):
        return published
    for attempt in range(ATTEMPTS):
        try:
            replaced = {} if release.id == wanted else {"instead_of": wanted}
            _move(store, release, checks, share, facts | replaced)
            return release
        except Conflict:
            if on_conflict is None:
                raise
            live = store.load("release", store.current() or release.id)
            following = on_conflict(store, release, live)
            if following is None:
                moves = [move for move in store.history() if move["release"] == live.manifest.id]
                return _went_live(store, moves[-1] if moves else {"release": live.manifest.id, "previous": None})
            if attempt == ATTEMPTS - 1:
                raise
            release = following
    raise AssertionError("the last attempt returns or raises")


def _move(store: Store, release: ValidatedRelease, checks: Iterable[str], share: float | None, facts: dict[str, Any]) -> None:
    require(release.report.checks, checks, "validation report")
    if store.report(release.id) != release.report.to_json():
        raise RecsysError(f"validation_report.json of release {release.id} differs from what the checks wrote; run the flow again")
    verify(store, release.id)
    if share is None:
        store.point(release.id, release.replaces, model=release.report.model, **facts)
    else:
        store.point_canary(Canary(release.id, share), release.replaces)


def _published(store: Store, release: ValidatedRelease) -> ValidatedRelease | None:
    """The release, or the one that was published instead of it, if that happened before; None otherwise."""
    move = next((move for move in store.history() if release.id in (move["release"], move.get("instead_of"))), None)
    if move is None or move["release"] == release.id:
        return release if move else None
    return _went_live(store, move)


def _went_live(store: Store, move: dict[str, Any]) -> ValidatedRelease:
    """The release of a line of the history, with its own validation report."""
    return ValidatedRelease(move["release"], read_report(store, move["release"]), move["previous"])


def follow_champion(store: Store, release: ValidatedRelease, live: Snapshot) -> ValidatedRelease:
    """For `on_conflict`: publishes the same release over the one that is live now. Raises Conflict if that has another model."""
    return replace(release, replaces=same_champion(store, release.replaces))


def give_way(store: Store, release: ValidatedRelease, live: Snapshot) -> ValidatedRelease | None:
    """For `on_conflict`: keeps the live release if its lists are as new as this one's; otherwise as `follow_champion`."""
    if as_of(live) >= as_of(store.load("release", release.id)):
        return None
    return follow_champion(store, release, live)


def same_champion(store: Store, expected: str | None) -> str:
    """The id of the live release, if it has the model of the expected one and nobody rolled back meanwhile. Otherwise raises
    Conflict, because a comparison with another champion is not valid any more."""
    live, moves = store.current(), store.history()
    was, now = (store.find("release", id) if id else None for id in (expected, live))
    last = max((place for place, move in enumerate(moves) if move["release"] == expected), default=-1)
    rolled_back = any("rolled_back" in move for move in moves[last + 1 :])
    if live and was and now and was.parents["model"] == now.parents["model"] and not rolled_back:
        return live
    raise Conflict(
        f"another run published {live} during this run, which compared its lists with {expected or 'an empty store'}; nothing was"
        f" lost: run again to compare them with {live}"
    )
