"""Is today's data still of the kind that the winner was judged on? Against the holdout's cutoff, and the weeks before."""

import math
from collections.abc import Iterator

import numpy as np

from recsys.checks.distributions import history_days, movements, stability
from recsys.checks.subject import Subject
from recsys.settings.validation import Count, Days, NotNegative, Positive, Share, section
from recsys.state import Table, places
from recsys.verdicts import Verdict, grade

DAYS = 28  # compared with as many before
LOOK_BACK = 91  # days that features count back to; in younger data they still fill up, which is no fault
FEWEST_GONE = 10  # items that a lost file takes along, at least: three items may well sell out


@section
class Limits:
    min_rows: Count
    warn_psi: NotNegative
    block_psi: NotNegative
    warn_mix: NotNegative
    block_mix: NotNegative
    min_day: Share
    min_day_events: Count
    block_days: Days
    warn_gone: Share
    block_gone: Share
    warn_price: Positive
    block_price: Positive


SETTINGS: dict[str, str | tuple[str, str]] = {
    "feature_drift": ("warn_psi", "block_psi"),
    "category_drift": ("warn_mix", "block_mix"),
    "daily_events": ("min_day", "block_days"),
    "catalogue_turnover": ("warn_gone", "block_gone"),
    "price_drift": ("warn_price", "block_price"),
}


def check(subject: Subject, limits: Limits) -> Iterator[Verdict]:
    yield _features(subject, limits)
    daily, target = subject.features.daily(2 * DAYS), subject.settings.dataset.target
    yield _categories(daily, target, limits)
    yield _volume(daily, limits)
    yield _catalogue(subject, limits)
    yield _prices(*subject.features.median_prices(DAYS), target, limits)


def _features(subject: Subject, limits: Limits) -> Verdict:
    moved = movements(subject.holdout_state, subject.state, limits.min_rows)
    worst = sorted(moved, key=lambda name: -moved[name])[:3]
    said = f"of {len(moved)} features with enough rows these moved most since {subject.holdout_state.cutoff}: "
    words = said + ", ".join(f"{name} (PSI {moved[name]:.2f})" for name in worst)
    block = limits.block_psi if history_days(subject.holdout_state) >= LOOK_BACK else math.inf
    return grade("feature_drift", moved[worst[0]] if worst else 0.0, limits.warn_psi, block, words)


def _categories(daily: Table, target: str, limits: Limits) -> Verdict:
    names, places = np.unique(daily["category"], return_inverse=True)
    late = daily["day"] < DAYS
    before, now = (np.bincount(places, daily["target_events"] * part, len(names)) for part in (~late, late))
    value = stability(before, now) if min(before.sum(), now.sum()) >= limits.min_rows else 0.0
    mix = f"{len(names)} categories of {target} events in the last {DAYS} days"
    words = f"the mix of {mix} against the {DAYS} before has a PSI of {value:.2f}"
    return grade("category_drift", value, limits.warn_mix, limits.block_mix, words)


def _volume(daily: Table, limits: Limits) -> Verdict:
    """Each of the last seven days against the median of four such weekdays before, for a shop may close on Sundays."""
    events = np.bincount(daily["day"], daily["events"], 2 * DAYS).reshape(-1, 7)
    usual = np.median(events[1:5], axis=0)
    low = np.flatnonzero((usual >= limits.min_day_events) & (events[0] < limits.min_day * usual))
    days = ", ".join(f"{events[0, day]:,.0f} events {day + 1} days ago, usually {usual[day]:,.0f}" for day in low)
    words = f"{len(low)} of the last 7 days have less than {limits.min_day:.0%} of their weekday's usual events"
    return grade("daily_events", len(low), 0, limits.block_days, f"{words}: {days}" if days else words)


def _catalogue(subject: Subject, limits: Limits) -> Verdict:
    """Of the items with a target event, for one without may have been gone already: a catalogue's own flag has no date."""
    then, now = subject.holdout_state.items, subject.state.items
    wanted = then["is_available"] & (then[f"target_events_{DAYS}d"] > 0)
    rows = places(subject.state.item_ids, subject.holdout_state.item_ids[wanted])
    left = ~now["is_available"][rows] | (rows < 0)
    gone = float(left.mean()) if wanted.any() else 0.0
    items = f"{wanted.sum():,} items with {subject.settings.dataset.a_target}"
    words = f"{gone:.1%} of the {items} in the {DAYS} days before {subject.holdout_state.cutoff} are gone"
    block = limits.block_gone if left.sum() >= FEWEST_GONE else math.inf
    return grade("catalogue_turnover", gone, limits.warn_gone, block, words)


def _prices(now: float, before: float, target: str, limits: Limits) -> Verdict:
    low, high = sorted((now, before))  # NaN where no target event has a price; 0 is taken for a thousandth of the other
    ratio = high / max(low, high / 1_000) if now + before > 0 else 1.0
    told, was = ("none" if np.isnan(price) else f"{price:.4g}" for price in (now, before))
    words = f"the median price of {target} events in the last {DAYS} days is {told}, in the {DAYS} before {was}"
    return grade("price_drift", ratio, limits.warn_price, limits.block_price, f"{words}, {ratio:.2f} times apart")
