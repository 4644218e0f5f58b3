"""Behavioural tests: how lists change when one thing in the input changes (RecList: Chia et al. 2022,
doi:10.1145/3487553.3524215). The changes are made in audit/perturbations.py."""

import json
from collections.abc import Iterator, Sequence
from typing import Annotated

import numpy as np
from pydantic import Field

from recsys.recommenders import popularity_order
from recsys.settings import Positive, Share, section
from recsys.validation.audit.answers import Answers
from recsys.validation.check_input import CheckInput
from recsys.validation_report import CheckResult, Severity


@section
class BehaviourLimits:
    repeated_basket: Share
    shuffled_day: Share
    swapped_item: Share
    dropped_basket: Share
    dropped_items_fall: Annotated[float, Field(ge=-1_000, le=1_000)]
    new_category_rises: Share
    others_stay: Share
    giant_cost: Positive


SETTINGS = {name: name for name in BehaviourLimits.__annotations__}  # each check result has the name of its setting

SMALL_CHANGES: dict[str, tuple[Severity, str]] = {  # perturbations after which most of the list must stay
    "repeated_basket": ("block", "if the last basket is sent again in the same session"),
    "shuffled_day": ("warn", "if events come in another order within their day"),
    "swapped_item": ("warn", "if the last item is replaced by its nearest neighbour"),
    "dropped_basket": ("warn", "if the last basket is missing"),
}


def check(inputs: CheckInput, limits: BehaviourLimits) -> Iterator[CheckResult]:
    answers, k = Answers.of(inputs), inputs.settings.evaluation.k
    stays = f"lists keep {{:.0%}} of their first {k} items"
    for name, (severity, change) in SMALL_CHANGES.items():
        yield _mean(name, answers.kept(name, k), getattr(limits, name), severity, f"{change}, {stays}")
    text = "items of the last basket fall by {:.1f} places if that basket is missing"
    yield _mean("dropped_items_fall", answers.falls(), limits.dropped_items_fall, "warn", text)
    text = f"after a user's first {inputs.settings.dataset.target} in a category, its items rise for {{:.0%}} of the users"
    yield _mean("new_category_rises", [rise > 0 for rise in answers.rises()], limits.new_category_rises, "warn", text)
    yield _mean("others_stay", answers.kept_in_crowd(k), limits.others_stay, "warn", f"if only other users change, {stays}")
    cost, max_cost = answers.cost, limits.giant_cost
    message = f"ranking takes {cost:.1f} times the CPU if one user has 20,000 events; at most {max_cost:g} is expected"
    yield CheckResult("giant_cost", cost, max_cost, "warn", cost <= max_cost, message)
    yield _withdrawn(answers)
    yield _stranger(inputs)


def _mean(name: str, values: Sequence[float], minimum: float, severity: Severity, text: str) -> CheckResult:
    """Compares a mean with its minimum. `text` is the message with a placeholder for the mean. Passes if there are no values."""
    if not values:
        return CheckResult(name, "no figure", minimum, severity, True, f"{name} is not applicable: there is no such user or item")
    mean = float(np.mean(values))
    message = f"{text.format(mean)}, on average over {len(values)} cases; at least {minimum:g} is expected"
    return CheckResult(name, mean, minimum, severity, mean >= minimum, message)


def _withdrawn(answers: Answers) -> CheckResult:
    before, after = ((lists == answers.withdrawn).any(1).sum() for lists in (answers.before, answers.crowd))
    message = (
        f"the most popular item is in {before} of {len(answers.rows)} lists; after it is withdrawn, it must be in none and is in"
    )
    return CheckResult("withdrawn_item_vanishes", int(after), 0, "block", bool(after == 0), f"{message} {after}")


def _stranger(inputs: CheckInput) -> CheckResult:
    """The model must rank recently popular items for an unknown user, as fallback.json does."""
    state, k = inputs.state, inputs.settings.evaluation.k
    stranger = np.array(["x" * (state.user_ids.dtype.itemsize // 4 + 1)])  # longer than every known id
    fallback = json.loads((inputs.release.path / "fallback.json").read_text())["all"]
    ranked = inputs.model.recommend(stranger, state.shape[1], state).items[0]
    shown, popular = (inputs.rules.shorten(items)[:k] for items in (ranked[ranked >= 0], popularity_order(state)))
    same = sum(a == b == c for a, b, c in zip(shown, fallback, popular, strict=False))
    message = f"an unknown user gets {same} of the {len(popular)} recently popular items; all are expected"
    return CheckResult("stranger_gets_fallback", same, len(popular), "block", same == len(popular), message)
