"""What a report says of a release in words: its state, its check results, what is missing, where it comes from."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from recsys.store import Manifest, Store
from recsys.validation import CHECKS
from recsys.validation_report import CheckResult, ValidationReport
from reporting.figures import Made


def state_of(release: str, moves: Sequence[Mapping[str, Any]]) -> str:
    """`live`, `published` (and followed by another since), or `not published`."""
    if moves and moves[-1]["release"] == release:
        return "live"
    return "published" if any(move["release"] == release for move in moves) else "not published"


def result(report: ValidationReport | None, state: str) -> str:
    """The report in a sentence."""
    if report is None:
        return f"{state.capitalize()}, without validation report that can be read."
    failed = [one for one in report.results if not one.passed]
    blocks, expected = sum(one.blocks for one in failed), sum(bool(one.expected) for one in failed)
    parts = [
        f"{count(len(report.results) - len(failed), 'check')} passed",
        *([f"{count(blocks, 'block')}"] if blocks else []),
        count(len(failed) - blocks, "warning") + (f" ({expected} expected)" if expected else ""),
    ]
    said = {"live": "Live, published with", "published": "Published, and no longer live, with", "not published": "Not published:"}
    checks = len(silent(report))
    rest = f"; {count(checks, 'check', 'checks')} not run." if checks else "; every check was run."
    return f"{said[state]} {', '.join(parts)}{rest}"


def count(number: int, one: str, many: str = "") -> str:
    """`no warnings`, `1 warning`, `2 warnings`."""
    return f"{number or 'no'} {one if number == 1 else many or one + 's'}"


def missing(features: Manifest | None, made: Made | None, report: ValidationReport | None, release: Manifest) -> Iterator[str]:
    """What is not at hand, and so left out."""
    if made is None:
        yield (
            "the run that made this release is gone or of other code: the other recommenders, the oracle, coverage and stability"
            " are left out"
        )
    if report is None:
        yield "no validation report that can be read lies beside this release: check results and drift are left out"
    if features is None:
        yield f"feature snapshot {release.parents['features']} is gone: slices are left out"


@dataclass(frozen=True)
class Judged:
    """A checks with its check results, what failed first."""

    name: str
    results: list[CheckResult]

    @property
    def counts(self) -> dict[str, int]:
        found = Counter(outcome(one) for one in self.results)
        return {name: found[name] for name in ("blocked", "warned", "passed")}


def outcome(result: CheckResult) -> str:
    return "passed" if result.passed else "blocked" if result.blocks else "warned"


def alternatives(result: CheckResult) -> list[str]:
    """What a check result says besides its message: the setting, and after a block what is suspect and what to run next."""
    setting = f"Setting: {result.setting}." if result.setting else ""
    suspect = f"Suspect: the {result.suspect}. {result.advice}." if result.blocks and result.suspect else ""
    return [part for part in (setting, suspect) if part]


def checks(report: ValidationReport | None) -> list[Judged]:
    """Checks that spoke, those with failures first."""
    order = ("blocked", "warned", "passed")
    found = report.checks if report else {}
    judged = [Judged(name, sorted(results, key=lambda one: order.index(outcome(one)))) for name, results in found.items()]
    return sorted(judged, key=lambda one: (-one.counts["blocked"], -one.counts["warned"]))


def silent(report: ValidationReport | None) -> dict[str, str]:
    """Checks that are registered and did not speak, and why."""
    spoke = report.checks if report else {}
    why = {True: "costly: `make audit` runs it", False: "was not there, or did not end, when this release was made"}
    return {name: why[check.when == "audit"] for name, check in CHECKS.items() if name not in spoke}


@dataclass(frozen=True)
class Ancestor:
    """A snapshot on the way to a release: rows by table, and what it was made from, under dotted names. Empty if it is gone."""

    kind: str
    id: str
    rows: dict[str, int]
    made_from: dict[str, Any]


def lineage(store: Store, release: Manifest) -> list[Ancestor]:
    """raw, features, model, release."""
    features = store.find("features", release.parents["features"])
    found = [_ancestor(store, "raw", features.parents["raw"])] if features else []
    return [*found, *(_ancestor(store, kind, release.parents[kind]) for kind in ("features", "model")), _described(release)]


def _ancestor(store: Store, kind: str, id: str) -> Ancestor:
    manifest = store.find(kind, id)
    return _described(manifest) if manifest else Ancestor(kind, id, {}, {})


def _described(manifest: Manifest) -> Ancestor:
    rows: Counter[str] = Counter()
    for name, file in manifest.files.items():
        if file.rows is not None:
            rows[name.split("/")[0].removesuffix(".parquet")] += file.rows
    return Ancestor(manifest.kind, manifest.id, dict(rows), dict(_flat(manifest.made_from)))


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value
