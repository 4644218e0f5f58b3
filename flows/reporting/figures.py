"""The figures of a report: what a release is worth beside others, to whom, and how steadily."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from markupsafe import Markup
from numpy.typing import NDArray

from recsys.evaluation import Interval, ScoredWindow, bootstrap, caption, compare, share_of, summarise
from recsys.pipeline import Choice, Trained
from recsys.recommenders import LIST_KINDS
from recsys.settings import Settings
from recsys.store import Snapshot
from recsys.validation_report import CheckResult
from reporting.plots import PlotRow, plot

SEGMENTS = 8  # the largest, which are shown apart
ENOUGH = 10  # users, below which a mean is an anecdote


@dataclass(frozen=True)
class Made:
    """What the run that made a release left behind."""

    run: str
    choice: Choice
    oracle: dict[str, ScoredWindow]
    trained: list[Trained]


@dataclass(frozen=True)
class Figure:
    """A plot and what it shows in tables: by title, rows of name and cells under columns."""

    title: str
    plot: Markup
    tables: dict[str, list[dict[str, Any]]]


def holdout(release: Snapshot) -> dict[str, ScoredWindow]:
    """Per kind of list the winner's window, but for its lists."""
    about = json.loads((release.path / "release.json").read_text())
    cutoff = date.fromisoformat(about["as_of"]) - timedelta(days=about["horizon_days"])
    table = pq.read_table(release.path / "holdout.parquet").to_pandas()
    windows = {}
    for list_kind in LIST_KINDS:
        rows = table[table["list_kind"] == list_kind]
        scores = {str(name): rows[name].to_numpy() for name in rows if "@" in str(name)}
        windows[list_kind] = ScoredWindow(cutoff, rows["user_id"].to_numpy(str), scores, np.empty((len(rows), 0), np.int32), 0)
    return windows


def metrics(winner: str, own: Mapping[str, ScoredWindow], made: Made | None, settings: Settings) -> Iterator[Figure]:
    """Per kind of list, every recommender and the oracle; the winner alone, `own`, where the run is gone."""
    decides, how = f"ndcg@{settings.evaluation.k}", (settings.evaluation.bootstraps, settings.seed)
    for list_kind, window in own.items():
        if not len(window.users):
            continue
        windows = {name: found[list_kind][0] for name, found in made.choice.evaluations.items()} if made else {winner: window}
        oracle = {"oracle": made.oracle[list_kind]} if made and made.oracle else {}
        depths = settings.evaluation.ks if made else []
        summaries = {
            name: summarise(one, depths, settings) or bootstrap(one.scores, *how) for name, one in (windows | oracle).items()
        }
        rows = [
            PlotRow(name, [found[decides].mean], str(found[decides]), found[decides][1:], _kind(name, winner, oracle))
            for name, found in summaries.items()
        ]
        alternatives = {name: _alternatives(name, winner, windows, oracle, settings) for name in summaries}
        ks = sorted({int(metric.split("@")[1]) for metric in window.scores}, key=lambda k: (k != settings.evaluation.k, k))
        tables = {f"at {k}": _table(k, summaries, alternatives if k == settings.evaluation.k else {}) for k in ks}
        title = caption(list_kind, window, settings)
        yield Figure(title, plot(rows, f"{decides}, mean over users with its 95% interval"), tables)


def _kind(name: str, winner: str, oracle: Mapping[str, ScoredWindow]) -> str:
    return "chosen" if name == winner else "oracle" if name in oracle else ""


def _alternatives(
    name: str, winner: str, windows: dict[str, ScoredWindow], oracle: dict[str, ScoredWindow], settings: Settings
) -> dict[str, Any]:
    """What NDCG is beside others': the winner's gain on a recommender, user by user, and its share of the oracle's."""
    found: dict[str, Any] = {}
    if len(windows) > 1:
        rival = name in windows and name != winner
        pair = ([windows[winner]], [windows[name]]) if rival else None
        found[f"{winner} less it"] = compare(*pair, f"ndcg@{settings.evaluation.k}", settings) if pair else ""
    if oracle:
        found["of the oracle"] = f"{share_of(oracle['oracle'], (windows | oracle)[name], settings):.0%}"
    return found


def _table(
    k: int, summaries: Mapping[str, Mapping[str, Interval]], alternatives: Mapping[str, dict[str, Any]]
) -> list[dict[str, Any]]:
    """A row per recommender: its metrics at k, the one that decides first, then what stands beside it."""
    rows = []
    for name, summary in summaries.items():
        first, *others = [metric for metric in summary if metric.endswith(f"@{k}")]
        rows.append(
            {"": name, first: summary[first], **alternatives.get(name, {}), **{metric: summary[metric] for metric in others}}
        )
    return rows


def slices(window: ScoredWindow, features: Path, settings: Settings) -> Markup:
    """The winner's NDCG by the users' segment, and by their target events before the holdout."""
    metric = f"ndcg@{settings.evaluation.k}"
    table = pq.read_table(features / "feat_users.parquet", filters=[("cutoff", "=", pd.Timestamp(window.cutoff))])
    users = pq.read_table(features / "dim_users.parquet").to_pandas().set_index("user_index")
    users = users.join(table.to_pandas().set_index("user_index")["target_events"]).set_index("user_id").loc[window.users]
    sizes = users["segment"].value_counts()
    largest = sizes[sizes >= ENOUGH].index[:SEGMENTS]
    groups = {"everybody": np.ones(len(users), bool)}
    groups |= {f"segment {name}": (users["segment"] == name).to_numpy() for name in largest}
    groups |= {"other segments": ~users["segment"].isin(largest).to_numpy()}
    quarters = pd.qcut(users["target_events"], 4, labels=False, duplicates="drop").to_numpy()
    for quarter in np.unique(quarters):
        counts = users["target_events"][quarters == quarter]
        groups[f"{counts.min():,.0f} to {counts.max():,.0f} {settings.dataset.target} events before"] = quarters == quarter
    rows = [_slice(name, window.scores[metric][chosen], settings) for name, chosen in groups.items() if chosen.any()]
    return plot(rows, f"{metric}, mean over users with its 95% interval; the line is everybody's", rows[0].dots[0])


def _slice(name: str, values: NDArray, settings: Settings) -> PlotRow:
    """One group of users; without an interval where they are too few for one."""
    found = bootstrap({name: values}, settings.evaluation.bootstraps, settings.seed)[name]
    enough = len(values) >= ENOUGH
    words = f"{found if enough else f'{found.mean:.3f}'} of {len(values):,} users"
    return PlotRow(name, [found.mean], words, found[1:] if enough else None, "chosen" if name == "everybody" else "")


def stability(made: Made, settings: Settings) -> Markup | None:
    """The holdout of what is served, of its twins and in perturbed worlds; None where the run was no audit."""
    metric, served, choice = f"ndcg@{settings.evaluation.k}", settings.list_kind, made.choice
    window = choice.evaluations[choice.winner][served][0]
    own = bootstrap({metric: window.scores[metric]}, settings.evaluation.bootstraps, settings.seed)[metric]
    others = [one for one in made.trained if one.recipe.name == choice.winner and one.model_id != choice.model_id]
    found = {
        "other seeds": [_mean(one.windows[served][0], metric) for one in others if one.recipe.kind != "resample"],
        "on resampled users": [_mean(one.windows[served][0], metric) for one in others if one.recipe.kind == "resample"],
    }
    worlds = {name: one[served] for name, one in choice.robustness.get(choice.winner, {}).items()}
    found |= {name.replace("_", " "): [_mean(one, metric)] for name, one in worlds.items() if len(one.users)}
    first = PlotRow("what is served", [own.mean], str(own), own[1:], "chosen")
    rows = [PlotRow(name, dots, _against(dots, own.mean)) for name, dots in found.items() if dots]
    words = f"{metric} on the holdout, a dot per fit; the line is what is served"
    return plot([first, *rows], words, own.mean, zero=False) if rows else None


def _mean(window: ScoredWindow, metric: str) -> float:
    return float(window.scores[metric].mean())


def _against(dots: Sequence[float], served: float) -> str:
    """`0.391, 0.398 (-1.8%, +0.0%)`."""
    changes = ", ".join(f"{dot / served - 1:+.1%}" for dot in dots) if served else ""
    return ", ".join(f"{dot:.3f}" for dot in dots) + (f" ({changes})" if changes else "")


def drift(results: Sequence[CheckResult]) -> Markup | None:
    """Values as shares of their thresholds, of the check results that have numbers; None where there are none."""
    rows = [
        PlotRow(
            one.name,
            [one.value / one.threshold],
            f"{one.value:.3g} of {one.threshold:.3g}{'' if one.passed else ', failed'}",
            None,
            "" if one.passed else "failed",
        )
        for one in results
        if not isinstance(one.value, str) and not isinstance(one.threshold, str) and one.threshold
    ]
    return plot(rows, "values as shares of their thresholds; the line is the threshold", 1.0) if rows else None
