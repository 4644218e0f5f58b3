"""What limits a recommender of two stages: which relevant items its candidates hold, and what its sources and features add."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from recsys.costs import cpu_seconds
from recsys.evaluation.metrics import Scores, bootstrap, score
from recsys.features import State, TrainingWindow
from recsys.recommenders import (
    CANDIDATE_SOURCES,
    LIST_KINDS,
    Candidates,
    FeatureTable,
    Recommender,
    TwoStage,
    candidates,
    create,
    fit_candidate_sources,
    popularity_order,
    position,
)
from recsys.settings import Settings
from recsys.validation_report import Limits, SourceLimits

Labels = tuple[NDArray[np.int32], NDArray[np.int32]]  # rows of users and items of the target events after a cutoff

USERS = 1_000  # largest number of users whose candidates are examined
PERMUTATIONS = 3  # largest number of permutations of a feature
PREDICTIONS = 500_000  # number of candidates scored with a permuted feature in a run: about 2 CPU seconds with the default ranker


def measure_limits(
    recommender: Recommender, state: State, labels: Labels, settings: Settings, predictions: int = PREDICTIONS
) -> dict[str, Limits]:
    """Examines the candidates of users with target events after a state's cutoff, by kind of list. Returns nothing for a
    recommender without candidates, and leaves out kinds of list without relevant items.

    predictions: bounds the cost of the importance of features. Where it is too few to permute each feature among the candidates of
    all users, a sample of the users is taken; where it is enough to do so several times, the mean of up to PERMUTATIONS.
    """
    if not isinstance(recommender, TwoStage) or not len(labels[0]):
        return {}
    draw = np.random.default_rng(settings.seed)
    drawn = draw.permutation(np.unique(labels[0]))[:USERS].astype(np.int64)
    found = _candidates(recommender, state, drawn)
    scores = recommender.score(found)
    windows = {list_kind: _Window(found, drawn, state, labels, is_new, settings) for list_kind, is_new in LIST_KINDS.items()}
    windows = {list_kind: window for list_kind, window in windows.items() if window.relevant.any()}

    size = predictions // len(found.columns)
    last = found.rows[min(size, len(found.rows) - 1)]
    sample = slice(int(np.searchsorted(found.rows, last, side="right")))  # the candidates of the first users
    orders = [draw.permutation(sample.stop) for _ in range(np.clip(size // sample.stop, 1, PERMUTATIONS))]
    ranked = {list_kind: window.ndcg(scores[sample]) for list_kind, window in windows.items()}
    drops: dict[str, Scores] = {list_kind: {} for list_kind in windows}
    for name, permuted in _permuted(recommender, found, sample, orders):
        for list_kind, window in windows.items():
            drops[list_kind][name] = ranked[list_kind] - np.mean([window.ndcg(each) for each in permuted], 0)
    return {list_kind: window.limits(scores, drops[list_kind]) for list_kind, window in windows.items()}


@dataclass(frozen=True)
class Costs:
    """CPU seconds at one cutoff, for at most USERS users. They differ from run to run, so no release holds them.

    sources: by candidate source, of fitting it and scoring all items. features: of all features that are not such scores, for
    the candidates. ranker: of fitting the ranker, by feature.
    """

    sources: dict[str, float]
    features: float
    ranker: float


def measure_costs(recommender: TwoStage, state: State, labels: Labels, windows: Sequence[TrainingWindow]) -> Costs:
    """Measures the parts of a recommender that is fitted on this state and these windows, and so has read their examples."""
    rows, sources = np.unique(labels[0])[:USERS].astype(np.int64), {}
    for name, (kind, parameters, _) in CANDIDATE_SOURCES.items():
        began = cpu_seconds()
        create(kind, parameters).learn(state).scorer(state)(rows)
        sources[name] = cpu_seconds() - began
    _, found = next(candidates(recommender.candidate_sources, state, rows))
    began = cpu_seconds()
    FeatureTable(state).features(rows[found.rows], found.items)
    features, began = cpu_seconds() - began, cpu_seconds()
    fit_candidate_sources(state)
    fitted, began = cpu_seconds() - began, cpu_seconds()
    recommender.fit(state, windows)
    return Costs(sources, features, max(cpu_seconds() - began - fitted, 0.0) / len(recommender.columns_))


def _candidates(recommender: TwoStage, state: State, rows: NDArray[np.int64]) -> Candidates:
    """The candidates of some users, each user's by falling popularity, since that breaks ties of scores."""
    _, found = next(candidates(recommender.candidate_sources, state, rows))
    found = recommender.select(found)
    popular, place = popularity_order(state), np.zeros(state.shape[1], np.int64)
    place[popular] = np.arange(len(popular))
    order = np.lexsort((place[found.items], found.rows))
    return replace(found, rows=found.rows[order], items=found.items[order], features=found.features[order])


def _permuted(
    recommender: TwoStage, found: Candidates, sample: slice, orders: list[NDArray]
) -> Iterator[tuple[str, list[NDArray[np.float32]]]]:
    """Yields each feature, and the scores of a sample of the candidates after each permutation of the feature's values."""
    features = found.features[sample].copy()
    sampled = replace(found, rows=found.rows[sample], items=found.items[sample], features=features)
    for column, name in enumerate(found.columns):
        values = features[:, column].copy()
        scores = []
        for order in orders:
            features[:, column] = values[order]
            scores.append(recommender.score(sampled))
        features[:, column] = values
        yield name, scores


class _Window:
    """Judges rankings of the candidates for one kind of list.

    users, items: the relevant pairs. relevant: number of relevant items of each user. hits: whether each candidate is relevant.
    listed: whether it may be in a list.
    """

    def __init__(self, found: Candidates, drawn: NDArray, state: State, labels: Labels, is_new: bool, settings: Settings):
        self.found, self.cutoff, self.settings = found, state.cutoff, settings
        owned, (users, items) = state.owned(), labels
        place = np.full(state.shape[0], -1)
        place[drawn] = np.arange(len(drawn))
        is_relevant = (place[users] >= 0) & ~(is_new & _have(owned, users, items))
        self.users, self.items, self.item_count = place[users[is_relevant]], items[is_relevant], state.shape[1]
        self.relevant = np.bincount(self.users, minlength=len(drawn))
        self.cells = found.rows * state.shape[1] + found.items
        self.hits = np.isin(self.cells, self.users * state.shape[1] + self.items)
        self.listed = ~(is_new & _have(owned, drawn[found.rows], found.items))
        self.columns = position(found.rows)

    def ndcg(self, scores: NDArray) -> NDArray[np.float64]:
        """NDCG@k of each user with relevant items. scores: of all candidates, or of those of the first users. Candidates with a
        score of -inf are not listed."""
        size, k = len(scores), self.settings.evaluation.k
        count = len(self.relevant) if size == len(self.cells) else self.found.rows[size]
        places = self.found.rows[:size], self.columns[:size]
        values, items = (np.full((count, self.columns.max() + 1), empty) for empty in (-np.inf, -1))
        values[places] = np.where(self.listed[:size], scores, -np.inf)
        items[places] = np.where(values[places] > -np.inf, self.found.items[:size], -1)
        lists = np.take_along_axis(items, np.argsort(-values, 1, kind="stable")[:, :k], 1).astype(np.int32)
        known, has = self.users < count, self.relevant[:count] > 0
        users = (np.cumsum(has) - 1)[self.users[known]]
        return score(lists[has], users, self.items[known], self.item_count, [k])[self.settings.evaluation.metric]

    def recall(self, chosen: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Share of each user's relevant items that are among the chosen candidates."""
        found = np.bincount(self.found.rows[chosen & self.hits], minlength=len(self.relevant))
        return found[self.relevant > 0] / self.relevant[self.relevant > 0]

    def limits(self, scores: NDArray[np.float32], drops: Scores) -> Limits:
        proposed = {name: np.isin(self.cells, cells) for name, cells in self.found.proposed.items()}
        is_only = np.sum(list(proposed.values()), 0) == 1
        ranked, recalls = self.ndcg(scores), {name: self.recall(chosen) for name, chosen in proposed.items()}
        of_all = {
            "ranked": ranked,
            "perfect": self.ndcg(self.hits.astype(float)),
            "recall": self.recall(np.ones(len(scores), bool)),
        }
        gains = {name: ranked - self.ndcg(np.where(chosen & is_only, -np.inf, scores)) for name, chosen in proposed.items()}
        means, gained, importance = (
            bootstrap(values, self.settings.evaluation.bootstraps, self.settings.seed) for values in (of_all, gains, drops)
        )
        sources = {
            name: SourceLimits(float(recalls[name].mean()), float(self.recall(chosen & is_only).mean()), gained[name])
            for name, chosen in proposed.items()
        }
        largest = dict(sorted(importance.items(), key=lambda one: -one[1].mean))
        return Limits(self.cutoff.isoformat(), len(ranked), **means, sources=sources, importance=largest)


def _have(owned: sparse.csr_matrix, users: NDArray, items: NDArray) -> NDArray[np.bool_]:
    """Whether each user had a target event with the item."""
    return np.asarray(owned[users, items]).ravel() > 0
