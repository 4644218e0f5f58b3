"""Time travel: does the future show in the features, or in what is learned from them? The costly part of the search for leaks."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from recsys.checks.chance import ByLot, areas_under_curve, draw_labels
from recsys.checks.subject import Subject
from recsys.evaluation import judge
from recsys.recommenders import Recommender, create
from recsys.recommenders.two_stage import TwoStage, candidates, fit_proposers
from recsys.settings.validation import Share, section
from recsys.verdicts import Verdict

WINDOWS = 2  # that shuffled labels are learned from: chance needs no more


@section
class Limits:
    max_shuffled: Share
    max_auc: Share


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
    model = create(subject.winner, subject.model.parameters()).fit(state, windows)
    true = float(subject.holdout(subject.winner).scores[subject.metric].mean())
    shuffled, chance = (_accuracy(one, subject) for one in (model, ByLot(model, seed)))
    share, most = (shuffled - chance) / max(true - chance, 1e-9), limits.max_shuffled
    words = f"learned from shuffled labels, {subject.winner} reaches {subject.metric} {shuffled:.3f}; by lot it is {chance:.3f},"
    said = f"{words} and by true labels {true:.3f}: {share:.0%} of the way, and {most:.0%} may be luck"
    return Verdict("shuffled_labels", share, most, "block", share <= most, said)


def _accuracy(model: Recommender, subject: Subject) -> float:
    """On the holdout, under the protocol that decides."""
    state, length = subject.holdout_state, max(subject.settings.evaluation.ks)
    labels = subject.features.labels(state.cutoff)

    def rank(rows: NDArray, novel: bool) -> NDArray[np.int32]:
        return model.recommend(state.user_ids[rows], length, state, novel).items

    return float(judge(rank, state, labels, subject.settings)[subject.repeat].scores[subject.metric].mean())


def _too_good(subject: Subject, limits: Limits) -> Verdict:
    """A column that tells labels from the other candidates all by itself was made with them in sight."""
    state = subject.holdout_state
    users, items = subject.features.labels(state.cutoff)
    pairs, features, labels = users.astype(np.int64) * state.shape[1] + items, [], []
    for rows, found in candidates(fit_proposers(state), state, np.unique(users).astype(np.int64)):
        features.append(found.features)
        labels.append(np.isin(rows[found.rows] * state.shape[1] + found.items, pairs))
    areas = dict(zip(found.columns, areas_under_curve(np.concatenate(features), np.concatenate(labels)), strict=True))
    best, most = max(areas, key=lambda name: areas[name]), limits.max_auc
    named = ", ".join(f"{name} {area:.3f}" for name, area in areas.items() if area > most or name == best)
    target = subject.settings.dataset.target
    words = f"of {len(areas)} features, {named} tells {target} events best by itself (ROC AUC); {most:g} is the most"
    return Verdict("no_feature_too_good", areas[best], most, "block", areas[best] <= most, words)
