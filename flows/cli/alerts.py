"""Alerts: tells people that a flow failed after all retries, or that the live release performs badly. `send` never raises, so that
a broken webhook does not hide the failure that it should report."""

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
    """run: the Metaflow path flow/run/step to look at. folded: number of equal alerts that were not sent since the last one."""

    flow: str
    step: str
    reason: str
    run: str
    results: tuple[CheckResult, ...] = ()
    folded: int = 0

    @property
    def key(self) -> str:
        """Name of the alert's record in the store. Alerts with the same key are not sent again within repeat_hours."""
        return f"alerts/{digest([self.flow, self.step, self.reason])}.json"

    def to_text(self) -> str:
        lines = [
            f"ALERT {self.flow}/{self.step}: {self.reason}",
            f"look at {self.run}",
            *(f"  {result.explanation}" for result in self.results),
            *([f"  {self.folded} more like this since the last alert"] if self.folded else []),
        ]
        return "\n".join(lines)


def send(alert: Alert, store: Store | None, alerts: AlertSettings, root: Path, now: datetime | None = None) -> bool:
    """Sends an alert and returns whether it was sent. If an equal one was sent within repeat_hours, it is only counted in the
    store, and the next alert reports the count. root: folder that a relative file of alerts.to is in."""
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
    """Counts an alert in the store, because the next one may come from another machine. Returns the number of equal alerts that
    were not sent, or None if this one should not be sent either. If the store cannot be read, the alert is sent."""
    counts: list[int | None] = []

    def count(known: bytes | None) -> bytes:
        record: dict[str, Any] = json.loads(known) if known else {"told": "", "folded": 0}
        is_due = not record["told"] or now - datetime.fromisoformat(record["told"]) >= repeat
        counts.append(record["folded"] if is_due else None)
        return json.dumps({"told": now.isoformat(), "folded": 0} if is_due else record | {"folded": record["folded"] + 1}).encode()

    try:
        store.update(alert.key, count)
    except Conflict:  # another container has just sent the same alert
        return None
    except Exception:
        log.exception("the store cannot be read, so this alert may have been sent before")
        return 0
    return counts[0]


def _forget(alert: Alert, folded: int, store: Store) -> None:
    """After a failed delivery, resets the record, so that the next alert is sent and reports the number of unsent ones."""
    try:
        store.update(alert.key, lambda known: json.dumps({"told": "", "folded": folded}).encode())
    except Exception:
        log.exception("the store cannot record that an alert was not sent")


def deliver(alert: Alert, alerts: AlertSettings, root: Path) -> None:
    """Writes an alert to standard output, or sends it as JSON to a file or a webhook."""
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
