"""CSV files that people open in a spreadsheet: no cell of them is a formula, if they ask for that."""

from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from conftest import make_settings
from recsys.features.formulas import escape
from recsys.features.warehouse import write_rejected
from recsys.recommenders.base import Lists
from recsys.releases import files
from recsys.store.snapshots import Manifest, Snapshot

FORMULAS = ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"]
HARMLESS = ["u1", "a=b", "", "'=1", None]


def test_cells_that_start_like_a_formula_get_an_apostrophe() -> None:
    assert escape(pa.array([*FORMULAS, *HARMLESS])).to_pylist() == [*(f"'{text}" for text in FORMULAS), *HARMLESS]


@pytest.mark.parametrize("is_escaped", [True, False])
def test_rejected_events_are_escaped_if_asked(is_escaped: bool, tmp_path: Path) -> None:
    with duckdb.connect(str(tmp_path / "w.duckdb")) as connection:
        connection.execute(
            "create table rejected as select '=1' as user_id, 'bad_price' as reason, 'bad_price' as reasons, -2.5 as price"
        )
    write_rejected("rejected", tmp_path / "w.duckdb", make_settings(), tmp_path / "q.csv", is_escaped)
    (row,) = pyarrow.csv.read_csv(tmp_path / "q.csv").to_pylist()
    assert row == {"reason": "bad_price", "reasons": "bad_price", "user_id": "'=1" if is_escaped else "=1", "price": -2.5}


def test_lists_are_escaped_if_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lists = Lists(np.array([[0]], np.int32), np.array([[0.5]], np.float32))
    monkeypatch.setattr(files, "read_lists", lambda release, list_kind: [(np.array(["=1"]), lists)])
    pq.write_table(pa.table({"item_id": ["@i"]}), tmp_path / "items.parquet")
    release = Snapshot(tmp_path, Manifest("release", "r", {}, {}, {}))
    for is_escaped, ids in ((True, ("'=1", "'@i")), (False, ("=1", "@i"))):
        files.export(release, "all_items", tmp_path / "lists.csv", is_escaped)
        (row,) = pyarrow.csv.read_csv(tmp_path / "lists.csv").to_pylist()
        assert (row["user_id"], row["item_id"]) == ids
