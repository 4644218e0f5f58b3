"""Gradient-boosted trees that are kept as plain arrays: scikit-learn fits them, and nothing of it has to be unpickled."""

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

NO_CATEGORIES = np.zeros((0, 8), np.uint32)
LEAF = 50  # training rows in a leaf, at least
BATCH = 2_048  # rows predicted at a time: they stay in the cache while all trees pass over them


def usable(features: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Columns with enough values to split by. scikit-learn draws 200,000 rows for its thresholds, and fails on a column that has no
    value in any of them."""
    return np.array([np.count_nonzero(~np.isnan(column)) for column in features.T]) >= max(LEAF, len(features) / 10_000)


def fit(
    features: NDArray[np.float32],
    labels: NDArray[np.bool_],
    weights: NDArray[np.float32],
    trees: int,
    leaves: int,
    rate: float,
    seed: int,
) -> tuple[NDArray, NDArray[np.int64]]:
    """Nodes of all trees, one after the other, and the number of nodes of each (Friedman 2001,
    doi:10.1214/aos/1013203451)."""
    from sklearn.ensemble import HistGradientBoostingClassifier  # a CPU second, which only the steps that rank pay

    model = HistGradientBoostingClassifier(
        learning_rate=rate,
        max_iter=trees,
        max_leaf_nodes=leaves,
        min_samples_leaf=LEAF,
        l2_regularization=20.0,  # in weighted rows; with less, leaves of a few sure rows ran off to hundreds at 10^6 events
        max_bins=127,
        max_features=0.5,  # of the columns, drawn for each split: trees that differ add up to more
        early_stopping=False,
        random_state=seed,
    )
    with threadpool_limits(1):  # threads that wait for each other burn ten times the work where a core is shared
        model.fit(features, labels, sample_weight=weights)
    nodes = [stage[0].nodes for stage in model._predictors]
    return np.concatenate(nodes), np.array([len(tree) for tree in nodes])


def check(nodes: NDArray, sizes: NDArray[np.int64], columns: int) -> None:
    """Raises ValueError unless every split of the trees asks one of the columns, and leads to nodes further down in its tree:
    scikit-learn's compiled code would follow it out of memory, or in a circle."""
    if (sizes < 1).any() or sizes.sum() != len(nodes):
        raise ValueError(f"trees of {sizes.sum()} nodes, and {len(nodes)} nodes")
    ends = np.repeat(np.cumsum(sizes), sizes)
    place = np.arange(len(nodes)) - ends + np.repeat(sizes, sizes)
    below = [(nodes[child] > place) & (nodes[child] < np.repeat(sizes, sizes)) for child in ("left", "right")]
    asked = (nodes["feature_idx"] >= 0) & (nodes["feature_idx"] < columns) & (nodes["is_categorical"] == 0)
    if wrong := int(((nodes["is_leaf"] == 0) & ~(below[0] & below[1] & asked)).sum()):
        raise ValueError(f"{wrong} nodes of trees name a node or a feature that is none")


def predict(nodes: NDArray, sizes: NDArray[np.int64], features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Probability of each row, up to the constant that all rows share."""
    from sklearn.ensemble._hist_gradient_boosting.predictor import TreePredictor

    ends = np.cumsum(sizes)
    trees = [TreePredictor(nodes[end - size : end], NO_CATEGORIES, NO_CATEGORIES) for end, size in zip(ends, sizes, strict=True)]
    raw = np.zeros(len(features))
    unused = np.zeros(features.shape[1], np.uint32)
    for start in range(0, len(features), BATCH):
        part = np.ascontiguousarray(features[start : start + BATCH], np.float64)
        for tree in trees:
            raw[start : start + BATCH] += tree.predict(part, NO_CATEGORIES, unused, 1)
    return (1 / (1 + np.exp(-raw))).astype(np.float32)


def attribute(nodes: NDArray, sizes: NDArray[np.int64], features: NDArray[np.float32]) -> tuple[NDArray[np.float64], float]:
    """What each feature adds to the score of each row, (rows, columns), and the base that all rows share: their sum is the log-odds
    of what `predict` tells. On the way down a tree the mean of the training rows below moves, and the feature of each split is
    credited with the move (Saabas 2014, blog.datadive.net/interpreting-random-forests). Unlike Shapley values, of two features that
    only matter together it credits the lower one more (Lundberg et al. 2020, doi:10.1038/s42256-019-0138-9)."""
    values, added, base = features.astype(np.float64), np.zeros(features.shape), 0.0
    for tree in np.split(nodes, np.cumsum(sizes)[:-1]):
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


def _means(tree: NDArray) -> NDArray[np.float64]:
    """Of each node, the mean of the leaves below, over the rows that the tree was fitted on. Children follow their parents."""
    means, counts = tree["value"].astype(np.float64), tree["count"].astype(np.float64)
    for node in np.flatnonzero(tree["is_leaf"] == 0)[::-1]:
        children = [tree["left"][node], tree["right"][node]]
        means[node] = np.average(means[children], weights=counts[children])
    return means
