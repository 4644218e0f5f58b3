"""Simpler is not better: the winner against recent popularity and the simplest recommender, on the holdout, which chose nothing."""

from collections.abc import Iterator

from recsys.recommenders import PROTOCOLS
from recsys.settings import Count, section
from recsys.validation.check_input import Subject
from recsys.validation_report import Severity, Verdict


@section
class Limits:
    min_users: Count


SETTINGS: dict[str, str | tuple[str, str]] = {"holdout_users": "min_users"}


def check(subject: Subject, limits: Limits) -> Iterator[Verdict]:
    users = len(subject.holdout(subject.winner).users)
    who = f"{users:,} users returned with {subject.settings.dataset.a_target} in the holdout"
    words = f"{who}; {limits.min_users} are needed for an interval that means something"
    yield Verdict("holdout_users", users, limits.min_users, "warn", users >= limits.min_users, words)
    for protocol in PROTOCOLS:
        yield _not_worse(subject, protocol)
    yield _better(subject)


def _not_worse(subject: Subject, protocol: str) -> Verdict:
    """Recent popularity must not be better beyond noise: under the protocol that is served it blocks."""
    severity: Severity = "block" if protocol == subject.repeat else "warn"
    difference = subject.gain("popularity", protocol)
    passed = difference.high >= 0
    words = f"{subject.winner} against popularity, {protocol} protocol: {subject.metric} differs by {difference}"
    said = f"{words}: {'not worse' if passed else 'worse beyond noise'}"
    return Verdict(f"{protocol}_not_worse_than_popularity", difference.mean, 0.0, severity, passed, said)


def _better(subject: Subject) -> Verdict:
    """A model that is not better than the simplest costs its upkeep for nothing."""
    simplest = next(iter(subject.settings.recommenders))
    difference = subject.gain(simplest, subject.repeat)
    passed = subject.winner != simplest and difference.low > 0
    words = f"{subject.winner} against the simplest, {simplest}: {subject.metric} differs by {difference}"
    said = f"{words}: {'better' if passed else 'not better beyond noise'}"
    return Verdict("better_than_simplest", difference.mean, 0.0, "warn", passed, said)
