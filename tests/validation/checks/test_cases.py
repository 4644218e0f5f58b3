"""Cases: every one that a list fails is told in its own words; only sound ones are added."""

import json
from dataclasses import replace
from typing import Any

import pytest

from conftest import failed
from recsys import RecsysError
from recsys.validation import cases
from recsys.validation.check_input import CheckInput
from recsys.validation.registry import CHECKS, limits

LINE = {"dataset": "shop", "user": "u1", "expect": ["i1"], "not": [], "why": "asked for it", "severity": "block"}


def judged(inputs: CheckInput, *changes: dict[str, Any]) -> tuple[CheckInput, list[Any]]:
    """The subject with a case for each change of LINE, and the check's check results."""
    known = cases.parse("\n".join(json.dumps(LINE | change) for change in changes))
    vars(sick := replace(inputs, settings=replace(inputs.settings, cases=known)))["lists"] = inputs.lists
    return sick, list(CHECKS["cases"].module.check(sick, limits("cases", sick.settings)))


def test_without_cases_the_check_speaks_and_passes(inputs: CheckInput) -> None:
    assert failed("cases", inputs) == []


def test_cases_hold_or_fail_by_the_first_items_of_the_served_list(inputs: CheckInput) -> None:
    users, lists = inputs.lists["all_items"]
    user, item_ids = str(users[3]), inputs.state.item_ids
    first, eleventh = (str(item_ids[lists.items[3, place]]) for place in (0, 10))
    holds = {"user": user, "expect": [first], "not": [eleventh]}
    fails = {"user": user, "expect": [eleventh], "not": [first]}
    _, results = judged(inputs, holds, fails, fails | {"severity": "warn"})
    assert [(result.name, result.blocks) for result in results] == [("case_2", True), ("case_3", False), ("cases_held", False)]
    assert results[0].message.endswith(f"{eleventh} is missing, {first} is listed; the case says: asked for it")
    assert results[-1].message == "1 of 3 cases of shop pass"


def test_a_user_who_is_gone_warns(inputs: CheckInput) -> None:
    _, results = judged(inputs, {"user": "nobody"})
    assert [result.blocks for result in results] == [False, False]
    assert "nobody" in results[0].message
    assert not results[0].passed


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"severity": "fatal"}, "fatal"),
        ({"expect": []}, "EXPECT"),
        ({"why": ""}, "WHY"),
        ({"expect": "i1"}, r"expect \(list\)"),
        ({"until": "2026"}, "until"),
    ],
)
def test_a_line_that_is_no_case_is_named(change: dict[str, Any], words: str) -> None:
    with pytest.raises(RecsysError, match=rf"line 2.*{words}"):
        cases.parse(f"{json.dumps(LINE)}\n{json.dumps(LINE | change)}\n")


def test_a_line_that_is_no_json_is_named() -> None:
    with pytest.raises(RecsysError, match="line 3 cannot be read"):
        cases.parse(f"{json.dumps(LINE)}\n\nuser: u1\n")
