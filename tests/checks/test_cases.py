"""Cases: every one that a list fails is told in its own words; only sound ones are added."""

import json
from dataclasses import replace
from typing import Any

import pytest

from conftest import failed
from recsys import RecsysError
from recsys.validation import cases
from recsys.validation.check_input import Subject
from recsys.validation.registry import FAMILIES, limits

LINE = {"dataset": "shop", "user": "u1", "expect": ["i1"], "not": [], "why": "asked for it", "severity": "block"}


def judged(subject: Subject, *changes: dict[str, Any]) -> tuple[Subject, list[Any]]:
    """The subject with a case for each change of LINE, and the family's verdicts."""
    known = cases.parse("\n".join(json.dumps(LINE | change) for change in changes))
    vars(sick := replace(subject, settings=replace(subject.settings, cases=known)))["lists"] = subject.lists
    return sick, list(FAMILIES["cases"].module.check(sick, limits("cases", sick.settings)))


def test_without_cases_the_family_speaks_and_passes(audited: Subject) -> None:
    assert failed("cases", audited) == []


def test_cases_hold_or_fail_by_the_first_items_of_the_served_list(audited: Subject) -> None:
    users, lists = audited.lists["allow"]
    user, item_ids = str(users[3]), audited.state.item_ids
    first, eleventh = (str(item_ids[lists.items[3, place]]) for place in (0, 10))
    holds = {"user": user, "expect": [first], "not": [eleventh]}
    fails = {"user": user, "expect": [eleventh], "not": [first]}
    _, verdicts = judged(audited, holds, fails, fails | {"severity": "warn"})
    assert [(verdict.name, verdict.blocks) for verdict in verdicts] == [("case_2", True), ("case_3", False), ("cases_held", False)]
    assert verdicts[0].message.endswith(f"{eleventh} is missing, {first} is there, although: asked for it")
    assert verdicts[-1].message == "1 of 3 cases of shop hold"


def test_a_user_who_is_gone_warns(audited: Subject) -> None:
    _, verdicts = judged(audited, {"user": "nobody"})
    assert [verdict.blocks for verdict in verdicts] == [False, False]
    assert "nobody" in verdicts[0].message
    assert not verdicts[0].passed


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
