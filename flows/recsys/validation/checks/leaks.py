"""Checks that features use only events before their cutoff, and that labels lie after it. The check time_travel looks deeper."""

from collections.abc import Iterator
from datetime import timedelta

import numpy as np
from numpy.typing import NDArray

from recsys.features import State, Table
from recsys.settings import section
from recsys.validation.check_input import CheckInput
from recsys.validation_report import CheckResult, none_of


@section
class LeaksLimits:
    """Nothing to set: a single leak blocks."""


SETTINGS: dict[str, str | tuple[str, str]] = {
    "attributes_leak": "features.max_attribute_leak",
    "attributes_have_values": "dataset.item_attributes dataset.user_attributes",
}


def check(inputs: CheckInput, limits: LeaksLimits) -> Iterator[CheckResult]:
    faults = inputs.features.label_faults()
    target = inputs.settings.dataset.target
    labels = f"of {faults['all']:,} labels, {{:,}}"
    yield _none("labels_have_an_event", faults["unfounded"], f"{labels} have no {target} within the horizon after their cutoff")
    yield _none("labels_horizon_is_over", faults["unfinished"], f"{labels} have a horizon that was not over as of the last cutoff")
    yield _windows(inputs)
    yield _known(inputs.holdout_state)
    yield _leaking(inputs)
    yield _undated(inputs)
    yield _empty(inputs)


def _none(name: str, count: int, text: str) -> CheckResult:
    return CheckResult(name, count, 0, "block", count == 0, f"{text.format(count)}; none may")


def _windows(inputs: CheckInput) -> CheckResult:
    """The labels that a model learns from must lie before the cutoff at which it ranks."""
    horizon = timedelta(days=inputs.settings.dataset.horizon_days)
    late = [
        f"{window.cutoff} for {cutoff}"
        for cutoff in inputs.features.cutoffs
        for window in inputs.features.windows(cutoff)
        if window.cutoff + horizon > cutoff
    ]
    return none_of("windows_are_over", late, "training windows end after the cutoff that they are used for")


def _known(state: State) -> CheckResult:
    """Columns of days since an event must not be negative: a negative number comes from an event after the cutoff."""
    tables = {"feat_users": state.users, "feat_items": state.items, "feat_user_items": state.user_items, "history": state.history}
    early = [
        f"{table}.{name}"
        for table, columns in tables.items()
        for name, column in columns.items()
        if name.startswith("days") and np.nanmin(column, initial=0) < 0
    ]
    return none_of("nothing_is_from_the_future", early, f"columns count days since an event after the cutoff {state.cutoff}")


def _leaking(inputs: CheckInput) -> CheckResult:
    """Warns of attributes whose present values predict which items sold after an earlier cutoff better than earlier sales do."""
    features, maximum = inputs.features, inputs.settings.features.max_attribute_leak
    leaks = [
        f"{entity} {name} {value:.2f}, {'left out' if (entity, name) in features.leaking else 'text, so still in use'}"
        for (entity, name), value in features.leaks.items()
        if value > maximum
    ]
    message = (
        f"{len(leaks)} of {len(features.leaks)} attributes without valid_from predict later target events too well"
        f" (above {maximum:g})"
    )
    if leaks:
        message += f": {'; '.join(leaks)}; add valid_from to them, or remove them from the settings"
    worst = max(features.leaks.values(), default=0.0)
    return CheckResult("attributes_leak", round(worst, 3), maximum, "warn", not leaks, message)


def _undated(inputs: CheckInput) -> CheckResult:
    """Lists the attributes without dates. Never fails, because most catalogues keep no history."""
    attributes = inputs.features.attributes
    undated = ~attributes["is_dated"] & (attributes["described"] > 0)
    named = ": " + ", ".join(_listed(attributes, undated)) if undated.any() else ""
    message = f"{undated.sum()} of {len(undated)} attributes have no valid_from, so all cutoffs use their present values{named}"
    return CheckResult("attributes_without_valid_from", int(undated.sum()), len(undated), "warn", True, message)


def _empty(inputs: CheckInput) -> CheckResult:
    attributes, dataset = inputs.features.attributes, inputs.settings.dataset
    listed = np.isin(attributes["attribute"], [*dataset.item_attributes, *dataset.user_attributes])
    empty = listed & (attributes["described"] == 0)
    named = f": {', '.join(_listed(attributes, empty))}; compare the names with the columns of your files" if empty.any() else ""
    message = f"{empty.sum()} attributes have no value before {inputs.features.as_of}{named}"
    return CheckResult("attributes_have_values", int(empty.sum()), 0, "warn", not empty.any(), message)


def _listed(attributes: Table, chosen: NDArray[np.bool_]) -> list[str]:
    """Such as `item brand (text)`."""
    kinds = np.where(attributes["is_number"], "number", "text")
    columns = (attributes["entity"], attributes["attribute"], kinds)
    return [f"{entity} {name} ({kind})" for entity, name, kind in zip(*(column[chosen] for column in columns), strict=True)]
