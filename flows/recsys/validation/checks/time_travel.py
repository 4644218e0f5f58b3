"""Time travel: does the future show in the features, or in what is learned from them? The costly part of the search for leaks."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from recsys.evaluation import Window, compare, judge
from recsys.recommenders import Recommender, TooLittleData, TwoStage, candidates, create, fit_proposers
from recsys.settings import Share, section
from recsys.validation.audit.chance import ByLot, areas_under_curve, draw_labels
from recsys.validation.check_input import Subject
from recsys.validation_report import Verdict

FEWEST = 50  # candidates with a label, and without: among fewer, a feature parts them by chance
WINDOWS = 2  # that shuffled labels are learned from: chance needs no more


@section
class Limits:
    max_shuffled: Share
    max_auc: Share


SETTINGS: dict[str, str | tuple[str, str]] = {"shuffled_labels": "max_shuffled", "no_feature_too_good": "max_auc"}


def check(subject: Subject, limits: Limits) -> Iterator[Verdict]:
    yield _built_on_the_day(subject)
    if isinstance(subject.model, TwoStage):  # the one that learns from outcomes
        yield _shuffled(subject, limits)
        yield _too_good(subject, limits)


def _built_on_the_day(subject: Subject) -> Verdict:
    cutoff, differ = subject.features.evaluated[0], subject.features.differences(subject.rehearsed["as_it_was"])
    named = "".join(f"; {column} in {count:,} rows" for column, count in differ.items())
    words = f"{len(differ)} feature columns at {cutoff} differ from those built of the events before that day alone{named}"
    return Verdict("features_of_that_day", len(differ), 0, "block", not differ, words)


def _shuffled(subject: Subject, limits: Limits) -> Verdict:
    """Learned from outcomes that were drawn by lot, a model must fall to what its candidates in any order reach; accuracy that is
    left was learned elsewhere (permutation tests: Ojala and Garriga 2010, jmlr.org/papers/v11/ojala10a.html)."""
    state, seed = subject.holdout_state, subject.settings.seed
    windows = [draw_labels(window, seed) for window in subject.features.windows(state.cutoff)[:WINDOWS]]
    most, metric = limits.max_shuffled, subject.metric
    try:
        model = create(subject.winner, subject.model.parameters()).fit(state, windows)
    except TooLittleData as reason:
        return Verdict("shuffled_labels", "no figure", most, "block", True, f"not applicable to shuffled labels: {reason}")
    found = (_on_holdout(model, subject), _on_holdout(ByLot(model, seed), subject), subject.holdout(subject.winner))
    shuffled, chance, true = (float(window.scores[metric].mean()) for window in found)
    gain = compare([found[0]], [found[1]], metric, subject.settings)
    whole = max(true - chance, 1e-9)
    sure = max(gain.low, 0.0) / whole  # with few users, the mean alone would be luck too
    words = f"learned from shuffled labels, {subject.winner} reaches {metric} {shuffled:.3f}; by lot it is {chance:.3f},"
    said = f"{words} and by true labels {true:.3f}: {gain.mean / whole:.0%} of the way, surely {sure:.0%}; {most:.0%} may be luck"
    return Verdict("shuffled_labels", sure, most, "block", sure <= most, said)


def _on_holdout(model: Recommender, subject: Subject) -> Window:
    """Its window, under the protocol that decides."""
    state, length = subject.holdout_state, max(subject.settings.evaluation.ks)
    labels = subject.features.labels(state.cutoff)

    def rank(rows: NDArray, novel: bool) -> NDArray[np.int32]:
        return model.recommend(state.user_ids[rows], length, state, novel).items

    return judge(rank, state, labels, subject.settings)[subject.repeat]


def _too_good(subject: Subject, limits: Limits) -> Verdict:
    """A column that tells labels from the other candidates all by itself was made with them in sight. Looked at apart among what
    users have had and what is new to them: where nearly all labels are repeats, to have had an item is honest and tells it all."""
    state = subject.holdout_state
    users, items = subject.features.labels(state.cutoff)
    pairs, features, labels = users.astype(np.int64) * state.shape[1] + items, [], []
    for rows, found in candidates(fit_proposers(state), state, np.unique(users).astype(np.int64)):
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
        return Verdict("no_feature_too_good", "no figure", most, "block", True, words)
    best = max(areas, key=lambda name: areas[name])
    named = ", ".join(f"{name} {area:.3f}" for name, area in areas.items() if area > most or name == best)
    target = subject.settings.dataset.target
    words = f"of {len(areas)} features, {named} tells {target} events best by itself (ROC AUC); {most:g} is the most"
    return Verdict("no_feature_too_good", areas[best], most, "block", areas[best] <= most, words)
