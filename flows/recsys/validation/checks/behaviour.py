"""Behaviour: how lists answer where one thing is perturbed and nothing else is (RecList: Chia et al. 2022,
doi:10.1145/3487553.3524215). What befalls whom is in perturbations.py."""

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


SETTINGS = {name: name for name in BehaviourLimits.__annotations__}  # a check has the name of its setting

KEPT: dict[str, tuple[Severity, str]] = {
    "repeated_basket": ("block", "the last basket is sent again in its session"),
    "shuffled_day": ("warn", "events come in another order within their day"),
    "swapped_item": ("warn", "the last item is its nearest neighbour instead"),
    "dropped_basket": ("warn", "the last basket is not known"),
}


def check(inputs: CheckInput, limits: BehaviourLimits) -> Iterator[CheckResult]:
    answers, k = Answers.of(inputs), inputs.settings.evaluation.k
    keep = f"lists keep {{:.0%}} of their first {k} items"
    for name, (severity, words) in KEPT.items():
        yield _mean(name, answers.kept(name, k), getattr(limits, name), severity, f"where {words}, {keep}")
    words = "items of a last basket that is not known fall by {:.1f} places"
    yield _mean("dropped_items_fall", answers.falls(), limits.dropped_items_fall, "warn", words)
    a_target = inputs.settings.dataset.a_target
    words = f"a category rises for {{:.0%}} of those with {a_target} in it for the first time"
    yield _mean("new_category_rises", [rise > 0 for rise in answers.rises()], limits.new_category_rises, "warn", words)
    yield _mean("others_stay", answers.kept_in_crowd(k), limits.others_stay, "warn", f"where only others are perturbed, {keep}")
    yield _giant(answers, limits)
    yield _withdrawn(answers)
    yield _stranger(inputs)


def _mean(name: str, found: Sequence[float], least: float, severity: Severity, words: str) -> CheckResult:
    """On a mean, which `words` take; where there is nothing of the kind, it passes and says so."""
    if not found:
        return CheckResult(name, "no figure", least, severity, True, f"{name} is not applicable: there is no such user or item")
    mean = float(np.mean(found))
    said = f"{words.format(mean)}, on average over {len(found)} of them; {least:g} is the least that is expected"
    return CheckResult(name, mean, least, severity, mean >= least, said)


def _giant(answers: Answers, limits: BehaviourLimits) -> CheckResult:
    cost, most = answers.cost, limits.giant_cost
    words = f"ranking with a user of 20,000 events takes {cost:.1f} times the CPU, at most {most:g} is expected"
    return CheckResult("giant_cost", cost, most, "warn", cost <= most, words)


def _withdrawn(answers: Answers) -> CheckResult:
    before, after = ((lists == answers.withdrawn).any(1).sum() for lists in (answers.before, answers.crowd))
    words = f"the most popular item stood in {before} of {len(answers.rows)} lists, and in {after} once it was withdrawn; none may"
    return CheckResult("withdrawn_item_vanishes", int(after), 0, "block", bool(after == 0), words)


def _stranger(inputs: CheckInput) -> CheckResult:
    state, k = inputs.state, inputs.settings.evaluation.k
    stranger = np.array(["x" * (state.user_ids.dtype.itemsize // 4 + 1)])  # longer than every known id
    told = json.loads((inputs.release.path / "fallback.json").read_text())["all"]
    given = inputs.model.recommend(stranger, state.shape[1], state).items[0]
    shown, popular = (inputs.rules.shorten(items)[:k] for items in (given[given >= 0], popularity_order(state)))
    same = sum(a == b == c for a, b, c in zip(shown, told, popular, strict=False))
    words = f"{same} of {len(popular)} items that a stranger gets are the recently popular ones, and all must be"
    return CheckResult("stranger_gets_fallback", same, len(popular), "block", same == len(popular), words)
