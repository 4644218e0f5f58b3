"""Model files that were changed after they were written: told in words, for C code would read past their arrays."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from test_contract import checkerboard, fitted

from recsys import RecsysError
from recsys.recommenders.registry import create, load

Arrays = dict[str, np.ndarray]


def put(name: str, place: int, value: int) -> Callable[[Arrays], None]:
    """A change of one value of an array."""

    def change(arrays: Arrays) -> None:
        arrays[name][place] = value

    return change


def put_node(field: str, value: float) -> Callable[[Arrays], None]:
    """A change of the first tree's root."""

    def change(arrays: Arrays) -> None:
        arrays["nodes_"]["is_leaf"][0] = 0
        arrays["nodes_"][field][0] = value

    return change


def drop(name: str) -> Callable[[Arrays], None]:
    def change(arrays: Arrays) -> None:
        del arrays[name]

    return change


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("item_to_item", put("similarity_.indices", 0, 1 << 30)),
        ("item_to_item", put("similarity_.indices", 0, -1)),
        ("item_to_item", put("similarity_.indptr", 1, 1 << 30)),
        ("item_to_item", put("similarity_.indptr", -1, 1 << 30)),
        ("item_to_item", put("similarity_.shape", 0, 1 << 30)),
        ("item_to_item", put("similarity_.shape", 1, 3)),
        ("item_to_item", drop("similarity_.data")),
        ("two_stage", put_node("left", 1 << 30)),
        ("two_stage", put_node("right", 0)),
        ("two_stage", put_node("feature_idx", 1 << 20)),
        ("two_stage", put_node("feature_idx", -1)),
        ("two_stage", put_node("num_threshold", np.nan)),
        ("two_stage", lambda arrays: arrays.update(nodes_=arrays["nodes_"][["value", "left", "right"]])),
        ("two_stage", put("sizes_", 0, 1 << 30)),
        ("two_stage", put("sizes_", 0, 0)),
        ("two_stage", drop("nodes_")),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_array_that_points_outside_another_is_refused(name: str, change: Callable[[Arrays], None], tmp_path: Path) -> None:
    fitted(create(name, {}), checkerboard()).save(tmp_path)
    file = tmp_path / ("ranker.npz" if name == "two_stage" else "learned.npz")
    with np.load(file) as saved:
        arrays = {name: saved[name] for name in saved.files}
    change(arrays)
    np.savez(file, **arrays)
    with pytest.raises(RecsysError, match=f"model of {name} .* run again"):
        load(tmp_path)


def test_a_model_without_a_ranker_s_file_is_one_of_earlier_code(tmp_path: Path) -> None:
    fitted(create("two_stage", {}), checkerboard()).save(tmp_path)
    (tmp_path / "ranker.npz").unlink()
    with pytest.raises(RecsysError, match=r"no ranker\.npz: another version .* train again, with `make run`$"):
        load(tmp_path)
