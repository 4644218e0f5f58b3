"""Do the values of an attribute give away what happened later? An export holds the values of today, and a column such as
`total_sold` counts the very events that are to be predicted."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

FEWEST = 50  # items or users with a value: with fewer, chance reaches the threshold


def partial_correlation(values: NDArray, later: NDArray, earlier: Sequence[NDArray]) -> float:
    """Spearman's rank correlation of numbers with later counts, given the earlier ones: from -1 to 1."""
    left, right = (_residuals(ranked, earlier) for ranked in (values, later))
    size = float(np.sqrt((left**2).sum() * (right**2).sum()))
    return float((left * right).sum()) / size if size else 0.0


def partial_association(groups: NDArray[np.int64], later: NDArray, earlier: Sequence[NDArray]) -> float:
    """The same for text, whose values are numbered 0, 1, 2, ...: the root of the share of the later ranks' variance that lies
    between the values, less what chance puts there (epsilon squared, Kelley 1935, doi:10.1073/pnas.21.9.554): from 0 to 1."""
    ranks, sizes = _residuals(later, earlier), np.bincount(groups)
    inner, total = len(groups) - np.count_nonzero(sizes), (ranks**2).sum()
    if inner < 1 or not total:
        return 0.0
    within = ((ranks - (np.bincount(groups, ranks) / np.maximum(sizes, 1))[groups]) ** 2).sum()
    return float(np.sqrt(max(1 - within / inner * (len(groups) - 1) / total, 0.0)))


def _residuals(values: NDArray, earlier: Sequence[NDArray]) -> NDArray[np.float64]:
    """What is left of the values' ranks when a line through those of the earlier counts is taken away."""
    from scipy.stats import rankdata

    known = np.column_stack([np.ones(len(values)), *(rankdata(counts) for counts in earlier)])
    ranks = rankdata(values)
    rest = ranks - known @ np.linalg.lstsq(known, ranks, rcond=None)[0]
    return np.where(np.abs(rest) < 1e-6, 0.0, rest)  # ranks are apart by half a place or more; less is rounding
