"""Cards: what a person looks at after a run."""

from collections.abc import Mapping
from typing import Any

from metaflow import current
from metaflow.cards import Markdown, Table, VegaChart

from recsys.evaluation import Interval, ScoredWindow, caption, compare, share_of, summarise
from recsys.monitoring import MonitoringReport
from recsys.pipeline import Choice
from recsys.recommenders import LIST_KINDS
from recsys.settings import Settings


def show_evaluations(choice: Choice, oracle: Mapping[str, ScoredWindow], settings: Settings) -> None:
    """By kind of list, the holdout's metrics of every recommender as a table and a chart, and the winner's gain on each; then who
    was skipped. `oracle`: its window per kind of list, where there is one."""
    winner = choice.winner
    current.card.append(Markdown(f"# {settings.name}: {winner} is chosen"))
    for reason in choice.skipped.values():
        current.card.append(Markdown(f"Skipped: {reason}"))
    for list_kind in LIST_KINDS:
        holdout = {name: windows[list_kind][0] for name, windows in choice.evaluations.items()}
        if not len(holdout[winner].users):
            current.card.append(Markdown(f"## Holdout, {caption(list_kind, holdout[winner], settings)}"))
            continue
        shown = holdout | ({"oracle": oracle[list_kind]} if oracle else {})
        summaries = {name: summarise(window, settings.evaluation.ks, settings) for name, window in shown.items()}
        current.card.append(Markdown(f"## Holdout, {caption(list_kind, holdout[winner], settings)}"))
        current.card.append(_metrics(shown, summaries, settings))
        current.card.append(VegaChart(_chart(summaries, f"ndcg@{settings.evaluation.k}", winner)))
        current.card.append(Markdown(f"### {winner} less each other, over the same users"))
        current.card.append(_differences(holdout, winner, settings))


def _metrics(shown: Mapping[str, ScoredWindow], summaries: Mapping[str, dict[str, Interval]], settings: Settings) -> Table:
    """A row per metric and a column per recommender."""
    metrics = next(iter(summaries.values()))
    rows = [[metric, *(str(summary[metric]) for summary in summaries.values())] for metric in metrics]
    if oracle := shown.get("oracle"):
        shares = [f"{share_of(oracle, window, settings):.1%}" for window in shown.values()]
        rows.insert(0, [f"share of the oracle's ndcg@{settings.evaluation.k}", *shares])
    return Table(rows, headers=["", *shown])


def _differences(holdout: Mapping[str, ScoredWindow], winner: str, settings: Settings) -> Table:
    """A row per metric at k and a column per recommender that did not win."""
    others = [name for name in holdout if name != winner]
    metrics = [metric for metric in holdout[winner].scores if metric.endswith(f"@{settings.evaluation.k}")]
    rows = [
        [metric, *(str(compare([holdout[winner]], [holdout[name]], metric, settings)) for name in others)] for metric in metrics
    ]
    return Table(rows, headers=["", *others])


def _chart(summaries: Mapping[str, dict[str, Interval]], metric: str, winner: str) -> dict[str, Any]:
    values = [
        {
            "recommender": name,
            "mean": summary[metric].mean,
            "low": summary[metric].low,
            "high": summary[metric].high,
            "chosen": name == winner,
        }
        for name, summary in summaries.items()
    ]
    axis = {"field": "recommender", "type": "nominal", "sort": None, "title": None}
    color = {
        "field": "chosen",
        "type": "nominal",
        "legend": None,
        "scale": {"domain": [True, False], "range": ["#0b7285", "#868e96"]},
    }
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v5.json",
        "data": {"values": values},
        "width": 480,
        "encoding": {"y": axis, "color": color},
        "layer": [
            {
                "mark": {"type": "rule", "strokeWidth": 2},
                "encoding": {
                    "x": {"field": "low", "type": "quantitative", "title": f"{metric}, 95% interval"},
                    "x2": {"field": "high"},
                },
            },
            {"mark": {"type": "point", "filled": True, "size": 90}, "encoding": {"x": {"field": "mean", "type": "quantitative"}}},
        ],
    }


def show_monitoring(report: MonitoringReport, settings: Settings) -> None:
    """What was realised beside what was promised, every check result, and the days as a chart and a table."""
    metric = f"hit_rate@{settings.evaluation.k}"
    current.card.append(Markdown(f"# {settings.name} on {report.as_of}: {report.live} is live"))
    rows = [[name, str(found), f"{report.promised.get(name, float('nan')):.3f}"] for name, found in report.realised.items()]
    current.card.append(Table(rows, headers=["", "by the day [95% interval]", "promised over the horizon"]))
    said = [["passed" if result.passed else "FAILED", result.name, result.message] for result in report.results]
    current.card.append(Table(said, headers=["", "result", ""]))
    current.card.append(VegaChart(_days(report, metric)))
    days = [[one.day, one.release, one.users, one.listed, f"{one.metrics.get(metric, float('nan')):.3f}"] for one in report.days]
    users = f"users with {settings.dataset.a_target}"
    current.card.append(Table(days, headers=["day", "release", users, "of them with a list", metric]))


def _days(report: MonitoringReport, metric: str) -> dict[str, Any]:
    values = [
        {"day": one.day, "release": one.release, "value": one.metrics[metric], "users": one.listed}
        for one in report.days
        if metric in one.metrics
    ]
    encoding = {
        "x": {"field": "day", "type": "temporal", "title": None},
        "y": {"field": "value", "type": "quantitative", "title": metric, "scale": {"domainMin": 0}},
        "size": {"field": "users", "type": "quantitative"},
        "tooltip": [{"field": name} for name in ("day", "release", "value", "users")],
    }
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v5.json",
        "data": {"values": values},
        "width": 480,
        "mark": {"type": "point", "filled": True, "color": "#0b7285"},
        "encoding": encoding,
    }
