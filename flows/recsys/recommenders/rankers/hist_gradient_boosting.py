"""Gradient-boosted trees of scikit-learn, saved as plain arrays."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from recsys.recommenders.rankers.base import MIN_ROWS, Features, NothingLearned, Ranker, check_labels, load_arrays, save_arrays

if TYPE_CHECKING:
    from sklearn.ensemble import HistGradientBoostingClassifier

MIN_NEGATIVES = 500  # smallest number of rows with label 0 in a fit
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

    fits: number of models whose mean log-odds are the score, with `trees / fits` trees each; fewer if there are few rows. All learn
    from the rows with label 1; the others are dealt out among them, so the models differ, and their mean is at least as good as one
    model on all rows, at less cost (EasyEnsemble: Liu et al. 2009, doi:10.1109/TSMCB.2008.2007853).

    nodes_: nodes of all trees, concatenated. sizes_: number of nodes of each tree.
    """

    name = "hist_gradient_boosting"
    is_probability = True
    nodes_: NDArray
    sizes_: NDArray[np.int64]

    def __init__(self, trees: int = 140, leaves: int = 31, rate: float = 0.1, fits: int = 2, seed: int = 0):
        self.trees = trees
        self.leaves = leaves
        self.rate = rate
        self.fits = fits
        self.seed = seed

    def fit(self, features: Features, labels: NDArray[np.bool_], weights: NDArray[np.float32], groups: NDArray[np.int64]) -> Self:
        check_labels(labels)
        fits = int(np.clip((~labels).sum() // MIN_NEGATIVES, 1, self.fits))
        dealt = np.cumsum(~labels) % fits
        trees: list[NDArray] = []
        for place in range(fits):
            used = labels | (dealt == place)
            one = self._model(self.trees // fits, self.seed + place)
            with threadpool_limits(1):  # on a shared core, waiting threads would use ten times the CPU time
                one.fit(features[used], labels[used], sample_weight=np.where(labels, weights, weights * fits)[used])
            trees += private_interface().trees_of(one)
        self.nodes_, self.sizes_ = np.concatenate(trees), np.array([len(tree) for tree in trees])
        self.nodes_["value"] /= fits
        if self.sizes_.max() == 1:
            raise NothingLearned("no tree found a split")
        return self

    def _model(self, trees: int, seed: int) -> "HistGradientBoostingClassifier":
        from sklearn.ensemble import HistGradientBoostingClassifier  # costs a CPU second

        return HistGradientBoostingClassifier(
            learning_rate=self.rate,
            max_iter=max(trees, 1),
            max_leaf_nodes=self.leaves,
            min_samples_leaf=MIN_ROWS,
            l2_regularization=20.0,  # in weighted rows; with less, small pure leaves reached values of hundreds at 10^6 events
            max_bins=31,  # a sixth faster than 127, and no less accurate
            max_features=0.5,  # share of the columns drawn for each split; more diverse trees are better together
            early_stopping=False,
            random_state=seed,
        )

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
