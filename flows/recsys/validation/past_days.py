"""Compares days with the days before them: the usual range, the distance of a day from it, and the threshold of that distance.

A day is compared with the same weekday of the last eight weeks, with the last two weeks, with their trend and, if the history is
long enough, with the same season a year ago. Values between the lowest and the highest of these references are usual. The distance
outside this range is measured in standard deviations, which come from the spread of past days and from the number of rows.
"""

from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

WEEKS = 8  # number of earlier weeks whose same weekday a day is compared with
RECENT = 14  # days before a day that give its recent level
YEAR = 364  # days, a whole number of weeks
MIN_DAYS = 21  # the first days of a history are not compared
CALIBRATION_DAYS = 182  # newest past days that spreads and thresholds are computed from
MIN_CALIBRATION_DAYS = 28  # with fewer past days, the threshold is DEFAULT
DEFAULT = 3.5  # standard deviations

Floats = NDArray[np.float64]
DayFlags = NDArray[np.bool_]  # one flag per day


@dataclass(frozen=True)
class Series:
    """Measurements of a detector as arrays (groups, days).

    label: describes the measurement of a group on a day. seen: measured value. low, high: usual range. distance: standard
    deviations outside this range, NaN if there is nothing to compare with. size: size of the change as a multiple of the smallest
    one that matters. unit: `count`, `share` or `times`, which sets the format of numbers.
    """

    label: Callable[[int, int], str]
    seen: Floats
    low: Floats
    high: Floats
    distance: Floats
    size: Floats
    unit: str = "count"

    def describe(self, group: int, day: int) -> str:
        """Such as `category c3 41.0%, usually 9.1% to 10.2%`."""
        write = {"count": "{:,.0f}", "share": "{:.1%}", "times": "{:.2f} times"}[self.unit].format
        low, high = write(self.low[group, day]), write(self.high[group, day])
        return f"{self.label(group, day)} {write(self.seen[group, day])}, usually {low if low == high else f'{low} to {high}'}"


def levels(
    name: str,
    counts: NDArray[np.int64],
    excluded: DayFlags,
    min_factor: float,
    min_count: int,
    is_up_only: bool = False,
) -> Series:
    """Compares daily counts with their usual level. excluded: unusual days, which other days are not compared with. min_factor: the
    smallest factor, up or down, by which a change matters. min_count: days with a smaller count are not compared."""
    seen = counts[None].astype(float)
    past = np.where(excluded, np.nan, seen)
    usual = weekly(past)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(usual > 0, past / usual, np.nan)
        growth = median(np.stack([before(ratio, day) for day in range(1, RECENT + 1)]), 3)
        recent = np.where(np.isnan(growth), usual, usual * growth)
        trend = recent * np.clip(growth / before(growth, 7), 0.5, 2)
        year = before(seen, YEAR) * last_sum(seen, 28) / before(last_sum(seen, 28), YEAR)
        references = np.stack([usual, recent, trend, np.where(np.isfinite(year), year, np.nan)])
        low, high = np.fmin.reduce(references), np.fmax.reduce(references)
        up, down = np.log((seen + 1) / (high + 1)), np.log((low + 1) / (seen + 1))
        spread = spread_of(np.log((seen + 1) / (recent + 1)))
    change, reference = np.fmax(up, 0 if is_up_only else np.fmax(down, 0)), np.where(up >= down, high, low)
    roots = 2 * np.abs(np.sqrt(seen) - np.sqrt(reference)) * (change > 0)  # its standard deviation is 1 for Poisson counts
    distance = roots / np.maximum(spread * np.sqrt(reference), 1)
    distance = np.where(np.fmax(seen, high) >= min_count, distance, 0)
    size = np.maximum(change, 0) / np.log(min_factor)
    return Series(lambda group, day: name, seen, low, high, np.where(np.isnan(low), np.nan, distance), size)


def shares(
    names: list[str],
    parts: NDArray[np.int64],
    whole: NDArray[np.int64],
    excluded: DayFlags,
    min_change: float,
    min_count: int,
    direction: int = 0,
    is_relative: bool = False,
    min_left: float = 0.0,
) -> Series:
    """Compares the shares of parts in a whole with their usual shares.

    excluded: unusual days, which other days are not compared with. min_change: the smallest change of a share that matters;
    relative to the usual share if is_relative. min_count: days with fewer events are not compared. direction: 1 if only a rise
    counts, -1 if only a fall does. min_left: a part also matters, however small, if less than this share of its usual events is
    left and at least `min_count` of them were expected.
    """
    part, total = np.atleast_2d(parts).astype(float), whole[None].astype(float)
    past_part, past_total = (np.where(excluded, 0.0, values) for values in (part, total))
    part_sum, total_sum = (weekday_sum(values) for values in (past_part, past_total))
    with np.errstate(divide="ignore", invalid="ignore"):
        seen = np.where(total > 0, part / total, np.nan)
        usual = np.where(total_sum >= min_count, part_sum / total_sum, np.nan)
        recent = np.where(
            last_sum(past_total, RECENT) >= min_count, last_sum(past_part, RECENT) / last_sum(past_total, RECENT), usual
        )
        low, high = np.fmin(usual, recent), np.fmax(usual, recent)
        up, down = np.maximum(seen - high, 0) * (direction >= 0), np.maximum(low - seen, 0) * (direction <= 0)
        change, reference = up + down, np.where(up > 0, high, low)
        spread = np.maximum(spread_of((seen - recent) / binomial(recent, total)), 1)
        distance = change / (spread * binomial(reference, total))
        size = change / (min_change * reference if is_relative else min_change)
        size = np.where((seen < min_left * low) & (low * total >= min_count), np.maximum(size, 2), size)
    distance = np.where(total >= min_count, distance, 0)
    known = ~np.isnan(low) & (np.arange(len(whole)) >= MIN_DAYS)
    return Series(lambda group, day: names[group], seen, low, high, np.where(known, distance, np.nan), size, "share")


def vanished(names: list[str], parts: NDArray[np.int64], min_left: float, min_count: int, days: int = 7) -> Series:
    """The usual share of the parts that have almost no events left, counted over some days. Finds parts that are too small to be
    missed on a single day. min_left: a part has vanished below this share of its expected events. min_count: smallest number of
    expected events of a part."""
    sums = running_sum(parts, days)
    usual = np.nan_to_num(weekly(sums))
    expected = usual * sums.sum(0) / np.maximum(usual.sum(0), 1)
    lost = (sums < min_left * expected) & (expected >= min_count)
    seen, none = (expected * lost).sum(0)[None] / np.maximum(sums.sum(0), 1), np.zeros((1, parts.shape[1]))
    distance = np.sqrt((expected * lost).sum(0))[None]
    distance[:, :MIN_DAYS] = np.nan

    def label(group: int, day: int) -> str:
        missing = [name for name, is_lost in zip(names, lost[:, day], strict=True) if is_lost]
        return f"almost no events of {', '.join(missing[:5]) or 'no group'} in {days} days; share of all events that is missing:"

    return Series(label, seen, none, none, distance, 2.0 * lost.any(0)[None], "share")


def calibrate(past: Floats, groups: int, chance: float) -> float:
    """The threshold that the largest distance of all groups exceeds on a day with probability `chance`.

    past: the largest distance on each past day. The past is shorter than the time between two false alarms, so the distribution
    above its 90% quantile is extrapolated as an exponential tail. The threshold is at least that of normal noise.
    """
    if len(past) < MIN_CALIBRATION_DAYS:
        return DEFAULT
    edge = float(np.quantile(past, 0.9))
    beyond = past[past > edge] - edge
    tail = float(np.median(beyond) / np.log(2) * np.log(max(len(beyond) / len(past) / chance, 1))) if len(beyond) else 0.0
    return max(edge + tail, NormalDist().inv_cdf(1 - chance / (2 * groups)))


def before(values: Floats, days: int) -> Floats:
    """The values `days` days earlier; NaN if there is no such day."""
    moved = np.full(values.shape, np.nan)
    moved[..., days:] = values[..., : max(values.shape[-1] - days, 0)]
    return moved


def weekly(values: Floats) -> Floats:
    """Median of the same weekday in the eight weeks before; NaN if fewer than three are known."""
    return median(np.stack([before(values, 7 * week) for week in range(1, WEEKS + 1)]), 3)


def weekday_sum(values: Floats) -> Floats:
    """Sum of the same weekday in the eight weeks before; NaN counts as 0."""
    return np.sum([np.nan_to_num(before(values, 7 * week)) for week in range(1, WEEKS + 1)], axis=0)


def running_sum(counts: NDArray, days: int) -> Floats:
    """Sum over each day and the days before it, `days` in all."""
    return last_sum(np.pad(counts.astype(float), ((0, 0), (0, 1))), days)[:, 1:]


def last_sum(values: Floats, days: int) -> Floats:
    """Sum over the `days` days before each day; NaN counts as 0."""
    sums = np.cumsum(np.pad(np.nan_to_num(values), ((0, 0), (1, 0))), axis=1)
    return sums[:, :-1] - np.pad(sums, ((0, 0), (days, 0)))[:, : values.shape[1]]


def median(stack: Floats, min_count: int) -> Floats:
    """Median over the first axis without NaN; NaN if there are fewer than `min_count` values."""
    known, ordered = (~np.isnan(stack)).sum(0), np.sort(stack, axis=0)
    low, high = (
        np.take_along_axis(ordered, np.maximum(place, 0)[None], 0)[0]
        for place in ((known - 1) // 2, np.minimum(known // 2, len(stack) - 1))
    )
    return np.where(known >= min_count, (low + high) / 2, np.nan)


def spread_of(residuals: Floats) -> Floats:
    """Robust standard deviation (scaled median absolute deviation) of each group over the newest days, as a column; 0 if there are
    no values."""
    return 1.4826 * np.nan_to_num(median(np.abs(residuals[:, -CALIBRATION_DAYS:]).T, 1))[:, None]


def binomial(share: Floats, number: Floats) -> Floats:
    """Standard deviation of a share of `number` rows; at least that of a share of one row in `number`."""
    return np.sqrt(np.maximum(share * (1 - share), (1 - 1 / np.maximum(number, 2)) / number) / number)
