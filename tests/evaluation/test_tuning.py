"""Tuning's logic: which variants there are, and what is said of them."""

import tomllib
from datetime import date
from typing import Any

import numpy as np
import pytest

from conftest import make_settings
from recsys import RecsysError
from recsys.evaluation.holdout import ScoredWindow
from recsys.evaluation.limits import Costs
from recsys.evaluation.tuning import Trial, Variant, advice, findings, limits_log, log, variants
from recsys.settings.run import Settings
from recsys.validation_report import Limits, SourceLimits

BASE = Variant({"leaves": 31})
FIFTEEN = Variant({"leaves": 15}, "leaves", 31)


def tuned(space: Any, name: str = "item_to_item") -> Settings:
    return make_settings(tune={name: space})


def windows(all_items: float, exclude_seen: float) -> dict[str, list[ScoredWindow]]:
    """One selection window of 40 users who all score the same."""
    users, lists = np.array([f"u{user:02}" for user in range(40)]), np.zeros((40, 1), np.int32)
    return {
        list_kind: [ScoredWindow(date(2024, 2, 1), users, {"ndcg@10": np.full(40, value)}, lists, 1)]
        for list_kind, value in (("all_items", all_items), ("new_items", exclude_seen))
    }


def trial(all_items: float, exclude_seen: float, variant: Variant = FIFTEEN, cpu_seconds: float = 5.0) -> Trial:
    return Trial(variant, windows(all_items, exclude_seen), cpu_seconds)


base = trial(0.5, 0.5, BASE, cpu_seconds=10.0)


def test_a_variant_is_the_present_section_with_one_change() -> None:
    first, *others = variants(tuned({"neighbours": [50, 200], "within_days": [30.0]}), "item_to_item")
    present = make_settings().recommenders["item_to_item"]
    assert first == Variant(present)
    assert [variant.change for variant in others] == ["neighbours = 50, not 200", "within_days = 30.0, not 0.0"]
    assert others[0].parameters == present | {"neighbours": 50}


def test_the_repositorys_space_can_be_tried() -> None:
    assert len(variants(make_settings(), "two_stage")) > 1


@pytest.mark.parametrize(
    ("name", "words"),
    [("magic", 'RECOMMENDER "magic".*two_stage, item_to_item'), ("item_to_item", r"tune\.item_to_item\.neighbors.*neighbours")],
)
def test_what_is_unknown_is_named(name: str, words: str) -> None:
    with pytest.raises(RecsysError, match=words):
        variants(tuned({"neighbors": [3]}), name)


def test_a_space_of_the_present_values_is_refused() -> None:
    with pytest.raises(RecsysError, match="only the present"):
        variants(tuned({"neighbours": [200]}), "item_to_item")


@pytest.mark.parametrize("wrong", [{"neighbours": 50}, [50], 50])
def test_a_space_is_lists_by_parameter(wrong: object) -> None:
    with pytest.raises(RecsysError, match=r"tune\.item_to_item.*it must be a"):
        tuned(wrong)


@pytest.mark.parametrize(("all_items", "word"), [(0.6, "better"), (0.4, "worse"), (0.5, "within noise")])
def test_the_word_goes_by_the_served_list_kind(all_items: float, word: str) -> None:
    found = findings([trial(all_items, 0.1), base], make_settings())
    assert [finding.word for finding in found] == [word]
    assert [finding.word for finding in findings([trial(0.1, all_items), base], make_settings(dataset={"exclude_seen": True}))] == [
        word
    ]


def test_an_interval_around_zero_is_noise() -> None:
    mixed = trial(0.5, 0.5)
    mixed.windows["all_items"][0].scores["ndcg@10"][:] = np.tile([0.2, 0.9], 20)
    assert findings([base, mixed], make_settings())[0].word == "within noise"


def test_the_log_says_what_was_tried_and_what_came_of_it_failures_included() -> None:
    failed = Trial(Variant({"leaves": 1}, "leaves", 31), error="ValueError: leaves\n  is 1")
    found = findings([base, trial(0.6, 0.4), failed], make_settings())
    assert log(found, "two_stage", "2026-01-02", "f1", make_settings()) == [
        "- 2026-01-02 shop, features f1, two_stage: leaves = 15, not 31:"
        " ndcg@10 all_items +0.1000 [+0.1000, +0.1000], new_items -0.1000 [-0.1000, -0.1000]; 0.50 of the CPU; better",
        "- 2026-01-02 shop, features f1, two_stage: leaves = 1, not 31: failed: ValueError: leaves is 1",
    ]


def test_the_log_says_what_limits_a_recommender_and_what_its_parts_cost() -> None:
    source = SourceLimits(0.5, 0.1, (0.02, 0.01, 0.03))
    importance = {"baskets": (0.05, 0.01, 0.09), "views": (0.001, -0.01, 0.01)}
    found = Limits("2024-01-01", 9, (0.4, 0.3, 0.5), (0.8, 0.7, 0.9), (0.6, 0.5, 0.7), {"own": source}, importance)
    where = "- 2026-01-02 shop, features f1, two_stage"
    assert limits_log({"new_items": found}, Costs({"own": 0.5}, 0.25, 0.02), "two_stage", "2026-01-02", "f1", make_settings()) == [
        f"{where}: candidates, new_items: 0.600 of the relevant items; ndcg@10 0.400, and 0.800 if ranked perfectly;"
        " by source recall / of no other source / gain: own 0.500 / 0.100 / +0.0200 [+0.0100, +0.0300]",
        f"{where}: features, new_items: ndcg@10 lost by permuting baskets +0.0500 [+0.0100, +0.0900]; within noise views",
        f"{where}: CPU seconds at one cutoff: to fit and score own 0.50; to look up all other features 0.25;"
        " to fit the ranker 0.02 per feature",
    ]
    assert limits_log({}, None, "popularity", "2026-01-02", "f1", make_settings()) == []


def test_the_best_comes_as_a_line_of_toml_with_its_interval() -> None:
    best = trial(0.7, 0.5, Variant({"rate": 0.06}, "rate", 0.1))
    words, line = advice(findings([base, trial(0.6, 0.5), best], make_settings()), "two_stage", make_settings())
    assert "[recommenders.two_stage]" in words
    assert tomllib.loads(line) == {"rate": 0.06}
    assert "+0.2000 [+0.2000, +0.2000] against 0.1" in line


def test_when_nothing_is_better_nothing_is_to_be_written() -> None:
    assert len(advice(findings([base, trial(0.4, 0.9)], make_settings()), "two_stage", make_settings())) == 1


def test_without_the_base_there_is_nothing_to_compare_with() -> None:
    with pytest.raises(RecsysError, match="present parameters cannot be scored: out of memory"):
        findings([Trial(BASE, error="out of memory"), trial(0.6, 0.6)], make_settings())
