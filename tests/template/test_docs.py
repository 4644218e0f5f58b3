"""What the documents say is so."""

import ast
import json
import os
import re
import subprocess
import tomllib
from pathlib import Path

import pyarrow.parquet as pq
import pytest

import bench_tables
from cli.prices import month
from conftest import ROOT, make_settings
from recsys.settings.deployment import read_operations
from recsys.sources.registry import open_source
from simulator import simulated

README = "\n".join(path.read_text() for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))])
VERBS = re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(), re.M)


@pytest.mark.parametrize("verb", sorted(set(VERBS) - {"help"}))
def test_every_verb_is_in_the_readme(verb: str) -> None:
    assert f"`make {verb}" in README


def test_bare_make_prints_every_verb_with_a_line() -> None:
    outside = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}  # these tests run under make
    printed = subprocess.run(["make"], cwd=ROOT, env=outside, capture_output=True, text=True).stdout
    assert sorted(line.split()[1] for line in printed.splitlines()) == sorted(VERBS)
    assert all(len(line.split()) > 2 for line in printed.splitlines())


@pytest.mark.parametrize("block", re.findall(r"^```toml\n(.*?)^```", (ROOT / "docs" / "your-data.md").read_text(), re.M | re.S))
def test_settings_in_the_docs_are_settings(block: str) -> None:
    values = tomllib.loads(block)
    for section in values.pop("datasets", {"": values}).values():
        make_settings("events", dataset=section)


def test_users_and_items_in_the_readme_are_those_of_the_sample(tmp_path: Path) -> None:
    shop = simulated().dataset
    open_source(shop).land(tmp_path)
    known = {id for file in tmp_path.rglob("*.parquet") for id in ids(file)}
    named = {id for given in re.findall(r"\b(?:USER|ITEM|EXPECT|NOT)=([\w,]+)", README) for id in given.split(",")}
    assert named
    assert named <= known


def ids(file: Path) -> set[str]:
    """Of users and items with events."""
    names = {"event_id", "user_id", "item_id"} & set(pq.read_schema(file).names)
    if "event_id" not in names:
        return set()
    return {id for name in names - {"event_id"} for id in pq.read_table(file)[name].unique().to_pylist()}


def test_every_module_has_a_caption() -> None:
    for path in (ROOT / "flows").rglob("*.py"):
        assert ast.get_docstring(ast.parse(path.read_text())), path


def test_locks_are_pinned_by_hash_without_addresses() -> None:
    for lock in ("requirements/run.lock", "requirements/test.lock", "requirements/bench.lock", "requirements/lightgbm.lock"):
        text = (ROOT / lock).read_text()
        pins = re.findall(r"^[A-Za-z0-9._-]+==\S+", text, re.M)
        assert len(pins) > 50
        assert "://" not in text
        assert len(re.findall(r"^[A-Za-z0-9._-]+==[^\n]*\\\n    --hash=sha256:", text, re.M)) == len(pins)


def test_all_locks_hold_the_same_versions() -> None:
    def pins(name: str) -> set[str]:
        return set(re.findall(r"^[A-Za-z0-9._-]+==\S+", (ROOT / name).read_text(), re.M))

    for lock in ("requirements/test.lock", "requirements/bench.lock", "requirements/lightgbm.lock"):
        assert pins("requirements/run.lock") <= pins(lock)


def test_the_readme_has_the_tables_of_bench_json() -> None:
    between = README.split(bench_tables.BEGIN)[1].split(bench_tables.END)[0]
    assert between == bench_tables.render(json.loads((ROOT / "bench.json").read_text()))


def test_the_readme_says_what_make_cost_says() -> None:
    prices = tomllib.loads((ROOT / "deploy" / "prices.toml").read_text())
    known = read_operations(tomllib.loads((ROOT / "config.toml").read_text()))
    measured = json.loads((ROOT / "bench.json").read_text())
    readme = (ROOT / "docs" / "cloud.md").read_text()
    for size in ("1e5", "1e6", "1e7"):
        containers, *parts = month(measured[size], known, prices).values()
        assert f"| 10^{size[-1]} | {containers:.0f} | " + " | ".join(f"{part:.2f}" for part in parts) + " |" in readme


def test_every_test_that_the_score_names_exists() -> None:
    written = {
        name for path in (ROOT / "tests").rglob("test_*.py") for name in re.findall(r"^def (test_\w+)", path.read_text(), re.M)
    }
    named = set(re.findall(r'"(test_\w+)"', (ROOT / "flows" / "reporting" / "score.py").read_text()))
    assert named
    assert named <= written
