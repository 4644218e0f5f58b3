"""Checks the numbers themselves: learned arrays, scores and feature columns must be finite, complete and not constant.

Also compares the final model with the model that was scored on the holdout. The final model is fitted on all events before `as_of`,
so the events that it could be scored on have not happened yet. It is compared on the holdout instead.
"""

from collections.abc import Iterator
from copy import copy
from typing import Any

import numpy as np
from scipy import sparse

from recsys.evaluation import bootstrap, judge, rank_by
from recsys.features import State, places
from recsys.recommenders import Ranker, Recommender
from recsys.settings import Share, section
from recsys.validation.check_input import CheckInput
from recsys.validation.distributions import unsound
from recsys.validation_report import CheckResult, grade, none_of

Learned = Any  # an array or a sparse matrix
MAX_USERS, MIN_USERS = 2_000, 10  # users of the holdout that are compared at most, and that a comparison needs


@section
class HealthLimits:
    """min_final: share of the scored model's metric that the final model must reach. max_relearned: largest relative difference of
    learned arrays when the model learns again from the same state."""

    min_present: Share
    warn_constant: Share
    block_constant: Share
    min_final: Share
    max_relearned: Share


SETTINGS: dict[str, str | tuple[str, str]] = {
    "constant_scores": ("warn_constant", "block_constant"),
    "feature_columns": "min_present",
    "*_final_model": "min_final",
    "learned_again": "max_relearned",
}


def check(inputs: CheckInput, limits: HealthLimits) -> Iterator[CheckResult]:
    arrays = dict(learned(inputs.model, inputs.winner))
    broken = [name for name, array in arrays.items() if not _finite(array)]
    yield none_of("learned_finite", broken, f"of {len(arrays)} learned arrays hold a NaN or an infinity")
    yield none_of("learned_sizes", list(_misshapen(inputs, arrays)), f"of {len(arrays)} learned arrays have a wrong size")
    wrong = [list_kind for list_kind, (_, lists) in inputs.lists.items() if not np.isfinite(lists.scores).all()]
    yield none_of("scores_finite", wrong, f"of {len(inputs.lists)} kinds of list have released scores that are NaN or infinite")
    yield _constant(inputs, limits)
    unsound_columns = list(unsound(inputs.holdout_state, inputs.state, limits.min_present))
    yield none_of("feature_columns", unsound_columns, "features hold infinite values, or are empty although they were not before")
    yield _relearned(inputs, limits.max_relearned)
    yield from _ranked(inputs, limits.min_final)


def _finite(array: Learned) -> bool:
    if sparse.issparse(array):
        return _finite(array.data)
    return array.dtype.kind != "f" or bool(np.isfinite(array).all())


def _misshapen(inputs: CheckInput, arrays: dict[str, Learned]) -> Iterator[str]:
    items = inputs.state.item_ids
    for name, array in arrays.items():
        if name.endswith(".item_ids_") and not np.array_equal(array, items):
            yield f"{name} has {array.size:,} items, which are not the {len(items):,} items of {inputs.state.cutoff}"
        elif sparse.issparse(array) and array.shape != (len(items), len(items)):
            yield f"{name} has the shape {array.shape}, not {(len(items), len(items))}"
        elif name.count(".") == 1 and not array.size:  # arrays of candidate sources have two dots and may be empty
            yield f"{name} is empty"


def _constant(inputs: CheckInput, limits: HealthLimits) -> CheckResult:
    """Share of users whose all_items list has equal scores only. Scores of 0 are ignored, because they belong to popular items that
    fill the list up. Users with fewer than k scores are ignored, because counts of few items are often equal."""
    scores, k = inputs.lists["all_items"][1].scores, max(2, inputs.settings.evaluation.k)
    scored = scores != 0
    lowest, highest = np.where(scored, scores, np.inf).min(1), np.where(scored, scores, -np.inf).max(1)
    has_k = scored.sum(1) >= k
    without_users = 0.0 if scores.any() or inputs.winner == "popularity" else 1.0  # popularity scores nothing if nothing sold
    share = float((lowest == highest)[has_k].mean()) if has_k.any() else without_users
    message = f"{inputs.winner} scored at least {k} items for {has_k.sum():,} of {len(scores):,} users"
    message += f"; for {share:.1%} of these all scores are equal" if scores.any() else "; it scored nothing at all"
    return grade("constant_scores", share, limits.warn_constant, limits.block_constant, message)


def learned(model: Recommender, name: str) -> Iterator[tuple[str, Learned]]:
    """The learned arrays of a recommender, its ranker and its candidate sources, with names that start with `name`."""
    for attribute, value in sorted(vars(model).items()):
        if attribute.endswith("_"):
            yield f"{name}.{attribute}", value
        if isinstance(value, Ranker):
            yield from ((f"{name}.{part}", array) for part, array in value.learned().items())
        for part, candidate_source in value.items() if isinstance(value, dict) else ():
            if isinstance(candidate_source, Recommender):
                yield from learned(candidate_source, f"{name}.{part}")


def _learned_from(model: Recommender, state: State) -> Recommender:
    """A copy of a model that has learned from another state. A two-stage model keeps its ranker; only its candidate sources
    learn."""
    return copy(model).learn(state)


def _relearned(inputs: CheckInput, maximum: float) -> CheckResult:
    saved, again = (dict(learned(model, inputs.winner)) for model in (inputs.model, _learned_from(inputs.model, inputs.state)))
    differences = {name: _relative_difference(saved[name], again[name]) if name in saved else 1.0 for name in again}
    worst = max(differences, key=lambda name: differences[name])
    message = f"the saved model equals what it learns again from the data of {inputs.state.cutoff}, within {maximum:.0%}"
    if differences[worst] > maximum:
        message = (
            f"{worst} of the saved model differs by {differences[worst]:.1%} from what is learned again from the same data, more"
            f" than {maximum:.0%}: the model was changed after it was fitted, or fitted on other data. Train again with `make run`"
        )
    return CheckResult("learned_again", differences[worst], maximum, "block", differences[worst] <= maximum, message)


def _relative_difference(a: Learned, b: Learned) -> float:
    """Sum of absolute differences divided by the sum of all absolute values, from 0 for equal arrays to 1. For texts, the share
    that differs. NaN and infinities count as 0, because the check result `learned_finite` reports them."""
    if a.shape != b.shape:
        return 1.0
    if not sparse.issparse(a) and a.dtype.kind not in "biuf":
        return float((a != b).mean()) if a.size else 0.0
    a, b = (array if sparse.issparse(array) else np.nan_to_num(array.astype(float), posinf=0, neginf=0) for array in (a, b))
    size = float(abs(a).sum() + abs(b).sum())
    return float(abs(a - b).sum()) / size if size else 0.0


def _ranked(inputs: CheckInput, minimum: float) -> Iterator[CheckResult]:
    """Lets the final model rank at the holdout's cutoff and compares its metric with the scored model's.

    Its ranker has already learned from the events of the holdout, so it should do at least as well. All else is learned again at
    that cutoff, because the popularity of a later day would list other items.
    """
    state, metric = inputs.holdout_state, inputs.metric
    users, items = inputs.features.labels(state.cutoff)
    sampled = np.isin(users, np.random.default_rng(inputs.settings.seed).permutation(np.unique(users))[:MAX_USERS])
    rank = rank_by(_learned_from(inputs.model, state), state, state, inputs.settings)
    for list_kind, final in judge(rank, state, (users[sampled], items[sampled]), inputs.settings).items():
        window = inputs.holdout(inputs.winner, list_kind)
        scored, reached = window.scores[metric][places(window.users, final.users)], final.scores[metric]
        name, gap = f"{list_kind}_final_model", {metric: reached - minimum * scored}
        if len(final.users) < MIN_USERS or not scored.any():
            message = f"{len(final.users):,} users of the holdout are too few to compare the final model with the scored one"
            yield CheckResult(name, len(final.users), MIN_USERS, "block", True, message)
            continue
        share = float(reached.mean() / scored.mean())
        message = (
            f"on {len(final.users):,} users of the holdout, the final model reaches {share:.0%} of the"
            f" scored model's {metric} of {scored.mean():.3f}; it must reach {minimum:.0%}, or miss it only by noise"
        )
        passed = bootstrap(gap, inputs.settings.evaluation.bootstraps, inputs.settings.seed)[metric].high >= 0
        if not passed:
            message += ". The model that makes the lists is worse than the scored one: train again with `make run`"
        yield CheckResult(name, share, minimum, "block", passed, message)
