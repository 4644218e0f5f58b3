"""Compares the newest days with the history of the same dataset.

Each detector compares every day with the days before it (past_days.py), for one or several groups, such as categories. It warns if
the distance of a group is above the detector's threshold and the change is large enough to matter. The threshold is calibrated on
the largest distance of all groups on each past day, so that a detector warns by chance on a known share of days: the budget
`false_alarms_per_year` is divided among all detectors (Auto-Validate-by-History, arXiv 2306.02421). Unusual days are not part of
the past that other days are compared with.

A detector warns only on the day on which a change begins. It blocks if a level has collapsed or something impossible has happened,
on every day that shows it. Growth never blocks, and a history of less than eight weeks only warns.

`detect(profile, day, limits)` needs only a daily profile, so days can be checked without a release.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import date, timedelta
from functools import partial
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from recsys import releases
from recsys.features import ESTABLISHED, STEP, DailyProfile, Features, Quarantine, State, places, read_quarantine
from recsys.releases import connect, read_items, unpack
from recsys.settings import Count, PositiveShare, section
from recsys.store import Snapshot
from recsys.validation.check_input import CheckInput
from recsys.validation.past_days import (
    CALIBRATION_DAYS,
    DEFAULT,
    MIN_DAYS,
    RECENT,
    WEEKS,
    DayFlags,
    Floats,
    Series,
    before,
    calibrate,
    last_sum,
    levels,
    median,
    running_sum,
    shares,
    spread_of,
    vanished,
    weekday_sum,
    weekly,
)
from recsys.validation_report import CheckResult, grade

LASTING = 5  # consecutive unusual days of a group that are a change and no noise
QUIET_DAYS = 28  # a change is reported again after this many days without it
SHORT_HISTORY_SIZE = 1.5  # in a history of less than eight weeks, a change must be larger by this factor to matter
MAX_NEW_DAYS = 28  # newest days that are checked for a first release
MAX_PRICE_LOSS = 0.5  # the loss, or a large change, of more than this share of the prices blocks
LATE_SHARE = 0.1  # share of a day's events that may arrive late or be deleted
BLOCKING_DAYS = 7  # newest days that can block, even if the live release has seen them
WEEK = 7
FAR = 1.0  # difference of logarithms above which a price is far from its item's usual price (a factor of e)
MAX_IMPOSSIBLE = 0.002  # share of events that may have impossible times
ONE_HOUR = 0.9  # above this share of a day's events in one hour, the time of day seems to be missing
MAX_LOST = 0.5  # blocks above this share of events in the live release that no longer belong to their user
MIN_ASKED = 2_000  # users whose events in the live release are compared, if there are as many
SENT_AGAIN = 0.4  # increase of the share of repeated events that blocks
OTHER_UNIT = float(np.log(8))  # difference of logarithms from which prices that all moved alike are in another unit

SLICES = {
    "category": "category",
    "segment": "segment",
    "price_band": "prices from 2 to the power of",
    "quantity_band": "quantities from 2 to the power of",
}

Above1 = Annotated[float, Field(gt=1, le=1_000)]
Measure = Callable[[DailyProfile, DayFlags, "HistoryLimits"], Iterator[Series]]


@section
class HistoryLimits:
    false_alarms_per_year: Annotated[float, Field(gt=0, le=365)]
    min_events: Count
    warn_volume: Above1
    warn_share: PositiveShare
    warn_fall: PositiveShare
    warn_price: Above1
    warn_account: Above1
    warn_hours: PositiveShare
    warn_known_items: PositiveShare
    warn_past_days: PositiveShare
    block_left: PositiveShare
    block_days: Annotated[int, Field(ge=1, le=7)]
    block_lost: PositiveShare
    block_types: PositiveShare
    block_prices: PositiveShare
    block_known_items: PositiveShare


SETTINGS: dict[str, str | tuple[str, str]] = {
    "volume": ("warn_volume", "block_left block_days"),
    "users": ("warn_volume", "block_left block_days"),
    "mix": ("warn_share", "block_lost block_days"),
    "event_types": ("warn_share", "block_types"),
    "prices": ("warn_price warn_share", "block_prices"),
    "repeat_rate": ("warn_fall", "block_left"),
    "catalogue": ("warn_volume warn_fall", "block_left"),
    "one_account": "warn_account",
    "hours": "warn_hours",
    "known_items": ("warn_known_items", "block_known_items"),
    "known_users": "warn_known_items",
    "known_histories": "warn_past_days",
    "past_days": "warn_past_days",
    "copies": "warn_share",
    "rejected": "warn_share",
}


@dataclass(frozen=True)
class Fault:
    """A day that blocks, and why; `value` has reached `limit`."""

    day: int
    message: str
    value: float
    limit: float


@dataclass(frozen=True)
class Detector:
    """measure: computes series from a profile and the days to exclude from the past. query: SQL that shows the change; `{folder}`
    and `{days}` are filled in. faults: finds the days that block."""

    name: str
    measure: Measure
    query: str
    faults: Callable[[DailyProfile, HistoryLimits], Iterator[Fault]] = lambda profile, limits: iter(())


def check(inputs: CheckInput, limits: HistoryLimits) -> Iterator[CheckResult]:
    features = inputs.features
    live = _live_profile(inputs)
    days = new_days(live, features.daily_profile, features.as_of, limits)
    yield from detect(features.daily_profile, features.as_of, limits, days, str(features.path))
    yield known_items(inputs.live, inputs.state, limits)
    yield known_users(inputs.live, inputs.state, limits)
    yield known_histories(inputs.live, inputs.state, inputs.settings.dataset.target, limits)
    yield past_days(live, features.daily_profile, limits)
    yield impossible_times(read_quarantine(features.path, inputs.settings))


def _live_profile(inputs: CheckInput) -> DailyProfile | None:
    """The daily profile that the live release was made from; None if nothing is live or its features were deleted."""
    store, live = inputs.store, inputs.live
    id = live.manifest.parents.get("features", "") if live else ""
    if live is None or store.find("features", id) is None:
        return None
    with store.borrow("features", id) as snapshot:
        return Features(snapshot, inputs.settings).daily_profile.before(releases.as_of(live))


def new_days(live: DailyProfile | None, now: DailyProfile, as_of: date, limits: HistoryLimits) -> int:
    """Number of newest days that the live release has not seen, or whose events were sent again since then; at most 28."""
    if live is None:
        return MAX_NEW_DAYS
    now = now.before(as_of)
    for days in range(min(MAX_NEW_DAYS, now.days), 0, -1):
        day = as_of - timedelta(days)
        if day >= live.first + timedelta(live.days) or _was_sent_anew(live, now, day, limits):
            return days
    return 1


def _was_sent_anew(live: DailyProfile, now: DailyProfile, day: date, limits: HistoryLimits) -> bool:
    """Whether a day's counts differ by more than late events explain."""
    then, today = (day - live.first).days, (day - now.first).days
    for dimension in now.counts.keys() - {"largest_user", "largest_item", "rejected", "copies"}:
        values = sorted({*now.values[dimension], *live.values.get(dimension, [])})
        before, after = ([int(seen.of(dimension, value)[at]) for value in values] for seen, at in ((live, then), (now, today)))
        difference = sum(abs(a - b) for a, b in zip(before, after, strict=True))
        if then < 0 or difference > max(limits.min_events, LATE_SHARE * sum(after)):
            return True
    return False


def detect(profile: DailyProfile, day: date, limits: HistoryLimits, days: int = 1, folder: str = "features") -> list[CheckResult]:
    """Runs all detectors on the days of a profile before `day`; returns one check result per detector.

    A change that began within the newest `days` warns. A collapse within them, or within the newest seven days, blocks. folder:
    path of the feature snapshot, for the queries in messages.
    """
    profile = profile.before(day)
    return [_judge(detector, profile, min(days, profile.days), limits, folder) for detector in DETECTORS]


def _judge(detector: Detector, profile: DailyProfile, days: int, limits: HistoryLimits, folder: str) -> CheckResult:
    is_long = profile.days - days >= WEEK * WEEKS
    series, threshold = _measure(detector, profile, days, limits, is_long)
    groups = [(part, group) for part in series for group in range(len(part.seen))]
    if not groups or not profile.days:
        return CheckResult(detector.name, "none", "none", "warn", True, "the history has no days to compare with")
    distance = np.nan_to_num(np.concatenate([part.distance for part in series]))
    unusual = _unusual(series, threshold, is_long)
    new = _began(unusual, np.concatenate([part.seen > part.high for part in series]))
    new[:, : profile.days - days] = False
    last = profile.days - 1
    day = int(np.flatnonzero(new.any(0))[-1]) if new.any() else last
    row = int(np.where(new[:, day] if new.any() else True, distance[:, day], -1).argmax())
    measured, when = groups[row][0].describe(groups[row][1], day), profile.first + timedelta(day)
    message = f"{when}: {measured}; {distance[row, day]:.1f} standard deviations away, above {threshold:.1f} warns"
    message += " if the change is large enough" if not new.any() else ""
    first_day = profile.days - max(days, BLOCKING_DAYS)
    fault = next((fault for fault in detector.faults(profile, limits) if is_long and fault.day >= first_day), None)
    value = float(distance[row, day])
    if fault:
        since = profile.first + timedelta(fault.day)
        message = f"since {since}: {fault.message}; {_how_to_look(detector, profile, fault.day, folder)}"
        return CheckResult(detector.name, float(fault.value), float(fault.limit), "block", False, message, since=since.isoformat())
    if new.any():
        message += f"; {_how_to_look(detector, profile, day, folder)}"
        return CheckResult(detector.name, value, threshold, "warn", False, message)
    if unusual[:, last].any():
        message += f"; unusual since {_since(unusual, profile)}, which was reported on that day"
    return CheckResult(detector.name, value, threshold, "warn", True, message)


def _measure(
    detector: Detector, profile: DailyProfile, days: int, limits: HistoryLimits, is_long: bool
) -> tuple[list[Series], float]:
    """The series of a detector and their threshold.

    Measured twice: the second time without the days that were unusual the first time. Only the first two weeks of consecutive
    unusual days are excluded, because a change that lasts longer is the new level. A change of several days raises the first
    threshold above its own distances, so these days are also excluded if they are above the default threshold.
    """
    excluded, threshold = np.zeros(profile.days, bool), DEFAULT
    end = max(profile.days - days - WEEK, 0)  # without the newest week, or a lasting change would raise its own threshold
    past = slice(max(end - CALIBRATION_DAYS, 0), end)
    series: list[Series] = []
    for _ in range(2):
        series = [part for part in detector.measure(profile, excluded, limits) if len(part.seen)]
        if not series:
            break
        if is_long:
            distance = np.concatenate([part.distance for part in series])[:, past]
            known = ~np.isnan(distance).all(0) & ~excluded[past]
            largest = np.nan_to_num(distance).max(0)[known]
            threshold = calibrate(largest, len(distance), limits.false_alarms_per_year / 365 / len(DETECTORS))
        excluded = _first_days(_unusual(series, threshold, is_long), RECENT)
        excluded |= _first_days(_lasting(_unusual(series, DEFAULT, is_long)), RECENT)
    return series, threshold


def _unusual(series: list[Series], threshold: float, is_long: bool) -> NDArray[np.bool_]:
    """Flags by group and day. In a short history a change must be larger to count."""
    distance, size = (np.nan_to_num(np.concatenate([getattr(part, field) for part in series])) for field in ("distance", "size"))
    return (distance > threshold) & (size >= (1 if is_long else SHORT_HISTORY_SIZE))


def _began(unusual: NDArray[np.bool_], is_above: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The days on which a group becomes unusual after QUIET_DAYS usual days. Changes above and below the range count separately."""
    began = np.zeros_like(unusual)
    for flags in (unusual & is_above, unusual & ~is_above):
        counts = np.cumsum(np.pad(flags, ((0, 0), (QUIET_DAYS + 1, 0))), axis=1)
        began |= flags & (counts[:, QUIET_DAYS:-1] == counts[:, : -QUIET_DAYS - 1])
    return began


def _lasting(unusual: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Flags the days of each group that belong to at least LASTING consecutive unusual days."""
    ends = np.pad(running_sum(unusual, LASTING) == LASTING, ((0, 0), (0, LASTING - 1)))
    return np.any([ends[:, later : later + unusual.shape[1]] for later in range(LASTING)], axis=0)


def _first_days(unusual: NDArray[np.bool_], max_days: int) -> DayFlags:
    """Flags the first `max_days` of each run of unusual days."""
    run, first = 0, np.zeros(unusual.shape[1], np.bool_)
    for day in range(unusual.shape[1]):
        run = run + 1 if unusual[:, day].any() else 0
        first[day] = 0 < run <= max_days
    return first


def _since(flags: NDArray[np.bool_], profile: DailyProfile) -> date:
    """The first day of the run of unusual days that lasts until the last day."""
    usual = np.flatnonzero(~flags.any(axis=0))
    return profile.first + timedelta(int(usual[-1]) + 1 if len(usual) else 0)


def _how_to_look(detector: Detector, profile: DailyProfile, day: int, folder: str) -> str:
    """A DuckDB query that shows the days around a day."""
    when = profile.first + timedelta(day)
    days = f"event_at >= '{when - timedelta(RECENT)}' and event_at < '{when + timedelta(RECENT)}'"
    return f"look at it in DuckDB: {detector.query.format(folder=folder, days=days)}"


# Faults, which block.


def _low(counts: NDArray[np.int64], limits: HistoryLimits) -> NDArray[np.bool_]:
    """Flags, by group, the days that have almost none of the events that are usual on their weekday."""
    seen = np.atleast_2d(counts).astype(float)
    usual = np.nan_to_num(weekly(seen))
    return (usual >= limits.min_events) & (seen < limits.block_left * usual)


def _first_of_low(low: DayFlags, limits: HistoryLimits) -> Iterator[int]:
    """The first low day of the last week, if at least `block_days` days and the newest day are low. A shop that was closed for some
    days and has opened again yields nothing."""
    if len(low) >= WEEK and low[-1] and low[-WEEK:].sum() >= limits.block_days:
        yield len(low) - WEEK + int(np.flatnonzero(low[-WEEK:])[0])


def _collapse(dimension: str, profile: DailyProfile, limits: HistoryLimits) -> Iterator[Fault]:
    low = _low(profile.of(dimension), limits)[0]
    days, usual = low[-WEEK:].sum(), f"{limits.block_left:.0%} of their usual {dimension}"
    for day in _first_of_low(low, limits):
        yield Fault(day, f"{days} of the last 7 days have less than {usual}", days, limits.block_days)


def _lost_slices(profile: DailyProfile, limits: HistoryLimits) -> Iterator[Fault]:
    """Almost no events are left of categories or segments that had many, while others continue."""
    closed = _low(profile.of("events"), limits)[0]
    for dimension in ("category", "segment"):
        if dimension in profile.counts:
            counts, low = profile.counts[dimension], _low(profile.counts[dimension], limits)
            usual = np.nan_to_num(weekly(counts.astype(float)))
            lost = (usual * low).sum(0) / np.maximum(usual.sum(0), 1)
            for day in _first_of_low((lost >= limits.block_lost) & ~closed, limits):
                names = [name for name, is_low in zip(profile.values[dimension], low[:, -1], strict=True) if is_low]
                yield Fault(
                    day,
                    f"almost no events are left of {dimension} {', '.join(names[:5])}{', ...' if len(names) > 5 else ''}"
                    f" ({len(names)} of {len(low)}), which had {lost[-1]:.0%} of all events",
                    lost[-1],
                    limits.block_lost,
                )


def _changed_types(profile: DailyProfile, limits: HistoryLimits) -> Iterator[Fault]:
    """Many events have another type than usual, and a frequent type has lost half of its events, on a day with many events."""
    if "event_type" not in profile.counts:
        return
    counts, whole = profile.counts["event_type"].astype(float), profile.of("events").astype(float)
    usual = np.nan_to_num(weekly(counts))
    total = np.maximum(usual.sum(0), 1)
    moved = np.abs(counts / np.maximum(whole, 1) - usual / total).sum(0) / 2
    halved = (counts < 0.5 * usual) & (usual >= np.maximum(limits.min_events, limits.block_types * total))
    for day in np.flatnonzero((moved >= limits.block_types) & halved.any(0) & (whole >= 0.5 * total)):
        row = int(halved[:, day].argmax())
        yield Fault(
            int(day),
            f"{moved[day]:.0%} of the events have another type than usual: {counts[row, day]:,.0f} are"
            f" {profile.values['event_type'][row]} events, usually {usual[row, day]:,.0f}",
            moved[day],
            limits.block_types,
        )


def _established_gone(
    dimension: str, established: tuple[str, str], profile: DailyProfile, limits: HistoryLimits
) -> Iterator[Fault]:
    """Almost no known users or items appear, on a day with many events. Items block at half the limit of users, because a new
    collection may rightly attract most of the events."""
    whole, known = (counts[None].astype(float) for counts in (profile.of(dimension), profile.of(*established)))
    usual, was = (np.nan_to_num(weekly(counts))[0] for counts in (whole, known))
    what, factor = ("users", 1.0) if dimension == "users" else ("events on items", 0.5)
    gone = _low(known, limits)[0] & (known[0] < factor * limits.block_left * was)
    for day in np.flatnonzero(gone & (whole[0] >= 0.5 * usual) & (was >= 0.3 * usual)):
        yield Fault(
            int(day),
            f"{known[0, day]:,.0f} of {whole[0, day]:,.0f} {what} are known for {ESTABLISHED} days, usually {was[day]:,.0f}:"
            " the ids seem to have changed",
            1 - known[0, day] / was[day],
            1 - limits.block_left,
        )


def _mixed_up(profile: DailyProfile, limits: HistoryLimits) -> Iterator[Fault]:
    """Known users are gone, or they return to their own items hardly more often than to items of other users."""
    yield from _established_gone("users", ("users", "established"), profile, limits)
    known, again, chance = (profile.of("events", value)[None].astype(float) for value in ("established", "again", "chance"))
    own = again - chance
    usual = np.nan_to_num(weekly(own) / np.maximum(weekly(known), 1))
    expected = usual * known
    enough = expected >= np.maximum(limits.min_events, 5 * np.sqrt(again + chance))
    for day in np.flatnonzero((enough & (own < limits.block_left * expected))[0]):
        yield Fault(
            int(day),
            f"{again[0, day] / known[0, day]:.1%} of the events of known users are on items that they had before; with users"
            f" exchanged it would be {chance[0, day] / known[0, day]:.1%}, and usually it is {usual[0, day]:.1%} more than that:"
            " ids seem to be mixed up",
            1 - own[0, day] / expected[0, day],
            1 - limits.block_left,
        )


def _prices_of(profile: DailyProfile) -> tuple[Floats, NDArray[np.int64]]:
    """Ratios of prices to their items' usual prices, as sorted logarithms, and the number of events by ratio and day."""
    steps, counts = np.array(profile.values.get("price_step", []), int), profile.counts.get("price_step")
    order = np.argsort(steps)
    return steps[order] * STEP, counts[order] if counts is not None else np.zeros((0, profile.days), np.int64)


def _other_unit(profile: DailyProfile, limits: HistoryLimits) -> Iterator[Fault]:
    """Most events that usually have a price have none or a price of 0, many prices changed by the same large factor, or most prices
    changed by more than a factor of 5."""
    unpriced = profile.of("price_band", "none") + profile.of("price_band", "zero")
    yield from _risen(profile, limits, unpriced, MAX_PRICE_LOSS, "have no price or a price of 0, usually {:.0%}")
    steps, counts = _prices_of(profile)
    if not len(steps):
        return
    whole = np.maximum(counts.sum(0), 1)
    together = (np.abs(steps[:, None] - steps) <= 2.5 * STEP) & (np.abs(steps) >= OTHER_UNIT)[:, None]
    moved = together.astype(np.int64) @ counts
    factor, together_share = np.exp(steps[moved.argmax(0)]), moved.max(0) / whole
    far_share = counts[np.abs(steps) >= np.log(5)].sum(0) / whole
    is_fault = (together_share >= limits.block_prices) | (far_share >= MAX_PRICE_LOSS)
    for day in np.flatnonzero((whole >= limits.min_events) & is_fault):
        if together_share[day] >= limits.block_prices:
            message = f"{together_share[day]:.0%} of the prices are about {factor[day]:.3g} times the usual prices of their items"
            yield Fault(int(day), message, together_share[day], limits.block_prices)
        else:
            message = f"{far_share[day]:.0%} of the prices differ from the usual prices of their items by more than a factor of 5"
            yield Fault(int(day), message, far_share[day], MAX_PRICE_LOSS)


def _daily_share(counts: NDArray[np.int64], profile: DailyProfile) -> tuple[Floats, Floats]:
    """Share of all events on each day, and the usual share on its weekday; NaN if there are too few weeks."""
    part, whole = counts[None].astype(float), profile.of("events")[None].astype(float)
    return (part / np.maximum(whole, 1))[0], (weekly(part) / np.maximum(weekly(whole), 1))[0]


def _risen(profile: DailyProfile, limits: HistoryLimits, counts: NDArray[np.int64], rise: float, message: str) -> Iterator[Fault]:
    """The share of some events, by their counts per day, is higher than usual by `rise`, on a day with enough events. message: says
    what they are, with a place for the usual share."""
    share, usual = _daily_share(counts, profile)
    for day in np.flatnonzero((profile.of("events") >= limits.min_events) & (share >= usual + rise)):
        yield Fault(int(day), f"{share[day]:.0%} of the events {message.format(usual[day])}", share[day], usual[day] + rise)


def _sent_again(profile: DailyProfile, limits: HistoryLimits) -> Iterator[Fault]:
    """Many more events than usual repeat earlier events to the second."""
    message = (
        "have the same user, item, type and time of day as an earlier event, usually {:.0%}: events seem to have been sent again"
    )
    yield from _risen(profile, limits, profile.of("repeated"), SENT_AGAIN, message)


def _without_times(profile: DailyProfile, limits: HistoryLimits) -> Iterator[Fault]:
    """Almost all events are in one hour, on a day with many events."""
    if "hour" not in profile.counts:
        return
    share, usual = _daily_share(profile.counts["hour"].max(0), profile)
    for day in np.flatnonzero((profile.of("events") >= 5 * limits.min_events) & (share >= ONE_HOUR) & (usual <= 0.5)):
        yield Fault(
            int(day),
            f"{share[day]:.0%} of the events are in one hour, usually {usual[day]:.0%}: the time of day seems to be missing",
            share[day],
            ONE_HOUR,
        )


# Measurements, which warn.


def _level(dimension: str, profile: DailyProfile, excluded: DayFlags, limits: HistoryLimits) -> Iterator[Series]:
    yield levels(dimension, profile.of(dimension), excluded, limits.warn_volume, limits.min_events)


def _users(profile: DailyProfile, excluded: DayFlags, limits: HistoryLimits) -> Iterator[Series]:
    """The number of users, and its ratio to the number of events. If events are lost at random, most users keep some of theirs, so
    the ratio rises; it varies less from day to day than the number of events."""
    yield from _level("users", profile, excluded, limits)
    users, events = profile.of("users"), profile.of("events")
    name, min_change = "users as a share of events:", limits.warn_volume - 1
    yield shares([name], users, events, excluded, min_change, limits.min_events, is_relative=True)


def _mix(profile: DailyProfile, excluded: DayFlags, limits: HistoryLimits) -> Iterator[Series]:
    whole = profile.of("events")
    for dimension, what in SLICES.items():
        if len(profile.values.get(dimension, [])) > 1:
            names = [f"{what} {value}" for value in profile.values[dimension]]
            counts, is_band = profile.counts[dimension], dimension.endswith("band")
            min_left, min_change = (0.0, 2 * limits.warn_share) if is_band else (limits.block_left, limits.warn_share)
            yield shares(names, counts, whole, excluded, min_change, limits.min_events, min_left=min_left)
            if min_left:
                yield vanished(names, counts, min_left, limits.min_events)
    if "largest_item" in profile.counts:
        counts = profile.counts["largest_item"]
        series = shares([""], counts.max(0), whole, excluded, 5 * limits.warn_share, limits.min_events, direction=1)
        yield replace(series, label=lambda group, day: f"item {profile.values['largest_item'][counts[:, day].argmax()]}")


def _types(profile: DailyProfile, excluded: DayFlags, limits: HistoryLimits) -> Iterator[Series]:
    """The event type whose share changed most, because a gain of one type is a loss of others; and types that vanished."""
    if len(names := profile.values.get("event_type", [])) > 1:
        counts, whole = profile.counts["event_type"], profile.of("events")
        series = shares(names, counts, whole, excluded, limits.warn_share, limits.min_events)
        largest = np.nan_to_num(series.distance).argmax(0)
        fields = {
            field: np.take_along_axis(getattr(series, field), largest[None], 0)
            for field in ("seen", "low", "high", "distance", "size")
        }
        yield Series(lambda group, day: f"{names[largest[day]]} events", unit="share", **fields)
        for days in (WEEK, 4 * WEEK):
            yield vanished([f"{name} events" for name in names], counts, limits.block_left, limits.min_events, days)


def _prices(profile: DailyProfile, excluded: DayFlags, limits: HistoryLimits) -> Iterator[Series]:
    steps, counts = _prices_of(profile)
    if not len(steps):
        return
    whole, far = counts.sum(0), counts[np.abs(steps) >= FAR].sum(0)
    name = "prices that are far from the usual prices of their items:"
    yield shares([name], far, whole, excluded, 0.6 * limits.warn_share, limits.min_events, direction=1)
    middle = steps[(np.cumsum(counts, 0) < whole / 2).sum(0).clip(0, len(steps) - 1)]
    moved = np.where((whole >= limits.min_events) & (np.arange(len(whole)) >= MIN_DAYS), middle, np.nan)[None]
    spread = np.maximum(spread_of(np.where(excluded, np.nan, moved)), STEP / 2) * np.ones_like(moved)
    distance, size = np.abs(moved) / spread, np.abs(moved) / np.log(limits.warn_price)
    label = "the median ratio of a price to the usual price of its item is"
    yield Series(lambda group, day: label, np.exp(moved), np.exp(-spread), np.exp(spread), distance, size, "times")


def _repeats(profile: DailyProfile, excluded: DayFlags, limits: HistoryLimits) -> Iterator[Series]:
    """Finds a changed repeat rate: a fall on a day or in a week where users often return to the same items (groceries), and a rise
    where they rarely do (films)."""
    known, again, chance = (profile.of("events", value) for value in ("established", "again", "chance"))
    falls = {"direction": -1, "is_relative": True}
    name, established = "users who are known:", profile.of("users", "established")
    yield shares([name], established, profile.of("users"), excluded, limits.warn_fall, limits.min_events, **falls)  # type: ignore[arg-type]
    name = "events of known users on items that they had before:"
    if again.sum() >= chance.sum() / 2:
        yield shares([name], again, known, excluded, limits.warn_fall, limits.min_events, **falls)  # type: ignore[arg-type]
        yield _own_share(known, again, chance, excluded, limits)
    else:
        min_change = limits.warn_fall * float(chance.sum() / known.sum())
        yield shares([name], again, known, excluded, min_change, limits.min_events, direction=1)


def _own_share(
    known: NDArray[np.int64], again: NDArray[np.int64], chance: NDArray[np.int64], excluded: DayFlags, limits: HistoryLimits
) -> Series:
    """Share of events on the user's own earlier items, minus the share expected by chance, over 7 days; compared with the two weeks
    before."""
    past_known, past_own = (np.where(excluded, 0.0, counts)[None] for counts in (known, again - chance))
    events, own, noise = (running_sum(counts[None], WEEK) for counts in (known, again - chance, again + chance))
    with np.errstate(divide="ignore", invalid="ignore"):
        usual = before(last_sum(past_own, RECENT) / last_sum(past_known, RECENT), WEEK - 1)
        lost = np.where(events >= limits.min_events, np.maximum(usual - own / events, 0), np.nan)
        distance = lost * events / np.sqrt(np.maximum(noise, 1))
        size = np.where(lost >= 2 * limits.warn_fall * usual, 2.0, 0.0)
    label = "events of known users on items that they had before, above the share by chance, in 7 days:"
    return Series(lambda group, day: label, own / np.maximum(events, 1), usual, usual, distance, size, "share")


def _catalogue(profile: DailyProfile, excluded: DayFlags, limits: HistoryLimits) -> Iterator[Series]:
    yield levels("items with an event:", profile.of("items"), excluded, 1.5 * limits.warn_volume, limits.min_events)
    known, whole = profile.of("established_items"), profile.of("events")
    yield shares(["events on known items:"], known, whole, excluded, limits.warn_fall, limits.min_events, -1, is_relative=True)


def _copies(profile: DailyProfile, excluded: DayFlags, limits: HistoryLimits) -> Iterator[Series]:
    whole = profile.of("events")
    name = "events on new items with the title and category of an older item:"
    yield shares([name], profile.of("copies"), whole, excluded, 0.4 * limits.warn_share, limits.min_events, 1)
    name = "events of the same user, item, type and time of day as an earlier one:"
    yield shares([name], profile.of("repeated"), whole, excluded, 2 * limits.warn_share, limits.min_events, 1)


def _account(profile: DailyProfile, excluded: DayFlags, limits: HistoryLimits) -> Iterator[Series]:
    """Events of the busiest user, if they are more than `warn_share` of all events."""
    if "largest_user" in profile.counts:
        counts, names = profile.counts["largest_user"], profile.values["largest_user"]
        series = levels("", counts.max(0), excluded, limits.warn_account, limits.min_events // 2, is_up_only=True)
        size = np.where(counts.max(0) >= limits.warn_share * profile.of("events"), series.size, 0)
        yield replace(series, size=size, label=lambda group, day: f"events of user {names[counts[:, day].argmax()]}:")


def _hours(profile: DailyProfile, excluded: DayFlags, limits: HistoryLimits) -> Iterator[Series]:
    """Difference between the hours of a day's events and the usual hours, and how much of it a shift of the clock explains. If days
    have few events, up to a week is taken together."""
    if len(profile.values.get("hour", [])) < 2:
        return
    hours, min_count = np.zeros((24, profile.days)), 5 * limits.min_events
    hours[np.array(profile.values["hour"], int)] = profile.counts["hour"]
    span = int(np.clip(np.ceil(min_count / max(np.median(hours[:, -CALIBRATION_DAYS:].sum(0)), 1)), 1, WEEK))
    hours, within = running_sum(hours, span), f" in {span} days" if span > 1 else ""
    past = np.where(excluded, 0.0, hours)
    usual = weekday_sum(past)
    usual = np.where(usual.sum(0) >= min_count, usual, last_sum(past, RECENT))
    # Two positions of a clock differ by about a tenth of the events, which is 0.3 standard deviations of one event.
    noise = np.maximum(0.3 / np.sqrt(np.maximum(hours.sum(0), 1)), 0.01)
    is_compared = (np.minimum(hours.sum(0), usual.sum(0)) >= min_count) & (np.arange(profile.days) >= MIN_DAYS)
    now, usual = (values / np.maximum(values.sum(0), 1) for values in (hours, usual))
    by_shift = np.array([np.abs(now - np.roll(usual, shift, axis=0)).sum(0) / 2 for shift in range(24)])
    shift, rest = (by_shift.argmin(0) + 12) % 24 - 12, by_shift.min(0)

    changes = (
        (lambda group, day: f"events{within} that a clock shifted by {shift[day]:+d} hours explains:", by_shift[0] - rest, 1.0),
        (
            lambda group, day: f"events{within} at unusual hours ({rest[day]:.1%} with a clock shifted by {shift[day]:+d} hours),",
            by_shift[0],
            3.0,
        ),
    )
    for label, value, factor in changes:
        seen = np.where(is_compared, value, np.nan)[None]
        known = np.where(excluded, np.nan, seen)
        high = median(known[:, -CALIBRATION_DAYS:].T, 1)[:, None] * np.ones_like(seen)
        distance = np.maximum(seen - high, 0) / np.maximum(spread_of(known - high), noise)
        size = (seen - high) / (factor * np.maximum(limits.warn_hours, 3.5 * noise))
        yield Series(label, seen, np.zeros_like(seen), high, distance, size, "share")


def _rejected(profile: DailyProfile, excluded: DayFlags, limits: HistoryLimits) -> Iterator[Series]:
    if "rejected" in profile.counts:
        counts, names = profile.counts["rejected"], [f"events rejected as {reason}:" for reason in profile.values["rejected"]]
        yield shares(names, counts, profile.of("events") + counts.sum(0), excluded, limits.warn_share, limits.min_events, 1)


def _by_day(columns: str, joins: str = "", table: str = "fct_events") -> str:
    source = f"from '{{folder}}/{table}.parquet' events {joins}where {{days}}"
    return f"select event_at::date as day, {columns} {source} group by all order by all"


_ITEMS = "join '{folder}/dim_items.parquet' items using (item_index) "
_USERS = "join '{folder}/dim_users.parquet' users using (user_index) "

DETECTORS = (
    Detector("volume", partial(_level, "events"), _by_day("count(*)"), partial(_collapse, "events")),
    Detector("users", _users, _by_day("count(distinct user_index), count(*)"), partial(_collapse, "users")),
    Detector("mix", _mix, _by_day("category, segment, count(*)", _ITEMS + _USERS), _lost_slices),
    Detector("event_types", _types, _by_day("event_type, count(*)"), _changed_types),
    Detector("prices", _prices, _by_day("item_id, median(events.price)", _ITEMS), _other_unit),
    Detector("repeat_rate", _repeats, _by_day("user_id, first_event_at, count(*)", _USERS), _mixed_up),
    Detector(
        "catalogue",
        _catalogue,
        _by_day("item_id, available_from, count(*)", _ITEMS),
        partial(_established_gone, "events", ("established_items", "all")),
    ),
    Detector("copies", _copies, _by_day("item_id, title, category, count(*)", _ITEMS), _sent_again),
    Detector("one_account", _account, _by_day("user_id, count(*)", _USERS)),
    Detector("hours", _hours, _by_day("hour(event_at), count(*)"), _without_times),
    Detector("rejected", _rejected, _by_day("reason, count(*)", table="int_events_rejected")),
)


def known_users(live: Snapshot | None, now: State, limits: HistoryLimits) -> CheckResult:
    """Checks that users of the live release are still in the same segment."""
    if live is None:
        return CheckResult("known_users", "none", "none", "warn", True, "there is no live release to compare users with")
    with closing(connect(releases.lists_file(live.path))) as connection:
        ids, segments = (np.array(column) for column in zip(*connection.execute("select user_id, segment from users"), strict=True))
    rows = places(now.user_ids, ids)
    before, after = segments[rows >= 0], now.users["segment"][rows[rows >= 0]].astype(str)
    changed = float((before != after).mean()) if len(before) else 0.0
    message = f"{(before != after).sum():,} of {len(before):,} users of the live release are in another segment now"
    if changed:
        row = int((before != after).argmax())
        message += f", such as {ids[rows >= 0][row]}, who was in {before[row]!r} and is in {after[row]!r}"
    return grade("known_users", changed, limits.warn_known_items, math.inf, message)


def known_histories(live: Snapshot | None, now: State, target: str, limits: HistoryLimits) -> CheckResult:
    """Checks that target events in the live release still belong to the same users and items. Compares the last events of some
    users, without events before the first one that is known now and without users and items that are not known now."""
    name = "known_histories"
    if live is None or releases.about(live)["target"] != target:
        return CheckResult(name, "none", "none", "warn", True, f"there is no live release for {target} to compare histories with")
    (ids,) = read_items(live, "item_id")
    with closing(connect(releases.lists_file(live.path))) as connection:
        known = np.array([user for (user,) in connection.execute("select user_id from users order by user_id")], str)
        known = known[places(now.user_ids, known) >= 0]
        known = known[:: max(len(known) // MIN_ASKED, 1)]
        query = "select bought from users where user_id = ?"
        histories = [unpack(connection.execute(query, (user,)).fetchone()[0]) for user in known.tolist()]
    if not histories:
        message = "none of the users of the live release has events now: user ids seem to have changed"
        return CheckResult(name, 0, "none", "warn", True, message)
    items, days = (np.concatenate(parts) for parts in zip(*histories, strict=True))
    users = np.repeat(places(now.user_ids, known), [len(bought) for bought, _ in histories])
    items = places(now.item_ids, ids)[items]
    days = np.floor(-days) - (now.cutoff - releases.as_of(live)).days
    days_now = np.floor(-now.history["days"].astype(float))
    is_compared = (items >= 0) & (days >= days_now.min(initial=0))
    events = _keys(users, items, days, now)[is_compared]
    lost = ~np.isin(events, _keys(now.history["user_index"], now.history["item_index"], days_now, now))
    share = float(lost.mean()) if len(lost) else 0.0
    message = f"{lost.sum():,} of {len(lost):,} events of {len(known):,} users in the live release no longer belong to their user"
    if lost.any():
        row = int(np.flatnonzero(is_compared)[lost.argmax()])
        day = now.cutoff + timedelta(int(days[row]))
        message += f", such as that of user {now.user_ids[users[row]]} with item {now.item_ids[items[row]]} on {day}"
    if share >= MAX_LOST and len(lost) >= limits.min_events:
        message += f": ids of users or items seem to be mixed up; {MAX_LOST:.0%} blocks"
        return CheckResult(name, share, MAX_LOST, "block", False, message)
    return grade(name, share, limits.warn_past_days, math.inf, message)


def _keys(users: NDArray, items: NDArray, days: NDArray, state: State) -> NDArray[np.int64]:
    """One number for each user, item and day."""
    return (days.astype(np.int64) * state.shape[0] + users) * state.shape[1] + items


def impossible_times(found: Quarantine) -> CheckResult:
    """Checks the share of events that are rejected because of an impossible time. They belong to no day, so detectors miss them."""
    wrong = {reason: count for reason in ("bad_time", "too_early", "future") if (count := found.rejected.get(reason, 0))}
    share = sum(wrong.values()) / max(found.sent, 1)
    reasons = "".join(f", {count:,} {reason}" for reason, count in wrong.items())
    message = f"{sum(wrong.values()):,} of {found.sent:,} events have impossible times{reasons}"
    return grade("impossible_times", share, MAX_IMPOSSIBLE, math.inf, message)


def past_days(live: DailyProfile | None, now: DailyProfile, limits: HistoryLimits) -> CheckResult:
    """Checks that days have as many events as when the live release was made."""
    if live is None or not live.days:
        message = "there are no features of a live release to compare past days with"
        return CheckResult("past_days", "none", "none", "warn", True, message)
    first = min(live.first, now.first)
    then, today = (
        np.pad(profile.of("events"), ((profile.first - first).days, 0))[: max((live.first - first).days + live.days - WEEK, 0)]
        for profile in (live, now)
    )
    today = np.pad(today, (0, len(then) - len(today)))
    larger = np.maximum(then, today)
    changed = (larger >= limits.min_events) & (np.abs(then - today) > LATE_SHARE * larger)
    share = float(larger[changed].sum() / max(then.sum(), 1))
    message = f"the number of events changed on {changed.sum():,} of {len(then):,} days since the live release was made"
    if changed.any():
        day = int(np.where(changed, np.abs(then - today), -1).argmax())
        message += f", such as on {first + timedelta(day)} from {then[day]:,} to {today[day]:,}"
    message += f"; above {limits.warn_past_days:.0%} of all events warns"
    return CheckResult("past_days", share, limits.warn_past_days, "warn", share <= limits.warn_past_days, message)


def known_items(live: Snapshot | None, now: State, limits: HistoryLimits) -> CheckResult:
    """Compares titles and categories of items with the live release. Ids seem to be mixed up if an item has the title of another
    one, or if the items of a category are now spread over several others. Other changes are taken as deliberate."""
    name = "known_items"
    if live is None:
        return CheckResult(name, "none", "none", "warn", True, "there is no live release to compare items with")
    ids, titles, categories = read_items(live, "item_id", "title", "category")
    rows = places(now.item_ids, ids)
    if not (rows >= 0).any():
        message = f"none of the {len(ids):,} items of the live release is in the data now: item ids seem to have changed"
        return CheckResult(name, 0, len(ids), "warn", False, message)
    owner = dict(zip(titles.tolist(), ids.tolist(), strict=True))
    ids, titles, categories = (values[rows >= 0] for values in (ids, titles, categories))
    rows = rows[rows >= 0]
    title, category = (now.items[column][rows].astype(str) for column in ("title", "category"))
    renamed, moved = title != titles, category != categories
    swapped = renamed & (np.array([owner.get(text, "") for text in title.tolist()]) != "")
    mixed = swapped | (moved & ~_moved_together(categories, category))
    changed = float((renamed | moved).mean())
    message = (
        f"of {len(ids):,} items of the live release, {renamed.sum():,} have another title ({swapped.sum():,} that of another"
        f" item) and {moved.sum():,} another category"
    )
    if changed:
        row = int((2 * mixed + (renamed | moved)).argmax())
        message += f"; {ids[row]} was {titles[row]!r} in {categories[row]!r} and is {title[row]!r} in {category[row]!r}"
    if mixed.mean() >= limits.block_known_items and mixed.sum() >= limits.min_events:
        message += f": ids seem to be mixed up; {limits.block_known_items:.0%} blocks"
        return CheckResult(name, float(mixed.mean()), limits.block_known_items, "block", False, message)
    return grade(name, changed, limits.warn_known_items, math.inf, message)


def _moved_together(before: NDArray[np.str_], after: NDArray[np.str_]) -> NDArray[np.bool_]:
    """Whether each item kept its category or moved with at least 30% of the category's moved items, as when a category is renamed,
    merged or split."""
    together = before == after
    for name in np.unique(before[~together]):
        rows = np.flatnonzero((before == name) & (before != after))
        targets, counts = np.unique(after[rows], return_counts=True)
        together[rows] = np.isin(after[rows], targets[counts >= 0.3 * len(rows)])
    return together
