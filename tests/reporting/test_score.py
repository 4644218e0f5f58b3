"""The ML Test Score counts what is found, and nothing else: take the proof away and the score falls."""

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from rich.console import Console

from conftest import ROOT
from recsys.store.snapshots import open_store
from recsys.validation_report import CheckResult, ValidationReport
from reporting import proof, score
from reporting.proof import Sources

NAMED = sorted(set(re.findall(r'"(test_\w+)"', (ROOT / "flows" / "reporting" / "score.py").read_text())))
CHECKS = ("raw", "lists", "health", "baseline", "slices", "drift", "history", "champion", "time_travel")
CODE = {"commit": "c" * 40, "dirty": False}
CONFIG = {"name": "shop", "recommenders": {"two_stage": {"leaves": 31}}}


def result(name: str, passed: bool = True) -> CheckResult:
    return CheckResult(name, 1, 1, "warn", passed, "words")


def make_sources(root: Path, *failed: str, cases: dict[str, str] = {}, leave_out: str = "", **made_from: object) -> Sources:
    """A repository in which every test named in score.py passed, and a live release that every check but `leave_out` passed;
    `failed` check results did not. `cases`: further test cases with the tag of how they ended."""
    results = ElementTree.Element("testsuites")
    for name, tag in (dict.fromkeys(NAMED, "") | cases).items():
        case = ElementTree.SubElement(results, "testcase", name=name)
        if tag:
            ElementTree.SubElement(case, tag)
    (root / "data").mkdir(parents=True, exist_ok=True)
    ElementTree.ElementTree(results).write(root / proof.RESULTS)
    store = open_store(str(root / "store"), "shop")
    with store.draft() as folder:
        (folder / "lists").write_text("")
        store.commit(folder, "release", {"recommender": "two_stage", "code": CODE, "config": CONFIG} | made_from, id="r1")
    names = {check: [check] for check in CHECKS}
    names["champion"] = [f"{list_kind}_not_worse_than_champion" for list_kind in ("all_items", "new_items")]
    found = {check: [result(name, name not in failed) for name in names[check]] for check in CHECKS if check != leave_out}
    store.attach_report("r1", ValidationReport("m", "f", "c", {}, found).to_json())
    if store.current() is None:
        store.point("r1", None)
    return Sources(root, store, store.current())


def scores(sources: Sources) -> dict[str, float]:
    return {answer.name: answer.score for answer in score.items(sources)}


def test_there_are_seven_tests_in_each_of_four_sections() -> None:
    assert [len(finders) for finders in score.ITEMS.values()] == [7, 7, 7, 7]
    assert len({name for finders in score.ITEMS.values() for name in finders}) == 28


def test_in_a_bare_repository_every_score_is_zero(tmp_path: Path) -> None:
    bare = Sources(tmp_path, open_store(str(tmp_path), "shop"), None)
    assert set(scores(bare).values()) == {0.0}
    assert score.sums(score.items(bare)) == dict.fromkeys(score.ITEMS, 0)


def test_without_report_what_results_proved_falls_to_zero(tmp_path: Path) -> None:
    before = scores(make_sources(tmp_path))
    (tmp_path / "store" / "shop" / "releases" / "r1" / "validation_report.json").unlink()
    store = open_store(str(tmp_path / "store"), "shop")
    after = scores(Sources(tmp_path, store, store.current()))
    assert {name: (before[name], after[name]) for name in before if before[name] != after[name]} == {
        "A simpler model is not better": (1, 0),
        "Model quality is sufficient on important data slices": (1, 0),
        "Model quality is validated before serving": (1, 0),
        "Data invariants hold for inputs": (1, 0),
        "Training and serving are not skewed": (1, 0.5),  # a test shows it too, not on the live data
        "Models are numerically stable": (1, 0),
        "Prediction quality has not regressed": (1, 0),
    }


def test_without_test_results_what_tests_proved_falls_to_zero(tmp_path: Path) -> None:
    before = scores(make_sources(tmp_path))
    (tmp_path / proof.RESULTS).unlink()
    store = open_store(str(tmp_path / "store"), "shop")
    after = scores(Sources(tmp_path, store, store.current()))
    fell = {name for name in before if after[name] < before[name]}
    assert {"Training is reproducible", "Model specs are unit tested", "The ML pipeline is integration tested"} <= fell
    champion = "Prediction quality has not regressed"  # this run's check results hold it against the live release still
    assert {name: after[name] for name in fell if after[name]} == {champion: 0.5}
    assert after["A simpler model is not better"] == 1


@pytest.mark.parametrize("name", ["baseline", "slices"])
def test_a_result_that_did_not_pass_proves_nothing(tmp_path: Path, name: str) -> None:
    assert proof.results(name)(make_sources(tmp_path, name))[0] == 0


def test_a_check_that_did_not_run_proves_nothing(tmp_path: Path) -> None:
    assert scores(make_sources(tmp_path, leave_out="slices"))["Model quality is sufficient on important data slices"] == 0


@pytest.mark.parametrize("tag", ["failure", "error", "skipped"])
def test_a_test_proves_nothing_unless_each_of_its_cases_passed(tmp_path: Path, tag: str) -> None:
    sources = make_sources(tmp_path, cases={"test_x[one]": "", "test_x[two]": tag, "test_y[one]": ""})
    assert proof.tests("test_x")(sources)[0] == 0
    assert proof.tests("test_y")(sources)[0] == 1


def test_a_file_counts_by_what_it_holds(tmp_path: Path) -> None:
    sources = make_sources(tmp_path)
    finder = proof.files("*.yml", "^unit_tests:")
    assert finder(sources)[0] == 0  # of no file
    (tmp_path / "a.yml").write_text("models:\nunit_tests:\n")
    assert finder(sources)[0] == 1
    (tmp_path / "b.yml").write_text("models:\n")
    assert finder(sources) == (0, "*.yml: b.yml without ^unit_tests:")


def test_what_a_dirty_tree_made_was_not_submitted(tmp_path: Path) -> None:
    assert proof.submitted(make_sources(tmp_path / "clean"))[0] == 1
    assert proof.submitted(make_sources(tmp_path / "dirty", code=CODE | {"dirty": True}))[0] == 0


@pytest.mark.parametrize(
    ("log", "worth"),
    [
        ("", 0),
        ("- 2026-11-21 shop, features f, two_stage: trees = 20, not 10: ndcg@10 all_items +0.1; within noise", 0),
        ("- 2026-11-21 retail, features f, two_stage: leaves = 15, not 31: ndcg@10 all_items +0.1; within noise", 0),
        ("- 2026-11-21 shop, features f, two_stage: leaves = 15, not 31: ndcg@10 all_items +0.1; within noise", 1),
        ("- 2026-11-21 shop, features f, two_stage: leaves = 15, not 31: ndcg@10 all_items +0.1; better", 0.5),
        ("- 2026-11-21 shop, features f, two_stage: leaves = 31, not 15: ndcg@10 all_items +0.1; better", 1),
    ],
    ids=["nothing tried", "another parameter", "other data", "tried", "better and not taken", "better and taken"],
)
def test_tuning_counts_where_every_parameter_was_tried_and_the_better_taken(tmp_path: Path, log: str, worth: float) -> None:
    (tmp_path / "tuning.md").write_text(f"# What tuning has shown\n\n{log}\n")
    assert proof.tuned(make_sources(tmp_path))[0] == worth


def test_the_score_is_the_smallest_sum_and_every_answer_says_what_was_read(tmp_path: Path) -> None:
    sources = make_sources(tmp_path)
    totals = score.sums(score.items(sources))
    assert all(answer.read for answer in score.items(sources))
    console = Console(record=True, width=200)
    score.show(sources, console)
    assert f"ML test score {min(totals.values()):g}, the smallest of the four" in console.export_text()
