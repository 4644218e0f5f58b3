"""Searches for leaks from the future in features and models. Costly, so it runs in audits only; the check leaks is the cheap
part."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from recsys.evaluation import ScoredWindow, compare, judge, rank_by
from recsys.features import State, TrainingWindow
from recsys.recommenders import Recommender, Scorer, TooLittleData, TwoStage, candidates, create, fit_candidate_sources
from recsys.settings import Share, section
from recsys.validation.check_input import CheckInput
from recsys.validation_report import CheckResult, none_of

MIN_CANDIDATES = 50  # candidates with a label, and without one; among fewer, a feature may separate them by chance
WINDOWS = 2  # training windows with shuffled labels, enough for this test


@section
class TimeTravelLimits:
    max_shuffled: Share
    max_auc: Share


SETTINGS: dict[str, str | tuple[str, str]] = {"shuffled_labels": "max_shuffled", "no_feature_too_good": "max_auc"}


def check(inputs: CheckInput, limits: TimeTravelLimits) -> Iterator[CheckResult]:
    yield _built_on_the_day(inputs)
    if isinstance(inputs.model, TwoStage):  # only two_stage learns from labels
        yield _shuffled(inputs, limits)
        yield _too_good(inputs, limits)


def _built_on_the_day(inputs: CheckInput) -> CheckResult:
    cutoff, counts = inputs.features.evaluated[0], inputs.features.differences(inputs.bad_days["as_it_was"])
    differ = [f"{column} in {count:,} rows" for column, count in counts.items()]
    words = f"feature columns at {cutoff} differ from the same features built without any later event"
    return none_of("features_of_that_day", differ, words)


def _shuffled(inputs: CheckInput, limits: TimeTravelLimits) -> CheckResult:
    """Permutation test (Ojala and Garriga 2010, jmlr.org/papers/v11/ojala10a.html): a model that is fitted on random labels must
    not rank better than its candidates in random order. If it does, labels leak into its features."""
    state, seed = inputs.holdout_state, inputs.settings.seed
    windows = [draw_labels(window, seed) for window in inputs.features.windows(state.cutoff)[:WINDOWS]]
    maximum, metric = limits.max_shuffled, inputs.metric
    try:
        model = create(inputs.winner, inputs.model.parameters()).fit(state, windows)
    except TooLittleData as reason:
        return CheckResult("shuffled_labels", "no figure", maximum, "block", True, f"not applicable to shuffled labels: {reason}")
    scored = (_on_holdout(model, inputs), _on_holdout(RandomOrder(model, seed), inputs), inputs.holdout(inputs.winner))
    shuffled, chance, true = (float(window.scores[metric].mean()) for window in scored)
    gain = compare([scored[0]], [scored[1]], metric, inputs.settings)
    possible = max(true - chance, 1e-9)
    share = max(gain.low, 0.0) / possible  # the lower bound, because the mean of few users may be above 0 by chance
    message = (
        f"{metric} of {inputs.winner} is {shuffled:.3f} if fitted on shuffled labels, {true:.3f} on true labels and {chance:.3f}"
        f" in random order: shuffled labels give {gain.mean / possible:.0%} of the possible gain, at least {share:.0%}"
        f" beyond noise; at most {maximum:.0%} may be"
    )
    return CheckResult("shuffled_labels", share, maximum, "block", share <= maximum, message)


def _on_holdout(model: Recommender, inputs: CheckInput) -> ScoredWindow:
    """Scores a model on the holdout, for the kind of list that is served by default."""
    state, settings = inputs.holdout_state, inputs.settings
    labels = inputs.features.labels(state.cutoff)
    return judge(rank_by(model, state, state, settings), state, labels, settings)[inputs.served_kind]


def _too_good(inputs: CheckInput, limits: TimeTravelLimits) -> CheckResult:
    """A feature that separates labels from the other candidates almost perfectly was probably computed from the labels. Items that
    a user had and new items are tested separately: if nearly all labels are repeats, having had an item may rightly separate
    them."""
    state = inputs.holdout_state
    users, items = inputs.features.labels(state.cutoff)
    pairs, features, labels = users.astype(np.int64) * state.shape[1] + items, [], []
    for rows, found in candidates(fit_candidate_sources(state), state, np.unique(users).astype(np.int64)):
        features.append(found.features)
        labels.append(np.isin(rows[found.rows] * state.shape[1] + found.items, pairs))
    columns, table, label = found.columns, np.concatenate(features), np.concatenate(labels)
    own, maximum = table[:, columns.index("own")] > 0, limits.max_auc
    areas: dict[str, float] = {}
    for part in (own, ~own):
        if min(np.bincount(label[part], minlength=2)) >= MIN_CANDIDATES:
            for name, area in zip(columns, areas_under_curve(table[part], label[part]), strict=True):
                areas[name] = max(area, areas.get(name, 0.0))
    if not areas:
        message = f"not applicable: fewer than {MIN_CANDIDATES} candidates have a target event, or fewer have none"
        return CheckResult("no_feature_too_good", "no figure", maximum, "block", True, message)
    best = max(areas, key=lambda name: areas[name])
    named = ", ".join(f"{name} {area:.3f}" for name, area in areas.items() if area > maximum or name == best)
    message = (
        f"of {len(areas)} features, {named} alone predicts {inputs.settings.dataset.target} events best (ROC AUC);"
        f" above {maximum:g} it probably contains them"
    )
    return CheckResult("no_feature_too_good", areas[best], maximum, "block", areas[best] <= maximum, message)


def draw_labels(window: TrainingWindow, seed: int) -> TrainingWindow:
    """A copy of a training window with as many labels, drawn at random from its users and the available items."""
    users, available = np.unique(window.labels()[0]), np.flatnonzero(window.state().items["is_available"])
    draw, count = np.random.default_rng([seed, window.cutoff.toordinal()]), len(window.labels()[0])
    drawn = draw.choice(users, count).astype(np.int32), draw.choice(available, count).astype(np.int32)
    return TrainingWindow(window.key, window.state, lambda: drawn)


class RandomOrder(Recommender):
    """Ranks the candidates of another recommender in random order."""

    def __init__(self, model: Recommender, seed: int):
        self.model, self.draw = model, np.random.default_rng(seed)

    def _fit(self, state: State) -> None:
        """Learns nothing."""

    def scorer(self, state: State) -> Scorer:
        score = self.model.scorer(state)

        def random_scores(rows: NDArray[np.int64]) -> sparse.csr_matrix:
            scores = score(rows)
            scores.data = self.draw.random(len(scores.data), np.float32)
            return scores

        return random_scores


def areas_under_curve(features: NDArray, label: NDArray[np.bool_]) -> list[float]:
    """Area under the ROC curve of each column, at least 0.5 because the direction does not matter. NaN ranks lowest."""
    from scipy.stats import rankdata  # imports half a second's worth of scipy

    positive, negative = int(label.sum()), int((~label).sum())
    sums = (rankdata(np.nan_to_num(column, nan=-np.inf, neginf=-np.inf))[label].sum() for column in features.T)
    areas = ((total - positive * (positive + 1) / 2) / max(positive * negative, 1) for total in sums)
    return [float(max(area, 1 - area)) for area in areas]
