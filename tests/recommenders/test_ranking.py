"""Top k of sparse scores."""

import numpy as np
import pytest
from scipy import sparse

from recsys.recommenders.top_k import BLOCK, MAX_ROWS, order, rank, top, values_at, within


def test_order_is_by_row_then_falling_score_then_rising_place() -> None:
    rows, scores, places = order(np.array([1, 0, 0, 0]), np.array([9.0, 0.25, 0.5, 0.5], np.float32), np.array([3, 1, 7, 2]))
    assert rows.tolist() == [0, 0, 0, 1]
    assert places.tolist() == [2, 7, 1, 3]
    assert scores.tolist() == [0.5, 0.5, 0.25, 9.0]


def test_order_keeps_every_bit_of_a_score() -> None:
    seen = np.array([-3e38, -1 / 3, -1e-30, 0.0, 1e-30, 0.1, 1 / 3, 1.0, 3e38], np.float32)
    assert order(np.zeros(9, int), seen, np.arange(9))[1].tolist() == seen[::-1].tolist()


def test_top_keeps_the_largest_of_each_row_however_many_rows() -> None:
    scores = sparse.random(2 * MAX_ROWS + 5, 40, density=0.3, random_state=1, format="csr", dtype=np.float32)
    kept = top(scores, 3).toarray()
    dense = scores.toarray()
    for row in (0, 1, MAX_ROWS - 1, MAX_ROWS, 2 * MAX_ROWS + 4):
        assert sorted(kept[row][kept[row] > 0]) == sorted(np.sort(dense[row])[::-1][:3][np.sort(dense[row])[::-1][:3] > 0])


@pytest.mark.parametrize("k", [0, 1, 3, 400])
def test_top_is_that_of_a_sort_by_value_and_column(k: int) -> None:
    draw = np.random.default_rng(1)
    scores = sparse.random(20, 300, density=0.7, random_state=1, format="csr", dtype=np.float32)
    scores.data = draw.choice(np.array([-1, 0, 0.5, 1, 2, 3, np.nan], np.float32), scores.nnz)  # many ties
    dense, kept = np.nan_to_num(scores.toarray()), top(scores, k).toarray()
    for row in range(20):
        best = [column for column in np.argsort(-dense[row], kind="stable")[:k] if dense[row, column] > 0]
        assert np.flatnonzero(kept[row]).tolist() == sorted(best)
        assert kept[row, best].tolist() == dense[row, best].tolist()


def test_values_are_found_in_any_order_of_the_columns_and_are_0_elsewhere() -> None:
    width = BLOCK // 2
    scores = sparse.csr_matrix(
        (np.array([5, 4, 3], np.float32), np.array([7, 2, width - 1]), np.array([0, 2, 2, 2, 3])), (4, width)
    )
    rows, columns = np.array([0, 0, 0, 2, 3]), np.array([2, 3, 7, 7, width - 1])
    assert values_at(scores, rows, columns).tolist() == [4, 0, 5, 0, 3]
    assert values_at(scores, rows[:0], columns[:0]).tolist() == []


def test_what_is_not_within_a_mask_of_columns_is_0() -> None:
    scores = sparse.csr_matrix(np.array([[1, 2, 0], [3, 0, 4]], np.float32))
    assert within(scores, np.array([True, False, True])).toarray().tolist() == [[1, 0, 0], [3, 0, 4]]


def test_rank_hides_breaks_ties_by_place_and_fills_up_with_the_popular() -> None:
    scores = sparse.csr_matrix(np.array([[0, 2.0, 2.0, 5.0, 0], [0, 0, 0, 0, 0]], np.float32))
    hidden = np.array([[False, False, False, True, False], [False, True, False, True, False]])
    popular = np.array([4, 2, 1, 0])
    items, values, (rows, out) = rank(scores, hidden, 4, popular)
    assert items.tolist() == [[2, 1, 4, 0], [4, 2, 0, -1]]
    assert values.tolist() == [[2, 2, 0, 0], [0, 0, 0, 0]]
    assert (rows.tolist(), out.tolist()) == ([0], [3])


def test_rank_lists_scores_below_0_before_what_fills_up() -> None:
    scores = sparse.csr_matrix(np.array([[-1.0, -3.0, 0.5, 0, np.nan, -2.0]], np.float32))
    hidden = np.array([[False, False, False, False, False, True]])
    items, values, (_, out) = rank(scores, hidden, 4, np.arange(6))
    assert items.tolist() == [[2, 0, 1, 3]]
    assert values.tolist() == [[0.5, -1.0, -3.0, 0.0]]
    assert out.tolist() == [5]
