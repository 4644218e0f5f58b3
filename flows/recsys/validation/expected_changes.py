"""Expected changes: days on which people know that the data differ, such as Christmas. On these days, checks that would stop a
release for such a change only warn. `make expect` adds a change to expected.jsonl, which is kept in git, and to the store, where
deployed flows find it without a new deployment."""

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
MOST_DAYS = 92  # a season; what lasts longer is no exception, and a threshold should be changed
FOLDER = "expected"  # in the store

WEEK, MONTH = 7, 28  # days before `as_of` that a check looks at: it blocks again so long after the last day of a change

_VOLUME = {"history.volume": WEEK, "history.users": WEEK}
_LISTS = {
    "list_stability.list_stability_items": MONTH,
    "list_stability.list_stability_coverage": MONTH,
    "list_stability.list_stability_popularity": MONTH,
}

# Kinds of change, each with the checks that it softens, as <check>.<check>. They compare data or lists with those of earlier days.
# Checks on released files, on models and on raw data have no place here: a fault there is a fault, whatever people expect.
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
        """The same for two changes of the same days and kind, which differ in words alone."""
        return f"{self.dataset}_{self.first}_{self.last}_{self.kind}"

    @classmethod
    def read(cls, values: Mapping[str, Any], where: str) -> Self:
        """From its fields as texts. Raises RecsysError naming what is wrong; `where` says whose fields they are."""
        first, last = (parse_day(f"{where}: {name.upper()}", str(values[name])) for name in ("from", "to"))
        if last < first:
            raise RecsysError(f"{where}: TO {last} is before FROM {first}; exchange them")
        if (days := (last - first).days + 1) > MOST_DAYS:
            raise RecsysError(
                f"{where}: FROM {first} TO {last} are {days} days, and at most {MOST_DAYS} can be expected; if the data stay like"
                " this, change the settings that the checks name"
            )
        if values["kind"] not in KINDS:
            raise RecsysError(f'{where}: KIND is "{values["kind"]}"; pass one of {", ".join(KINDS)}')
        because = " ".join(str(values["because"]).split())
        if not because:
            raise RecsysError(f'{where}: BECAUSE is not given; pass BECAUSE="Christmas", for the reports that show it')
        return cls(values["dataset"], first, last, values["kind"], because)

    def to_values(self) -> dict[str, str]:
        texts = (self.dataset, self.first.isoformat(), self.last.isoformat(), self.kind, self.because)
        return dict(zip(FIELDS, texts, strict=True))

    def softens(self, check: str, as_of: date, today: date) -> bool:
        """Whether a check, named <check>.<check>, is softened by this kind of change and looks at one of its days."""
        if check not in KINDS[self.kind]:
            return False
        first, last = window(check, self.kind, as_of, today)
        return self.first <= last and first <= self.last


def window(check: str, kind: str, as_of: date, today: date) -> tuple[date, date]:
    """The first and the last day that a check looks at. Freshness alone looks at the days since the last event."""
    last = today if check == "freshness.freshness" else as_of - timedelta(days=1)
    return last - timedelta(days=KINDS[kind][check] - 1), last


def propose(check: str, as_of: date, today: date) -> str:
    """What to pass to `make expect` so that a check only warns; empty if no kind of change softens it."""
    kind = next((kind for kind, checks in KINDS.items() if check in checks), None)
    if kind is None:
        return ""
    first, last = window(check, kind, as_of, today)
    return f"FROM={first} TO={last} KIND={kind} BECAUSE='...'"


def parse(text: str) -> list[dict[str, str]]:
    """The changes of expected.jsonl as plain values; raises naming a line that is none."""
    return [_parse_line(line, f"expected.jsonl, line {number}") for number, line in enumerate(text.splitlines(), 1) if line.strip()]


def _parse_line(line: str, where: str) -> dict[str, str]:
    try:
        values = json.loads(line)
    except json.JSONDecodeError as error:
        raise RecsysError(f"{where} cannot be read: {error}; mend that line, or add changes by `make expect`") from None
    if not isinstance(values, dict) or values.keys() != set(FIELDS) or not all(isinstance(one, str) for one in values.values()):
        raise RecsysError(f"{where} is {line.strip()}; it takes {', '.join(FIELDS)}, each a text")
    return ExpectedChange.read(values, where).to_values()


def rewrite(text: str, change: ExpectedChange, off: bool = False) -> str:
    """expected.jsonl with a change as its last line, or without it. Other lines stay as they are."""
    kept = [line for line in text.splitlines() if not line.strip() or ExpectedChange.read(json.loads(line), "").key != change.key]
    added = [] if off else [json.dumps(change.to_values(), ensure_ascii=False)]
    return "".join(f"{line}\n" for line in [*kept, *added])


def record(store: Store, change: ExpectedChange, off: bool = False) -> None:
    """Keeps a change in the store, an object of its own. With `off` it does not count any more, even where it is deployed."""
    data = json.dumps(change.to_values() | {"off": off}, ensure_ascii=False).encode()
    store.update(f"{FOLDER}/{change.key}.json", lambda known: data)


def known(store: Store, settings: Settings) -> list[ExpectedChange]:
    """The changes of expected.jsonl and of the store, by their days. Where both have one, the store counts: it is younger."""
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
