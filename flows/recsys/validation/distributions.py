"""Distributions of the wide features at a cutoff, and by how much one moved."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from recsys.features import State
from recsys.recommenders import numeric

TABLES = ("users", "items", "user_items")  # of a state, each with the columns of the wide features of that name
MOST_PAIRS = 50_000  # pairs of user and item are thinned out to about as many: deciles need no more
MOST_IN_ONE = 0.9  # share of one bin above which there is no distribution
FEWEST_EXPECTED = 20  # rows: where fewer have a value by the earlier share, none may have one by chance
LEAST = 1e-3  # the share an empty bin counts as, whose logarithm would be infinite


def columns(state: State) -> dict[str, NDArray[np.float32]]:
    """Every number of the wide features, as `table.column`, of the rows that can be compared with another cutoff's: sampled
    users with an event by then, available items, and the pairs of sampled users."""
    sampled = state.users["is_sampled"]
    pairs = np.flatnonzero(sampled[state.user_items["user_index"]])
    users = np.flatnonzero(sampled & ~np.isnan(state.users["days_since_first_event"]))
    rows = (users, np.flatnonzero(state.items["is_available"]), pairs[:: 1 + len(pairs) // MOST_PAIRS])
    return {
        f"feat_{table}.{name}": column[chosen]
        for table, chosen in zip(TABLES, rows, strict=True)
        for name, column in numeric(getattr(state, table)).items()
    }


def thirds(name: str, values: NDArray) -> dict[str, NDArray[np.bool_]]:
    """Which are low, middle and high; ties stay together."""
    third = np.searchsorted(np.quantile(values, [1 / 3, 2 / 3]), values)
    return {f"{name} {word}": third == place for place, word in enumerate(("low", "middle", "high"))}


def unsound(then: State, now: State, min_present: float) -> Iterator[str]:
    """Columns that are infinite somewhere, or empty though a share of the earlier cutoff's rows had a number that was not 0."""
    for table in TABLES:
        infinite = [name for name, column in getattr(now, table).items() if column.dtype.kind == "f" and np.isinf(column).any()]
        yield from (f"feat_{table}.{name} is infinite" for name in infinite)
    after = columns(now)
    for name, column in columns(then).items():
        before = np.count_nonzero(np.nan_to_num(column)) / max(len(column), 1)
        expected = before * len(after[name])
        if before >= min_present and expected >= FEWEST_EXPECTED and not np.nan_to_num(after[name]).any():
            yield f"{name} is 0 or missing everywhere, on {then.cutoff} {before:.1%} of the rows were not"


def history_days(state: State) -> float:
    """Days since the first event of all that are known."""
    return float(np.nanmax(state.users["days_since_first_event"], initial=0))


def movements(then: State, now: State, min_rows: int) -> dict[str, float]:
    """Population stability index of every column with enough rows at both cutoffs. What grows by itself is no movement: times since
    an event that is over are also taken as of the earlier day, and counts by the share of the history that was over then, in
    young data; the closer one counts."""
    days = (now.cutoff - then.cutoff).days
    history = history_days(then)
    found = {}
    before, after = columns(then), columns(now)
    for name in before:
        if min(len(before[name]), len(after[name])) >= min_rows:
            aged = after[name] - (days + 0.01) if "days_since" in name else after[name] * (history / (history + days))
            found[name] = min(value_stability(before[name], values) for values in (after[name], aged))
    return found


def value_stability(then: NDArray[np.float32], now: NDArray[np.float32]) -> float:
    """Population stability index of numbers: deciles of the earlier ones are the bins, and missing is one more. 0 for a column
    that had hardly anything but one value: it has no distribution yet, such as last year's sales in a shop's first year."""
    present = then[~np.isnan(then)]
    edges = np.unique(np.quantile(present, np.arange(1, 10) / 10)) if len(present) else np.zeros(0)
    places = [np.where(np.isnan(values), len(edges) + 1, np.searchsorted(edges, values)) for values in (then, now)]
    counts = [np.bincount(found, minlength=len(edges) + 2) for found in places]
    return stability(*counts) if counts[0].max() <= MOST_IN_ONE * len(then) else 0.0


def stability(then: NDArray, now: NDArray) -> float:
    """Population stability index of two counts of the same bins: 0 is the same, by common usage above 0.25 has moved a lot
    (Yurdakul 2018, scholarworks.wmich.edu/dissertations/3208)."""
    before, after = (np.maximum(counts / max(counts.sum(), 1), LEAST) for counts in (then, now))
    return float(((after - before) * np.log(after / before)).sum())
