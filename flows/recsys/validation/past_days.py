"""Days against the days before them: what is usual, how far a day is from it, and how far a day may be.

A day is compared with the same weekday of the last eight weeks, with the last two weeks, with their trend, and with the same season
a year ago where the history is that long. Between the lowest and the highest of these references it is usual. Outside, its distance
is measured in standard deviations, which come from the spread of past days and from the number of rows: few rows spread widely.
"""

from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

WEEKS = 8  # same weekdays that a day is compared with
RECENT = 14  # days before a day that say what the level is now
YEAR = 364  # days: a whole number of weeks
FEWEST_DAYS = 21  # of history, before which no day is compared
CALIBRATED = 182  # newest past days that spreads and thresholds come from
FEWEST_CALIBRATED = 28  # days; with fewer, DEFAULT is the threshold
DEFAULT = 3.5  # standard deviations

Floats = NDArray[np.float64]
DayFlags = NDArray[np.bool_]  # one flag per day


@dataclass(frozen=True)
class Series:
    """What a detector measures, (groups, days) each; distance is NaN where there is nothing to compare with.

    label: what was measured, in words, by group and day. seen: the measured value. low, high: the usual range. distance: standard
    deviations outside of it. size: how large the change is; from 1 on it matters. unit: `count`, `share` or `times`.
    """

    label: Callable[[int, int], str]
    seen: Floats
    low: Floats
    high: Floats
    distance: Floats
    size: Floats
    unit: str = "count"

    def tell(self, group: int, day: int) -> str:
        """`category c3 41.0%, usually 9.1% to 10.2%`."""
        write = {"count": "{:,.0f}", "share": "{:.1%}", "times": "{:.2f} times"}[self.unit].format
        low, high = write(self.low[group, day]), write(self.high[group, day])
        return f"{self.label(group, day)} {write(self.seen[group, day])}, usually {low if low == high else f'{low} to {high}'}"


def levels(
    name: str,
    counts: NDArray[np.int64],
    left_out: DayFlags,
    times: float,
    fewest: int,
    is_up_only: bool = False,
    unit: str = "count",
) -> Series:
    """Daily counts against their own level. times: the smallest change that matters, up or down. fewest: events below which a day
    says nothing. left_out: unusual days, with which no other day is compared."""
    seen = counts[None].astype(float)
    past = np.where(left_out, np.nan, seen)
    usual = weekly(past)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(usual > 0, past / usual, np.nan)
        growth = median(np.stack([before(ratio, day) for day in range(1, RECENT + 1)]), 3)
        recent = np.where(np.isnan(growth), usual, usual * growth)
        trend = recent * np.clip(growth / before(growth, 7), 0.5, 2)
        year = before(seen, YEAR) * last_sum(seen, 28) / before(last_sum(seen, 28), YEAR)
        low, high = _range(usual, recent, trend, np.where(np.isfinite(year), year, np.nan))
        up, down = np.log((seen + 1) / (high + 1)), np.log((low + 1) / (seen + 1))
        spread = spread_of(np.log((seen + 1) / (recent + 1)))
    change, reference = np.fmax(up, 0 if is_up_only else np.fmax(down, 0)), np.where(up >= down, high, low)
    roots = 2 * np.abs(np.sqrt(seen) - np.sqrt(reference)) * (change > 0)  # of counts by chance, their standard deviation is 1
    distance = roots / np.maximum(spread * np.sqrt(reference), 1)
    distance = np.where(np.fmax(seen, high) >= fewest, distance, 0)
    size = np.maximum(change, 0) / np.log(times)
    return Series(lambda group, day: name, seen, low, high, np.where(np.isnan(low), np.nan, distance), size, unit)


def shares(
    names: list[str],
    parts: NDArray[np.int64],
    whole: NDArray[np.int64],
    left_out: DayFlags,
    least: float,
    fewest: int,
    direction: int = 0,
    is_relative: bool = False,
    left: float = 0.0,
) -> Series:
    """Parts of a whole against their usual shares of it. least: the smallest change that matters; is_relative: as a share of the
    usual share. direction: 1 where only a rise counts, -1 where only a fall does. left: a part with less than this share of its
    usual events matters as well, however small the part is, where `fewest` events of it were to be expected."""
    part, total = np.atleast_2d(parts).astype(float), whole[None].astype(float)
    kept = [np.where(left_out, 0.0, values) for values in (part, total)]
    same_days = [np.sum([np.nan_to_num(before(values, 7 * week)) for week in range(1, WEEKS + 1)], axis=0) for values in kept]
    with np.errstate(divide="ignore", invalid="ignore"):
        seen = np.where(total > 0, part / total, np.nan)
        usual = np.where(same_days[1] >= fewest, same_days[0] / same_days[1], np.nan)
        recent = np.where(last_sum(kept[1], RECENT) >= fewest, last_sum(kept[0], RECENT) / last_sum(kept[1], RECENT), usual)
        low, high = _range(usual, recent)
        up, down = np.maximum(seen - high, 0) * (direction >= 0), np.maximum(low - seen, 0) * (direction <= 0)
        change, reference = up + down, np.where(up > 0, high, low)
        spread = np.maximum(spread_of((seen - recent) / binomial(recent, total)), 1)
        distance = change / (spread * binomial(reference, total))
        size = change / (least * reference if is_relative else least)
        size = np.where((seen < left * low) & (low * total >= fewest), np.maximum(size, 2), size)
    distance = np.where(total >= fewest, distance, 0)
    known = ~np.isnan(low) & (np.arange(len(whole)) >= FEWEST_DAYS)
    return Series(lambda group, day: names[group], seen, low, high, np.where(known, distance, np.nan), size, "share")


def vanished(names: list[str], parts: NDArray[np.int64], left: float, fewest: int, days: int = 7) -> Series:
    """The share of some days' events that is usual for parts of which less than the share `left` has come. It finds parts that are
    too small to be missed on a single day."""
    sums = last_sum(np.pad(parts.astype(float), ((0, 0), (0, 1))), days)[:, 1:]
    usual = np.nan_to_num(weekly(sums))
    expected = usual * sums.sum(0) / np.maximum(usual.sum(0), 1)
    lost = (sums < left * expected) & (expected >= fewest)
    seen, none = (expected * lost).sum(0)[None] / np.maximum(sums.sum(0), 1), np.zeros((1, parts.shape[1]))
    distance = np.sqrt((expected * lost).sum(0))[None]
    distance[:, :FEWEST_DAYS] = np.nan

    def label(group: int, day: int) -> str:
        found = [name for name, is_lost in zip(names, lost[:, day], strict=True) if is_lost]
        return f"next to nothing came of {', '.join(found[:5]) or 'no group'} in {days} days, and is missing of all events:"

    return Series(label, seen, none, none, distance, 2.0 * lost.any(0)[None], "share")


def calibrate(past: Floats, groups: int, chance: float) -> float:
    """Distance that the largest of so many groups exceeds with this chance a day, by the largest of each past day. The past is
    shorter than the time between two false alarms, so its upper tenth is continued as an exponential tail; normal noise sets the
    least."""
    if len(past) < FEWEST_CALIBRATED:
        return DEFAULT
    edge = float(np.quantile(past, 0.9))
    beyond = past[past > edge] - edge
    tail = float(np.median(beyond) / np.log(2) * np.log(max(len(beyond) / len(past) / chance, 1))) if len(beyond) else 0.0
    least = NormalDist().inv_cdf(1 - chance / (2 * groups))
    return max(edge + tail, least)


def before(values: Floats, days: int) -> Floats:
    """The values so many days before; NaN where there is no such day."""
    moved = np.full(values.shape, np.nan)
    moved[..., days:] = values[..., : max(values.shape[-1] - days, 0)]
    return moved


def weekly(values: Floats) -> Floats:
    """Median of the same weekday in the eight weeks before; NaN with fewer than three."""
    return median(np.stack([before(values, 7 * week) for week in range(1, WEEKS + 1)]), 3)


def last_sum(values: Floats, days: int) -> Floats:
    """Sum over so many days before each day; what is NaN counts as 0."""
    sums = np.cumsum(np.pad(np.nan_to_num(values), ((0, 0), (1, 0))), axis=1)
    return sums[:, :-1] - np.pad(sums, ((0, 0), (days, 0)))[:, : values.shape[1]]


def median(stack: Floats, fewest: int) -> Floats:
    """Median over the first axis of what is no NaN; NaN where fewer values are."""
    known, ordered = (~np.isnan(stack)).sum(0), np.sort(stack, axis=0)
    low, high = (
        np.take_along_axis(ordered, np.maximum(place, 0)[None], 0)[0]
        for place in ((known - 1) // 2, np.minimum(known // 2, len(stack) - 1))
    )
    return np.where(known >= fewest, (low + high) / 2, np.nan)


def spread_of(residuals: Floats) -> Floats:
    """Robust standard deviation of each group over the newest days, as a column; 0 where nothing is known."""
    return 1.4826 * np.nan_to_num(median(np.abs(residuals[:, -CALIBRATED:]).T, 1))[:, None]


def binomial(share: Floats, number: Floats) -> Floats:
    """Standard deviation of a share of so many rows, which is never taken for less than that of one row."""
    return np.sqrt(np.maximum(share * (1 - share), (1 - 1 / np.maximum(number, 2)) / number) / number)


def _range(*references: Floats) -> tuple[Floats, Floats]:
    low = high = references[0]
    for reference in references[1:]:
        low, high = np.fmin(low, reference), np.fmax(high, reference)
    return low, high
