"""Cards: what a person looks at after a run."""

from collections.abc import Mapping
from typing import Any

from metaflow import current
from metaflow.cards import Markdown, Table, VegaChart

from recsys.config import Settings
from recsys.evaluation import PROTOCOLS, Window, caption, summarise


def show_evaluations(evaluations: Mapping[str, dict[str, list[Window]]], winner: str, settings: Settings) -> None:
    """Holdout metrics of every recommender, as a table and a chart per protocol."""
    current.card.append(Markdown(f"# {settings.name}: {winner} is chosen"))
    for protocol in PROTOCOLS:
        holdout = {name: windows[protocol][0] for name, windows in evaluations.items()}
        summaries = {name: summarise(window, settings) for name, window in holdout.items()}
        current.card.append(Markdown(f"## Holdout, {caption(protocol, holdout[winner], settings)}"))
        metrics = list(next(iter(summaries.values())))
        rows = [[name, *(str(summary[metric]) for metric in metrics)] for name, summary in summaries.items()]
        current.card.append(Table(rows, headers=["recommender", *metrics]))
        current.card.append(VegaChart(_chart(summaries, f"ndcg@{settings.evaluation.k}", winner)))


def _chart(summaries: Mapping[str, dict[str, Any]], metric: str, winner: str) -> dict[str, Any]:
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
