"""Gradient-boosted trees of scikit-learn, saved as plain arrays."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from recsys.recommenders.rankers.base import MIN_ROWS, Features, NothingLearned, Ranker, check_labels, load_arrays, save_arrays

BINS = 63  # number of bins of a feature's values; 127 take longer and are no more accurate
SAMPLE = 50_000  # number of rows that the limits of the bins are taken from
BATCH = 2_048  # number of rows predicted at a time, so that they stay in the processor's cache

# A node of a tree. Its children come after it; `left` and `right` count from the tree's root.
NODE = np.dtype(
    [
        ("value", "f8"),
        ("count", "u4"),
        ("feature_idx", "i8"),
        ("num_threshold", "f8"),
        ("missing_go_to_left", "u1"),
        ("left", "u4"),
        ("right", "u4"),
        ("is_leaf", "u1"),
    ]
)


class HistGradientBoosting(Ranker):
    """Gradient boosting: each tree is fitted to the errors of the trees before it (Friedman 2001, doi:10.1214/aos/1013203451).
    Scores are probabilities, up to a constant factor of their odds.

    nodes_: nodes of all trees, concatenated. sizes_: number of nodes of each tree.
    """

    name = "hist_gradient_boosting"
    is_probability = True
    nodes_: NDArray
    sizes_: NDArray[np.int64]

    def __init__(self, trees: int = 100, leaves: int = 31, rate: float = 0.1, seed: int = 0):
        self.trees = trees
        self.leaves = leaves
        self.rate = rate
        self.seed = seed

    def fit(self, features: Features, labels: NDArray[np.bool_], weights: NDArray[np.float32], groups: NDArray[np.int64]) -> Self:
        from sklearn.ensemble import HistGradientBoostingClassifier  # costs a CPU second

        check_labels(labels)
        part = slice(None, None, max(1, len(features) // SAMPLE))
        limits = [bin_limits(column, weights[part]) for column in features[part].T]
        bins = np.column_stack([_bins(column, limit) for column, limit in zip(features.T, limits, strict=True)])
        model = HistGradientBoostingClassifier(
            learning_rate=self.rate,
            max_iter=self.trees,
            max_leaf_nodes=self.leaves,
            min_samples_leaf=MIN_ROWS,
            l2_regularization=20.0,  # in weighted rows; with less, small pure leaves reached values of hundreds at 10^6 events
            max_bins=BINS,
            max_features=0.5,  # share of the columns drawn for each split; more diverse trees are better together
            early_stopping=False,
            random_state=self.seed,
        )
        with threadpool_limits(1):  # on a shared core, waiting threads would use ten times the CPU time
            model.fit(bins, labels, sample_weight=weights)
        trees = private_interface().trees_of(model)
        self.nodes_, self.sizes_ = np.concatenate(trees), np.array([len(tree) for tree in trees])
        if self.sizes_.max() == 1:
            raise NothingLearned("no tree found a split")
        split = (self.nodes_["is_leaf"] == 0) & np.isfinite(self.nodes_["num_threshold"])  # others only tell missing values apart
        first = np.cumsum([0, *map(len, limits)])[self.nodes_["feature_idx"][split]]
        self.nodes_["num_threshold"][split] = np.concatenate(limits)[first + self.nodes_["num_threshold"][split].astype(int)]
        return self

    def predict(self, features: Features) -> NDArray[np.float32]:
        compiled = private_interface().compiled
        trees = [compiled(tree) for tree in self._trees()]
        raw = np.zeros(len(features))
        for start in range(0, len(features), BATCH):
            part = np.ascontiguousarray(features[start : start + BATCH], np.float64)
            for tree in trees:
                raw[start : start + BATCH] += tree(part)
        return (1 / (1 + np.exp(-raw))).astype(np.float32)

    def contributions(self, features: Features) -> tuple[NDArray[np.float64], float]:
        """Credits the feature of each split with the change of the training rows' mean from the node to its child (Saabas 2014,
        blog.datadive.net/interpreting-random-forests). Unlike Shapley values, of two features that matter only together the one
        lower in the tree gets more credit (Lundberg et al. 2020, doi:10.1038/s42256-019-0138-9)."""
        values, added, base = features.astype(np.float64), np.zeros(features.shape), 0.0
        for tree in self._trees():
            means = _means(tree)
            base += float(means[0])
            at, rows = np.zeros(len(values), np.int64), np.arange(len(values))
            while len(rows := rows[tree["is_leaf"][at[rows]] == 0]):
                node = tree[at[rows]]
                seen = values[rows, node["feature_idx"]]
                left = np.where(np.isnan(seen), node["missing_go_to_left"] != 0, seen <= node["num_threshold"])
                child = np.where(left, node["left"], node["right"]).astype(np.int64)
                added[rows, node["feature_idx"]] += means[child] - means[at[rows]]
                at[rows] = child
        return added, base

    def learned(self) -> dict[str, NDArray]:
        """Leaves out the thresholds, since an infinite one is valid: it separates missing values from all others."""
        return {"nodes_": self.nodes_["value"], "sizes_": self.sizes_}

    def save(self, folder: Path) -> None:
        save_arrays(folder, {"nodes_": self.nodes_, "sizes_": self.sizes_})

    def load(self, folder: Path, columns: int) -> Self:
        self.nodes_, self.sizes_ = load_arrays(folder, ("nodes_", "sizes_"))
        self._check(columns)
        return self

    def _trees(self) -> list[NDArray]:
        return np.split(self.nodes_, np.cumsum(self.sizes_)[:-1])

    def _check(self, columns: int) -> None:
        """Raises ValueError unless every split has an existing column and later nodes of its tree as children. Otherwise compiled
        code of scikit-learn would read outside its memory, or never end."""
        nodes, sizes = self.nodes_, self.sizes_
        if nodes.dtype != NODE or sizes.dtype.kind != "i":
            raise ValueError(f"nodes of trees are of type {nodes.dtype}, not {NODE}")
        if (sizes < 1).any() or sizes.sum() != len(nodes):
            raise ValueError(f"trees of {sizes.sum()} nodes, and {len(nodes)} nodes")
        ends = np.repeat(np.cumsum(sizes), sizes)
        place = np.arange(len(nodes)) - ends + np.repeat(sizes, sizes)
        below = [(nodes[child] > place) & (nodes[child] < np.repeat(sizes, sizes)) for child in ("left", "right")]
        has_column = (nodes["feature_idx"] >= 0) & (nodes["feature_idx"] < columns) & ~np.isnan(nodes["num_threshold"])
        if wrong := int(((nodes["is_leaf"] == 0) & ~(below[0] & below[1] & has_column)).sum()):
            raise ValueError(f"{wrong} nodes of trees name a node, a feature or a threshold that does not exist")


def bin_limits(values: Features, weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """Returns the largest value of each bin but the last, for the values of one feature: quantiles of the weighted rows, or all
    values if they are few. scikit-learn computes the same, but takes longer for it than for all trees."""
    known = np.flatnonzero(~np.isnan(values))
    known = known[np.argsort(values[known], kind="stable")]
    distinct = np.unique(values[known])
    if len(distinct) <= BINS:
        return distinct[:-1]
    reached = np.cumsum(weights[known], dtype=np.float64)
    limits = np.unique(values[known][np.searchsorted(reached, np.linspace(0, reached[-1], BINS + 1)[1:-1])])
    return limits[limits < distinct[-1]]


def _bins(values: Features, limits: NDArray[np.float32]) -> NDArray[np.float32]:
    """The number of each value's bin; NaN for a missing value."""
    return np.where(np.isnan(values), np.float32(np.nan), np.searchsorted(limits, values).astype(np.float32))


class PrivateInterface(NamedTuple):
    trees_of: Callable[[Any], list[NDArray]]  # returns the nodes of each tree of a fitted model
    compiled: Callable[[NDArray], Callable[[NDArray[np.float64]], NDArray[np.float64]]]  # returns a tree's predict function


def private_interface() -> PrivateInterface:
    """Returns the functions that use scikit-learn's private interface, which has no public way to save a model without code.

    A test runs them with the locked minor version and with the one before.
    """
    from sklearn.ensemble._hist_gradient_boosting.common import PREDICTOR_RECORD_DTYPE
    from sklearn.ensemble._hist_gradient_boosting.predictor import TreePredictor

    no_categories = np.zeros((0, 8), np.uint32)

    def trees_of(model: Any) -> list[NDArray]:
        return [_converted(stage[0].nodes, NODE) for stage in model._predictors]

    def compiled(nodes: NDArray) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
        tree = TreePredictor(_converted(nodes, PREDICTOR_RECORD_DTYPE), no_categories, no_categories)
        return lambda rows: tree.predict(rows, no_categories, np.zeros(rows.shape[1], np.uint32), 1)

    return PrivateInterface(trees_of, compiled)


def _converted(nodes: NDArray, kind: np.dtype) -> NDArray:
    """Copies the fields of NODE to another record type, whose other fields are 0."""
    converted = np.zeros(len(nodes), kind)
    for name in NODE.names or ():
        converted[name] = nodes[name]
    return converted


def _means(tree: NDArray) -> NDArray[np.float64]:
    """For each node, the mean of the leaves below it, weighted by their training rows."""
    means, counts = tree["value"].astype(np.float64), tree["count"].astype(np.float64)
    for node in np.flatnonzero(tree["is_leaf"] == 0)[::-1]:  # children come after their parents
        children = [tree["left"][node], tree["right"][node]]
        means[node] = np.average(means[children], weights=counts[children])
    return means
