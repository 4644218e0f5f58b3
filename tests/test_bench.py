"""The bench: one tiny size from end to end, and how its results are told."""

from datetime import date
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

import bench
import bench_tables
from dense_retail import LINES, DenseRetail, write
from recsys import RecsysError, pipeline
from recsys.store import open_store


def result(events: int, cpu_seconds: float, peers: Any = {}) -> dict[str, Any]:
    """A size whose steps all cost the same, half of it orchestration, with a yardstick of two seconds."""
    names = ["land", "build_features serving", "build_features", *(f"train {name}" for name in ("popularity", "two_stage"))]
    cost = {"cpu_seconds": cpu_seconds, "orchestration": cpu_seconds / 2, "wall_seconds": 3.0, "peak_mb": 1_500}
    return {
        "source_settings": {"events": events},
        "counts": {"events": events, "users": events // 10, "items": 1_024},
        "date": "2026-01-02",
        "commit": "abc",
        "cores": 2,
        "load": 0.5,
        "yardsticks": [2.0, 2.0, 9.0],
        "steps": [{"step": name, **cost} for name in [*names, "train item_to_item", "recommend", "validate"]],
        "slowest_function": {"function": "trees.predict", "share": 0.4},
        "peers": peers,
    }


def test_costs_are_told_in_seconds_yardsticks_and_memory() -> None:
    lines = bench_tables.costs({"1e6": result(1_000_000, 4.0)}).splitlines()
    assert (
        "**10^6 events**: 1,000,000 accepted, 100,000 users, 1,024 items (a dense matrix of items by items would be 4 MB)"
        in lines[2]
    )
    assert "| recommend, everybody's lists | 4.0 | 2.0 | 3.0 | 1,500 | 50% |" in lines


def test_the_recommenders_that_are_not_the_ranker_are_one_line() -> None:
    lines = bench_tables.costs({"1e6": result(1_000_000, 4.0)}).splitlines()
    assert "| train the others | 8.0 | 4.0 | 6.0 | 1,500 | 50% |" in lines


def test_growth_stands_beside_the_ratio_of_events() -> None:
    (table,) = bench_tables.growth({"1e6": result(1_000_000, 4.0), "1e7": result(10_000_000, 20.0)})
    assert "10^7 over 10^6: 10.0 times the events" in table
    assert "| **serving features and lists** | 5.0 | 5.0 |" in table.splitlines()
    assert bench_tables.growth({"1e7": result(10_000_000, 20.0)}) == []


def test_peers_stand_beside_two_stage() -> None:
    def found(cpu_seconds: float) -> dict[str, Any]:
        scores = {"users": 50, "ndcg@10": [0.2, 0.1, 0.3]}
        return {"cpu_seconds": cpu_seconds, "all_items": scores, "new_items": scores}

    told = bench_tables.peers("1e5", result(100_000, 4.0, {"two_stage": found(4.0), "implicit BM25": found(1.0)}))
    assert told.splitlines()[-1] == "| implicit BM25 | 1.00 | 0.250 | 0.200 [0.100, 0.300] | 0.200 [0.100, 0.300] |"
    assert bench_tables.peers("1e5", result(100_000, 4.0)) == ""


def test_tables_go_between_the_marks_again_and_again(tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{bench_tables.BEGIN}old\n{bench_tables.END}\nafter\n")
    for _ in range(2):
        bench_tables.insert(readme, {"1e6": result(1_000_000, 4.0)})
    text = readme.read_text()
    assert text.startswith("before\n")
    assert text.endswith("\nafter\n")
    assert "old" not in text
    assert text.count("| validate |") == 1


def test_a_readme_without_marks_is_refused(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("nothing")
    with pytest.raises(RecsysError, match=r"README\.md has no <!-- bench -->"):
        bench_tables.insert(tmp_path / "README.md", {})


def test_an_unknown_size_is_named() -> None:
    with pytest.raises(RecsysError, match='SIZES "1e9" is unknown; pass some of 1e5'):
        bench.bench("1e9")


def test_dense_data_have_wide_baskets_and_half_of_their_lines_are_repeats(tmp_path: Path) -> None:
    paths = write(tmp_path, DenseRetail(users=100, items=800, events=12_000))
    events, items = (pq.read_table(paths[name]) for name in ("events", "items"))
    users, item_ids, baskets = (events[name].to_numpy() for name in ("user_id", "item_id", "session_id"))
    _, widths = np.unique(baskets, return_counts=True)
    assert widths.min() >= LINES[0] / 2  # items that are not for sale, or doubled, make a basket narrower
    assert widths.max() < LINES[1]
    assert len(events) == pytest.approx(12_000, rel=0.05)
    distinct = len(np.unique(np.char.add(users.astype(str), item_ids.astype(str))))
    assert 1 - distinct / len(events) == pytest.approx(0.5, abs=0.1)
    assert set(item_ids) <= set(items["item_id"].to_pylist())


def test_dense_data_are_the_same_again(tmp_path: Path) -> None:
    size, folders = DenseRetail(users=20, items=300, events=2_000), (tmp_path / "a", tmp_path / "b")
    for folder in folders:
        folder.mkdir()
        write(folder, size)
    for name in ("events.parquet", "items.parquet"):
        assert (folders[0] / name).read_bytes() == (folders[1] / name).read_bytes()


def test_dense_data_are_read_by_the_source_of_files(tmp_path: Path) -> None:
    settings = bench.settings_of(DenseRetail(users=20, items=300, events=2_000), tmp_path)
    store = open_store(settings.store.root, settings.name)
    _, results = pipeline.land(store, settings, date(2026, 1, 2))
    assert [result.name for result in results if not result.passed] == []


@pytest.mark.slow
def test_a_tiny_size_from_end_to_end(tmp_path: Path) -> None:
    found = bench.run("tiny", bench.SimulatedShop(300, 120, 8_000, days=250), tmp_path)
    steps = {step["step"]: step for step in found["steps"]}
    assert list(steps)[:3] == ["land", "build_features serving", "build_features"]
    assert list(steps)[-2:] == ["recommend", "validate"]
    assert all(0 < step["orchestration"] < step["cpu_seconds"] and step["peak_mb"] > 50 for step in steps.values())
    assert len(found["yardsticks"]) == len(steps)
    assert {"popularity", "repeat_purchase", "two_stage"} <= found["peers"].keys()
    assert "| validate |" in bench_tables.render({"tiny": bench.about() | found})
    if not find_spec("implicit"):
        pytest.skip("implicit is not installed, so no peer was run; `make bench` installs it")
    for name in ("implicit BM25", "implicit ALS"):
        assert found["peers"][name]["all_items"]["ndcg@10"][0] > found["peers"]["popularity"]["all_items"]["ndcg@10"][0]
