"""Cases: does each user that people looked at get what they asked for? Added by `make add-case`."""

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
    held = len(cases) - len(failed)
    words = f"{held} of {len(cases)} cases of {inputs.settings.name} hold"
    yield CheckResult("cases_held", held, len(cases), "warn", True, words if cases else f"{words}; `make add-case` adds one")


def _result(inputs: CheckInput, case: dict[str, Any]) -> CheckResult | None:
    """None for a case that holds. That a user is gone says nothing against a model, and never blocks."""
    k, name, (user_ids, lists) = inputs.settings.evaluation.k, f"case_{case['line']}", inputs.lists[inputs.repeat]
    rows = (user_ids == case["user"]).nonzero()[0]
    if not len(rows):
        words = f"user {case['user']} is not known any more; take line {case['line']} out of cases.jsonl"
        return CheckResult(name, "no list", "a list", "warn", False, words)
    items = lists.items[rows[0], :k]
    listed = inputs.state.item_ids[items[items >= 0]].tolist()
    wrong = [f"{item} is missing" for item in case["expect"] if item not in listed]
    wrong += [f"{item} is there" for item in case["not"] if item in listed]
    words = f"in the first {k} of user {case['user']} {', '.join(wrong)}, although: {case['why']}"
    return CheckResult(name, len(wrong), 0, case["severity"], False, words) if wrong else None
