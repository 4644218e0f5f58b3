"""Holds the releases that the service answers from: the live one and the canary. New ones are taken up without a restart."""

import logging
import threading
import time
import zlib
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from recsys import RecsysError
from recsys.publishing import verified
from recsys.releases import Answer, Reader
from recsys.store import Store

MAX_OTHERS = 2  # further releases that stay open for comparison
MAX_HISTORY = 20  # releases that can be chosen for comparison
RETRY_SECONDS = 60.0  # a refused release is tried again after this time, because the fault may have been the store's
log = logging.getLogger("recsys.serving")


@dataclass(frozen=True)
class CanaryLimits:
    """A canary is ended if it has given at least `answers` answers, and more than the share `failures` of them failed: they were
    errors or poorer than the live ones."""

    answers: int
    failures: float


@dataclass(frozen=True)
class CanaryTrial:
    """The open canary. share: share of the users who see it. With 0, it is asked for all users and shown to nobody."""

    reader: Reader
    share: float

    def takes(self, user_id: str) -> bool:
        return self.share == 0 or (bool(user_id) and in_share(user_id, self.share))


class ReleaseManager:
    """The releases in use.

    `refresh` may run in another thread: each request takes a reader once, so no answer mixes two releases, and a replaced reader
    stays open until its last request is answered. tally: the canary's answers and failures, and its items in common with live
    lists.
    """

    def __init__(self, store: Store, blocked: Collection[str], limits: CanaryLimits):
        self.store, self.blocked, self.limits = store, blocked, limits
        self.current: Reader | None = None
        self.canary: CanaryTrial | None = None
        self.tally: Counter[str] = Counter()
        self.loaded = self.refusals = self.returns = 0
        self._refused: dict[str, float] = {}  # time at which each release was refused
        self._returned = ""  # id of a canary that was ended because of failures
        self._others: dict[str, Reader] = {}
        self._refreshing, self._comparing = threading.Lock(), threading.Lock()

    def refresh(self) -> None:
        """Takes up the releases that CURRENT and the canary pointer name. If one cannot be served, the present one stays."""
        with self._refreshing:
            release = self.store.current()
            if release and not (self.current and self.current.id == release) and (reader := self._open(release)):
                self.current, self.loaded = reader, self.loaded + 1
                log.info("release %s is taken up", release)
            self._follow_canary()

    def _follow_canary(self) -> None:
        pointer = self.store.canary()
        if pointer and pointer.release == self._returned:
            self.store.point_canary(None, self.store.current())  # so that other processes end it too
            pointer = None
        self._returned = ""
        present = self.canary.reader if self.canary and pointer and self.canary.reader.id == pointer.release else None
        reader = present or (self._open(pointer.release) if pointer else None)
        if reader is not present:
            self.tally.clear()
        self.canary = CanaryTrial(reader, pointer.share) if reader and pointer else None

    def _open(self, release: str) -> Reader | None:
        """Opens a release; None if it cannot be served, or was refused within the last RETRY_SECONDS."""
        if time.monotonic() - self._refused.get(release, -RETRY_SECONDS) < RETRY_SECONDS:
            return None
        try:
            reader = Reader(verified(self.store, release), self.blocked)
            reader.check()
            return reader
        except Exception as error:  # any fault of a release must not stop the service
            self._refused[release] = time.monotonic()
            self.refusals += 1
            log.error("release %r is refused: %s", release, error)
            return None
        finally:
            self.store.forget(
                "release", release
            )  # its files are open, so the cached copy can go; a long-lived service would fill the disk

    def other(self, release: str) -> Reader | None:
        """Opens a release of `history` for comparison with the live one; None if it is not there or cannot be served."""
        with self._comparing:
            known = release in [entry["release"] for entry in self.history()]
            if known and release not in self._others and (reader := self._open(release)):
                self._others = dict([*self._others.items()][1 - MAX_OTHERS :]) | {release: reader}
            return self._others.get(release)

    def history(self) -> list[dict[str, Any]]:
        """The canary and the releases that were live and still exist, newest first."""
        current, canary = self.current, self.canary
        ids = [canary.reader.id] if canary else []
        ids = list(dict.fromkeys([*ids, *(move["release"] for move in reversed(self.store.history()))]))[:MAX_HISTORY]
        manifests = [manifest for id in ids if (manifest := self.store.readable("release", id))]
        live = current.id if current else ""
        return [{"release": made.id, "model": made.made_from["recommender"], "live": made.id == live} for made in manifests]

    def ask(self, user_id: str, ask: Callable[[Reader], Answer], is_filtered: bool = False) -> tuple[Reader, Answer]:
        """The answer for a user, and the release that gives it: the live one or the canary. is_filtered: whether the request has a
        filter. What it leaves may differ between good releases, so that a poorer answer of the canary is then no failure. Raises
        RecsysError if nothing is live."""
        current, canary = self.current, self.canary
        if current is None:
            raise RecsysError("no release is live; `make run` makes one")
        answer = ask(current)
        if canary is None or not canary.takes(user_id):
            return current, answer
        tried = self._try(canary.reader, ask)
        if tried is None or (is_poorer(tried, answer) and not is_filtered):
            self._fail(canary.reader)
            return current, answer
        live_items, items = set(current.ids(answer)), set(canary.reader.ids(tried))
        self.tally.update(listed=len(live_items), common=len(live_items & items))
        return (canary.reader, tried) if canary.share else (current, answer)

    def _try(self, canary: Reader, ask: Callable[[Reader], Answer]) -> Answer | None:
        self.tally["answers"] += 1
        try:
            return ask(canary)
        except Exception:
            log.exception("canary %s failed", canary.id)
            return None

    def _fail(self, canary: Reader) -> None:
        """Counts a failure, and ends the canary if there are too many."""
        self.tally["failures"] += 1
        answers, failures = self.tally["answers"], self.tally["failures"]
        if self.canary and answers >= self.limits.answers and failures > self.limits.failures * answers:
            self._returned, self.canary, self.returns = canary.id, None, self.returns + 1
            log.error("canary %s is ended: %d of %d answers failed", canary.id, failures, answers)


def is_poorer(answer: Answer, live: Answer) -> bool:
    """Whether an answer has fewer items than the live one, or is not personal although the live one is."""
    return len(answer.items) < len(live.items) or (live.source == "personal" != answer.source)


def in_share(user_id: str, share: float) -> bool:
    """Whether a user belongs to a share of the users. The same users always do, and a larger share contains a smaller one."""
    return zlib.crc32(user_id.encode()) < share * 2**32
