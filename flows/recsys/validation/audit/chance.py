"""Random references: random labels, candidates in random order, and the AUC of single features."""

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from recsys.features import State, TrainingWindow
from recsys.recommenders import Recommender, Scorer


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
