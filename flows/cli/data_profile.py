"""Prints the profile of an export of events, for `make check-data`."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from rich.console import Console
from rich.table import Table

from cli.terminal import table
from recsys.profiling import Profile, Spread, write_count

SHOWN = 20  # event types, ratings and time zones that are listed


def show(found: Profile, console: Console) -> None:
    """Prints the profile, the proposed section of config.toml, and whether a run will work."""
    for title, parts in (
        ("Columns", _columns(found)),
        ("Event types", _types(found)),
        ("Ratings", _ratings(found)),
        ("Quarantine", _quarantine(found)),
        ("Times", _times(found)),
        ("Users and items", _counts(found)),
        ("Horizon", _horizons(found)),
        ("Tables of items and users", _entities(found)),
        ("config.toml", ["# paste this into config.toml", found.section] if found.section else []),
        ("Will a run work?", _result(found)),
    ):
        for number, part in enumerate(parts):
            if number == 0:
                console.print(f"\n[bold]{title}[/bold]")
            console.print(part, markup=False, soft_wrap=isinstance(part, str))


def _columns(found: Profile) -> Iterator[str | Table]:
    rows = ((one.table, one.theirs, one.ours or "-", one.how) for one in found.columns)
    fixed = f'source "{found.source}" has fixed columns; the settings of [datasets.{found.name}] are used'
    yield table(("table", "column", "is read as", ""), rows) if found.columns else fixed


def _types(found: Profile) -> Iterator[str | Table]:
    if not found.types:
        return
    total = max(sum(events for events, _ in found.types.values()), 1)
    rows = (
        (own or "(none)", f"{events:,}", f"{events / total:.2%}", ours or "undecided")
        for own, (events, ours) in list(found.types.items())[:SHOWN]
    )
    yield table(("type", "events", "share", "counts as"), rows, right=(1, 2))
    if len(found.types) > SHOWN:
        yield f"and {len(found.types) - SHOWN:,} more types; is this column an event type?"
    yield f"target: {found.target or 'undecided'} ({found.why})"


def _ratings(found: Profile) -> Iterator[str]:
    if ratings := found.ratings:
        total = max(sum(ratings.counts.values()), 1)
        shares = ", ".join(f"{rating:g}: {events / total:.1%}" for rating, events in list(ratings.counts.items())[:SHOWN])
        yield f"{ratings.share:.1%} of the events have a rating; {shares}"
        if ratings.least is not None:
            yield f"min_rating = {ratings.least:g}: {ratings.target:.1%} of the rated events reach it, the others are views"
            if ratings.share < 1:
                yield f"events without a rating, {1 - ratings.share:.1%} of all, are views too"


def _quarantine(found: Profile) -> Iterator[str | Table]:
    if found.quarantine is None:
        return
    yield str(found.quarantine)
    for reason, examples in found.examples.items():
        yield f"{reason}, {len(examples)} of {found.quarantine.rejected[reason]:,}:"
        names = [name for name in examples[0] if any(row[name] not in (None, "") for row in examples)]
        yield table(names, ([_text(row[name]) for name in names] for row in examples))


def _times(found: Profile) -> Iterator[str]:
    if found.forms:
        shares = ", ".join(f"{form} {share:.1%}" for form, share in found.forms.items())
        zones = f"; zones {', '.join(found.zones[:SHOWN])}" if found.zones else ""
        yield f"forms: {shares}{zones}"
    if times := found.times:
        yield f"{times.first:%Y-%m-%d %H:%M} to {times.last:%Y-%m-%d %H:%M} UTC, {write_count(times.days, 'day')}"
        missing = sum(days for _, days in times.gaps)
        longest = ", ".join(f"{days} from {first}" for first, days in times.gaps[:5])
        yield f"days without an event: {missing:,}" + (f"; the longest runs: {longest}" if missing else "")
        if found.without_zone:
            share = "no time has one" if found.without_zone == 1 else f"{found.without_zone:.1%} of the times have none"
            origin = "by the settings" if "time_zone" in found.given else "by default"
            yield f'zone: {share}, so time_zone = "{times.zone}" is used, {origin}'
            if times.quiet is not None:
                hours = f"{times.quiet:02}:00 to {(times.quiet + 6) % 24:02}:00"
                guess = "no night there, so most users may live in another zone"
                if times.quiet < 4 or times.quiet > 20:
                    guess = "a night there; if most users live in another zone, their own clock was written: set time_zone to it"
                yield f"the quietest six hours are {hours} in {times.zone}, {guess}"


def _counts(found: Profile) -> Sequence[str]:
    if (counts := found.counts) is None:
        return ()
    return (
        f"{counts.events:,} accepted events, {counts.targets:,} of the target ({found.target})",
        f"{counts.users.number:,} users; events of a user: {_spread(counts.users)}",
        f"{counts.items.number:,} items; events of an item: {_spread(counts.items)}",
        f"{counts.repeats:.1%} of the {found.target} events are on an item that the user had one with on an earlier day",
    )


def _horizons(found: Profile) -> Iterator[Table]:
    if not found.horizons:
        return
    rows = (
        (
            f"{one.horizon_days} / {one.step_days}",
            f"{one.needed_days}",
            str(one.windows),
            f"{one.users[0]:,}",
            ", ".join(f"{users:,}" for users in one.users[1:]),
            "used" if one is found.horizon else "",
        )
        for one in found.horizons
    )
    names = ("horizon / step, days", "days needed for all windows", "training windows in the data")
    yield table((*names, "users judged in the holdout", "in the windows of selection", ""), rows)


def _entities(found: Profile) -> Iterator[str | Table]:
    for one in found.entities:
        yield f"{one.table}: {one.rows:,} rows, {one.duplicates:,} of them duplicates; {one.covered:.1%} of the events have a row"
        yield "dated by valid_from" if one.is_dated else "undated: every cutoff sees the values of today"
        if one.attributes:
            rows = ((each.name, each.kind, f"{each.distinct:,}", f"{each.missing:.1%}") for each in one.attributes)
            yield table(("attribute", "type", "values", "missing"), rows, right=(2, 3))


def _result(found: Profile) -> Iterator[str]:
    yield from (f"- {remark}" for remark in found.remarks)
    if not found.problems:
        yield f"yes{', but read the above' if found.remarks else ''}: make run DATASET={found.name}"


def _spread(spread: Spread) -> str:
    return f"median {spread.median:,}, 90% have up to {spread.p90:,}, at most {spread.most:,}"


def _text(value: Any) -> str:
    return f"{value:%Y-%m-%d %H:%M:%S}" if isinstance(value, datetime) else "" if value is None else str(value)
