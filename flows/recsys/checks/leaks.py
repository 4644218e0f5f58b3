"""Leaks: does what was learned from, or what was known, lie on the right side of its cutoff? time_travel.py looks deeper."""

from collections.abc import Iterator
from datetime import timedelta

import numpy as np

from recsys.checks.subject import Subject
from recsys.settings.validation import section
from recsys.state import State
from recsys.verdicts import Verdict


@section
class Limits:
    """Nothing to set: one leak is too many."""


def check(subject: Subject, limits: Limits) -> Iterator[Verdict]:
    faults = subject.features.label_faults()
    target = subject.settings.dataset.target
    labels = f"of {faults['all']:,} labels, {{:,}}"
    yield _none("labels_have_an_event", faults["unfounded"], f"{labels} have no {target} within the horizon after their cutoff")
    yield _none("labels_horizon_is_over", faults["unfinished"], f"{labels} have a horizon that was not over as of the last cutoff")
    yield _windows(subject)
    yield _known(subject.holdout_state)


def _none(name: str, count: int, words: str) -> Verdict:
    return Verdict(name, count, 0, "block", count == 0, f"{words.format(count)}; none may")


def _windows(subject: Subject) -> Verdict:
    """What a model learned from must not reach past the cutoff at which it ranks."""
    horizon = timedelta(days=subject.settings.dataset.horizon_days)
    late = [
        f"{window.cutoff} for {cutoff}"
        for cutoff in subject.features.cutoffs
        for window in subject.features.windows(cutoff)
        if window.cutoff + horizon > cutoff
    ]
    words = f"{len(late)} training windows reach past the cutoff that they are learned for"
    return Verdict("windows_are_over", len(late), 0, "block", not late, _named(words, late[:3]))


def _known(state: State) -> Verdict:
    """Whatever counts days since an event is below 0 if it has seen one of the future."""
    tables = {"feat_users": state.users, "feat_items": state.items, "feat_user_items": state.user_items, "history": state.history}
    early = [
        f"{table}.{name}"
        for table, columns in tables.items()
        for name, column in columns.items()
        if name.startswith("days") and np.nanmin(column, initial=0) < 0
    ]
    words = f"{len(early)} columns count days since an event that is after the cutoff {state.cutoff}"
    return Verdict("nothing_is_from_the_future", len(early), 0, "block", not early, _named(words, early))


def _named(words: str, found: list[str]) -> str:
    return f"{words}: {', '.join(found)}; none may" if found else f"{words}; none may"
