"""Checks the numbers themselves: learned arrays, scores and feature columns must be finite, complete and not constant."""

from collections.abc import Iterator, Sequence

import numpy as np
from scipy import sparse

from recsys.settings import Share, section
from recsys.validation import final_model
from recsys.validation.check_input import CheckInput
from recsys.validation.distributions import unsound
from recsys.validation_report import CheckResult, grade


@section
class HealthLimits:
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
    learned = dict(final_model.learned(inputs.model, inputs.winner))
    broken = [name for name, array in learned.items() if not _finite(array)]
    yield _none("learned_finite", broken, f"of {len(learned)} learned arrays hold a NaN or an infinity")
    yield _none("learned_sizes", list(_misshapen(inputs, learned)), f"of {len(learned)} learned arrays have a wrong size")
    wrong = [list_kind for list_kind, (_, lists) in inputs.lists.items() if not np.isfinite(lists.scores).all()]
    yield _none("scores_finite", wrong, f"of {len(inputs.lists)} kinds of list have released scores that are NaN or infinite")
    yield _constant(inputs, limits)
    unsound_columns = list(unsound(inputs.holdout_state, inputs.state, limits.min_present))
    yield _none("feature_columns", unsound_columns, "features hold infinite values, or are empty although they were not before")
    yield from final_model.check(inputs, limits.min_final, limits.max_relearned)


def _none(name: str, faults: Sequence[str], text: str) -> CheckResult:
    """Blocks if there is a fault. The message is their number, `text`, and the faults."""
    message = f"{len(faults)} {text}" + (f": {'; '.join(faults)}" if faults else "")
    return CheckResult(name, len(faults), 0, "block", not faults, message)


def _finite(array: final_model.Learned) -> bool:
    if sparse.issparse(array):
        return _finite(array.data)
    return array.dtype.kind != "f" or bool(np.isfinite(array).all())


def _misshapen(inputs: CheckInput, learned: dict[str, final_model.Learned]) -> Iterator[str]:
    items = inputs.state.item_ids
    for name, array in learned.items():
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
