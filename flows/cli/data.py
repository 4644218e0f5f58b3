"""Verbs about data: check an export, write lists and rejected events to files, and add cases and expected changes."""

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated

import reporting
from cli.production import ROOT
from cli.releases import New, Release
from cli.terminal import console, say, table
from cli.variables import CASES, EXPECTED, Place, day, file_of, one_of, option, read_config
from recsys import RecsysError, profiling, releases, sources
from recsys.validation import SEVERITIES, cases, expected_changes

Escape = Annotated[bool, option("put an apostrophe before texts that a spreadsheet would take for formulas", "--escape")]


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Yields a path beside a file and of its type. What the block writes there replaces the file, or is removed after an error."""
    partial = target.with_name(f".{target.stem}.partial{target.suffix}")
    try:
        yield partial
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def check_data(place: Place) -> None:
    """Describes an export of events, proposes its section of config.toml, and says whether a run will work.

    Example: make check-data EVENTS=data/events.csv
    """
    config = read_config()
    name = place.dataset or profiling.propose_name(place.events, config["datasets"])
    if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
        raise RecsysError(f'DATASET "{name}" is not a valid name; use letters, digits, _ and - only')
    if name not in config["datasets"] and not place.events:
        place.settings()  # raises with the names of the datasets
        raise RecsysError("EVENTS is not given; pass EVENTS=path to your events, or DATASET= to check one of config.toml")
    access = sources.Access(ROOT / "dbt_project" / "queries" / name, os.environ)
    profile = profiling.check(config, name, place.inputs, ROOT / "dbt_project", datetime.now(UTC).date(), access)
    for title, parts in profile.parts.items():
        for number, part in enumerate(parts):
            if number == 0:
                console.print(f"\n[bold]{title}[/bold]")
            console.print(part if isinstance(part, str) else table(*part), markup=False, soft_wrap=isinstance(part, str))
    if profile.problems:
        raise RecsysError(f"a run will not work: {'; '.join(profile.problems)}")


def quarantine(
    place: Place,
    to: Annotated[
        Path | None,
        option("a .csv or .parquet file; data/quarantine.csv by default", read=file_of(".csv", ".parquet"), shown="PATH"),
    ] = None,
    escape: Escape = False,
) -> None:
    """Writes the events that the last run rejected, with their reasons, to a file.

    Example: make quarantine TO=rejected.csv
    """
    from recsys.pipeline import write_rejected

    target = to or ROOT / "data" / "quarantine.csv"
    raw_id, chosen, kept = reporting.last_landing(place.dataset or read_config()["dataset"])
    with replacing(target) as file:
        rows = write_rejected(kept, raw_id, chosen, ROOT / "dbt_project", file, escape)
    console.print(f"{rows:,} rejected events written to {target}; `reason` is the first of `reasons`", soft_wrap=True)


def export(
    place: Place,
    to: Annotated[Path, option("a .parquet or .csv file", read=file_of(".parquet", ".csv"), shown="PATH")],
    novel: New = False,
    release: Release = "",
    escape: Escape = False,
) -> None:
    """Writes the lists of a release to a file, one row per user and item.

    Example: make export TO=lists.parquet
    """
    (_, kept, release), list_kind = place.open_release(release), "new_items" if novel else "all_items"
    with replacing(to) as file:
        rows = releases.export(kept.load("release", release), list_kind, file, escape)
    console.print(f"{rows:,} rows of release {release} ({list_kind}) written to {to}")


def exposures(
    place: Place,
    day: Annotated[date, option("the day", read=day, shown="YYYY-MM-DD")],
    to: Annotated[Path, option("a .parquet file", read=file_of(".parquet"), shown="PATH")],
) -> None:
    """Writes the items that the service showed on a day to a file. Users are named by a keyed hash.

    Example: make exposures DAY=2026-11-27 TO=shown.parquet
    """
    from recsys.serving import export

    with replacing(to) as file:
        rows = export(place.open()[1], day, file)
    console.print(f"{rows:,} items shown on {day} written to {to}; users are named by keyed hash")


def add_case(
    place: Place,
    user: Annotated[str, option("a user of the live release", shown="ID")],
    why: Annotated[str, option("the reason, which is shown when the case fails", shown="TEXT")],
    expect: Annotated[str, option("items that the user's list must contain, separated by commas", shown="IDS")] = "",
    bar: Annotated[str, option("items that it must not contain", "--not", shown="IDS")] = "",
    severity: Annotated[
        str, option("whether a failure warns or blocks; warn by default", read=one_of(SEVERITIES), shown="|".join(SEVERITIES))
    ] = "warn",
) -> None:
    """Adds a case to cases.jsonl: items that every later release must, or must not, list for a user.

    Example: make add-case USER=u0000123 NOT=i0000485 WHY="bought it last week"
    """
    chosen, kept, release = place.open_release()
    items = ([item.strip() for item in text.split(",") if item.strip()] for text in (expect, bar))
    case = dict(zip(cases.FIELDS, (chosen.name, user, *items, why, severity), strict=True))
    cases.refuse_incomplete(case, "add-case")
    cases.refuse_unknown(case, kept.load("release", release))
    with CASES.open("a") as file:
        file.write(json.dumps(case, ensure_ascii=False) + "\n")
    console.print(f"added to {CASES.name}; the next run checks its lists against it", markup=False)


def expect(
    place: Place,
    first: Annotated[date | None, option("the first day", "--from", read=day, shown="YYYY-MM-DD")] = None,
    last: Annotated[date | None, option("the last day", "--to", read=day, shown="YYYY-MM-DD")] = None,
    kind: Annotated[
        str | None,
        option("what will change in the data", read=one_of(expected_changes.KINDS), shown="|".join(expected_changes.KINDS)),
    ] = None,
    because: Annotated[str, option("the reason, which reports show", shown="TEXT")] = "",
    off: Annotated[bool, option("remove this change", "--off")] = False,
    list_: Annotated[bool, option("list the expected changes", "--list")] = False,
) -> None:
    """Records days on which the data will differ, so that checks only warn of it. Without variables, lists these days.

    Example: make expect FROM=2026-12-24 TO=2026-12-26 KIND=closed BECAUSE=Christmas
    """
    chosen, kept = place.open()
    known = expected_changes.known(kept, chosen)
    if list_ or not (first or last or kind or because):
        for change in known:
            say(f"{change.first} to {change.last}  {change.kind:<9}  {change.because}")
        console.print(f"{len(known)} changes of {chosen.dataset_name} are expected")
        return
    because = because or ("removed" if off else "")
    values = (chosen.dataset_name, first or "", last or "", kind or "", because)
    change = expected_changes.ExpectedChange.read(dict(zip(expected_changes.FIELDS, values, strict=True)), "expect")
    if off and change.key not in {other.key for other in known}:
        raise RecsysError(f"no {change.kind} change is expected from {change.first} to {change.last}; `make expect` lists all")
    expected_changes.record(kept, change, off)
    EXPECTED.write_text(expected_changes.rewrite(EXPECTED.read_text() if EXPECTED.exists() else "", change, off))
    checks = ", ".join(check.partition(".")[2] for check in expected_changes.KINDS[change.kind])
    effect = "is no longer expected" if off else f"is expected; these checks only warn until it is over: {checks}"
    say(f"{change.kind} change ({change}) {effect}; commit {EXPECTED.name}")
