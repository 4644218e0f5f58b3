"""Are the numbers themselves sound: what was learned, what was scored, and the columns that both are made of?"""

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
    yield _none("scores_finite", wrong, f"of {len(inputs.lists)} kinds of list have a NaN or an infinity among the released scores")
    yield _constant(inputs, limits)
    found = unsound(inputs.holdout_state, inputs.state, limits.min_present)
    yield _none("feature_columns", list(found), "features are infinite, or empty that were not before")
    yield from final_model.check(inputs, limits.min_final, limits.max_relearned)


def _none(name: str, found: Sequence[str], words: str) -> CheckResult:
    return CheckResult(
        name, len(found), 0, "block", not found, f"{len(found)} {words}" + (f": {'; '.join(found)}" if found else "")
    )


def _finite(array: final_model.Learned) -> bool:
    if sparse.issparse(array):
        return _finite(array.data)
    return array.dtype.kind != "f" or bool(np.isfinite(array).all())


def _misshapen(inputs: CheckInput, learned: dict[str, final_model.Learned]) -> Iterator[str]:
    items = inputs.state.item_ids
    for name, array in learned.items():
        if name.endswith(".item_ids_") and not np.array_equal(array, items):
            yield f"{name} has {array.size:,} items that are not the {len(items):,} of {inputs.state.cutoff}"
        elif sparse.issparse(array) and array.shape != (len(items), len(items)):
            yield f"{name} is of shape {array.shape}, not of {len(items):,} items by as many"
        elif name.count(".") == 1 and not array.size:  # of a sparse one, its entries; a candidate source may know nothing
            yield f"{name} is empty"


def _constant(inputs: CheckInput, limits: HealthLimits) -> CheckResult:
    """Among all items, and of users with a page of scores other than 0: a score of 0 is not the recommender's, it fills the list
    up, and counts of few items may well tie."""
    scores, page = inputs.lists["all_items"][1].scores, max(2, inputs.settings.evaluation.k)
    scored = scores != 0
    lowest, highest = np.where(scored, scores, np.inf).min(1), np.where(scored, scores, -np.inf).max(1)
    several = scored.sum(1) >= page
    nothing = 0.0 if scores.any() or inputs.winner == "popularity" else 1.0  # of days on which nothing sold
    share = float((lowest == highest)[several].mean()) if several.any() else nothing
    said = f"{several.sum():,} of {len(scores):,} users have {page} items or more that {inputs.winner} scored"
    said += f", {share:.1%} of these all the same" if scores.any() else "; it scored nothing at all"
    return grade("constant_scores", share, limits.warn_constant, limits.block_constant, said)
