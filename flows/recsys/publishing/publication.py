"""Publishing: the one way by which a release goes live. Nothing turns its conditions off."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

from recsys import RecsysError
from recsys.publishing.verification import verify
from recsys.releases import as_of
from recsys.store import Canary, Conflict, Snapshot, Store
from recsys.validation_report import ValidationReport, require

ATTEMPTS = 3


@dataclass(frozen=True)
class ValidatedRelease:
    """A release with its validation report, and what was live when it was validated."""

    id: str
    report: ValidationReport
    champion: str | None


OnConflict = Callable[[Store, ValidatedRelease, Snapshot], ValidatedRelease | None]


def publish(
    store: Store,
    release: ValidatedRelease,
    checks: Iterable[str],
    share: float | None = None,
    on_conflict: OnConflict | None = None,
    **facts: Any,
) -> ValidatedRelease:
    """Moves `CURRENT` to a release and returns what is live then, or makes it the canary of a share of the users.

    The release's validation report must be its own, every one of `checks` must have run, none may block, and the service must be
    able to answer from the release. `facts` are written beside the move in the history.

    Raises Conflict if another release went live since this one was validated. With `on_conflict`, that function gets the live
    release first: it returns what to publish instead, or None to leave the live release where it is. It may raise Conflict.

    May be called again after a kill: a release that was published already is not published twice, even after a rollback.
    """
    checks, wanted = list(checks), release.id
    if on_conflict and share is None and (move := _published(store, release.id)):
        return _of_move(store, release, move)
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
                return replace(release, id=live.manifest.id)
            if attempt == ATTEMPTS - 1:
                raise
            release = following
    raise AssertionError("the last attempt returns or raises")


def _move(store: Store, release: ValidatedRelease, checks: Iterable[str], share: float | None, facts: dict[str, Any]) -> None:
    require(release.report.checks, checks, "validation report")
    if store.report(release.id) != release.report.to_json():
        raise RecsysError(f"validation_report.json of release {release.id} is not what its checks wrote; run the flow again")
    verify(store, release.id)
    if share is None:
        store.point(release.id, release.champion, model=release.report.model, **facts)
    else:
        store.point_canary(Canary(release.id, share), release.champion)


def _published(store: Store, release: str) -> dict[str, Any] | None:
    """The move by which a release, or another one instead of it, went live."""
    return next((move for move in store.history() if release in (move["release"], move.get("instead_of"))), None)


def _of_move(store: Store, release: ValidatedRelease, move: dict[str, Any]) -> ValidatedRelease:
    if move["release"] == release.id:
        return release
    return ValidatedRelease(
        move["release"], ValidationReport.read(store.report(move["release"])) or release.report, move["previous"]
    )


def follow_champion(store: Store, release: ValidatedRelease, live: Snapshot) -> ValidatedRelease:
    """For `on_conflict`: the same release, to replace the one that is live now. Raises Conflict if the two champions differ in more
    than their lists."""
    return replace(release, champion=same_champion(store, release.champion))


def give_way(store: Store, release: ValidatedRelease, live: Snapshot) -> ValidatedRelease | None:
    """For `on_conflict`: None if the live lists know as many days, else as `follow_champion`."""
    if as_of(live) >= as_of(store.load("release", release.id)):
        return None
    return follow_champion(store, release, live)


def same_champion(store: Store, expected: str | None) -> str:
    """The release that is live instead of the one expected, where the two differ in their lists alone: the model is the same, and
    nobody rolled back meanwhile. Raises Conflict otherwise, for what was judged against another champion proves nothing."""
    live, moves = store.current(), store.history()
    was, now = (store.find("release", id) if id else None for id in (expected, live))
    last = max((place for place, move in enumerate(moves) if move["release"] == expected), default=-1)
    rolled_back = any("rolled_back" in move for move in moves[last + 1 :])
    if live and was and now and was.parents["model"] == now.parents["model"] and not rolled_back:
        return live
    raise Conflict(
        f"another run published {live} while this one, judged against {expected or 'an empty store'}, was under way: another"
        " champion is to be beaten; nothing was lost: run again to be judged against it"
    )
