"""Time travel: does the future show in the features, or in what is learned from them? The costly part of the search for leaks."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from recsys.evaluation import ScoredWindow, compare, judge
from recsys.recommenders import Recommender, TooLittleData, TwoStage, candidates, create, fit_candidate_sources
from recsys.settings import Share, section
from recsys.validation.audit.chance import ByLot, areas_under_curve, draw_labels
from recsys.validation.check_input import CheckInput
from recsys.validation_report import CheckResult

FEWEST = 50  # candidates with a label, and without: among fewer, a feature parts them by chance
WINDOWS = 2  # that shuffled labels are learned from: chance needs no more


@section
class TimeTravelLimits:
    max_shuffled: Share
    max_auc: Share


SETTINGS: dict[str, str | tuple[str, str]] = {"shuffled_labels": "max_shuffled", "no_feature_too_good": "max_auc"}


def check(inputs: CheckInput, limits: TimeTravelLimits) -> Iterator[CheckResult]:
    yield _built_on_the_day(inputs)
    if isinstance(inputs.model, TwoStage):  # the one that learns from outcomes
        yield _shuffled(inputs, limits)
        yield _too_good(inputs, limits)


def _built_on_the_day(inputs: CheckInput) -> CheckResult:
    cutoff, differ = inputs.features.evaluated[0], inputs.features.differences(inputs.bad_days["as_it_was"])
    named = "".join(f"; {column} in {count:,} rows" for column, count in differ.items())
    words = f"{len(differ)} feature columns at {cutoff} differ from those built of the events before that day alone{named}"
    return CheckResult("features_of_that_day", len(differ), 0, "block", not differ, words)


def _shuffled(inputs: CheckInput, limits: TimeTravelLimits) -> CheckResult:
    """Learned from outcomes that were drawn by lot, a model must fall to what its candidates in any order reach; accuracy that is
    left was learned elsewhere (permutation tests: Ojala and Garriga 2010, jmlr.org/papers/v11/ojala10a.html)."""
    state, seed = inputs.holdout_state, inputs.settings.seed
    windows = [draw_labels(window, seed) for window in inputs.features.windows(state.cutoff)[:WINDOWS]]
    most, metric = limits.max_shuffled, inputs.metric
    try:
        model = create(inputs.winner, inputs.model.parameters()).fit(state, windows)
    except TooLittleData as reason:
        return CheckResult("shuffled_labels", "no figure", most, "block", True, f"not applicable to shuffled labels: {reason}")
    found = (_on_holdout(model, inputs), _on_holdout(ByLot(model, seed), inputs), inputs.holdout(inputs.winner))
    shuffled, chance, true = (float(window.scores[metric].mean()) for window in found)
    gain = compare([found[0]], [found[1]], metric, inputs.settings)
    whole = max(true - chance, 1e-9)
    sure = max(gain.low, 0.0) / whole  # with few users, the mean alone would be luck too
    words = f"learned from shuffled labels, {inputs.winner} reaches {metric} {shuffled:.3f}; by lot it is {chance:.3f},"
    said = f"{words} and by true labels {true:.3f}: {gain.mean / whole:.0%} of the way, surely {sure:.0%}; {most:.0%} may be luck"
    return CheckResult("shuffled_labels", sure, most, "block", sure <= most, said)


def _on_holdout(model: Recommender, inputs: CheckInput) -> ScoredWindow:
    """Its window, under the kind of list that decides."""
    state, length = inputs.holdout_state, max(inputs.settings.evaluation.ks)
    labels = inputs.features.labels(state.cutoff)

    def rank(rows: NDArray, exclude_seen: bool) -> NDArray[np.int32]:
        return model.recommend(state.user_ids[rows], length, state, exclude_seen).items

    return judge(rank, state, labels, inputs.settings)[inputs.repeat]


def _too_good(inputs: CheckInput, limits: TimeTravelLimits) -> CheckResult:
    """A column that tells labels from the other candidates all by itself was made with them in sight. Looked at apart among what
    users have had and what is new to them: where nearly all labels are repeats, to have had an item is honest and tells it all."""
    state = inputs.holdout_state
    users, items = inputs.features.labels(state.cutoff)
    pairs, features, labels = users.astype(np.int64) * state.shape[1] + items, [], []
    for rows, found in candidates(fit_candidate_sources(state), state, np.unique(users).astype(np.int64)):
        features.append(found.features)
        labels.append(np.isin(rows[found.rows] * state.shape[1] + found.items, pairs))
    columns, table, label = found.columns, np.concatenate(features), np.concatenate(labels)
    own, most = table[:, columns.index("own")] > 0, limits.max_auc
    areas: dict[str, float] = {}
    for part in (own, ~own):
        if min(np.bincount(label[part], minlength=2)) >= FEWEST:
            for name, area in zip(columns, areas_under_curve(table[part], label[part]), strict=True):
                areas[name] = max(area, areas.get(name, 0.0))
    if not areas:
        words = f"fewer than {FEWEST} candidates have a target event, or have none: too few to tell a feature that is too good"
        return CheckResult("no_feature_too_good", "no figure", most, "block", True, words)
    best = max(areas, key=lambda name: areas[name])
    named = ", ".join(f"{name} {area:.3f}" for name, area in areas.items() if area > most or name == best)
    target = inputs.settings.dataset.target
    words = f"of {len(areas)} features, {named} tells {target} events best by itself (ROC AUC); {most:g} is the most"
    return CheckResult("no_feature_too_good", areas[best], most, "block", areas[best] <= most, words)
