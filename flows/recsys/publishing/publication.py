"""Publishing: checks validation report and moves `CURRENT`. The one door to production, and nothing turns its lock off."""

from collections.abc import Iterable
from typing import Any

from recsys import RecsysError
from recsys.publishing.verification import verify
from recsys.store import Canary, Conflict, Store
from recsys.validation_report import ValidationReport, require


def publish(
    store: Store,
    release: str,
    report: ValidationReport,
    expected: str | None,
    checks: Iterable[str],
    share: float | None = None,
    **facts: Any,
) -> None:
    """Moves `CURRENT` to a release, if its validation report is its own, every one of the checks has spoken, nothing blocks
    and the service can answer from it. `expected` is what was live when it was judged: if that has changed, raises Conflict.
    With a share of the users, the release becomes the canary instead. `facts` stand beside the move in the history."""
    require(report.checks, checks, "report")
    if store.report(release) != report.to_json():
        raise RecsysError(f"validation_report.json of release {release} is not what its checks wrote; run the flow again")
    verify(store, release)
    if share is None:
        store.point(release, expected, model=report.model, **facts)
    else:
        store.point_canary(Canary(release, share), expected)


def published(store: Store, release: str) -> dict[str, Any] | None:
    """The move by which a release went live, rolled back since or not, or another one instead of it, with lists made again: a step
    that is repeated after a kill finds what it did."""
    return next((move for move in store.history() if release in (move["release"], move.get("instead_of"))), None)


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
