"""Two stages: simple recommenders propose candidates, and a ranker scores them by the dbt features."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy import sparse

from recsys import RecsysError
from recsys.features import Attribute, State, TrainingWindow, places
from recsys.recommenders import rankers
from recsys.recommenders.base import Recommender, Scorer, TooLittleData
from recsys.recommenders.title_words import word_sales
from recsys.recommenders.top_k import cell_values, cells, top, values_at, within
from recsys.settings import PositiveShare, Seed

NEAR = {"within_days": 60.0, "user_damping": 1.0, "half_life_days": 180.0}
CANDIDATE_SOURCES: dict[str, tuple[str, dict[str, Any], int]] = {
    # name: recommender, parameters, number of candidates per user (0: its score is only a feature)
    "own": ("repeat_purchase", {}, 60),
    "regression": ("item_regression", {"neighbours": 80}, 40),
    "item_to_item": ("item_to_item", {"within_days": 60.0}, 30),
    "near": ("item_to_item", NEAR | {"power": 0.0}, 0),  # number of similar items in the user's history
    "nearest": ("item_to_item", NEAR | {"power": 4.0}, 0),  # approximates the similarity to the most similar item
    "same_session": ("same_session", {}, 40),
    "neighbours": ("user_neighbours", {}, 40),
    "titles": ("similar_titles", {}, 15),
    "words": ("title_words", {}, 0),
    "popularity": ("popularity", {"days": 7}, 30),
}
PRIOR = 5.0  # pseudo-count of an Affinity: items added to each user's, and users added to each item's
ROWS = 1_000  # number of users whose candidates are made at a time
TINY = np.finfo(np.float32).tiny  # replaces a score of 0, which would mean no score


@dataclass(frozen=True)
class Candidates:
    """Pairs of users and items with their features. rows: position of each user in the request. features: (pairs, columns).
    proposed: by candidate source, its pairs as row * number of items + item."""

    rows: NDArray[np.int64]
    items: NDArray[np.int64]
    features: NDArray[np.float32]
    columns: list[str]
    proposed: Mapping[str, NDArray[np.int64]] = field(default_factory=dict)


@dataclass(frozen=True)
class Examples:
    """Training data of one window. The candidates of a user are adjacent.

    features: (candidates, columns). labels: whether each led to a target event. weights: number of candidates that each represents.
    users: row of each one's user in the window's state.
    """

    features: NDArray[np.float32]
    labels: NDArray[np.bool_]
    weights: NDArray[np.float32]
    users: NDArray[np.int64]
    columns: list[str]


class TwoStage(Recommender):
    """Candidates are the union of the best items of the recommenders in CANDIDATE_SOURCES. Their features are the scores of all
    these recommenders and the columns of feat_users, feat_items, feat_user_items and a fork's own feat_* models, so a new column
    there is a new feature here.

    The ranker is trained on earlier windows, with sources that are fitted on what was known then. `negatives` is the share kept of
    candidates without a target event before or after the cutoff; each is weighted by 1 / share.
    windows: number of training windows. rows: largest number of training rows; of windows with more than their part of them, a
    random sample of the users is used. trees, leaves, rate: of rankers with trees. resample: train on a bootstrap sample of
    the users, to measure how much the result depends on them.

    candidate_sources: fitted recommenders by name. fitted_ranker: the ranker. columns_: names of its features, in order.
    """

    name = "two_stage"

    def __init__(
        self,
        ranker: rankers.RankerName = "hist_gradient_boosting",
        windows: Annotated[int, Field(ge=1, le=100)] = 8,
        rows: Annotated[int, Field(ge=1_000, le=100_000_000)] = 400_000,
        trees: Annotated[int, Field(ge=1, le=10_000)] = 100,
        leaves: Annotated[int, Field(ge=2, le=1_000)] = 31,
        rate: PositiveShare = 0.1,
        negatives: PositiveShare = 0.1,
        seed: Seed = 0,
        resample: bool = False,
    ):
        self.ranker = ranker
        self.windows = windows
        self.rows = rows
        self.trees = trees
        self.leaves = leaves
        self.rate = rate
        self.negatives = negatives
        self.seed = seed
        self.resample = resample
        self._cached_examples: dict[Any, Examples | None] = {}

    def fit(self, state: State, windows: Sequence[TrainingWindow] = ()) -> Self:
        parts = [part for part in (self._examples(window) for window in windows[: self.windows]) if part is not None]
        if not parts:
            raise TooLittleData(
                f"{self.name}: of {len(windows)} earlier windows that ended by {state.cutoff}, none has a user with a target event"
            )
        columns = np.array(parts[0].columns)
        features, labels, weights = (
            np.concatenate([getattr(part, name) for part in parts]) for name in ("features", "labels", "weights")
        )
        groups = np.concatenate([window << 32 | part.users for window, part in enumerate(parts)])
        used = rankers.usable(features)
        self.columns_, self.left_out = columns[used], columns[~used].tolist()
        outcomes = f"{labels.sum():,} of {len(labels):,} candidates in earlier windows led to a target event"
        if labels.all() or not labels.any() or not used.any():
            raise TooLittleData(f"{self.name}: {outcomes}, too few to rank by")
        features = features if used.all() else features[:, used]
        try:
            self.fitted_ranker = self._new_ranker().fit(features, labels, weights, groups)
        except rankers.NothingLearned as reason:
            raise TooLittleData(f"{self.name}: {outcomes}, too few to rank by: {reason}") from None
        return super().fit(state)

    def _new_ranker(self) -> rankers.Ranker:
        return rankers.create(self.ranker, self.parameters())

    def _fit(self, state: State) -> None:
        self.candidate_sources = fit_candidate_sources(state)

    def _examples(self, window: TrainingWindow) -> Examples | None:
        """Training data of a window. They are cached for further fits."""
        if window.key not in self._cached_examples:
            self._cached_examples[window.key] = self._make_examples(window)
        return self._cached_examples[window.key]

    def _make_examples(self, window: TrainingWindow) -> Examples | None:
        state, (users, items) = window.state(), window.labels()
        if not len(users):
            return None
        buyers, width = np.unique(users).astype(np.int64), state.shape[1]
        draw = np.random.default_rng([self.seed, window.cutoff.toordinal()])
        times = np.zeros(state.shape[0])  # how often each user is in the sample
        times[buyers] = draw.poisson(1, len(buyers)) if self.resample else 1
        if not times.any():
            return None
        bought = np.unique(users.astype(np.int64) * width + items)
        most = self.rows // self.windows
        parts: list[tuple[NDArray, ...]] = []
        columns: list[str] = []
        for chunk, found in candidates(fit_candidate_sources(state), state, draw.permutation(np.flatnonzero(times))):
            user = chunk[found.rows]
            label = np.isin(user * width + found.items, bought)
            own = found.features[:, found.columns.index("own")] > 0
            share = np.where(label, 1.0, np.where(own, 0.5, self.negatives))
            keep = draw.random(len(label)) < share
            weight = (times[user] / share).astype(np.float32)
            parts.append((found.features[keep], label[keep], weight[keep], user[keep]))
            columns = found.columns
            if sum(len(part[1]) for part in parts) >= most:
                break
        features, labels, weights, users_of = (np.concatenate(arrays)[:most] for arrays in zip(*parts, strict=True))
        return Examples(features, labels, weights, users_of, columns)

    def scorer(self, state: State) -> Scorer:
        candidate_sources = {name: candidate_source.scorer(state) for name, candidate_source in self.candidate_sources.items()}
        joined = FeatureTable(state)

        def score(rows: NDArray[np.int64]) -> sparse.csr_matrix:
            parts = []
            for start in range(0, len(rows), ROWS):
                chunk = rows[start : start + ROWS]
                found = propose(candidate_sources, joined, chunk)
                values = self.score(self.select(found))
                parts.append(sparse.csr_matrix((values, (found.rows, found.items)), (len(chunk), state.shape[1])))
            return sparse.vstack(parts, format="csr") if parts else sparse.csr_matrix((0, state.shape[1]), dtype=np.float32)

        return score

    def score(self, candidates: Candidates) -> NDArray[np.float32]:
        """Returns the ranker's scores of candidates that `select` returned. They may have any sign, but are never 0."""
        scores = self.fitted_ranker.predict(candidates.features)
        return np.where(scores == 0, TINY, scores)

    def select(self, found: Candidates) -> Candidates:
        """Returns the candidates with the features that the ranker was fitted on, by their names and in their order. Raises
        RecsysError if one is missing."""
        names = self.columns_.tolist()
        if names == found.columns:
            return found
        if missing := [name for name in names if name not in found.columns]:
            raise RecsysError(
                f"two_stage: it was fitted on features that no longer exist: {', '.join(missing)}; train again, with `make run`"
            )
        return replace(found, features=found.features[:, [found.columns.index(name) for name in names]], columns=names)

    def save(self, folder: Path) -> None:
        super().save(folder)
        self.fitted_ranker.save(folder)
        for name, candidate_source in self.candidate_sources.items():
            (folder / name).mkdir()
            candidate_source.save(folder / name)

    def restore(self, folder: Path) -> Self:
        from recsys.recommenders.registry import load

        self.candidate_sources = {name: load(folder / name) for name in CANDIDATE_SOURCES}
        super().restore(folder)
        try:
            self.fitted_ranker = self._new_ranker().load(folder, len(self.columns_))
        except FileNotFoundError as missing:
            raise RecsysError(
                f"the model of {self.name} in {folder} has no {Path(missing.filename).name}: another version of the code wrote it;"
                " train again, with `make run`"
            ) from None
        return self


def fit_candidate_sources(state: State) -> dict[str, Recommender]:
    """Fits all recommenders in CANDIDATE_SOURCES on a state, and returns them by their names there."""
    from recsys.recommenders.registry import create

    return {name: create(kind, parameters).learn(state) for name, (kind, parameters, _) in CANDIDATE_SOURCES.items()}


def candidates(
    candidate_sources: Mapping[str, Recommender], state: State, rows: NDArray[np.int64]
) -> Iterator[tuple[NDArray[np.int64], Candidates]]:
    """Yields rows of some users at a time, and their candidates."""
    scorers, joined = {name: source.scorer(state) for name, source in candidate_sources.items()}, FeatureTable(state)
    for start in range(0, len(rows), ROWS):
        chunk = rows[start : start + ROWS]
        yield chunk, propose(scorers, joined, chunk)


def propose(scorers: Mapping[str, Callable], joined: "FeatureTable", rows: NDArray[np.int64]) -> Candidates:
    """Returns the union of the best available items of all candidate sources, with the scores of all sources and the features."""
    width, available = joined.state.shape[1], joined.state.items["is_available"]
    scores = {name: score(rows) for name, score in scorers.items()}
    proposed = {name: cells(top(within(scores[name], available), size)) for name in scores if (size := CANDIDATE_SOURCES[name][2])}
    pairs = np.unique(np.concatenate(list(proposed.values())))
    chosen, items = pairs // width, pairs % width
    columns: dict[str, NDArray] = {name: values_at(matrix, chosen, items) for name, matrix in scores.items()}
    columns |= joined.features(rows[chosen], items)
    return Candidates(chosen, items, np.column_stack(list(columns.values())), list(columns), proposed)


class FeatureTable:
    """Looks up the dbt features of a state for pairs of user and item."""

    def __init__(self, state: State):
        self.state = state
        self.cells = state.user_items["user_index"].astype(np.int64) * state.shape[1] + state.user_items["item_index"]
        self.pairs = numeric(state.user_items)
        self.users, self.items = numeric(state.users), numeric(state.items) | word_sales(state)
        self.affinities = [Affinity(attribute) for attribute in state.attributes]

    def features(self, users: NDArray[np.int64], items: NDArray[np.int64]) -> dict[str, NDArray[np.float32]]:
        """Returns, for each pair, the columns of feat_user_items (NaN for pairs without an event), feat_users and feat_items, the
        item's price and quantity relative to the user's, and the affinity by each text attribute."""
        found = places(self.cells, users * self.state.shape[1] + items)
        has_event = found >= 0
        columns: dict[str, NDArray] = {}
        for name, column in self.pairs.items():
            columns[f"pair_{name}"] = np.full(len(found), np.nan, np.float32)
            columns[f"pair_{name}"][has_event] = column[found[has_event]]
        columns |= {f"user_{name}": column[users] for name, column in self.users.items()}
        columns |= {f"item_{name}": column[items] for name, column in self.items.items()}
        for name in ("mean_price", "quantity_per_target"):
            columns[f"relative_{name}"] = columns[f"item_{name}"] / np.maximum(columns[f"user_{name}"], 1e-6)
        return columns | {affinity.column: affinity.of(users, items) for affinity in self.affinities}


class Affinity:
    """Log ratio of the share of an attribute's value among a user's items (or an item's users) to its share among all pairs of the
    last weeks. The first share is smoothed by PRIOR pseudo-counts with the distribution of all. 0 without history, NaN for an
    unknown value."""

    def __init__(self, attribute: Attribute):
        self.column = f"{attribute.entity}_{attribute.name}_affinity"
        self.attribute = attribute
        counts, width = attribute.pairs.sorted_indices(), len(attribute.values)
        expected = PRIOR * (attribute.recent + 1) / max(attribute.recent.sum() + width, 1)
        totals = np.asarray(counts.sum(1)).ravel()
        self.lowest = -np.log1p(totals / PRIOR)  # for a value that the subject has not had
        self.cells, self.gains = cells(counts), np.log1p(counts.data / expected[counts.indices])

    def of(self, users: NDArray[np.int64], items: NDArray[np.int64]) -> NDArray[np.float32]:
        described, subjects = (items, users) if self.attribute.entity == "item" else (users, items)
        values = self.attribute.value_index[described]
        wanted = subjects * len(self.attribute.values) + values.clip(0)
        gains = cell_values(self.cells, self.gains, wanted).astype(np.float32)
        return np.where(values >= 0, gains + self.lowest[subjects], np.nan).astype(np.float32)


def numeric(table: Mapping[str, NDArray]) -> dict[str, NDArray[np.float32]]:
    """Returns the numeric columns of a table as float32, without indexes and flags."""
    return {
        name: column.astype(np.float32)
        for name, column in sorted(table.items())
        if column.dtype.kind in "iuf" and name not in ("user_index", "item_index")
    }
