"""Ranking metrics per user, and bootstrap intervals over users. An item is relevant if it has a target event within the horizon."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Scores = dict[str, NDArray[np.float64]]


class Interval(NamedTuple):
    """A mean over users with its bootstrap interval. The bounds are infinite for too few users; all values are NaN for none."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        bounds = f"{self.low:.3f}, {self.high:.3f}" if math.isfinite(self.high) else "too few users"
        return f"{self.mean:.3f} [{bounds}]"


NOBODY = Interval(math.nan, math.nan, math.nan)


def score(lists: NDArray[np.int32], users: NDArray[np.int32], items: NDArray[np.int32], n_items: int, ks: Sequence[int]) -> Scores:
    """Accuracy metrics of the first k items of each list, by the name `<metric>@<k>`.

    lists: (rows, length) items, -1 for no item. users, items: the relevant pairs (row of `lists`, item), each once. n_items: number
    of items. Raises ValueError if a row has no relevant item.

    ndcg: Järvelin and Kekäläinen 2002, doi:10.1145/582415.582418; the ideal list holds min(relevant, k) items. recall: share of the
    relevant items that are listed. hit_rate: 1 if a relevant item is listed. map: sum of the precision at each hit, divided by
    min(relevant, k); trec_eval's map_cut divides by the number of all relevant items.
    """
    relevant = np.bincount(users, minlength=len(lists))
    if (relevant == 0).any():
        raise ValueError(f"{(relevant == 0).sum()} users have no relevant item, so no metric is defined for them; leave them out")
    lists = _cut(lists, max(ks))
    codes = np.arange(len(lists))[:, None] * n_items + lists
    hits = np.isin(codes, users.astype(np.int64) * n_items + items) & (lists >= 0)
    ranks = np.arange(1, max(ks) + 1)
    gains = 1 / np.log2(ranks + 1)
    found, gained, ideal = np.cumsum(hits, 1), np.cumsum(hits * gains, 1), np.cumsum(gains)
    precision = np.cumsum(hits * found / ranks, 1)
    scores = {}
    for k in ks:
        best = np.minimum(relevant, k)
        scores[f"ndcg@{k}"] = gained[:, k - 1] / ideal[best - 1]
        scores[f"recall@{k}"] = found[:, k - 1] / relevant
        scores[f"hit_rate@{k}"] = (found[:, k - 1] > 0).astype(float)
        scores[f"map@{k}"] = precision[:, k - 1] / best
    return scores


def _cut(lists: NDArray[np.int32], length: int) -> NDArray[np.int32]:
    """The lists with exactly `length` places, -1 for no item."""
    cut = np.full((len(lists), length), -1, np.int32)
    cut[:, : lists.shape[1]] = lists[:, :length]
    return cut


def beyond_accuracy(
    lists: NDArray[np.int32], users: NDArray[np.int32], items: NDArray[np.int32], share: NDArray[np.float64], ks: Sequence[int]
) -> Scores:
    """Metrics of how well known the first k items of each list are, by the name `<metric>@<k>`.

    lists, users, items: as in `score`. share: for each item, the share of users who had it before the cutoff; above 0.

    novelty: mean self-information of the listed items, -log2(share) (Zhou et al. 2010, doi:10.1073/pnas.1000488107).
    popularity_bias: mean share of the listed items (average recommendation popularity: Abdollahpouri et al. 2019,
    doi:10.48550/arXiv.1901.07555), divided by that of the relevant items; 1 means as popular as these.
    """
    lists = _cut(lists, max(ks))
    listed = lists >= 0
    length = np.maximum(np.cumsum(listed, 1), 1)
    novelty = np.cumsum(np.where(listed, -np.log2(share)[lists], 0), 1) / length
    popularity = np.cumsum(np.where(listed, share[lists], 0), 1) / length
    bought = np.mean(np.bincount(users, share[items]) / np.bincount(users)) if len(users) else 1.0
    scores = {}
    for k in ks:
        scores[f"novelty@{k}"] = novelty[:, k - 1]
        scores[f"popularity_bias@{k}"] = popularity[:, k - 1] / bought
    return scores


def coverage(lists: NDArray[np.int32], available: int) -> float:
    """Share of the available items that are in at least one list."""
    return np.count_nonzero(np.bincount(lists.ravel() + 1)[1:]) / max(available, 1)


def bootstrap(scores: Scores, resamples: int, seed: int, error: float = 0.05) -> dict[str, Interval]:
    """Mean over users of each metric with its percentile bootstrap interval (Efron 1979, doi:10.1214/aos/1176344552). All metrics
    use the same resamples. error: probability that an interval misses the true mean."""
    draw = np.random.default_rng(seed)
    values = np.column_stack(list(scores.values()))
    users = len(values)
    if not users:
        return dict.fromkeys(scores, NOBODY)
    drawn = (np.bincount(draw.integers(users, size=users), minlength=users) for _ in range(resamples))
    means = np.array([counts @ values / users for counts in drawn])
    lows, highs = np.quantile(means, [error / 2, 1 - error / 2], axis=0).tolist()
    return {metric: Interval(*found) for metric, *found in zip(scores, values.mean(0).tolist(), lows, highs, strict=True)}


def bootstrap_coverage(lists: NDArray[np.int32], available: int, resamples: int, seed: int) -> Interval:
    """Coverage with its bootstrap interval. A resample has fewer distinct users, so its coverage is lower; the distribution is
    shifted so that its mean is the coverage of all lists."""
    draw = np.random.default_rng(seed)
    seen, users = coverage(lists, available), len(lists)
    if not users:
        return NOBODY
    spread = np.array([coverage(lists[draw.integers(users, size=users)], available) for _ in range(resamples)])
    low, high = np.quantile(spread - spread.mean(), [0.025, 0.975])
    return Interval(seen, max(seen + float(low), 0.0), min(seen + float(high), 1.0))
