"""The numbers of a validation report, which cards, summaries and pages show: metrics of every recommender on the holdout, of groups
of users and items, and of answers to sessions, and what limits the winner's lists."""

import logging
from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from recsys.evaluation import Interval, ScoredWindow, bootstrap, score_sessions, session_name, summarise
from recsys.recommenders import LIST_KINDS
from recsys.validation.check_input import CheckInput
from recsys.validation.checks.slices import by_item, by_user
from recsys.validation_report import Limits, Measurement

log = logging.getLogger(__name__)
FEWEST = 10  # users, below which a mean is an anecdote


def measure(inputs: CheckInput, oracle: Mapping[str, ScoredWindow]) -> tuple[tuple[Measurement, ...], dict[str, Limits]]:
    """Measurements, and what limits the winner's lists; nothing, and a line in the log, where a broken model or release stops them:
    the checks say what is wrong."""
    try:
        return (*_recommenders(inputs, oracle), *_groups(inputs), *_refits(inputs), *_sessions(inputs)), _limits(inputs)
    except Exception:
        log.exception("the report will show no metrics")
        return (), {}


def _recommenders(inputs: CheckInput, oracle: Mapping[str, ScoredWindow]) -> Iterator[Measurement]:
    """Every metric of every recommender, and of the oracle where there is one."""
    for list_kind in LIST_KINDS:
        windows = {name: inputs.holdout(name, list_kind) for name in inputs.evaluations}
        simple = inputs.best_simple(list_kind)
        for name, window in (windows | ({"oracle": oracle[list_kind]} if oracle else {})).items():
            found = summarise(window, inputs.settings.evaluation.ks, inputs.settings)
            theirs = {} if name == simple else windows[simple].scores
            gains = _means(inputs, {metric: window.scores[metric] - values for metric, values in theirs.items()})
            for metric, value in found.items():
                yield Measurement(list_kind, name, metric, len(window.users), value, gains.get(metric), simple)


def _means(inputs: CheckInput, values: dict[str, NDArray[np.float64]]) -> dict[str, Interval]:
    """Means over users; none where the users are too few."""
    enough = values and len(next(iter(values.values()))) >= FEWEST
    return bootstrap(values, inputs.settings.evaluation.bootstraps, inputs.settings.seed) if enough else {}


def _groups(inputs: CheckInput) -> Iterator[Measurement]:
    """The winner's lists of the kind that is served, by group of users and, as recall, by group of items."""
    list_kind, simple = inputs.served_kind, inputs.best_simple(inputs.served_kind)
    ours, theirs = (inputs.holdout(name).scores[inputs.metric] for name in (inputs.winner, simple))
    users = by_user(inputs, list_kind, ours), by_user(inputs, list_kind, theirs)
    items = by_item(inputs, inputs.winner), by_item(inputs, simple)
    recall = inputs.metric.replace("ndcg", "recall")
    for metric, (mine, other) in {inputs.metric: users, recall: items}.items():
        for group, values in mine.items():
            if group and (value := _means(inputs, {metric: values})):
                gain = None if inputs.winner == simple else _means(inputs, {metric: values - other[group]})[metric]
                yield Measurement(list_kind, inputs.winner, metric, len(values), value[metric], gain, simple, group)


def _refits(inputs: CheckInput) -> Iterator[Measurement]:
    """Of an audit: the winner fitted again by other seeds or on resampled users, and ranked on perturbed data."""
    worlds = inputs.robustness.get(inputs.winner, {})
    windows = {f"refit {place}": refit[inputs.served_kind][0] for place, refit in enumerate(inputs.refits, 1)}
    windows |= {f"data {name.replace('_', ' ')}": world[inputs.served_kind] for name, world in worlds.items()}
    for group, window in windows.items():
        if value := _means(inputs, {inputs.metric: window.scores[inputs.metric]}):
            yield Measurement(
                inputs.served_kind, inputs.winner, inputs.metric, len(window.users), value[inputs.metric], group=group
            )


def _sessions(inputs: CheckInput) -> Iterator[Measurement]:
    """Ways to answer the sessions of the holdout, against similarity that is counted over users. The name of the released one ends
    in ", served"."""
    found = score_sessions(inputs.features, inputs.settings, inputs.features.evaluated[0], inputs.sessions)
    simple, served = "item_to_item", session_name(inputs.sessions.similarity, inputs.sessions.repeats)
    for name, scored in found.items():
        gains = {metric: values - found[simple].scores[metric] for metric, values in scored.scores.items()}
        compared = _means(inputs, {} if name == simple else gains)
        for metric, value in _means(inputs, scored.scores).items():
            shown = f"{name}, served" if name == served else name
            yield Measurement("sessions", shown, metric, len(scored.users), value, compared.get(metric), simple)


def _limits(inputs: CheckInput) -> dict[str, Limits]:
    """What limits the winner's lists, as measured on the first selection window."""
    scored = inputs.evaluations[inputs.winner]
    return {list_kind: one.limits for list_kind, windows in scored.items() for one in windows[1:2] if one.limits}
