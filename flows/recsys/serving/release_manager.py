"""What is served now: the release that CURRENT points at, and the canary's beside it. Swapped inside the process."""

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

OTHERS = 2  # releases besides, that stay open for comparison
HISTORY = 20  # of them, that can be chosen
RETRY_SECONDS = 60.0  # after which a refused release is looked at again: the store may have been what was broken
log = logging.getLogger("recsys.serving")


@dataclass(frozen=True)
class Patience:
    """A canary is sent back once, of at least so many answers, more than this share were errors or poorer than the live ones."""

    answers: int
    failures: float


@dataclass(frozen=True)
class CanaryTrial:
    """A canary that is open. share: of the users who see it; at 0 it is asked beside, and never shown."""

    reader: Reader
    share: float

    def takes(self, user_id: str) -> bool:
        return self.share == 0 or (bool(user_id) and in_share(user_id, self.share))


class ReleaseManager:
    """The releases in use. `refresh` may run in a thread of its own: a request takes its reader once, so no answer mixes two
    releases, and a reader that was replaced lives until its last request is answered."""

    def __init__(self, store: Store, blocked: Collection[str], patience: Patience):
        self.store, self.blocked, self.patience = store, blocked, patience
        self.current: Reader | None = None
        self.canary: CanaryTrial | None = None
        self.tally: Counter[str] = Counter()  # the canary's answers, failures, and items in common with the live lists
        self.loaded = self.refusals = self.returns = 0
        self._refused: dict[str, float] = {}  # releases that could not be served, and when
        self._returned = ""  # the canary that was sent back
        self._others: dict[str, Reader] = {}
        self._refreshing, self._comparing = threading.Lock(), threading.Lock()

    def refresh(self) -> None:
        """Takes up what the pointers say. What cannot be served is refused, and what is live goes on."""
        with self._refreshing:
            release = self.store.current()
            if release and not (self.current and self.current.id == release) and (reader := self._open(release)):
                self.current, self.loaded = reader, self.loaded + 1
                log.info("release %s is taken up", release)
            self._follow_canary()

    def _follow_canary(self) -> None:
        pointer = self.store.canary()
        if pointer and pointer.release == self._returned:
            self.store.point_canary(None, self.store.current())  # nobody else need try it
            pointer = None
        self._returned = ""
        held = self.canary.reader if self.canary and pointer and self.canary.reader.id == pointer.release else None
        reader = held or (self._open(pointer.release) if pointer else None)
        if reader is not held:
            self.tally.clear()
        self.canary = CanaryTrial(reader, pointer.share) if reader and pointer else None

    def _open(self, release: str) -> Reader | None:
        """None if it cannot be served, or could not a moment ago."""
        if time.monotonic() - self._refused.get(release, -RETRY_SECONDS) < RETRY_SECONDS:
            return None
        try:
            reader = Reader(verified(self.store, release), self.blocked)
            reader.check()
            return reader
        except Exception as error:  # whatever is wrong with a release, the service goes on
            self._refused[release] = time.monotonic()
            self.refusals += 1
            log.error("release %r is refused: %s", release, error)
            return None
        finally:
            self.store.forget("release", release)  # its files are open: a service lives longer than releases, and a disk is small

    def other(self, release: str) -> Reader | None:
        """One of the releases in `history`, to be held against the live one; none if it cannot be served."""
        with self._comparing:
            known = release in [one["release"] for one in self.history()]
            if known and release not in self._others and (reader := self._open(release)):
                self._others = dict([*self._others.items()][1 - OTHERS :]) | {release: reader}
            return self._others.get(release)

    def history(self) -> list[dict[str, Any]]:
        """The canary and the releases that were live last and still are there, newest first."""
        current, canary = self.current, self.canary
        ids = [canary.reader.id] if canary else []
        ids = list(dict.fromkeys([*ids, *(move["release"] for move in reversed(self.store.history()))]))[:HISTORY]
        manifests = [manifest for id in ids if (manifest := self.store.readable("release", id))]
        live = current.id if current else ""
        return [{"release": one.id, "model": one.made_from["recommender"], "live": one.id == live} for one in manifests]

    def ask(self, user_id: str, question: Callable[[Reader], Answer]) -> tuple[Reader, Answer]:
        """The answer of the release that this user sees, and that release."""
        current, canary = self.current, self.canary
        if current is None:
            raise RecsysError("no release is live; `make run` makes one")
        answer = question(current)
        if canary is None or not canary.takes(user_id):
            return current, answer
        tried = self._try(canary.reader, question)
        if tried is None or poorer(tried, answer):
            self._fail(canary.reader)
            return current, answer
        mine, others = (
            {reader.item_ids[item] for item in one.items} for reader, one in ((current, answer), (canary.reader, tried))
        )
        self.tally.update(listed=len(mine), common=len(mine & others))
        return (canary.reader, tried) if canary.share else (current, answer)

    def _try(self, canary: Reader, question: Callable[[Reader], Answer]) -> Answer | None:
        self.tally["answers"] += 1
        try:
            return question(canary)
        except Exception:
            log.exception("canary %s failed", canary.id)
            return None

    def _fail(self, canary: Reader) -> None:
        """Counts a failure, and sends the canary back once they are too many."""
        self.tally["failures"] += 1
        answers, failures = self.tally["answers"], self.tally["failures"]
        if self.canary and answers >= self.patience.answers and failures > self.patience.failures * answers:
            self._returned, self.canary, self.returns = canary.id, None, self.returns + 1
            log.error("canary %s is sent back: %d of %d answers failed", canary.id, failures, answers)


def poorer(answer: Answer, live: Answer) -> bool:
    """Fewer items than the live answer, or for everybody where that is personal."""
    return len(answer.items) < len(live.items) or (live.source == "personal" != answer.source)


def in_share(user_id: str, share: float) -> bool:
    """Whether a user belongs to a share of them: always the same ones, and those of a smaller share are in a larger one."""
    return zlib.crc32(user_id.encode()) < share * 2**32
