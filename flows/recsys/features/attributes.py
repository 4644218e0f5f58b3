"""Measures whether an attribute leaks later events.

Without valid_from, an export holds today's values, and a column such as `total_sold` counts the events that are to be predicted.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

MIN_VALUES = 50  # items or users with a value; with fewer, chance alone may exceed the threshold


def partial_correlation(values: NDArray, later: NDArray, earlier: Sequence[NDArray]) -> float:
    """Returns Spearman's partial rank correlation (-1 to 1) of values with later counts, given earlier ones; all of shape (n,)."""
    left, right = (_residuals(ranked, earlier) for ranked in (values, later))
    size = float(np.sqrt((left**2).sum() * (right**2).sum()))
    return float((left * right).sum()) / size if size else 0.0


def partial_association(groups: NDArray[np.int64], later: NDArray, earlier: Sequence[NDArray]) -> float:
    """Partial association of a text attribute with what comes later, from 0 to 1: the square root of the share of the later ranks'
    variance that is between groups, corrected for chance (epsilon squared, Kelley 1935, doi:10.1073/pnas.21.9.554).

    groups: (n,) numbers 0, 1, 2, ... of the text values.
    """
    ranks, sizes = _residuals(later, earlier), np.bincount(groups)
    inner, total = len(groups) - np.count_nonzero(sizes), (ranks**2).sum()
    if inner < 1 or not total:
        return 0.0
    within = ((ranks - (np.bincount(groups, ranks) / np.maximum(sizes, 1))[groups]) ** 2).sum()
    return float(np.sqrt(max(1 - within / inner * (len(groups) - 1) / total, 0.0)))


def _residuals(values: NDArray, earlier: Sequence[NDArray]) -> NDArray[np.float64]:
    """Residuals of a linear regression of the values' ranks on the ranks of the earlier counts."""
    from scipy.stats import rankdata

    known = np.column_stack([np.ones(len(values)), *(rankdata(counts) for counts in earlier)])
    ranks = rankdata(values)
    rest = ranks - known @ np.linalg.lstsq(known, ranks, rcond=None)[0]
    return np.where(np.abs(rest) < 1e-6, 0.0, rest)  # smaller differences are rounding errors, since ranks differ by at least 0.5
