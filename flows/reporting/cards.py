"""Cards: what a person looks at after a run."""

from typing import Any

from metaflow import current
from metaflow.cards import Markdown, Table, VegaChart

from recsys.monitoring import MonitoringReport
from recsys.settings import Settings
from recsys.validation_report import ValidationReport
from reporting import metrics


def show_release(report: ValidationReport, winner: str, settings: Settings) -> None:
    """The two numbers that people look at, what limits them, and the check results that failed."""
    current.card.append(Markdown(f"# {settings.name}: {winner}"))
    current.card.append(Markdown(metrics.answer(report, winner, settings)))
    current.card.append(Table([list(line) for line in metrics.lines(report, winner, settings)], headers=["", "95% interval", ""]))
    if limiting := metrics.limiting(report, settings):
        current.card.append(Table([[str(cell) for cell in row.values()] for row in limiting], headers=list(limiting[0])))
    failed = [["blocked" if one.blocks else "warned", one.explanation] for one in report.results if not one.passed]
    current.card.append(Markdown(f"{len(report.results) - len(failed)} of {len(report.results)} checks passed"))
    if failed:
        current.card.append(Table(failed, headers=["", "check result"]))
    current.card.append(Markdown("`make report` shows all metrics, checks and changes."))


def show_monitoring(report: MonitoringReport, settings: Settings) -> None:
    """Shows what the live lists achieved beside what their release promised, every check result, and the days as a chart and a
    table."""
    metric = f"hit_rate@{settings.evaluation.k}"
    current.card.extend(
        [
            Markdown(f"# {settings.name} on {report.as_of}: {report.live} is live"),
            *(Table(rows, headers=headers) for headers, *rows in metrics.monitored(report, settings)),
            VegaChart(_days(report, metric)),
        ]
    )


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
