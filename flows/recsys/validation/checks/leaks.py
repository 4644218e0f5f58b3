"""Leaks: does what was learned from, or what was known, lie on the right side of its cutoff? time_travel.py looks deeper."""

from collections.abc import Iterator
from datetime import timedelta

import numpy as np
from numpy.typing import NDArray

from recsys.features import State, Table
from recsys.settings import section
from recsys.validation.check_input import CheckInput
from recsys.validation_report import CheckResult


@section
class LeaksLimits:
    """Nothing to set: one leak is too many."""


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


def _none(name: str, count: int, words: str) -> CheckResult:
    return CheckResult(name, count, 0, "block", count == 0, f"{words.format(count)}; none may")


def _windows(inputs: CheckInput) -> CheckResult:
    """What a model learned from must not reach past the cutoff at which it ranks."""
    horizon = timedelta(days=inputs.settings.dataset.horizon_days)
    late = [
        f"{window.cutoff} for {cutoff}"
        for cutoff in inputs.features.cutoffs
        for window in inputs.features.windows(cutoff)
        if window.cutoff + horizon > cutoff
    ]
    words = f"{len(late)} training windows reach past the cutoff that they are learned for"
    return CheckResult("windows_are_over", len(late), 0, "block", not late, _named(words, late[:3]))


def _known(state: State) -> CheckResult:
    """Whatever counts days since an event is below 0 if it has seen one of the future."""
    tables = {"feat_users": state.users, "feat_items": state.items, "feat_user_items": state.user_items, "history": state.history}
    early = [
        f"{table}.{name}"
        for table, columns in tables.items()
        for name, column in columns.items()
        if name.startswith("days") and np.nanmin(column, initial=0) < 0
    ]
    words = f"{len(early)} columns count days since an event that is after the cutoff {state.cutoff}"
    return CheckResult("nothing_is_from_the_future", len(early), 0, "block", not early, _named(words, early))


def _leaking(inputs: CheckInput) -> CheckResult:
    """Attributes whose values of today tell what sold after an earlier cutoff, beyond what had sold by then."""
    features, most = inputs.features, inputs.settings.features.max_attribute_leak
    leaks = {key: value for key, value in features.leaks.items() if value > most}
    named = [
        f"{entity} {name} {value:.2f}, {'left out' if (entity, name) in features.left_out else 'text, so still in use'}"
        for (entity, name), value in leaks.items()
    ]
    words = f"{len(leaks)} of {len(features.leaks)} attributes without valid_from tell later target events better than {most:g}"
    todo = "; give them valid_from, or take them out of the settings" if named else ""
    worst = max(features.leaks.values(), default=0.0)
    return CheckResult(
        "attributes_leak", round(worst, 3), most, "warn", not named, f"{words}{': ' if named else ''}{'; '.join(named)}{todo}"
    )


def _undated(inputs: CheckInput) -> CheckResult:
    """Not a fault: most catalogues keep no history."""
    attributes = inputs.features.attributes
    undated = ~attributes["is_dated"] & (attributes["described"] > 0)
    named = ": " + ", ".join(_listed(attributes, undated)) if undated.any() else ""
    words = f"{undated.sum()} of {len(undated)} attributes have no valid_from, so their present values count at every cutoff{named}"
    return CheckResult("attributes_without_valid_from", int(undated.sum()), len(undated), "warn", True, words)


def _empty(inputs: CheckInput) -> CheckResult:
    attributes, dataset = inputs.features.attributes, inputs.settings.dataset
    listed = np.isin(attributes["attribute"], [*dataset.item_attributes, *dataset.user_attributes])
    empty = listed & (attributes["described"] == 0)
    todo = f": {', '.join(_listed(attributes, empty))}; compare the names with the columns of your files" if empty.any() else ""
    words = f"{empty.sum()} attributes have no value by {inputs.features.as_of}{todo}"
    return CheckResult("attributes_have_values", int(empty.sum()), 0, "warn", not empty.any(), words)


def _listed(attributes: Table, chosen: NDArray[np.bool_]) -> list[str]:
    """Such as `item brand (text)`."""
    kinds = np.where(attributes["is_number"], "number", "text")
    columns = (attributes["entity"], attributes["attribute"], kinds)
    return [f"{entity} {name} ({kind})" for entity, name, kind in zip(*(column[chosen] for column in columns), strict=True)]


def _named(words: str, found: list[str]) -> str:
    return f"{words}: {', '.join(found)}; none may" if found else f"{words}; none may"
