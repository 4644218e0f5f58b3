"""The figures of a report: what a release is worth beside others, for whom, by which features, and how it moved."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from recsys.evaluation import Interval
from recsys.publishing import ReleaseSummary
from recsys.recommenders import LIST_KINDS
from recsys.settings import Settings
from recsys.validation_report import CheckResult, Limits
from reporting.metrics import MetricRow, name_of, rating, signed
from reporting.plots import PlotRow, plot, trend

MOST = 12  # features, groups and values that are shown
GROUPS = {  # the plot that a group stands in, by the first word of its name, and what that word means
    "Users": {"segment": "segment", "activity": "number of baskets", "tenure": "time since the first event"},
    "Items": {"popularity": "recent popularity", "age": "age"},
    "The same recommender, fitted again": {"refit": "other seed or users", "data": "perturbed data"},
}


@dataclass(frozen=True)
class Figure:
    """A plot and what it shows in tables: by title, rows of name and cells under columns."""

    title: str
    plot: Markup
    tables: Mapping[str, list[dict[str, Any]]]


def recommenders(rows: Sequence[MetricRow], winner: str, settings: Settings) -> Iterator[Figure]:
    """Per kind of list, every recommender and the oracle: the metric that decides as a plot, all metrics in tables. Then the same
    of the ways to answer live sessions."""
    ks = sorted(settings.evaluation.ks, key=lambda k: (k != settings.evaluation.k, k))
    kinds = [(list_kind, settings.evaluation.metric, ks) for list_kind in LIST_KINDS]
    for list_kind, decides, ks in (*kinds, ("sessions", "mrr@20", [20])):
        mine = [row for row in rows if row.list_kind == list_kind and not row.group and row.users]
        first = [row for row in mine if row.metric == decides]
        if not first:
            continue
        best = {row.recommender: row.value.mean for row in first}.get("oracle")
        strips = [
            PlotRow(
                row.recommender,
                [row.value.mean],
                [
                    f"{row.value.mean:.3f}",
                    signed(row.to_simple) if row.to_simple else "",
                    *([f"{row.value.mean / best:.0%} of oracle"] if best else []),
                ],
                row.value[1:],
                _kind(row, winner),
            )
            for row in first
        ]
        tables = {f"at {k}": _table([row for row in mine if row.metric.endswith(f"@{k}")]) for k in ks}
        title = f"{list_kind.replace('_', ' ').capitalize()}{', served' * (list_kind == settings.list_kind)}"
        words = f"{name_of(decides)} of {first[0].users:,} users with its 95% interval, and the difference to {first[0].simple}"
        yield Figure(title, plot(strips, words), tables)


def _table(rows: Sequence[MetricRow]) -> list[dict[str, Any]]:
    """A row per recommender, a column per metric."""
    names = dict.fromkeys(row.recommender for row in rows)
    return [{"": name, **{row.metric: row.value for row in rows if row.recommender == name}} for name in names]


def _kind(row: MetricRow, winner: str) -> str:
    is_chosen = row.recommender.endswith(", served") if row.list_kind == "sessions" else row.recommender == winner
    return "chosen" if is_chosen else "oracle" if row.recommender == "oracle" else ""


def groups(rows: Sequence[MetricRow]) -> Iterator[Figure]:
    """The winner's lists by groups of users and items: the difference to the best simple recommender, or the metric itself."""
    largest = sorted(rows, key=lambda row: -row.users * row.group.startswith("segment "))  # the others stay in their order
    for title, words in GROUPS.items():
        found = [row for word in words for row in largest if row.group.startswith(f"{word} ")][:MOST]
        if found:
            metric, simple = name_of(found[0].metric), found[0].simple if found[0].to_simple else ""
            shown = f"difference in {metric} to {simple} with its 95% interval; beside it {metric}" if simple else metric
            yield Figure(title, plot([_group(row, words) for row in found], shown, 0.0 if simple else None), {})


def _group(row: MetricRow, words: Mapping[str, str]) -> PlotRow:
    shown, (word, _, rest) = row.to_simple or row.value, row.group.partition(" ")
    gain = [Markup('<span class="{}">{}</span>').format(rating(shown), signed(shown))] if row.to_simple else []
    return PlotRow(f"{words[word]}: {rest}", [shown.mean], [*gain, f"{row.value.mean:.3f}", f"{row.users:,} users"], shown[1:])


def for_whom(rows: Sequence[MetricRow]) -> str:
    """In how many groups the lists are better or worse than those of the best simple recommender."""
    rated = {row.group: rating(row.to_simple) for row in rows if row.group and row.to_simple}
    if not rated:
        return ""
    worse, better = ([group for group, found in rated.items() if found == word] for word in ("worse", "better"))
    simple = next(row.simple for row in rows if row.group)
    return f"Better than {simple} beyond noise in {len(better)} of {len(rated)} groups; worse in {', '.join(worse) or 'none'}."


def limits(found: Mapping[str, Limits], settings: Settings) -> Iterator[Figure]:
    """Per kind of list, the features that matter most as a plot, and the candidate sources in a table."""
    metric = name_of(settings.evaluation.metric)
    for list_kind, one in found.items():
        first = [(name, Interval(*drop)) for name, drop in list(one.importance.items())[:MOST]]
        strips = [PlotRow(name, [drop.mean], [signed(drop)], drop[1:], "chosen" if drop.low > 0 else "") for name, drop in first]
        words = f"{metric} lost if a feature is permuted, with its 95% interval; {len(first)} of {len(one.importance)} features"
        sources = [
            {"": name, "recall": part.recall, "only from it": part.only, f"{metric} only from it": signed(Interval(*part.gain))}
            for name, part in one.sources.items()
        ]
        yield Figure(list_kind.replace("_", " ").capitalize(), plot(strips, words, 0.0), {"Candidate sources": sources})


def history(releases: Sequence[ReleaseSummary], settings: Settings) -> Markup | None:
    """The metric that decides, of each release on its own holdout, oldest first."""
    judged = [one for one in releases if one.metrics]
    series = {list_kind.replace("_", " "): [one.metrics.get(list_kind) for one in judged] for list_kind in LIST_KINDS}
    names = [str(one.as_of or one.id) for one in judged]
    return trend(names, series, name_of(settings.evaluation.metric)) if judged else None


def drift(results: Sequence[CheckResult]) -> Markup | None:
    """Values as shares of their thresholds, of the check results that have numbers, largest first; None where there are none."""
    numbers = [one for one in results if not isinstance(one.value, str) and not isinstance(one.threshold, str) and one.threshold]
    shares = [(float(one.value) / float(one.threshold), one) for one in numbers]
    rows = [
        PlotRow(one.name, [share], [f"{one.value:.3g} of {one.threshold:.3g}"], None, "" if one.passed else "failed")
        for share, one in sorted(shares, key=lambda pair: -pair[0])[:MOST]
    ]
    return plot(rows, f"the {len(rows)} largest shares of thresholds; the line is the threshold", 1.0) if rows else None
