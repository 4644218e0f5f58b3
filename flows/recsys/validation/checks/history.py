"""Detectors over time: are the newest days of the kind that this history has had before?

Each detector measures every day against the days before it (past.py), for one or several groups, such as categories. It warns where
the distance of a group is above the detector's threshold and the change is large enough to matter. The threshold comes from the
largest distance of all groups on each past day, so that a detector warns by chance on a known share of days: the budget
`false_alarms_per_year` is divided among all detectors. (Thresholds programmed from history for a budget of false alarms:
Auto-Validate-by-History, arXiv 2306.02421.) Unusual days are left out of the past.

A change warns on the day it begins, so a change that lasts is told once. A detector blocks where a level has collapsed or something
impossible has happened, on every day on which that is seen. Growth never blocks, and a history of less than eight weeks only warns.

`detect(profile, day, limits)` needs nothing but a daily profile, so days can be judged without a release.
"""

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import date, timedelta
from functools import partial
from typing import Annotated

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pydantic import Field

from recsys import releases
from recsys.features import ESTABLISHED, STEP, DailyProfile, Features, Quarantine, State, places, read_quarantine
from recsys.releases import connect, unpack
from recsys.settings import Count, PositiveShare, section
from recsys.store import Snapshot
from recsys.validation.check_input import CheckInput
from recsys.validation.past_days import (
    CALIBRATED,
    DEFAULT,
    FEWEST_DAYS,
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
    shares,
    spread_of,
    vanished,
    weekly,
)
from recsys.validation_report import CheckResult

QUIET = 28  # days without the same finding, after which it is told again
SHORT = 1.5  # times as large as usual must a change be to matter in a history of less than eight weeks
JUDGED = 28  # newest days that a first release is judged on
MOST = 0.5  # of the prices, whose loss or odd size blocks whatever else is to be said of them
LATE = 0.1  # of a day's events may come late, or be taken back
BLOCKED = 7  # newest days that can block, however young the live release is
WEEK = 7
FAR = 1.0  # of the logarithm: a price that is e times its item's usual one, or an e-th of it, is far away
IMPOSSIBLE = 0.002  # of all events may have impossible times
ONE_HOUR = 0.9  # of a day's events in one of its hours: no time of day is known
LOST = 0.5  # of the events that the live release keeps of its users: so many that are not theirs any more block
ASKED = 2_000  # users whose kept events are looked at, at least, where there are so many
SENT_AGAIN = 0.4  # more of the events than usual that repeat earlier ones
OTHER_UNIT = float(np.log(8))  # prices further away than this, all by the same factor, are in another unit

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
    words: str
    value: float
    limit: float


@dataclass(frozen=True)
class Detector:
    """measure: the series of a profile, measured without the days that are left out of the past. query: how to look at what moved.
    faults: the days that block."""

    name: str
    measure: Measure
    query: str
    faults: Callable[[DailyProfile, HistoryLimits], Iterator[Fault]] = lambda profile, limits: iter(())


def check(inputs: CheckInput, limits: HistoryLimits) -> Iterator[CheckResult]:
    features = inputs.features
    live = _live_profile(inputs)
    days = new_days(live, features.daily_profile, features.as_of, limits)
    yield from detect(features.daily_profile, features.as_of, limits, days, str(features.path))
    yield known_items(inputs.champion, inputs.state, limits)
    yield known_users(inputs.champion, inputs.state, limits)
    yield known_histories(inputs.champion, inputs.state, inputs.settings.dataset.target, limits)
    yield past_days(live, features.daily_profile, limits)
    yield impossible_times(read_quarantine(features.path, inputs.settings))


def _live_profile(inputs: CheckInput) -> DailyProfile | None:
    """The days that the live release has seen, as it saw them; None where nothing is live, or its features are gone."""
    store, live = inputs.store, inputs.champion
    id = live.manifest.parents.get("features", "") if live else ""
    if live is None or store.find("features", id) is None:
        return None
    with store.borrow("features", id) as snapshot:
        return Features(snapshot, inputs.settings).daily_profile.before(releases.as_of(live))


def new_days(live: DailyProfile | None, now: DailyProfile, as_of: date, limits: HistoryLimits) -> int:
    """How many of the newest days the live release has not seen, or has seen otherwise, since they were sent anew; at most 28."""
    if live is None:
        return JUDGED
    now = now.before(as_of)
    for days in range(min(JUDGED, now.days), 0, -1):
        day = as_of - timedelta(days)
        if day >= live.first + timedelta(live.days) or _was_sent_anew(live, now, day, limits):
            return days
    return 1


def _was_sent_anew(live: DailyProfile, now: DailyProfile, day: date, limits: HistoryLimits) -> bool:
    """Whether a day's counts differ by more than what arrives late."""
    then, today = (day - live.first).days, (day - now.first).days
    for dimension in now.counts.keys() - {"largest_user", "largest_item", "rejected", "copies"}:
        values = sorted({*now.values[dimension], *live.values.get(dimension, [])})
        before, after = ([int(one.of(dimension, value)[at]) for value in values] for one, at in ((live, then), (now, today)))
        apart = sum(abs(a - b) for a, b in zip(before, after, strict=True))
        if then < 0 or apart > max(limits.min_events, LATE * sum(after)):
            return True
    return False


def detect(profile: DailyProfile, day: date, limits: HistoryLimits, days: int = 1, folder: str = "features") -> list[CheckResult]:
    """One check result per detector, by the days of the profile before `day`; it may go on after it.

    Changes that began within the newest `days` warn; what collapsed within them, or within the newest seven, blocks. folder: where
    messages say that the feature snapshot lies.
    """
    profile = profile.before(day)
    return [_judge(detector, profile, min(days, profile.days), limits, folder) for detector in DETECTORS]


def _judge(detector: Detector, profile: DailyProfile, days: int, limits: HistoryLimits, folder: str) -> CheckResult:
    is_long = profile.days - days >= WEEK * WEEKS
    series, threshold = _measure(detector, profile, days, limits, is_long)
    groups = [(one, group) for one in series for group in range(len(one.seen))]
    if not groups or not profile.days:
        return CheckResult(detector.name, "none", "none", "warn", True, "the history has nothing to compare with")
    distance = np.nan_to_num(np.concatenate([one.distance for one in series]))
    unusual = _unusual(series, threshold, is_long)
    new = _began(unusual, np.concatenate([one.seen > one.high for one in series]))
    new[:, : profile.days - days] = False
    last = profile.days - 1
    day = int(np.flatnonzero(new.any(0))[-1]) if new.any() else last
    row = int(np.where(new[:, day] if new.any() else True, distance[:, day], -1).argmax())
    told, when = groups[row][0].tell(groups[row][1], day), profile.first + timedelta(day)
    words = f"{when}: {told}; {distance[row, day]:.1f} standard deviations away, above {threshold:.1f} warns"
    words += " where the change is large enough" if not new.any() else ""
    faults = [fault for fault in detector.faults(profile, limits) if is_long and fault.day >= profile.days - max(days, BLOCKED)]
    value = float(distance[row, day])
    if faults:
        since = profile.first + timedelta(faults[0].day)
        words = f"since {since}: {faults[0].words}; {_how_to_look(detector, profile, faults[0].day, folder)}"
        return CheckResult(detector.name, float(faults[0].value), float(faults[0].limit), "block", False, words)
    if new.any():
        return CheckResult(
            detector.name, value, threshold, "warn", False, f"{words}; {_how_to_look(detector, profile, day, folder)}"
        )
    if unusual[:, last].any():
        words += f"; unusual since {_since(unusual, profile)}, which was told then"
    return CheckResult(detector.name, value, threshold, "warn", True, words)


def _measure(
    detector: Detector, profile: DailyProfile, days: int, limits: HistoryLimits, is_long: bool
) -> tuple[list[Series], float]:
    """The series and their threshold, measured twice: the second time without the days that were unusual the first time. Of a row
    of unusual days only the first two weeks are left out, for a change that lasts longer is the new level."""
    left_out, threshold = np.zeros(profile.days, bool), DEFAULT
    end = max(profile.days - days - WEEK, 0)  # without the newest week, or a change would raise the threshold while it lasts
    past = slice(max(end - CALIBRATED, 0), end)
    series: list[Series] = []
    for _ in range(2):
        series = [one for one in detector.measure(profile, left_out, limits) if len(one.seen)]
        if not series:
            break
        if is_long:
            distance = np.concatenate([one.distance for one in series])[:, past]
            known = ~np.isnan(distance).all(0) & ~left_out[past]
            largest = np.nan_to_num(distance).max(0)[known]
            threshold = calibrate(largest, len(distance), limits.false_alarms_per_year / 365 / len(DETECTORS))
        left_out = _first_days(_unusual(series, threshold, is_long), RECENT)
    return series, threshold


def _unusual(series: list[Series], threshold: float, is_long: bool) -> NDArray[np.bool_]:
    """Flags by group and day. In a short history a change must be larger to matter."""
    distance, size = (np.nan_to_num(np.concatenate([getattr(one, part) for one in series])) for part in ("distance", "size"))
    return (distance > threshold) & (size >= (1 if is_long else SHORT))


def _began(unusual: NDArray[np.bool_], is_above: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The first unusual day of each group since a quiet time, above and below its range each."""
    found = np.zeros_like(unusual)
    for flags in (unusual & is_above, unusual & ~is_above):
        counts = np.cumsum(np.pad(flags, ((0, 0), (QUIET + 1, 0))), axis=1)
        found |= flags & (counts[:, QUIET:-1] == counts[:, : -QUIET - 1])
    return found


def _first_days(unusual: NDArray[np.bool_], most: int) -> DayFlags:
    """Days with a flag, without those that follow so many others in a row."""
    run, kept = 0, np.zeros(unusual.shape[1], np.bool_)
    for day in range(unusual.shape[1]):
        run = run + 1 if unusual[:, day].any() else 0
        kept[day] = 0 < run <= most
    return kept


def _since(flags: NDArray[np.bool_], profile: DailyProfile) -> date:
    """The first day of the row of days with a flag that the last day ends."""
    usual = np.flatnonzero(~flags.any(axis=0))
    return profile.first + timedelta(int(usual[-1]) + 1 if len(usual) else 0)


def _how_to_look(detector: Detector, profile: DailyProfile, day: int, folder: str) -> str:
    """A query over the days around one."""
    when = profile.first + timedelta(day)
    days = f"event_at >= '{when - timedelta(RECENT)}' and event_at < '{when + timedelta(RECENT)}'"
    return f"look at it in DuckDB: {detector.query.format(folder=folder, days=days)}"


# What blocks.


def _low(counts: NDArray[np.int64], limits: HistoryLimits) -> NDArray[np.bool_]:
    """Days with next to nothing of what their weekday usually has, by group."""
    seen = np.atleast_2d(counts).astype(float)
    usual = np.nan_to_num(weekly(seen))
    return (usual >= limits.min_events) & (seen < limits.block_left * usual)


def _first_of_low(low: DayFlags, limits: HistoryLimits) -> Iterator[int]:
    """The first low day of the last week, if enough of them are low and so is the newest: a shop that was closed opens again."""
    if len(low) >= WEEK and low[-1] and low[-WEEK:].sum() >= limits.block_days:
        yield len(low) - WEEK + int(np.flatnonzero(low[-WEEK:])[0])


def _collapse(dimension: str, profile: DailyProfile, limits: HistoryLimits) -> Iterator[Fault]:
    low = _low(profile.of(dimension), limits)[0]
    for day in _first_of_low(low, limits):
        words = f"{low[-WEEK:].sum()} of the last 7 days have less than {limits.block_left:.0%} of the {dimension} that are usual"
        yield Fault(day, words, low[-WEEK:].sum(), limits.block_days)


def _lost_slices(profile: DailyProfile, limits: HistoryLimits) -> Iterator[Fault]:
    """Next to nothing is left of slices that had much of all events, while other slices go on."""
    closed = _low(profile.of("events"), limits)[0]
    for dimension in ("category", "segment"):
        if dimension in profile.counts:
            counts, low = profile.counts[dimension], _low(profile.counts[dimension], limits)
            usual = np.nan_to_num(weekly(counts.astype(float)))
            lost = (usual * low).sum(0) / np.maximum(usual.sum(0), 1)
            for day in _first_of_low((lost >= limits.block_lost) & ~closed, limits):
                names = [name for name, is_low in zip(profile.values[dimension], low[:, -1], strict=True) if is_low]
                words = f"next to nothing is left of {dimension} {', '.join(names[:5])}{', ...' if len(names) > 5 else ''}"
                words += f" ({len(names)} of {len(low)}), which had {lost[-1]:.0%} of all events"
                yield Fault(day, words, lost[-1], limits.block_lost)


def _changed_types(profile: DailyProfile, limits: HistoryLimits) -> Iterator[Fault]:
    """Many events have another type, and a type that was frequent has lost half of its events, on a day that was not quiet."""
    if "event_type" not in profile.counts:
        return
    counts, whole = profile.counts["event_type"].astype(float), profile.of("events").astype(float)
    usual = np.nan_to_num(weekly(counts))
    total = np.maximum(usual.sum(0), 1)
    moved = np.abs(counts / np.maximum(whole, 1) - usual / total).sum(0) / 2
    halved = (counts < 0.5 * usual) & (usual >= np.maximum(limits.min_events, limits.block_types * total))
    for day in np.flatnonzero((moved >= limits.block_types) & halved.any(0) & (whole >= 0.5 * total)):
        row = int(halved[:, day].argmax())
        words = f"{moved[day]:.0%} of the events have another type than usual: {counts[row, day]:,.0f} are"
        words += f" {profile.values['event_type'][row]} events, usually {usual[row, day]:,.0f}"
        yield Fault(int(day), words, moved[day], limits.block_types)


def _established_gone(
    dimension: str, established: tuple[str, str], profile: DailyProfile, limits: HistoryLimits
) -> Iterator[Fault]:
    """Next to nothing of what was known is seen, on a day that was not quiet. Of items, half as much is enough: a new collection
    may take most of the events, but not all."""
    whole, known = (counts[None].astype(float) for counts in (profile.of(dimension), profile.of(*established)))
    usual, was = (np.nan_to_num(weekly(counts))[0] for counts in (whole, known))
    what, enough = ("users", 1.0) if dimension == "users" else ("events on items", 0.5)
    gone = _low(known, limits)[0] & (known[0] < enough * limits.block_left * was)
    for day in np.flatnonzero(gone & (whole[0] >= 0.5 * usual) & (was >= 0.3 * usual)):
        words = f"{known[0, day]:,.0f} of {whole[0, day]:,.0f} {what} are known for {ESTABLISHED} days, usually {was[day]:,.0f}"
        gone = 1 - known[0, day] / was[day]
        yield Fault(int(day), f"{words}: ids seem to be others than before", gone, 1 - limits.block_left)


def _mixed_up(profile: DailyProfile, limits: HistoryLimits) -> Iterator[Fault]:
    """Users who are known are gone, or come back to what they had hardly more often than other users would."""
    yield from _established_gone("users", ("users", "established"), profile, limits)
    known, again, chance = (profile.of("events", value)[None].astype(float) for value in ("established", "again", "chance"))
    own = again - chance
    usual = np.nan_to_num(weekly(own) / np.maximum(weekly(known), 1))
    expected = usual * known
    enough = expected >= np.maximum(limits.min_events, 5 * np.sqrt(again + chance))
    for day in np.flatnonzero((enough & (own < limits.block_left * expected))[0]):
        words = f"{again[0, day] / known[0, day]:.1%} of the events of known users are on items that they had before,"
        words += f" {chance[0, day] / known[0, day]:.1%} would be with users exchanged, and usually {usual[0, day]:.1%} more are"
        yield Fault(int(day), f"{words}: ids seem to be mixed up", 1 - own[0, day] / expected[0, day], 1 - limits.block_left)


def _prices_of(profile: DailyProfile) -> tuple[Floats, NDArray[np.int64]]:
    """Distances of prices from their items' usual ones, as logarithms in order, and the events (distances, days) with them."""
    steps, counts = np.array(profile.values.get("price_step", []), int), profile.counts.get("price_step")
    order = np.argsort(steps)
    return steps[order] * STEP, counts[order] if counts is not None else np.zeros((0, profile.days), np.int64)


def _other_unit(profile: DailyProfile, limits: HistoryLimits) -> Iterator[Fault]:
    """Many prices have moved by one large factor, or most of them far away."""
    yield from _prices_gone(profile, limits)
    steps, counts = _prices_of(profile)
    if not len(steps):
        return
    whole = np.maximum(counts.sum(0), 1)
    together = (np.abs(steps[:, None] - steps) <= 2.5 * STEP) & (np.abs(steps) >= OTHER_UNIT)[:, None]
    moved = together.astype(np.int64) @ counts
    factor, most = np.exp(steps[moved.argmax(0)]), moved.max(0) / whole
    away = counts[np.abs(steps) >= np.log(5)].sum(0) / whole
    for day in np.flatnonzero((whole >= limits.min_events) & ((most >= limits.block_prices) | (away >= MOST))):
        if most[day] >= limits.block_prices:
            words = f"{most[day]:.0%} of the prices are about {factor[day]:.3g} times the usual ones of their items"
            yield Fault(int(day), words, most[day], limits.block_prices)
        else:
            words = f"{away[day]:.0%} of the prices are more than 5 times, or less than a fifth of, the usual ones of their items"
            yield Fault(int(day), words, away[day], MOST)


def _prices_gone(profile: DailyProfile, limits: HistoryLimits) -> Iterator[Fault]:
    """Most events that usually have a price have none, or one of 0."""
    whole, without = profile.of("events")[None].astype(float), profile.of("price_band", "none") + profile.of("price_band", "zero")
    share, usual = without / np.maximum(whole, 1), weekly(without[None].astype(float)) / np.maximum(weekly(whole), 1)
    gone = (whole >= limits.min_events) & (share >= np.nan_to_num(usual, nan=1.0) + MOST)
    for day in np.flatnonzero(gone[0]):
        words = f"{share[0, day]:.0%} of the events have no price, or one of 0, usually {usual[0, day]:.0%}"
        yield Fault(int(day), words, share[0, day], usual[0, day] + MOST)


def _sent_again(profile: DailyProfile, limits: HistoryLimits) -> Iterator[Fault]:
    """Far more events than usual repeat earlier ones to the second."""
    whole, again = (counts[None].astype(float) for counts in (profile.of("events"), profile.of("repeated")))
    share, usual = again / np.maximum(whole, 1), weekly(again) / np.maximum(weekly(whole), 1)
    for day in np.flatnonzero(((whole >= limits.min_events) & (share >= np.nan_to_num(usual, nan=1.0) + SENT_AGAIN))[0]):
        words = f"{share[0, day]:.0%} of the events are of the same user, item, type and time of day as earlier ones"
        words += f", usually {usual[0, day]:.0%}: events seem to have been sent again"
        yield Fault(int(day), words, float(share[0, day]), float(usual[0, day]) + SENT_AGAIN)


def _without_times(profile: DailyProfile, limits: HistoryLimits) -> Iterator[Fault]:
    """All events fall into one hour, on a day with many."""
    if "hour" not in profile.counts:
        return
    whole, largest = profile.of("events")[None].astype(float), profile.counts["hour"].max(0)[None].astype(float)
    share, usual = largest / np.maximum(whole, 1), weekly(largest) / np.maximum(weekly(whole), 1)
    for day in np.flatnonzero(((whole >= 5 * limits.min_events) & (share >= ONE_HOUR) & (np.nan_to_num(usual, nan=1.0) <= 0.5))[0]):
        words = f"{share[0, day]:.0%} of the events are of one hour, usually {usual[0, day]:.0%}"
        yield Fault(int(day), f"{words}: the time of day seems to have been cut off", float(share[0, day]), ONE_HOUR)


# What warns.


def _level(dimension: str, profile: DailyProfile, left_out: DayFlags, limits: HistoryLimits) -> Iterator[Series]:
    yield levels(dimension, profile.of(dimension), left_out, limits.warn_volume, limits.min_events)


def _mix(profile: DailyProfile, left_out: DayFlags, limits: HistoryLimits) -> Iterator[Series]:
    whole = profile.of("events")
    for dimension, what in SLICES.items():
        if len(profile.values.get(dimension, [])) > 1:
            names = [f"{what} {value}" for value in profile.values[dimension]]
            counts, is_band = profile.counts[dimension], dimension.endswith("band")
            left, least = (0.0, 2 * limits.warn_share) if is_band else (limits.block_left, limits.warn_share)
            yield shares(names, counts, whole, left_out, least, limits.min_events, left=left)
            if left:
                yield vanished(names, counts, left, limits.min_events)
    if "largest_item" in profile.counts:
        counts = profile.counts["largest_item"]
        found = shares([""], counts.max(0), whole, left_out, 5 * limits.warn_share, limits.min_events, direction=1)
        yield replace(found, label=lambda group, day: f"item {profile.values['largest_item'][counts[:, day].argmax()]}")


def _types(profile: DailyProfile, left_out: DayFlags, limits: HistoryLimits) -> Iterator[Series]:
    """The type that moved most: where one type gains, others lose. And types that stopped coming."""
    if len(names := profile.values.get("event_type", [])) > 1:
        counts, whole = profile.counts["event_type"], profile.of("events")
        found = shares(names, counts, whole, left_out, limits.warn_share, limits.min_events)
        most = np.nan_to_num(found.distance).argmax(0)
        parts = {
            part: np.take_along_axis(getattr(found, part), most[None], 0) for part in ("seen", "low", "high", "distance", "size")
        }
        yield Series(lambda group, day: f"{names[most[day]]} events", unit="share", **parts)
        for days in (WEEK, 4 * WEEK):
            yield vanished([f"{name} events" for name in names], counts, limits.block_left, limits.min_events, days)


def _prices(profile: DailyProfile, left_out: DayFlags, limits: HistoryLimits) -> Iterator[Series]:
    steps, counts = _prices_of(profile)
    if not len(steps):
        return
    whole, far = counts.sum(0), counts[np.abs(steps) >= FAR].sum(0)
    name = "prices that are far from the usual ones of their items:"
    yield shares([name], far, whole, left_out, 0.6 * limits.warn_share, limits.min_events, direction=1)
    middle = steps[(np.cumsum(counts, 0) < whole / 2).sum(0).clip(0, len(steps) - 1)]
    moved = np.where((whole >= limits.min_events) & (np.arange(len(whole)) >= FEWEST_DAYS), middle, np.nan)[None]
    spread = np.maximum(spread_of(np.where(left_out, np.nan, moved)), STEP / 2) * np.ones_like(moved)
    distance, size = np.abs(moved) / spread, np.abs(moved) / np.log(limits.warn_price)
    label = "the median price is, of the usual one of its item,"
    yield Series(lambda group, day: label, np.exp(moved), np.exp(-spread), np.exp(spread), distance, size, "times")


def _repeats(profile: DailyProfile, left_out: DayFlags, limits: HistoryLimits) -> Iterator[Series]:
    """Users who take again what they had do so less, on one day or in a week. Users who avoid it, as with films, do so more."""
    known, again, chance = (profile.of("events", value) for value in ("established", "again", "chance"))
    falls = {"direction": -1, "is_relative": True}
    name, established = "users who are known:", profile.of("users", "established")
    yield shares([name], established, profile.of("users"), left_out, limits.warn_fall, limits.min_events, **falls)  # type: ignore[arg-type]
    name = "events of known users on what they had before:"
    if again.sum() >= chance.sum() / 2:
        yield shares([name], again, known, left_out, limits.warn_fall, limits.min_events, **falls)  # type: ignore[arg-type]
        yield _own_share(known, again, chance, left_out, limits)
    else:
        least = limits.warn_fall * float(chance.sum() / known.sum())
        yield shares([name], again, known, left_out, least, limits.min_events, direction=1)


def _own_share(
    known: NDArray[np.int64], again: NDArray[np.int64], chance: NDArray[np.int64], left_out: DayFlags, limits: HistoryLimits
) -> Series:
    """By how much more users take again what they had than others would, in 7 days, against the two weeks before."""
    of_days = [np.where(left_out, 0.0, counts)[None] for counts in (known, again - chance)]
    events, own, noise = (
        last_sum(np.pad(counts[None].astype(float), ((0, 0), (0, 1))), WEEK)[:, 1:]
        for counts in (known, again - chance, again + chance)
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        usual = before(last_sum(of_days[1], RECENT) / last_sum(of_days[0], RECENT), WEEK - 1)
        lost = np.where(events >= limits.min_events, np.maximum(usual - own / events, 0), np.nan)
        distance = lost * events / np.sqrt(np.maximum(noise, 1))
        size = np.where(lost >= 2 * limits.warn_fall * usual, 2.0, 0.0)
    label = "events of known users on what they had before, beyond what chance gives, in 7 days:"
    return Series(lambda group, day: label, own / np.maximum(events, 1), usual, usual, distance, size, "share")


def _catalogue(profile: DailyProfile, left_out: DayFlags, limits: HistoryLimits) -> Iterator[Series]:
    yield levels("items with an event:", profile.of("items"), left_out, 1.5 * limits.warn_volume, limits.min_events)
    known, whole = profile.of("established_items"), profile.of("events")
    yield shares(["events on known items:"], known, whole, left_out, limits.warn_fall, limits.min_events, -1, is_relative=True)


def _copies(profile: DailyProfile, left_out: DayFlags, limits: HistoryLimits) -> Iterator[Series]:
    whole = profile.of("events")
    name = "events on new items that have the title and category of older ones:"
    yield shares([name], profile.of("copies"), whole, left_out, 0.4 * limits.warn_share, limits.min_events, 1)
    name = "events of the same user, item, type and time of day as an earlier one:"
    yield shares([name], profile.of("repeated"), whole, left_out, 2 * limits.warn_share, limits.min_events, 1)


def _account(profile: DailyProfile, left_out: DayFlags, limits: HistoryLimits) -> Iterator[Series]:
    """Of no interest where the busiest user has few of the events."""
    if "largest_user" in profile.counts:
        counts, whole = profile.counts["largest_user"], profile.of("events")
        found = levels("", counts.max(0), left_out, limits.warn_account, limits.min_events // 2, is_up_only=True)
        size = np.where(counts.max(0) >= limits.warn_share * whole, found.size, 0)
        yield replace(
            found, size=size, label=lambda group, day: f"events of user {profile.values['largest_user'][counts[:, day].argmax()]}:"
        )


def _hours(profile: DailyProfile, left_out: DayFlags, limits: HistoryLimits) -> Iterator[Series]:
    """How far the hours of a day, or of up to a week where days have few events, are from the usual ones, and how much closer they
    are with the clock turned."""
    if len(profile.values.get("hour", [])) < 2:
        return
    hours, fewest = np.zeros((24, profile.days)), 5 * limits.min_events
    hours[np.array(profile.values["hour"], int)] = profile.counts["hour"]
    span = int(np.clip(np.ceil(fewest / max(np.median(hours[:, -CALIBRATED:].sum(0)), 1)), 1, WEEK))
    hours, within = last_sum(np.pad(hours, ((0, 0), (0, 1))), span)[:, 1:], f" in {span} days" if span > 1 else ""
    past = np.where(left_out, 0.0, hours)
    usual = np.sum([np.nan_to_num(before(past, WEEK * week)) for week in range(1, WEEKS + 1)], axis=0)
    usual = np.where(usual.sum(0) >= fewest, usual, last_sum(past, RECENT))
    # About a tenth of the events tells two positions of a clock apart, which is 0.3 standard deviations of one event.
    noise = np.maximum(0.3 / np.sqrt(np.maximum(hours.sum(0), 1)), 0.01)
    judged = (np.minimum(hours.sum(0), usual.sum(0)) >= fewest) & (np.arange(profile.days) >= FEWEST_DAYS)
    now, usual = (values / np.maximum(values.sum(0), 1) for values in (hours, usual))
    apart = np.array([np.abs(now - np.roll(usual, turn, axis=0)).sum(0) / 2 for turn in range(24)])
    turn, left = (apart.argmin(0) + 12) % 24 - 12, apart.min(0)
    for label, value, least in (
        (lambda group, day: f"events{within} that a clock turned by {turn[day]:+d} hours explains:", apart[0] - left, 1.0),
        (
            lambda group, day: f"events{within} at unusual hours, {left[day]:.1%} with a clock turned by {turn[day]:+d} hours,",
            apart[0],
            3.0,
        ),
    ):
        seen = np.where(judged, value, np.nan)[None]
        known = np.where(left_out, np.nan, seen)
        high = median(known[:, -CALIBRATED:].T, 1)[:, None] * np.ones_like(seen)
        distance = np.maximum(seen - high, 0) / np.maximum(spread_of(known - high), noise)
        yield Series(
            label,
            seen,
            np.zeros_like(seen),
            high,
            distance,
            (seen - high) / (least * np.maximum(limits.warn_hours, 3.5 * noise)),
            "share",
        )


def _rejected(profile: DailyProfile, left_out: DayFlags, limits: HistoryLimits) -> Iterator[Series]:
    if "rejected" in profile.counts:
        counts, names = profile.counts["rejected"], [f"events rejected as {reason}:" for reason in profile.values["rejected"]]
        yield shares(names, counts, profile.of("events") + counts.sum(0), left_out, limits.warn_share, limits.min_events, 1)


def _by_day(columns: str, joins: str = "", table: str = "fct_events") -> str:
    source = f"from '{{folder}}/{table}.parquet' events {joins}where {{days}}"
    return f"select event_at::date as day, {columns} {source} group by all order by all"


_ITEMS = "join '{folder}/dim_items.parquet' items using (item_index) "
_USERS = "join '{folder}/dim_users.parquet' users using (user_index) "

DETECTORS = (
    Detector("volume", partial(_level, "events"), _by_day("count(*)"), partial(_collapse, "events")),
    Detector("users", partial(_level, "users"), _by_day("count(distinct user_index)"), partial(_collapse, "users")),
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
    """Segments of the users that the live release knows."""
    if live is None:
        return CheckResult("known_users", "none", "none", "warn", True, "nothing is live yet, so no user is known")
    with closing(connect(releases.lists_file(live.path))) as connection:
        ids, segments = (np.array(column) for column in zip(*connection.execute("select user_id, segment from users"), strict=True))
    rows = places(now.user_ids, ids)
    was, found = segments[rows >= 0], now.users["segment"][rows[rows >= 0]].astype(str)
    changed = float((was != found).mean()) if len(was) else 0.0
    words = f"of {len(was):,} users of the live release {(was != found).sum():,} are of another segment"
    if changed:
        row = int((was != found).argmax())
        words += f", such as {ids[rows >= 0][row]}, who was of {was[row]!r} and is of {found[row]!r}"
    words += f"; above {limits.warn_known_items:.0%} warns"
    return CheckResult("known_users", changed, limits.warn_known_items, "warn", changed <= limits.warn_known_items, words)


def known_histories(live: Snapshot | None, now: State, target: str, limits: HistoryLimits) -> CheckResult:
    """The last target events of some users, as the live release keeps them: they must be of the same users and items still. Events
    before the first that is known now are left out, and so are users and items that are not known now."""
    name = "known_histories"
    if live is None or releases.about(live)["target"] != target:
        return CheckResult(name, "none", "none", "warn", True, f"no release for {target} is live, so no history is known")
    ids = pq.read_table(live.path / "items.parquet", columns=["item_id"])["item_id"].to_numpy(zero_copy_only=False).astype(str)
    with closing(connect(releases.lists_file(live.path))) as connection:
        known = np.array([user for (user,) in connection.execute("select user_id from users order by user_id")], str)
        known = known[places(now.user_ids, known) >= 0]
        known = known[:: max(len(known) // ASKED, 1)]
        query = "select bought from users where user_id = ?"
        kept = [unpack(connection.execute(query, (user,)).fetchone()[0]) for user in known.tolist()]
    if not kept:
        return CheckResult(name, 0, "none", "warn", True, "no user of the live release is known any more")
    items, days = (np.concatenate(parts) for parts in zip(*kept, strict=True))
    users, items = np.repeat(places(now.user_ids, known), [len(listed) for listed, _ in kept]), places(now.item_ids, ids)[items]
    days = np.floor(-days) - (now.cutoff - releases.as_of(live)).days
    found = np.floor(-now.history["days"].astype(float))
    judged = (items >= 0) & (days >= found.min(initial=0))
    events = _keys(users, items, days, now)[judged]
    lost = ~np.isin(events, _keys(now.history["user_index"], now.history["item_index"], found, now))
    share = float(lost.mean()) if len(lost) else 0.0
    words = f"of {len(lost):,} events that the live release keeps of {len(known):,} users, {lost.sum():,} are not theirs any more"
    if lost.any():
        row = int(np.flatnonzero(judged)[lost.argmax()])
        day = now.cutoff + timedelta(int(days[row]))
        words += f", such as the one of user {now.user_ids[users[row]]} with item {now.item_ids[items[row]]} on {day}"
    if share >= LOST and len(lost) >= limits.min_events:
        return CheckResult(
            name, share, LOST, "block", False, f"{words}: ids of users or items seem to be mixed up, {LOST:.0%} blocks"
        )
    words += f"; above {limits.warn_past_days:.0%} warns"
    return CheckResult(name, share, limits.warn_past_days, "warn", share <= limits.warn_past_days, words)


def _keys(users: NDArray, items: NDArray, days: NDArray, state: State) -> NDArray[np.int64]:
    """One number for each user, item and day."""
    return (days.astype(np.int64) * state.shape[0] + users) * state.shape[1] + items


def impossible_times(found: Quarantine) -> CheckResult:
    """Events that are rejected for a time that cannot be: they are of no day, so that no day can tell them."""
    wrong = {reason: count for reason in ("bad_time", "too_early", "future") if (count := found.rejected.get(reason, 0))}
    share = sum(wrong.values()) / max(found.sent, 1)
    reasons = "".join(f", {count:,} {reason}" for reason, count in wrong.items())
    words = f"{sum(wrong.values()):,} of {found.sent:,} events have impossible times{reasons}; above {IMPOSSIBLE:.1%} warns"
    return CheckResult("impossible_times", share, IMPOSSIBLE, "warn", share <= IMPOSSIBLE, words)


def past_days(live: DailyProfile | None, now: DailyProfile, limits: HistoryLimits) -> CheckResult:
    """Days that the live release knew already, by what it knew: the past does not change by itself."""
    if live is None or not live.days:
        words = "no features of a live release are kept, so no day can have changed"
        return CheckResult("past_days", "none", "none", "warn", True, words)
    first = min(live.first, now.first)
    then, found = (
        np.pad(one.of("events"), ((one.first - first).days, 0))[: max((live.first - first).days + live.days - WEEK, 0)]
        for one in (live, now)
    )
    found = np.pad(found, (0, len(then) - len(found)))
    more = np.maximum(then, found)
    changed = (more >= limits.min_events) & (np.abs(then - found) > LATE * more)
    share = float(more[changed].sum() / max(then.sum(), 1))
    words = f"{changed.sum():,} of {len(then):,} days have other numbers of events than when the live release was made"
    if changed.any():
        day = int(np.where(changed, np.abs(then - found), -1).argmax())
        words += f"; {first + timedelta(day)} has {found[day]:,}, and had {then[day]:,}"
    words += f"; above {limits.warn_past_days:.0%} of all events warns"
    return CheckResult("past_days", share, limits.warn_past_days, "warn", share <= limits.warn_past_days, words)


def known_items(live: Snapshot | None, now: State, limits: HistoryLimits) -> CheckResult:
    """Titles and categories of the items that the live release knows. Where an item has the title of another one, or the items of a
    category are scattered over others, ids are mixed up; other changes are somebody's decision."""
    name = "known_items"
    if live is None:
        return CheckResult(name, "none", "none", "warn", True, "nothing is live yet, so no item is known")
    table = pq.read_table(live.path / "items.parquet", columns=["item_id", "title", "category"])
    ids, titles, categories = (column.to_numpy(zero_copy_only=False).astype(str) for column in table.columns)
    rows = places(now.item_ids, ids)
    if not (rows >= 0).any():
        return CheckResult(
            name, 0, len(ids), "warn", False, f"none of the {len(ids):,} items of the live release is known any more"
        )
    owner = dict(zip(titles.tolist(), ids.tolist(), strict=True))
    ids, titles, categories = (values[rows >= 0] for values in (ids, titles, categories))
    rows = rows[rows >= 0]
    title, category = (now.items[column][rows].astype(str) for column in ("title", "category"))
    renamed, moved = title != titles, category != categories
    swapped = renamed & (np.array([owner.get(one, "") for one in title.tolist()]) != "")
    mixed = swapped | (moved & ~_went_together(categories, category))
    changed = float((renamed | moved).mean())
    words = (
        f"of {len(ids):,} items of the live release {renamed.sum():,} have another title ({swapped.sum():,} that of another item)"
    )
    words += f" and {moved.sum():,} another category"
    if changed:
        row = int((2 * mixed + (renamed | moved)).argmax())
        words += f"; {ids[row]} was {titles[row]!r} in {categories[row]!r} and is {title[row]!r} in {category[row]!r}"
    if mixed.mean() >= limits.block_known_items and mixed.sum() >= limits.min_events:
        words += f": ids seem to be mixed up, above {limits.block_known_items:.0%} blocks"
        return CheckResult(name, float(mixed.mean()), limits.block_known_items, "block", False, words)
    words += f"; above {limits.warn_known_items:.0%} warns"
    return CheckResult(name, changed, limits.warn_known_items, "warn", changed <= limits.warn_known_items, words)


def _went_together(before: NDArray[np.str_], after: NDArray[np.str_]) -> NDArray[np.bool_]:
    """Whether an item has gone where a good part of its category went: a category was renamed, joined with another or split up."""
    together = before == after
    for name in np.unique(before[~together]):
        rows = np.flatnonzero((before == name) & (before != after))
        targets, counts = np.unique(after[rows], return_counts=True)
        together[rows] = np.isin(after[rows], targets[counts >= 0.3 * len(rows)])
    return together
