"""Underspecification: models of equal scores can behave differently (D'Amour et al. 2022, jmlr.org/papers/v23/20-1335.html), so
the winner's recipe is fitted again under other seeds, and on users drawn with replacement."""

from collections.abc import Iterator

import numpy as np
from pydantic import model_validator

from recsys.evaluation import ScoredWindow
from recsys.settings import NotNegative, Share, section
from recsys.validation.check_input import CheckInput
from recsys.validation_report import CheckResult, Severity


@section
class SeedsLimits:
    max_spread: NotNegative
    max_group_spread: NotNegative
    min_overlap: Share
    block_spread: NotNegative

    @model_validator(mode="after")
    def _warn_first(self) -> "SeedsLimits":
        if self.max_spread > self.block_spread:
            raise ValueError(f"max_spread = {self.max_spread:g} is above block_spread = {self.block_spread:g}; lower it")
        return self


SETTINGS: dict[str, str | tuple[str, str]] = {
    "seeds_spread": ("max_spread", "block_spread"),
    "seeds_spread_in_groups": "max_group_spread",
    "seeds_overlap": "min_overlap",
}


def check(inputs: CheckInput, limits: SeedsLimits) -> Iterator[CheckResult]:
    windows = [inputs.holdout(inputs.winner), *(twin[inputs.repeat][0] for twin in inputs.twins)]
    if len(windows) == 1:
        yield CheckResult("seeds", 1, 1, "warn", True, f"{inputs.winner} draws nothing: every seed gives the same model")
        return
    values = np.array([window.scores[inputs.metric] for window in windows])  # (fits, users)
    spread = _spread(values)
    severity: Severity = "block" if spread > limits.block_spread else "warn"
    words = f"{inputs.metric} of {len(windows)} fits lies within {spread:.1%} of its mean; {limits.max_spread:.0%} is normal"
    yield CheckResult("seeds_spread", spread, limits.max_spread, severity, spread <= limits.max_spread, words)
    yield _groups(inputs, values, limits)
    yield _overlap(windows, inputs.settings.evaluation.k, limits)


def _spread(values: np.ndarray) -> float:
    """Largest distance of a fit's mean from the mean of all, as a share of it."""
    means = values.mean(1)
    return float(np.abs(means - means.mean()).max() / max(means.mean(), 1e-9))


def _groups(inputs: CheckInput, values: np.ndarray, limits: SeedsLimits) -> CheckResult:
    """The same among the users with few, some and many baskets: an even mean can hide what groups lose and win."""
    users = inputs.holdout_state.rows(inputs.holdout(inputs.winner).users)
    rank = np.argsort(np.argsort(inputs.holdout_state.users["baskets"][users], kind="stable"), kind="stable")
    group = rank * 3 // max(len(rank), 1)
    spreads = {name: _spread(values[:, group == n]) for n, name in enumerate(("few", "some", "many")) if (group == n).any()}
    worst = max(spreads, key=lambda name: spreads[name])
    words = f"of users with {worst} baskets, {inputs.metric} lies within {spreads[worst]:.1%}, the widest of three groups"
    limit = limits.max_group_spread
    return CheckResult(
        "seeds_spread_in_groups", spreads[worst], limit, "warn", spreads[worst] <= limit, f"{words}; {limit:.0%} is normal"
    )


def _overlap(windows: list[ScoredWindow], k: int, limits: SeedsLimits) -> CheckResult:
    first, *others = (window.lists[:, :k] for window in windows)
    lengths = np.maximum((first >= 0).sum(1), 1)  # below k where fewer items are for sale
    same = [((first[:, :, None] == other[:, None, :]) & (first[:, :, None] >= 0)).sum((1, 2)) / lengths for other in others]
    overlap = float(np.mean(same))
    words = f"the first {k} items of two fits share {overlap:.0%}; below {limits.min_overlap:.0%} lists hang on chance"
    return CheckResult("seeds_overlap", overlap, limits.min_overlap, "warn", overlap >= limits.min_overlap, words)
