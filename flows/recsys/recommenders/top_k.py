"""Sparse scores: the top k of each row, and look-ups of single values.

The top k is one sort of packed integers, 50 times as fast as a sort by several keys.
"""

import math
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from recsys import RecsysError
from recsys.features import places

ROW_BITS, SCORE_BITS, PLACE_BITS = 12, 32, 20
MAX_ROWS, MAX_ITEMS = 2**ROW_BITS, 2**PLACE_BITS
BLOCK = 2**19  # number of values that are worked on at a time, so that they stay in the cache
SIGN, ALL = np.uint32(2**31), np.uint32(2**32 - 1)  # bits of a float32


def cells(matrix: sparse.csr_matrix) -> NDArray[np.int64]:
    """Returns the cell number, row * columns + column, of each stored value; sorted if the matrix has sorted indices."""
    return np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr)) * matrix.shape[1] + matrix.indices


def cell_values(known: NDArray[np.int64], values: NDArray, wanted: NDArray[np.int64]) -> NDArray:
    """Returns the values at the wanted cells; 0 for cells that are not known. `known`: sorted cell numbers of `values`."""
    found = places(known, wanted)
    return np.where(found >= 0, values[found], values.dtype.type(0)) if len(known) else np.zeros(wanted.shape, values.dtype)


def within(matrix: sparse.csr_matrix, columns: NDArray[np.bool_]) -> sparse.csr_matrix:
    """Returns a matrix with 0 in all columns but these, a mask."""
    return sparse.csr_matrix((matrix.data * columns[matrix.indices], matrix.indices, matrix.indptr), matrix.shape)


def values_at(matrix: sparse.csr_matrix, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> NDArray[np.float32]:
    """Returns the values at some cells; 0 where none is stored. rows: in order.

    A few rows at a time become dense, which takes less time than sorting their columns to search in them.
    """
    values, size = np.zeros(len(rows), np.float32), max(1, BLOCK // max(matrix.shape[1], 1))
    starts = np.searchsorted(rows, np.arange(0, matrix.shape[0] + size, size))
    for start, (first, last) in zip(range(0, matrix.shape[0], size), pairwise(starts.tolist()), strict=True):
        if first < last:
            part = slice(first, last)
            values[part] = matrix[start : start + size].toarray()[rows[part] - start, columns[part]]
    return values


def order(rows: NDArray, scores: NDArray, ranks: NDArray) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.int64]]:
    """Sorts rows, scores and ranks by row, then by falling score, then by rising rank. Scores must not be NaN."""
    return _unpacked(_keys(rows, scores, ranks))


def _keys(rows: NDArray, scores: NDArray, ranks: NDArray) -> NDArray[np.uint64]:
    """Sorted integers of which each has a row, a score and a rank."""
    if len(ranks) and ranks.max() >= MAX_ITEMS:
        raise RecsysError(
            f"{ranks.max() + 1:,} items are more than the {MAX_ITEMS:,} that can be ranked; leave out items withdrawn long ago"
        )
    bits = np.ascontiguousarray(scores, np.float32).view(np.uint32)
    keys = rows.astype(np.uint64) << np.uint64(SCORE_BITS)
    keys |= ~(bits ^ np.where(bits & SIGN, ALL, SIGN))  # in the reverse order of the scores
    keys <<= np.uint64(PLACE_BITS)
    keys |= ranks.astype(np.uint64)
    keys.sort()
    return keys


def _unpacked(keys: NDArray[np.uint64]) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.int64]]:
    """Rows, scores and ranks of `_keys`."""
    bits = ~(keys >> np.uint64(PLACE_BITS)).astype(np.uint32)
    return (
        (keys >> np.uint64(SCORE_BITS + PLACE_BITS)).astype(np.int64),
        (bits ^ np.where(bits & SIGN, SIGN, ALL)).view(np.float32),
        (keys & np.uint64(MAX_ITEMS - 1)).astype(np.int64),
    )


def top(scores: sparse.csr_matrix, k: int) -> sparse.csr_matrix:
    """Returns a matrix with the k largest positive values of each row. Of equal values the smaller column wins."""
    height, starts, parts = scores.shape[0], scores.indptr, [(np.zeros(0, scores.indices.dtype), np.zeros(0, np.float32))]
    lengths = np.zeros(height, np.int64)
    start = 0 if k else height
    while start < height:
        stop = int(np.searchsorted(starts, starts[start] + BLOCK, "right")) - 1
        stop = min(max(stop, start + 1), start + MAX_ROWS, height)
        part = slice(starts[start], starts[stop])
        columns, values, lengths[start:stop] = _top(np.diff(starts[start : stop + 1]), scores.indices[part], scores.data[part], k)
        parts.append((columns, values))
        start = stop
    columns, values = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    kept = sparse.csr_matrix((values, columns, np.append(0, np.cumsum(lengths))), shape=scores.shape)
    kept.sort_indices()
    return kept


def _top(lengths: NDArray, columns: NDArray, values: NDArray, k: int) -> tuple[NDArray, NDArray[np.float32], NDArray[np.int64]]:
    """The k largest positive values of each row: their columns, values, and number by row. lengths: number of values by row."""
    height = len(lengths)
    rows = np.repeat(np.arange(height, dtype=np.uint64), lengths)
    step = math.isqrt(len(values) // (height * k))
    if step > 1:  # of a few values the k-th largest is at most that of all, so what is smaller need not be sorted
        first = np.flatnonzero(values[::step] > 0) * step
        few_rows, few, _ = order(rows[first], values[first], columns[first])
        last = np.flatnonzero(position(few_rows) == k - 1)
        least = np.zeros(height, np.float32)
        least[few_rows[last]] = few[last]
        large = np.flatnonzero((values > 0) & (values >= np.repeat(least, lengths)))
    else:
        large = np.flatnonzero(values > 0)
    rows, keys = rows[large], _keys(rows[large], values[large], columns[large])
    found = np.bincount(rows.astype(np.int64), minlength=height)
    kept = np.minimum(found, k)
    starts = np.cumsum(found) - found - (np.cumsum(kept) - kept)
    keys = keys[np.repeat(starts, kept) + np.arange(kept.sum())]
    _, best, ranks = _unpacked(keys)
    return ranks.astype(columns.dtype), best, kept


def position(rows: NDArray) -> NDArray[np.int64]:
    """Returns 0, 1, 2, ... within each run of equal values of a sorted array."""
    starts = np.flatnonzero(np.append(True, rows[1:] != rows[:-1])[: len(rows)])
    return np.arange(len(rows)) - np.repeat(starts, np.diff(np.append(starts, len(rows))))


def rank(
    scores: sparse.csr_matrix, hidden: NDArray[np.bool_], k: int, popular: NDArray[np.int64]
) -> tuple[NDArray[np.int32], NDArray[np.float32], tuple[NDArray[np.int64], NDArray[np.int32]]]:
    """Ranks the k best items of each row, and fills up short lists from `popular`.

    scores: (rows, items) of any sign; 0 is no score. hidden: (rows, items) mask of items that may not be listed; it is overwritten.
    popular: items by falling popularity, which breaks ties; has all items that are not hidden.
    Returns (rows, k) items, -1 where the list ends; their scores, 0 for filled-up items; and the rows and items that are hidden but
    scored above the last listed item.
    """
    height, width = scores.shape
    place = np.zeros(width, np.int64)  # position of each item in `popular`
    place[popular] = np.arange(len(popular))
    items, values = np.full((height, k), -1, np.int32), np.zeros((height, k), np.float32)
    rows = np.repeat(np.arange(height), np.diff(scores.indptr))
    scored, shown = np.abs(scores.data) > 0, ~hidden[rows, scores.indices]  # NaN counts as no score
    is_candidate, out = scored & shown, np.flatnonzero(scored & ~shown)
    out_rows, out_items, out_scores = rows[out], scores.indices[out], scores.data[out]
    rows, best, tie_breaks = order(rows[is_candidate], scores.data[is_candidate], place[scores.indices[is_candidate]])
    ranks = position(rows)
    is_top = ranks < k
    rows, best, tie_breaks, ranks = rows[is_top], best[is_top], tie_breaks[is_top], ranks[is_top]
    items[rows, ranks], values[rows, ranks] = popular[tie_breaks], best
    last = values[out_rows, -1]
    missed = (last == 0) | (out_scores > last)

    hidden[rows, popular[tie_breaks]] = True
    short = np.flatnonzero(items[:, -1] < 0)
    lengths = (items[short] >= 0).sum(1)
    needed = min(len(popular), k + int(hidden[short][:, popular].sum(1).max(initial=0)))
    is_free = ~hidden[short][:, popular[:needed]]
    count = np.cumsum(is_free, 1)
    row, column = np.nonzero(is_free & (count <= (k - lengths)[:, None]))
    items[short[row], lengths[row] + count[row, column] - 1] = popular[column]
    return items, values, (out_rows[missed], out_items[missed])
