"""Two stages: simple recommenders propose candidates, a ranker scores them by the dbt features."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy import sparse

from recsys import RecsysError
from recsys.features import Attribute, State, TrainingWindow
from recsys.recommenders import rankers
from recsys.recommenders.base import Recommender, Scorer, TooLittleData
from recsys.recommenders.title_words import word_sales
from recsys.recommenders.top_k import top
from recsys.settings import PositiveShare, Seed

NEAR = {"within_days": 60.0, "user_damping": 1.0, "half_life_days": 180.0}
CANDIDATE_SOURCES: dict[str, tuple[str, dict[str, Any], int]] = {
    # name: recommender, parameters, candidates of each user; 0: its score is only a feature
    "own": ("repeat_purchase", {}, 60),
    "regression": ("item_regression", {"neighbours": 80}, 40),
    "item_to_item": ("item_to_item", {"within_days": 60.0}, 30),
    "near": ("item_to_item", NEAR | {"power": 0.0}, 0),  # how many of the user's items are like it
    "nearest": ("item_to_item", NEAR | {"power": 4.0}, 0),  # close to the likeness of the most like one
    "same_basket": ("same_basket", {}, 20),
    "same_session": ("same_session", {}, 40),
    "neighbours": ("user_neighbours", {}, 40),
    "titles": ("similar_titles", {}, 15),
    "words": ("title_words", {}, 0),
    "popularity": ("popularity", {"days": 7}, 30),
}
PRIOR = 5.0  # items that each user, and users that each item, is taken to have had besides its own
ROWS = 1_000  # users whose candidates are made at a time
TINY = np.finfo(np.float32).tiny  # stands for a score of 0, which would mean that there is none


@dataclass(frozen=True)
class Candidates:
    """Pairs of a row (of the users asked) and an item, and their features: (pairs, columns)."""

    rows: NDArray[np.int64]
    items: NDArray[np.int64]
    features: NDArray[np.float32]
    columns: list[str]


@dataclass(frozen=True)
class Examples:
    """Candidates of an earlier window to learn from: features (pairs, columns); whether each led to a target event; how many
    candidates it stands for; and its user, a row of the window's state. A user's candidates stand together."""

    features: NDArray[np.float32]
    labels: NDArray[np.bool_]
    weights: NDArray[np.float32]
    users: NDArray[np.int64]
    columns: list[str]


class TwoStage(Recommender):
    """Candidates come from the recommenders in CANDIDATE_SOURCES with every one's score, joined to feat_users, feat_items,
    feat_user_items and a fork's own feat_* models: a new column there is a new feature here. The ranker learns from earlier
    windows, where each source knows what was known then. Of the candidates that were neither taken nor owned a seeded share is
    kept, with its weight. `resample` draws the users to learn from with replacement, to see how much depends on them.

    candidate_sources: fitted, by name. fitted_ranker: the ranker. columns_: names of its features, in their order.
    """

    name = "two_stage"

    def __init__(
        self,
        ranker: rankers.RankerName = "hist_gradient_boosting",
        windows: Annotated[int, Field(ge=1, le=100)] = 8,
        trees: Annotated[int, Field(ge=1, le=10_000)] = 100,
        leaves: Annotated[int, Field(ge=2, le=1_000)] = 31,
        rate: PositiveShare = 0.1,
        negatives: PositiveShare = 0.1,
        seed: Seed = 0,
        resample: bool = False,
    ):
        self.ranker = ranker
        self.windows = windows
        self.trees = trees
        self.leaves = leaves
        self.rate = rate
        self.negatives = negatives
        self.seed = seed
        self.resample = resample
        self._learned_from: dict[Any, Examples | None] = {}

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
        """A window's candidates to learn from; made once however many fits learn from it."""
        if window.key not in self._learned_from:
            self._learned_from[window.key] = self._make_examples(window)
        return self._learned_from[window.key]

    def _make_examples(self, window: TrainingWindow) -> Examples | None:
        state, (users, items) = window.state(), window.labels()
        if not len(users):
            return None
        asked = np.unique(users).astype(np.int64)
        draw = np.random.default_rng([self.seed, window.cutoff.toordinal()])
        times = draw.poisson(1, len(asked)) if self.resample else np.ones(len(asked), np.int64)
        asked, times = asked[times > 0], times[times > 0]
        if not len(asked):
            return None
        bought = np.unique(users.astype(np.int64) * state.shape[1] + items)
        kept: list[tuple[NDArray, ...]] = []
        columns: list[str] = []
        for rows, found in candidates(fit_candidate_sources(state), state, asked):
            label = np.isin(rows[found.rows] * state.shape[1] + found.items, bought)
            own = found.features[:, found.columns.index("own")] > 0
            share = np.where(label, 1.0, np.where(own, 0.5, self.negatives))
            keep = draw.random(len(label)) < share
            weight = times[np.searchsorted(asked, rows[found.rows])] / share
            kept.append((found.features[keep], label[keep], weight[keep].astype(np.float32), rows[found.rows][keep]))
            columns = found.columns
        features, labels, weights, users_of = (np.concatenate(parts) for parts in zip(*kept, strict=True))
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
        """The ranker's scores of candidates that `select` returned, of any sign but never 0."""
        scores = self.fitted_ranker.predict(candidates.features)
        return np.where(scores == 0, TINY, scores)

    def select(self, found: Candidates) -> Candidates:
        """The candidates with those features alone that it was fitted on, found by their names."""
        names = self.columns_.tolist()
        if names == found.columns:
            return found
        if missing := [name for name in names if name not in found.columns]:
            raise RecsysError(
                f"two_stage: it was fitted on features that are gone: {', '.join(missing)}; train again, with `make run`"
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
                f"the model of {self.name} in {folder} has no {Path(missing.filename).name}: an earlier version of the code wrote"
                " it; train again, with `make run`"
            ) from None
        return self


def fit_candidate_sources(state: State) -> dict[str, Recommender]:
    from recsys.recommenders.registry import create

    return {name: create(kind, parameters).learn(state) for name, (kind, parameters, _) in CANDIDATE_SOURCES.items()}


def candidates(
    candidate_sources: Mapping[str, Recommender], state: State, rows: NDArray[np.int64]
) -> Iterator[tuple[NDArray[np.int64], Candidates]]:
    """Candidates of some users at a time."""
    scorers, joined = (
        {name: candidate_source.scorer(state) for name, candidate_source in candidate_sources.items()},
        FeatureTable(state),
    )
    for start in range(0, len(rows), ROWS):
        chunk = rows[start : start + ROWS]
        yield chunk, propose(scorers, joined, chunk)


def propose(scorers: Mapping[str, Callable], joined: "FeatureTable", rows: NDArray[np.int64]) -> Candidates:
    """The union of every candidate source's best available items, with every candidate source's score and the joined features."""
    width = joined.state.shape[1]
    available = sparse.diags(joined.state.items["is_available"].astype(np.float32))
    scores = {name: (score(rows) @ available).tocsr() for name, score in scorers.items()}
    codes = np.unique(np.concatenate([_codes(top(scores[name], CANDIDATE_SOURCES[name][2])) for name in scores]))
    chosen, items = codes // width, codes % width
    columns = {name: _look_up(matrix, codes) for name, matrix in scores.items()} | joined.features(rows[chosen], items)
    return Candidates(chosen, items, np.column_stack(list(columns.values())), list(columns))


def _codes(matrix: sparse.csr_matrix) -> NDArray[np.int64]:
    """Places of a sparse matrix as row * columns + column."""
    return np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr)) * matrix.shape[1] + matrix.indices


def _look_up(matrix: sparse.csr_matrix, codes: NDArray[np.int64]) -> NDArray[np.float32]:
    """Values at these places; 0 where there is none."""
    matrix.sort_indices()
    return _find(_codes(matrix), matrix.data, codes)


def _find(there: NDArray[np.int64], values: NDArray, codes: NDArray[np.int64]) -> NDArray[np.float32]:
    """Values at these places, of which `there` are in order; 0 where there is none."""
    if not len(there):
        return np.zeros(len(codes), np.float32)
    found = np.searchsorted(there, codes).clip(0, len(there) - 1)
    return np.where(there[found] == codes, values[found], 0).astype(np.float32)


class FeatureTable:
    """The dbt features of a state, to be looked up for pairs of user and item."""

    def __init__(self, state: State):
        self.state = state
        self.codes = state.user_items["user_index"].astype(np.int64) * state.shape[1] + state.user_items["item_index"]
        self.pairs = numeric(state.user_items)
        self.users, self.items = numeric(state.users), numeric(state.items) | word_sales(state)
        self.affinities = [Affinity(attribute) for attribute in state.attributes]

    def features(self, users: NDArray[np.int64], items: NDArray[np.int64]) -> dict[str, NDArray[np.float32]]:
        """Columns of feat_user_items (missing where the pair has no event), feat_users and feat_items, what a price and a
        quantity mean to this user, and how well user and item fit by each text attribute."""
        wanted = users * self.state.shape[1] + items
        found = np.searchsorted(self.codes, wanted)
        there = self.codes[found.clip(0, len(self.codes) - 1)] == wanted if len(self.codes) else np.zeros(len(wanted), bool)
        columns: dict[str, NDArray] = {}
        for name, column in self.pairs.items():
            columns[f"pair_{name}"] = np.full(len(wanted), np.nan, np.float32)
            columns[f"pair_{name}"][there] = column[found[there]]
        columns |= {f"user_{name}": column[users] for name, column in self.users.items()}
        columns |= {f"item_{name}": column[items] for name, column in self.items.items()}
        for name in ("mean_price", "quantity_per_target"):
            columns[f"relative_{name}"] = columns[f"item_{name}"] / np.maximum(columns[f"user_{name}"], 1e-6)
        return columns | {affinity.column: affinity.of(users, items) for affinity in self.affinities}


class Affinity:
    """How much larger the share of an attribute's value is among a user's items, or an item's users, than among everybody's of
    the last weeks: the logarithm of the ratio, as if each had PRIOR more, spread as everybody's. 0 for who has none, missing
    where the value is not known."""

    def __init__(self, attribute: Attribute):
        self.column = f"{attribute.entity}_{attribute.name}_affinity"
        self.attribute = attribute
        counts, width = attribute.pairs.sorted_indices(), len(attribute.values)
        expected = PRIOR * (attribute.recent + 1) / max(attribute.recent.sum() + width, 1)
        totals = np.asarray(counts.sum(1)).ravel()
        self.nothing = -np.log1p(totals / PRIOR)  # for a value that the subject has had none of
        self.places, self.gains = _codes(counts), np.log1p(counts.data / expected[counts.indices])

    def of(self, users: NDArray[np.int64], items: NDArray[np.int64]) -> NDArray[np.float32]:
        described, subjects = (items, users) if self.attribute.entity == "item" else (users, items)
        values = self.attribute.value_index[described]
        gains = _find(self.places, self.gains, subjects * len(self.attribute.values) + values.clip(0))
        return np.where(values >= 0, gains + self.nothing[subjects], np.nan).astype(np.float32)


def numeric(table: Mapping[str, NDArray]) -> dict[str, NDArray[np.float32]]:
    """The columns that are features: numbers, but no indexes and no flags."""
    return {
        name: column.astype(np.float32)
        for name, column in sorted(table.items())
        if column.dtype.kind in "iuf" and name not in ("user_index", "item_index")
    }
