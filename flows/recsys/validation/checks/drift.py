"""Do the features and the catalogue still look like those that the winner was judged on?"""

import math
from collections.abc import Iterator

import pyarrow.parquet as pq

from recsys.features import places
from recsys.settings import Count, NotNegative, Share, section
from recsys.validation.check_input import CheckInput
from recsys.validation.distributions import movements
from recsys.validation_report import CheckResult, grade

SOLD = 28  # days: an item with a target event in them is missed where it is gone
MOST_BACK = 0.5  # of the items that were gone, which may be available again
FEWEST_GONE = 10  # items that a lost file takes along, at least: three items may well sell out


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
    yield _features(inputs, limits)
    yield _catalogue(inputs, limits)
    yield _returned(inputs)


def _features(inputs: CheckInput, limits: DriftLimits) -> CheckResult:
    """Only warns: a season, growth and a new model of the same events move features as far as a fault does."""
    moved = movements(inputs.holdout_state, inputs.state, limits.min_rows)
    worst = sorted(moved, key=lambda name: -moved[name])[:3]
    said = f"of {len(moved)} features with enough rows these moved most since {inputs.holdout_state.cutoff}: "
    words = said + ", ".join(f"{name} (PSI {moved[name]:.2f})" for name in worst)
    return grade("feature_drift", moved[worst[0]] if worst else 0.0, limits.warn_psi, math.inf, words)


def _catalogue(inputs: CheckInput, limits: DriftLimits) -> CheckResult:
    """Of the items that sold and were available in the live release, or as of the holdout where nothing is live. An item without
    a target event may have been gone already: a catalogue's own flag has no date."""
    now, then = inputs.state, inputs.holdout_state
    if inputs.champion is None:
        ids, was, sold = then.item_ids, then.items["is_available"], then.items[f"target_events_{SOLD}d"] > 0
        since = then.cutoff.isoformat()
        rows = places(now.item_ids, ids)
    else:
        table = pq.read_table(inputs.champion.path / "items.parquet", columns=["item_id", "is_available"])
        ids, was = table["item_id"].to_numpy(zero_copy_only=False).astype(str), table["is_available"].to_numpy(zero_copy_only=False)
        rows, since = places(now.item_ids, ids), "the live release"
        sold = (rows < 0) | (now.items[f"target_events_{SOLD}d"][rows] > 0)
    wanted = was & sold
    left = wanted & ((rows < 0) | ~now.items["is_available"][rows])
    gone = float(left.sum() / max(wanted.sum(), 1))
    items = f"{wanted.sum():,} items that had {inputs.settings.dataset.a_target} within {SOLD} days"
    words = f"{gone:.1%} of {items} and were available as of {since} are not available now"
    block = limits.block_gone if left.sum() >= FEWEST_GONE else math.inf
    return grade("catalogue_turnover", gone, limits.warn_gone, block, words)


def _returned(inputs: CheckInput) -> CheckResult:
    """Some items come back into stock. Where most of those that were gone are back at once, the catalogue has lost its flag."""
    name = "catalogue_returned"
    if inputs.champion is None:
        return CheckResult(name, "none", "none", "warn", True, "nothing is live yet, so no item was gone")
    table = pq.read_table(inputs.champion.path / "items.parquet", columns=["item_id", "is_available"])
    ids, was = (column.to_numpy(zero_copy_only=False) for column in table.columns)
    rows = places(inputs.state.item_ids, ids[~was].astype(str))
    back = int(inputs.state.items["is_available"][rows[rows >= 0]].sum())
    share = back / max(len(rows), 1)
    words = f"{back:,} of {len(rows):,} items that were not available in the live release are available now"
    words += f"; above {MOST_BACK:.0%} warns"
    return CheckResult(name, share, MOST_BACK, "warn", share <= MOST_BACK or back < FEWEST_GONE, words)
