"""Stress: the holdout again, in its last week alone, with one event in ten lost, and with a day missing from the data."""

from collections.abc import Iterator

from recsys.evaluation import compare
from recsys.settings import Count, Share, section
from recsys.validation.check_input import Subject
from recsys.validation_report import Verdict


@section
class Limits:
    min_users: Count
    max_loss: Share


SETTINGS: dict[str, str | tuple[str, str]] = {
    "stress_*_not_worse_than_popularity": "",
    "stress_*_loss": "max_loss",
    "stress_*": "min_users",
}


def check(subject: Subject, limits: Limits) -> Iterator[Verdict]:
    undisturbed = subject.holdout(subject.winner).scores[subject.metric].mean()
    for world, windows in subject.stress[subject.winner].items():
        window, baseline = windows[subject.repeat], subject.stress["popularity"][world][subject.repeat]
        if len(window.users) < limits.min_users:
            who = f"{len(window.users)} users with {subject.settings.dataset.a_target}"
            words = f"{world}: {who}, {limits.min_users} are needed for a figure that means something"
            yield Verdict(f"stress_{world}", len(window.users), limits.min_users, "warn", False, words)
            continue
        gain = compare([window], [baseline], subject.metric, subject.settings)
        words = f"{world}: {subject.winner} against popularity in the same world: {subject.metric} differs by {gain}"
        yield Verdict(f"stress_{world}_not_worse_than_popularity", gain.mean, 0.0, "block", gain.high >= 0, words)
        if undisturbed and len(window.users) == len(subject.holdout(subject.winner).users):
            loss = float(1 - window.scores[subject.metric].mean() / undisturbed)
            words = f"{world}: {loss:.1%} of {subject.metric} is lost; up to {limits.max_loss:.0%} is borne"
            yield Verdict(f"stress_{world}_loss", loss, limits.max_loss, "warn", loss <= limits.max_loss, words)
