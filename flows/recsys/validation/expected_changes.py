"""Expected changes: days on which people know that the data will differ, such as Christmas.

On these days, checks that would block a release because of such a change only warn. `make expect` adds a change to expected.jsonl,
which is kept in git, and to the store, where deployed flows find it without a new deployment.
"""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, Self

from recsys import RecsysError
from recsys.settings import Settings, parse_day
from recsys.store import Store

log = logging.getLogger(__name__)

FIELDS = ("dataset", "from", "to", "kind", "because")
MAX_DAYS = 92  # a season; for a longer change, the threshold of the check should be changed instead
FOLDER = "expected"  # in the store

WEEK, MONTH = 7, 28  # days before `as_of` that a check looks at, so it can block again this many days after a change has ended

_VOLUME = {"history.volume": WEEK, "history.users": WEEK}
_LISTS = {
    "list_stability.list_stability_items": MONTH,
    "list_stability.list_stability_coverage": MONTH,
    "list_stability.list_stability_popularity": MONTH,
}

# For each kind of change, the check results that then only warn, as <check>.<check result>. All of them compare data or lists with
# those of earlier days. Checks of released files, models and raw data are not listed: no expected change explains a fault there.
KINDS: dict[str, dict[str, int]] = {
    "volume": _VOLUME | _LISTS | {"drift.feature_drift": MONTH},
    "catalogue": _LISTS
    | {
        "history.catalogue": MONTH,
        "history.copies": MONTH,
        "history.known_items": MONTH,
        "history.known_histories": MONTH,
        "history.mix": MONTH,
        "drift.catalogue_turnover": MONTH,
    },
    "closed": _VOLUME | {"history.hours": WEEK, "freshness.freshness": WEEK},
    "price": {"history.prices": MONTH, "drift.feature_drift": MONTH},
}


@dataclass(frozen=True)
class ExpectedChange:
    """Days from `first` to `last`, both included, on which a dataset may differ in one way."""

    dataset: str
    first: date
    last: date
    kind: str
    because: str

    def __str__(self) -> str:
        return f"{self.because}, {self.first} to {self.last}"

    @property
    def key(self) -> str:
        """Identifies a change by dataset, days and kind. Two changes with different reasons but the same key are one change."""
        return f"{self.dataset}_{self.first}_{self.last}_{self.kind}"

    @classmethod
    def read(cls, values: Mapping[str, Any], where: str) -> Self:
        """Builds a change from FIELDS as texts. Raises RecsysError naming the invalid field; `where` starts its message."""
        first, last = (parse_day(f"{where}: {name.upper()}", str(values[name])) for name in ("from", "to"))
        if last < first:
            raise RecsysError(f"{where}: TO {last} is before FROM {first}; exchange them")
        if (days := (last - first).days + 1) > MAX_DAYS:
            raise RecsysError(
                f"{where}: FROM {first} TO {last} are {days} days, and a change may last {MAX_DAYS} at most; if the data stay like"
                " this, change the settings that the check results name"
            )
        if values["kind"] not in KINDS:
            raise RecsysError(f'{where}: KIND is "{values["kind"]}"; pass one of {", ".join(KINDS)}')
        because = " ".join(str(values["because"]).split())
        if not because:
            raise RecsysError(f'{where}: BECAUSE is not given; pass a reason for the reports, such as BECAUSE="Christmas"')
        return cls(values["dataset"], first, last, values["kind"], because)

    def to_values(self) -> dict[str, str]:
        texts = (self.dataset, self.first.isoformat(), self.last.isoformat(), self.kind, self.because)
        return dict(zip(FIELDS, texts, strict=True))

    def softens(self, check: str, as_of: date, today: date) -> bool:
        """Whether a check result only warns because of this change: the kind applies to it, and it looks at one of these days.
        `check`: its name, as <check>.<check result>."""
        if check not in KINDS[self.kind]:
            return False
        first, last = window(check, self.kind, as_of, today)
        return self.first <= last and first <= self.last


def window(check: str, kind: str, as_of: date, today: date) -> tuple[date, date]:
    """The first and the last day that a check looks at. These end before `as_of`, except for freshness, which ends today."""
    last = today if check == "freshness.freshness" else as_of - timedelta(days=1)
    return last - timedelta(days=KINDS[kind][check] - 1), last


def propose(check: str, as_of: date, today: date, since: str = "") -> str:
    """Variables for `make expect` with which a check only warns; empty if no kind of change applies to it. since: first day of the
    change, as YYYY-MM-DD; without it, all days that the check looks at are proposed."""
    kind = next((kind for kind, checks in KINDS.items() if check in checks), None)
    if kind is None:
        return ""
    first, last = window(check, kind, as_of, today)
    return f"FROM={max(since, str(first))} TO={last} KIND={kind} BECAUSE='...'"


def parse(text: str) -> list[dict[str, str]]:
    """Parses expected.jsonl into one dict of texts per change. Raises RecsysError naming the first invalid line."""
    return [_parse_line(line, f"expected.jsonl, line {number}") for number, line in enumerate(text.splitlines(), 1) if line.strip()]


def _parse_line(line: str, where: str) -> dict[str, str]:
    try:
        values = json.loads(line)
    except json.JSONDecodeError as error:
        raise RecsysError(f"{where} cannot be read: {error}; correct that line, or add changes with `make expect`") from None
    if not isinstance(values, dict) or values.keys() != set(FIELDS) or not all(isinstance(text, str) for text in values.values()):
        raise RecsysError(f"{where} is {line.strip()}; it takes {', '.join(FIELDS)}, each a text")
    return ExpectedChange.read(values, where).to_values()


def rewrite(text: str, change: ExpectedChange, off: bool = False) -> str:
    """Returns the text of expected.jsonl with a change as its last line, or without it if `off`. Other lines stay as they are."""
    others = [line for line in text.splitlines() if not line.strip() or ExpectedChange.read(json.loads(line), "").key != change.key]
    added = [] if off else [json.dumps(change.to_values(), ensure_ascii=False)]
    return "".join(f"{line}\n" for line in [*others, *added])


def record(store: Store, change: ExpectedChange, off: bool = False) -> None:
    """Writes a change to the store as its own object. With `off` the change no longer applies, even if a deployed expected.jsonl
    still contains it."""
    data = json.dumps(change.to_values() | {"off": off}, ensure_ascii=False).encode()
    store.update(f"{FOLDER}/{change.key}.json", lambda known: data)


def known(store: Store, settings: Settings) -> list[ExpectedChange]:
    """The changes of expected.jsonl and of the store, sorted by first day. If both contain a change, the store's is used."""
    committed = [ExpectedChange.read(values, "expected.jsonl") for values in settings.expected]
    found: dict[str, ExpectedChange | None] = {change.key: change for change in committed}
    for name in store.notes(FOLDER):
        try:
            values = json.loads(store.note(name) or b"")
            change = ExpectedChange.read(values, name)
            found[change.key] = None if values["off"] else change
        except (ValueError, LookupError, TypeError, RecsysError) as error:
            log.warning("%s in %s cannot be read and is ignored: %s", name, store.backend, error)
    return sorted((change for change in found.values() if change), key=lambda change: (change.first, change.key))
