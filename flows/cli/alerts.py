"""Alerts: one hook that tells people when a flow failed for good, or what is live does badly. Never raises: a broken webhook must
not hide what it should tell."""

import json
import logging
import sys
import urllib.request
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from recsys.settings import AlertSettings
from recsys.store import Conflict, Store, digest
from recsys.validation_report import CheckResult

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Alert:
    """`run` is what to look at: flow/run/step in Metaflow. `folded`: how often the same was not told since the last time."""

    flow: str
    step: str
    reason: str
    run: str
    results: tuple[CheckResult, ...] = ()
    folded: int = 0

    @property
    def key(self) -> str:
        """The same for what people need not be told twice."""
        return f"alerts/{digest([self.flow, self.step, self.reason])}.json"

    def to_text(self) -> str:
        lines = [f"ALERT {self.flow}/{self.step}: {self.reason}", f"look at {self.run}"]
        lines += [f"  {result.explanation}" for result in self.results]
        return "\n".join(lines + ([f"  {self.folded} more like this since the last alert"] if self.folded else []))


def send(alert: Alert, store: Store | None, alerts: AlertSettings, root: Path, now: datetime | None = None) -> bool:
    """Tells an alert, unless the same was told lately: then it is counted in the store, and told with the next. Returns whether
    it was told. A relative file lies below `root`."""
    folded = fold(alert, store, timedelta(hours=alerts.repeat_hours), now or datetime.now(UTC)) if store else 0
    if folded is None:
        return False
    try:
        deliver(replace(alert, folded=folded), alerts, root)
    except Exception:
        log.exception("the alert could not be sent: %s", alert.to_text())
        if store:
            _forget(alert, folded + 1, store)
        return False
    return True


def fold(alert: Alert, store: Store, repeat: timedelta, now: datetime) -> int | None:
    """How many were folded since the last one; None if this one is. The store keeps it, for the next may come of another machine.
    Where the store does not answer, people are rather told twice."""
    found: list[int | None] = []

    def count(known: bytes | None) -> bytes:
        seen: dict[str, Any] = json.loads(known) if known else {"told": "", "folded": 0}
        late = not seen["told"] or now - datetime.fromisoformat(seen["told"]) >= repeat
        found.append(seen["folded"] if late else None)
        return json.dumps({"told": now.isoformat(), "folded": 0} if late else seen | {"folded": seen["folded"] + 1}).encode()

    try:
        store.update(alert.key, count)
    except Conflict:  # another container told the same just now
        return None
    except Exception:
        log.exception("the store does not tell what was told before")
        return 0
    return found[0]


def _forget(alert: Alert, folded: int, store: Store) -> None:
    """After a failed delivery, the next alert counts what this one could not send."""
    try:
        store.update(alert.key, lambda known: json.dumps({"told": "", "folded": folded}).encode())
    except Exception:
        log.exception("the store does not take that an alert was not told")


def deliver(alert: Alert, alerts: AlertSettings, root: Path) -> None:
    """To standard output, a line of JSON to a file, or the same to a webhook."""
    if alerts.to == "stdout":
        sys.stdout.write(alert.to_text() + "\n")
        return
    data = json.dumps(asdict(alert) | {"text": alert.to_text()}, ensure_ascii=False)
    if not alerts.to.startswith(("https://", "http://")):
        file = root / alerts.to
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("a") as lines:
            lines.write(data + "\n")
        return
    request = urllib.request.Request(alerts.to, data.encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=alerts.timeout_seconds):
        pass
