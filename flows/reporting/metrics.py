"""Metrics for people: turns the numbers of a validation report into rows and words. Summary, card and report only lay them out."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from recsys.evaluation import Interval
from recsys.monitoring import MonitoringReport
from recsys.recommenders import LIST_KINDS
from recsys.settings import Settings
from recsys.validation_report import ValidationReport


@dataclass(frozen=True)
class MetricRow:
    """A metric of a recommender's lists of one kind, of all users or of a group. to_last, to_simple: difference to the last release
    and to `simple`, the best simple recommender; None where there is nothing to compare with."""

    recommender: str
    list_kind: str
    metric: str
    group: str
    users: int
    value: Interval
    to_last: Interval | None
    to_simple: Interval | None
    simple: str


def rows(report: ValidationReport, winner: str, settings: Settings) -> list[MetricRow]:
    """Every measurement of a report. The winner's NDCG@k is compared with the last release, by the check `champion`."""
    last = {(winner, list_kind, settings.evaluation.metric, ""): _to_last(report, list_kind) for list_kind in LIST_KINDS}
    return [
        MetricRow(
            *(one.recommender, one.list_kind, one.metric, one.group, one.users, Interval(*one.value)),
            last.get((one.recommender, one.list_kind, one.metric, one.group)),
            Interval(*one.gain) if one.gain else None,
            one.simple,
        )
        for one in report.measurements
    ]


def _to_last(report: ValidationReport, list_kind: str) -> Interval | None:
    """None at a first release, and where the check could not compare."""
    found = [one for one in report.checks.get("champion", []) if one.interval and one.name.startswith(list_kind)]
    return Interval(float(found[0].value), *found[0].interval) if found and report.compared_with else None


def headline(report: ValidationReport, winner: str, settings: Settings) -> list[MetricRow]:
    """The two numbers that people look at: the winner's NDCG@k of all items and of new items."""
    metric = settings.evaluation.metric
    return [row for row in rows(report, winner, settings) if (row.recommender, row.metric, row.group) == (winner, metric, "")]


def lines(report: ValidationReport, winner: str, settings: Settings) -> Iterator[tuple[str, str, str]]:
    """The headline in words: metric and kind of list, value, and difference to the last release or, at a first one, to the best
    simple recommender."""
    for row in headline(report, winner, settings):
        rival = f"last release, {report.compared_with}" if row.to_last else f"best simple recommender, {row.simple}"
        delta = row.to_last or row.to_simple
        value = str(row.value) if row.users else "no users to judge by"
        yield label(row), value, f"{signed(delta)} against the {rival}" if delta else ""


def label(row: MetricRow) -> str:
    """`NDCG@10, all items`."""
    return f"{name_of(row.metric)}, {row.list_kind.replace('_', ' ')}"


def name_of(metric: str) -> str:
    """`NDCG@10`, `recall@10`."""
    return metric.replace("ndcg", "NDCG")


def signed(delta: Interval) -> str:
    """`+0.012 [-0.003, +0.027]`."""
    bounds = f" [{delta.low:+.3f}, {delta.high:+.3f}]" if math.isfinite(delta.high) else ""
    return f"{delta.mean:+.3f}{bounds}"


def rating(delta: Interval) -> str:
    """`better` or `worse` if noise does not explain the difference."""
    return "better" if delta.low > 0 else "worse" if delta.high < 0 else "same"


def limiting(report: ValidationReport, settings: Settings) -> list[dict[str, Any]]:
    """What limits the lists, a row for each kind: recall of the candidates, and NDCG@k as ranked and if ranked perfectly."""
    metric = name_of(settings.evaluation.metric)
    return [
        {
            "": list_kind.replace("_", " "),
            "recall of the candidates": Interval(*found.recall),
            metric: Interval(*found.ranked),
            f"{metric}, candidates ranked perfectly": Interval(*found.perfect),
        }
        for list_kind, found in report.limits.items()
    ]


def answer(report: ValidationReport, winner: str, settings: Settings) -> str:
    """Whether a release is better, in a sentence on the kind of list that is served."""
    for row in headline(report, winner, settings):
        if row.list_kind == settings.list_kind:
            words = {"better": "better than", "worse": "worse than", "same": "as good, within noise, as"}
            said = [f"{words[rating(row.to_last)]} the last release"] if row.to_last else []
            said += [f"{words[rating(row.to_simple)]} the best simple recommender, {row.simple}"] if row.to_simple else []
            lacking = "" if report.compared_with else "Nothing was live before. "
            if report.compared_with and not row.to_last:
                lacking = "It could not be compared with the last release; the check champion says why. "
            return f"{lacking}{winner} is {' and '.join(said) or 'the best simple recommender itself'}."
    return "The validation report of this release holds no metrics."


def monitored(report: MonitoringReport, settings: Settings) -> list[list[list[str]]]:
    """What monitoring found, as tables with their headers first: served against promised, check results, days."""
    served = [[name_of(name), str(found), f"{report.promised.get(name, math.nan):.3f}"] for name, found in report.realised.items()]
    results = [["passed" if result.passed else "FAILED", result.name, result.message] for result in report.results]
    days = [
        [
            one.day,
            one.release,
            str(one.users),
            str(one.listed),
            *(f"{one.metrics[name]:.3f}" if name in one.metrics else "" for name in report.realised),
        ]
        for one in report.days
    ]
    return [
        [["", "by the day [95% interval]", "promised over the horizon"], *served],
        [["", "result", ""], *results],
        [
            ["day", "release", f"users with {settings.dataset.a_target}", "of them with a list", *map(name_of, report.realised)],
            *days,
        ],
    ]
