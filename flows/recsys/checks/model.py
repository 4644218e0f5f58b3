"""Is the winner worth serving? Judged on the holdout, which chose nothing."""

from collections.abc import Mapping

from recsys.config import Settings
from recsys.evaluation import PROTOCOLS, Window, compare
from recsys.verdicts import Severity, Verdict


def check_model(winner: str, evaluations: Mapping[str, dict[str, list[Window]]], settings: Settings) -> list[Verdict]:
    """The winner against recent popularity and the simplest recommender, on the holdout, per protocol."""
    configured = settings.lists.repeat
    simplest = next(iter(settings.recommenders))
    verdicts = [_users(evaluations[winner][configured][0], settings)]
    for protocol in PROTOCOLS:
        severity: Severity = "block" if protocol == configured else "warn"
        verdicts.append(_not_worse(winner, "popularity", protocol, severity, evaluations, settings))
    return [*verdicts, _better(winner, simplest, configured, evaluations, settings)]


def _users(window: Window, settings: Settings) -> Verdict:
    count, least = len(window.users), settings.checks.min_holdout_users
    words = f"{count:,} users returned and bought in the holdout; {least} are needed for an interval that means something"
    return Verdict("holdout_users", count, least, "warn", count >= least, words)


def _not_worse(
    winner: str,
    other: str,
    protocol: str,
    severity: Severity,
    evaluations: Mapping[str, dict[str, list[Window]]],
    settings: Settings,
) -> Verdict:
    metric = f"ndcg@{settings.evaluation.k}"
    difference = compare(evaluations[winner][protocol][:1], evaluations[other][protocol][:1], metric, settings)
    words = f"{winner} against {other}, {protocol} protocol: {metric} differs by {difference}"
    passed = difference.high >= 0
    verdict = "not worse" if passed else "worse beyond noise"
    return Verdict(f"{protocol}_not_worse_than_{other}", difference.mean, 0.0, severity, passed, f"{words}: {verdict}")


def _better(
    winner: str, simplest: str, protocol: str, evaluations: Mapping[str, dict[str, list[Window]]], settings: Settings
) -> Verdict:
    metric = f"ndcg@{settings.evaluation.k}"
    difference = compare(evaluations[winner][protocol][:1], evaluations[simplest][protocol][:1], metric, settings)
    passed = winner != simplest and difference.low > 0
    words = f"{winner} against the simplest, {simplest}: {metric} differs by {difference}"
    return Verdict(
        "better_than_simplest",
        difference.mean,
        0.0,
        "warn",
        passed,
        f"{words}: {'better' if passed else 'not better beyond noise'}",
    )
