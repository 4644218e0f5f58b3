"""Distributions of features at a cutoff, and how much they change between two cutoffs."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from recsys.features import State
from recsys.recommenders import numeric

TABLES = ("users", "items", "user_items")  # tables of a state that hold features
MAX_PAIRS = 50_000  # about this many pairs of user and item are sampled, which is enough for deciles
MAX_BIN_SHARE = 0.9  # a column with more than this share of its rows in one bin is not compared
MIN_EXPECTED = 20  # a column that should have fewer values than this may be empty by chance
MIN_SHARE = 1e-3  # share that an empty bin counts as, because the logarithm of 0 is infinite


def columns(state: State) -> dict[str, NDArray[np.float32]]:
    """The numeric features by name, such as `feat_users.baskets`. Restricted to rows that can be compared between cutoffs: sampled
    users with an event before the cutoff, available items, and pairs of sampled users."""
    sampled = state.users["is_sampled"]
    pairs = np.flatnonzero(sampled[state.user_items["user_index"]])
    users = np.flatnonzero(sampled & ~np.isnan(state.users["days_since_first_event"]))
    rows = (users, np.flatnonzero(state.items["is_available"]), pairs[:: 1 + len(pairs) // MAX_PAIRS])
    return {
        f"feat_{table}.{name}": column[chosen]
        for table, chosen in zip(TABLES, rows, strict=True)
        for name, column in numeric(getattr(state, table)).items()
    }


def thirds(name: str, values: NDArray) -> dict[str, NDArray[np.bool_]]:
    """Masks of the low, middle and high third of the values, by a name such as `activity low`. Equal values are in one third."""
    third = np.searchsorted(np.quantile(values, [1 / 3, 2 / 3]), values)
    return {f"{name} {level}": third == place for place, level in enumerate(("low", "middle", "high"))}


def unsound(then: State, now: State, min_present: float) -> Iterator[str]:
    """Describes the columns that hold an infinity now, and those that are 0 or missing in all rows now although at least
    `min_present` of their rows had another value at the earlier cutoff."""
    for table in TABLES:
        infinite = [name for name, column in getattr(now, table).items() if column.dtype.kind == "f" and np.isinf(column).any()]
        yield from (f"feat_{table}.{name} is infinite" for name in infinite)
    after = columns(now)
    for name, column in columns(then).items():
        before = np.count_nonzero(np.nan_to_num(column)) / max(len(column), 1)
        expected = before * len(after[name])
        if before >= min_present and expected >= MIN_EXPECTED and not np.nan_to_num(after[name]).any():
            yield f"{name} is 0 or missing in all rows, but {before:.1%} of the rows had another value on {then.cutoff}"


def movements(then: State, now: State, min_rows: int) -> dict[str, float]:
    """Population stability index of every column that has at least `min_rows` rows at both cutoffs.

    Some features grow as time passes. So each column is also compared after this growth is taken out: days since an event are
    reduced by the days between the cutoffs, and other numbers are scaled by the length of the history. The smaller index counts.
    """
    days = (now.cutoff - then.cutoff).days
    history = float(np.nanmax(then.users["days_since_first_event"], initial=0))
    found = {}
    before, after = columns(then), columns(now)
    for name in before:
        if min(len(before[name]), len(after[name])) >= min_rows:
            aged = after[name] - (days + 0.01) if "days_since" in name else after[name] * (history / (history + days))
            found[name] = min(value_stability(before[name], values) for values in (after[name], aged))
    return found


def value_stability(then: NDArray[np.float32], now: NDArray[np.float32]) -> float:
    """Population stability index of numbers. Bins are the deciles of `then`, plus one bin for missing values. Returns 0 for a
    column that held almost only one value, such as last year's sales in a shop's first year."""
    present = then[~np.isnan(then)]
    edges = np.unique(np.quantile(present, np.arange(1, 10) / 10)) if len(present) else np.zeros(0)
    places = [np.where(np.isnan(values), len(edges) + 1, np.searchsorted(edges, values)) for values in (then, now)]
    counts = [np.bincount(found, minlength=len(edges) + 2) for found in places]
    return stability(*counts) if counts[0].max() <= MAX_BIN_SHARE * len(then) else 0.0


def stability(then: NDArray, now: NDArray) -> float:
    """Population stability index of two counts of the same bins. 0 means equal; above 0.25 is commonly called a large change
    (Yurdakul 2018, scholarworks.wmich.edu/dissertations/3208)."""
    before, after = (np.maximum(counts / max(counts.sum(), 1), MIN_SHARE) for counts in (then, now))
    return float(((after - before) * np.log(after / before)).sum())
