"""Ranking metrics per user, and intervals over users. Relevance is binary: bought within the horizon or not."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Scores = dict[str, NDArray[np.float64]]


class Interval(NamedTuple):
    """A mean over users with its 95% bootstrap interval."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:.3f} [{self.low:.3f}, {self.high:.3f}]"


def score(lists: NDArray[np.int32], users: NDArray[np.int32], items: NDArray[np.int32], n_items: int, k: int = 10) -> Scores:
    """Metrics of each row of `lists` (rows, length), -1 for no item, against the pairs (row, item) that were bought.
    Every row must have bought something.

    ndcg: Järvelin and Kekäläinen 2002, doi:10.1145/582415.582418, the ideal list holding min(bought, k) items.
    recall: share of what was bought. hit_rate: whether anything was. map@12: mean over the min(bought, 12) best places of
    the precision at each hit.
    """
    bought = np.bincount(users, minlength=len(lists))
    if (bought == 0).any():
        raise ValueError(f"{(bought == 0).sum()} users bought nothing, so no metric is defined for them; leave them out")
    codes = np.arange(len(lists))[:, None] * n_items + lists
    hits = np.isin(codes, users.astype(np.int64) * n_items + items) & (lists >= 0)
    gains = 1 / np.log2(np.arange(2, max(k, 12) + 2))
    ideal = np.cumsum(gains)[np.minimum(bought, k) - 1]
    top, top12 = hits[:, :k], hits[:, :12]
    precision = np.cumsum(top12, 1) / np.arange(1, top12.shape[1] + 1)
    return {
        f"ndcg@{k}": top @ gains[: top.shape[1]] / ideal,
        f"recall@{k}": top.sum(1) / bought,
        f"hit_rate@{k}": top.any(1).astype(float),
        "map@12": (precision * top12).sum(1) / np.minimum(bought, 12),
    }


def coverage(lists: NDArray[np.int32], available: int) -> float:
    """Share of the available items that stand in somebody's list."""
    return float((np.unique(lists) >= 0).sum() / max(available, 1))


def bootstrap(values: NDArray[np.float64], resamples: int, seed: int) -> Interval:
    """Mean over users of (users,) values, with percentiles of its bootstrap distribution (Efron 1979,
    doi:10.1214/aos/1176344552)."""
    draw = np.random.default_rng(seed)
    users = len(values)
    means = [values[draw.integers(users, size=users)].mean() for _ in range(resamples)]
    low, high = np.quantile(means, [0.025, 0.975])
    return Interval(float(values.mean()), float(low), float(high))


def bootstrap_coverage(lists: NDArray[np.int32], available: int, resamples: int, seed: int) -> Interval:
    """Coverage with its bootstrap interval. A resample holds fewer different users, so it covers less: the distribution is
    moved to have its mean where coverage was seen."""
    draw = np.random.default_rng(seed)
    seen, users = coverage(lists, available), len(lists)
    spread = np.array([coverage(lists[draw.integers(users, size=users)], available) for _ in range(resamples)])
    low, high = np.quantile(spread - spread.mean(), [0.025, 0.975])
    return Interval(seen, max(seen + float(low), 0.0), min(seen + float(high), 1.0))
