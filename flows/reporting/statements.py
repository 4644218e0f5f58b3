"""The sentences of a report about a release: its state, its check results, what the report lacks, where the release comes from."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

from recsys.releases import changes
from recsys.store import Manifest, Store
from recsys.validation import CHECKS
from recsys.validation_report import CheckResult, ValidationReport


def state_of(store: Store, release: str) -> str:
    """Returns the state of a release: `live`, `canary`, `published` (it was live, another one is now) or `not published`."""
    moves, canary = store.history(), store.canary()
    if moves and moves[-1]["release"] == release:
        return "live"
    if canary and canary.release == release:
        return "canary"
    return "published" if any(move["release"] == release for move in moves) else "not published"


def last_release(store: Store, release: str) -> str | None:
    """Returns the id of the release that was live before a release, or is live if that one never was; None if it is the first."""
    return next((move["previous"] for move in store.history() if move["release"] == release), store.current())


def result(report: ValidationReport | None, state: str) -> str:
    """Sums a validation report up in a sentence: the state of its release, and how many checks passed, warned and blocked."""
    if report is None:
        return f"{state.capitalize()}, without validation report that can be read."
    failed = [one for one in report.results if not one.passed]
    blocks, expected = sum(one.blocks for one in failed), sum(bool(one.expected) for one in failed)
    parts = [
        f"{count(len(report.results) - len(failed), 'check')} passed",
        *([f"{count(blocks, 'block')}"] if blocks else []),
        count(len(failed) - blocks, "warning") + (f" ({expected} expected)" if expected else ""),
    ]
    said = {
        "live": "Live, published with",
        "canary": "A canary, with",
        "published": "Published, and no longer live, with",
        "not published": "Not published:",
    }
    checks = len(silent(report))
    rest = f"; {count(checks, 'check', 'checks')} not run." if checks else "; every check was run."
    return f"{said[state]} {', '.join(parts)}{rest}"


def count(number: int, one: str, many: str = "") -> str:
    """Returns a number with its noun, such as `no warnings`, `1 warning` or `2 warnings`."""
    return f"{number or 'no'} {one if number == 1 else many or one + 's'}"


def missing(report: ValidationReport | None) -> Iterator[str]:
    """Yields a sentence for each part that the HTML report lacks, because its release has no such data."""
    if report is None:
        yield "no validation report that can be read lies beside this release: metrics, check results and drift are left out"
    elif not report.measurements:
        yield "the validation report of this release holds no metrics; another version of the code wrote it"


def refused(report: ValidationReport | None) -> list[tuple[str, str]]:
    """Returns the reasons why a release was not published, each with what to do."""
    blocking = [one for one in report.results if one.blocks] if report else []
    again = "The run ended before it published, or another release went live meanwhile", "Run again, with `make run`"
    return [(one.message, one.advice or "Mend what it names, then `make run`") for one in blocking] or [again]


def outcome(result: CheckResult) -> str:
    return "passed" if result.passed else "blocked" if result.blocks else "warned"


def alternatives(result: CheckResult) -> list[str]:
    """Returns the sentences that follow the message of a check result: its setting and, after a block, the suspect and the
    commands that lead on."""
    setting = f"Setting: {result.setting}." if result.setting else ""
    suspect = f"Suspect: the {result.suspect}. {result.advice}." if result.blocks and result.suspect else ""
    return [part for part in (setting, suspect) if part]


def by_check(report: ValidationReport | None, passed: bool) -> dict[str, list[CheckResult]]:
    """Returns the check results that passed, or those that did not, by check; those that block come first."""
    found = {name: [one for one in results if one.passed is passed] for name, results in (report.checks if report else {}).items()}
    order = {name: not any(one.blocks for one in results) for name, results in found.items() if results}
    return {name: sorted(found[name], key=lambda one: not one.blocks) for name in sorted(order, key=lambda name: order[name])}


def silent(report: ValidationReport | None) -> dict[str, str]:
    """Returns the registered checks that a validation report has no results of, and why."""
    spoke = report.checks if report else {}
    why = {True: "`make audit` runs them", False: "They were not there, or did not end, when this release was made"}
    return {name: why[check.when == "audit"] for name, check in CHECKS.items() if name not in spoke}


def lineage(store: Store, release: Manifest) -> list[dict[str, Any]]:
    """Returns the snapshots that a release was made from, in the order raw, features, model, and the release itself.

    kind, id: of the snapshot. rows: number of rows by table. made_from: parameters by dotted name. Both are empty if the snapshot
    was deleted.
    """
    features = store.find("features", release.parents["features"])
    ids = release.parents | (features.parents if features else {}) | {"release": release.id}
    return [_ancestor(store, kind, ids[kind]) for kind in ("raw", "features", "model", "release") if kind in ids]


def _ancestor(store: Store, kind: str, id: str) -> dict[str, Any]:
    manifest, rows = store.find(kind, id), Counter[str]()
    for name, file in manifest.files.items() if manifest else ():
        rows[name.split("/")[0].removesuffix(".parquet")] += file.rows or 0
    made_from = changes({}, manifest.made_from) if manifest else {}
    parameters = {name: value for name, (_, value) in made_from.items()}
    return {"kind": kind, "id": id, "rows": dict(+rows), "made_from": parameters}
