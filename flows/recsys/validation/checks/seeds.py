"""Checks how much chance decides. The winner is fitted again with other seeds and on resampled users, because models with equal
scores can behave differently (underspecification: D'Amour et al. 2022, jmlr.org/papers/v23/20-1335.html)."""

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
    windows = [inputs.holdout(inputs.winner), *(refit[inputs.served_kind][0] for refit in inputs.refits)]
    if len(windows) == 1:
        yield CheckResult("seeds", 1, 1, "warn", True, f"{inputs.winner} uses no random numbers, so the seed changes nothing")
        return
    values = np.array([window.scores[inputs.metric] for window in windows])  # (fits, users)
    spread = _spread(values)
    severity: Severity = "block" if spread > limits.block_spread else "warn"
    message = f"{inputs.metric} of {len(windows)} fits is within {spread:.1%} of its mean; up to {limits.max_spread:.0%} is normal"
    yield CheckResult("seeds_spread", spread, limits.max_spread, severity, spread <= limits.max_spread, message)
    yield _groups(inputs, values, limits)
    yield _overlap(windows, inputs.settings.evaluation.k, limits)


def _spread(values: np.ndarray) -> float:
    """Largest relative distance of a fit's mean from the mean of all fits."""
    means = values.mean(1)
    return float(np.abs(means - means.mean()).max() / max(means.mean(), 1e-9))


def _groups(inputs: CheckInput, values: np.ndarray, limits: SeedsLimits) -> CheckResult:
    """The spread among users with few, some and many baskets, because gains and losses of groups can cancel out in the mean."""
    users = inputs.holdout_state.rows(inputs.holdout(inputs.winner).users)
    rank = np.argsort(np.argsort(inputs.holdout_state.users["baskets"][users], kind="stable"), kind="stable")
    group = rank * 3 // max(len(rank), 1)
    spreads = {name: _spread(values[:, group == n]) for n, name in enumerate(("few", "some", "many")) if (group == n).any()}
    worst = max(spreads, key=lambda name: spreads[name])
    limit = limits.max_group_spread
    message = (
        f"for users with {worst} baskets, {inputs.metric} is within {spreads[worst]:.1%} of its mean, the widest of three"
        f" groups; up to {limit:.0%} is normal"
    )
    return CheckResult("seeds_spread_in_groups", spreads[worst], limit, "warn", spreads[worst] <= limit, message)


def _overlap(windows: list[ScoredWindow], k: int, limits: SeedsLimits) -> CheckResult:
    first, *others = (window.lists[:, :k] for window in windows)
    lengths = np.maximum((first >= 0).sum(1), 1)  # below k if fewer items are available
    same = [((first[:, :, None] == other[:, None, :]) & (first[:, :, None] >= 0)).sum((1, 2)) / lengths for other in others]
    overlap = float(np.mean(same))
    message = f"the first {k} items of two fits have {overlap:.0%} in common; below {limits.min_overlap:.0%} lists depend on chance"
    return CheckResult("seeds_overlap", overlap, limits.min_overlap, "warn", overlap >= limits.min_overlap, message)
