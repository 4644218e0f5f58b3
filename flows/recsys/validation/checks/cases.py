"""Checks the cases of cases.jsonl, which say what certain users must or must not be recommended. `make add-case` adds one."""

from collections.abc import Iterator
from typing import Any

from recsys.settings import section
from recsys.validation.check_input import CheckInput
from recsys.validation_report import CheckResult


@section
class CasesLimits:
    """Nothing to set: each case has its own severity."""


def check(inputs: CheckInput, limits: CasesLimits) -> Iterator[CheckResult]:
    cases = inputs.settings.cases
    failed = [result for result in (_result(inputs, case) for case in cases) if result]
    yield from failed
    passed = len(cases) - len(failed)
    message = f"{passed} of {len(cases)} cases of {inputs.settings.name} pass"
    yield CheckResult("cases_held", passed, len(cases), "warn", True, message if cases else f"{message}; `make add-case` adds one")


def _result(inputs: CheckInput, case: dict[str, Any]) -> CheckResult | None:
    """The result of a case that fails, None if it passes. An unknown user only warns, because the model is not at fault."""
    k, name, (user_ids, lists) = inputs.settings.evaluation.k, f"case_{case['line']}", inputs.lists[inputs.served_kind]
    rows = (user_ids == case["user"]).nonzero()[0]
    if not len(rows):
        message = f"user {case['user']} has no list in this release; remove line {case['line']} from cases.jsonl"
        return CheckResult(name, "no list", "a list", "warn", False, message)
    items = lists.items[rows[0], :k]
    listed = inputs.state.item_ids[items[items >= 0]].tolist()
    wrong = [
        *(f"{item} is missing" for item in case["expect"] if item not in listed),
        *(f"{item} is listed" for item in case["not"] if item in listed),
    ]
    message = f"first {k} items of user {case['user']}: {', '.join(wrong)}; the case says: {case['why']}"
    return CheckResult(name, len(wrong), 0, case["severity"], False, message) if wrong else None
