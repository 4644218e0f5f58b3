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
from recsys.serving.reader import Answer, Reader
from recsys.store import Store
from recsys.verifying import verified

OTHERS = 2  # releases besides, that stay open for comparison
RETRY_SECONDS = 60.0  # after which a refused release is looked at again: the store may have been what was broken
log = logging.getLogger("recsys.serving")


@dataclass(frozen=True)
class Patience:
    """A canary is sent back once, of at least so many answers, more than this share were errors or poorer than the live ones."""

    answers: int
    failures: float


class Live:
    """The releases in use. `refresh` may run in a thread of its own: a request takes its reader once, so no answer mixes two
    releases, and a reader that was replaced lives until its last request is answered."""

    def __init__(self, store: Store, blocked: Collection[str], patience: Patience):
        self.store, self.blocked, self.patience = store, blocked, patience
        self.current: Reader | None = None
        self.canary: Reader | None = None
        self.share = 0.0  # of the users who see the canary; at 0 it is asked beside, and never shown
        self.tally: Counter[str] = Counter()  # the canary's answers, failures, and items in common with the live lists
        self.loaded = self.refusals = 0
        self._refused: dict[str, float] = {}  # releases that could not be served, and when
        self._returned = ""  # the canary that was sent back
        self._others: dict[str, Reader] = {}
        self._lock = threading.Lock()

    def refresh(self) -> None:
        """Takes up what the pointers say. What cannot be served is refused, and what is live goes on."""
        with self._lock:
            self.current = self._take(self.store.current(), self.current)
            pointer = self.store.canary()
            wanted = pointer.release if pointer and pointer.release != self._returned else None
            canary = self._take(wanted, self.canary if wanted else None)
            if canary is not self.canary:
                self.tally.clear()
            self.canary, self.share = canary, pointer.share if pointer else 0.0

    def _take(self, release: str | None, held: Reader | None) -> Reader | None:
        waits = time.monotonic() - self._refused.get(release or "", -RETRY_SECONDS) < RETRY_SECONDS
        if release is None or waits or (held and held.id == release):
            return held
        try:
            reader = self._open(release)
        except Exception as error:  # whatever is wrong with a release, the service goes on
            self._refused[release] = time.monotonic()
            self.refusals += 1
            log.error("release %s is refused, %s stays: %s", release, held.id if held else "nothing", error)
            return held
        self.loaded += 1
        log.info("release %s is taken up", release)
        return reader

    def _open(self, release: str) -> Reader:
        snapshot = verified(self.store, release)
        reader = Reader(snapshot, self.blocked)
        reader.check()
        self.store.forget(snapshot)  # its files are open: a service lives longer than releases, and a disk is small
        return reader

    def other(self, release: str) -> Reader:
        """Any release that could be served, to be held against the live one."""
        with self._lock:
            if release not in self._others:
                self._others = dict([*self._others.items()][1 - OTHERS :]) | {release: self._open(release)}
            return self._others[release]

    def history(self) -> list[dict[str, Any]]:
        """Releases that were live and still are there, newest first."""
        ids = dict.fromkeys(move["release"] for move in reversed(self.store.history()))
        manifests = [manifest for id in ids if (manifest := self.store.find("release", id))]
        live = self.current.id if self.current else ""
        return [{"release": found.id, "model": found.made_from["recommender"], "live": found.id == live} for found in manifests]

    def ask(self, user_id: str, question: Callable[[Reader], Answer]) -> tuple[Reader, Answer]:
        """The answer of the release that this user sees, and that release."""
        current, canary = self.current, self.canary
        if current is None:
            raise RecsysError("no release is live; `make run` makes one")
        answer = question(current)
        if canary is None or not (self.share == 0 or in_share(user_id, self.share)):
            return current, answer
        tried = self._try(canary, question)
        if tried is None or poorer(tried, answer):
            self._fail(canary)
            return current, answer
        self.tally["listed"] += len(answer.items)
        self.tally["common"] += len(
            {current.item_ids[item] for item in answer.items} & {canary.item_ids[item] for item in tried.items}
        )
        return (canary, tried) if self.share else (current, answer)

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
        if answers >= self.patience.answers and failures > self.patience.failures * answers:
            self._returned, self.canary = canary.id, None
            log.error("canary %s is sent back: %d of %d answers failed", canary.id, failures, answers)


def poorer(answer: Answer, live: Answer) -> bool:
    """Fewer items than the live answer, or for everybody where that is personal."""
    return len(answer.items) < len(live.items) or (live.source == "personal" != answer.source)


def in_share(user_id: str, share: float) -> bool:
    """Whether a user belongs to a share of them: always the same ones, and those of a smaller share are in a larger one."""
    return zlib.crc32(user_id.encode()) < share * 2**32
