"""Compares the features and the catalogue with those that the winner was evaluated on."""

import math
from collections.abc import Iterator

from recsys.features import State, places
from recsys.releases import read_items
from recsys.settings import Count, NotNegative, Share, section
from recsys.validation.check_input import CheckInput
from recsys.validation.distributions import movements
from recsys.validation_report import CheckResult, grade

SOLD_DAYS = 28  # an item with a target event within this many days counts as sold
MAX_RETURNED = 0.5  # share of the unavailable items that may be available again
MIN_ITEMS = 10  # fewer items may well sell out, or return, without a fault


@section
class DriftLimits:
    min_rows: Count
    warn_psi: NotNegative
    warn_gone: Share
    block_gone: Share


SETTINGS: dict[str, str | tuple[str, str]] = {
    "feature_drift": "warn_psi",
    "catalogue_turnover": ("warn_gone", "block_gone"),
}


def check(inputs: CheckInput, limits: DriftLimits) -> Iterator[CheckResult]:
    yield feature_drift(inputs.holdout_state, inputs.state, limits)
    yield _catalogue(inputs, limits)
    yield _returned(inputs)


def feature_drift(then: State, now: State, limits: DriftLimits) -> CheckResult:
    """Only warns, because seasons and growth can change features as much as a fault does."""
    moved = movements(then, now, limits.min_rows)
    worst = sorted(moved, key=lambda name: -moved[name])[:3]
    shown = ", ".join(f"{name} (PSI {moved[name]:.2f})" for name in worst)
    message = f"of {len(moved)} features with enough rows, these changed most since {then.cutoff}: {shown}"
    return grade("feature_drift", moved[worst[0]] if worst else 0.0, limits.warn_psi, math.inf, message)


def _catalogue(inputs: CheckInput, limits: DriftLimits) -> CheckResult:
    """Share of the sold items that were available in the live release, or at the holdout's cutoff if nothing is live, and are not
    available now. Items that did not sell are left out: the catalogue's flag has no date, so they may have been gone before."""
    now, then = inputs.state, inputs.holdout_state
    if inputs.live is None:
        ids, was_available, since = then.item_ids, then.items["is_available"], then.cutoff.isoformat()
        rows, sold = places(now.item_ids, ids), then.items[f"target_events_{SOLD_DAYS}d"] > 0
    else:
        (ids, was_available), since = read_items(inputs.live, "item_id", "is_available"), "the live release"
        rows = places(now.item_ids, ids)
        sold = (rows < 0) | (now.items[f"target_events_{SOLD_DAYS}d"][rows] > 0)
    compared = was_available & sold
    gone = compared & ((rows < 0) | ~now.items["is_available"][rows])
    share = float(gone.sum() / max(compared.sum(), 1))
    items = f"{compared.sum():,} items that had {inputs.settings.dataset.a_target} within {SOLD_DAYS} days"
    message = f"{share:.1%} of {items} and were available as of {since} are not available now"
    block = limits.block_gone if gone.sum() >= MIN_ITEMS else math.inf
    return grade("catalogue_turnover", share, limits.warn_gone, block, message)


def _returned(inputs: CheckInput) -> CheckResult:
    """Warns if most of the unavailable items are available again at once, because the catalogue may have lost its flag."""
    name = "catalogue_returned"
    if inputs.live is None:
        return CheckResult(name, "none", "none", "warn", True, "there is no live release to compare the catalogue with")
    ids, was_available = read_items(inputs.live, "item_id", "is_available")
    rows = places(inputs.state.item_ids, ids[~was_available])
    back = int(inputs.state.items["is_available"][rows[rows >= 0]].sum())
    share = back / max(len(rows), 1)
    message = (
        f"{back:,} of {len(rows):,} items that were not available in the live release are available now"
        f"; above {MAX_RETURNED:.0%} warns"
    )
    return CheckResult(name, share, MAX_RETURNED, "warn", share <= MAX_RETURNED or back < MIN_ITEMS, message)
