"""Logistic regression: a weighted sum of the features, which is quick to fit and easy to read."""

from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from recsys.recommenders.rankers.base import Features, NothingLearned, Ranker, check_labels, load_arrays, save_arrays

ARRAYS = ("means_", "scales_", "coefficients_", "missing_", "intercept_")
BATCH = 2_048  # rows scored at a time: bounds the memory
PENALTY = 10.0  # of the squared weights, against the log-loss of as many weighted rows


class LogisticRegression(Ranker):
    """Log-odds as a sum over the features. Each is brought to sign(x) log(1 + |x|), since counts and prices have long tails, then
    to mean 0 and standard deviation 1, and has a coefficient. A missing value adds a learned constant instead. Scores are log-odds.

    means_, scales_, coefficients_, missing_: an entry for each column. intercept_: of shape (1,).
    """

    name = "logistic_regression"
    means_: NDArray[np.float64]
    scales_: NDArray[np.float64]
    coefficients_: NDArray[np.float64]
    missing_: NDArray[np.float64]
    intercept_: NDArray[np.float64]

    def fit(self, features: Features, labels: NDArray[np.bool_], weights: NDArray[np.float32], groups: NDArray[np.int64]) -> Self:
        from sklearn.linear_model import LogisticRegression as Model  # a CPU second, which only the steps that rank pay

        check_labels(labels)
        values, missing = _squeezed(features), np.isnan(features)
        self.means_ = np.nanmean(values, 0, dtype=np.float64)
        spread = np.nanstd(values, 0, dtype=np.float64)
        self.scales_ = np.where(spread > 1e-6, spread, 1.0)
        values = np.nan_to_num((values - self.means_) / self.scales_).astype(np.float32)
        gaps = np.flatnonzero(missing.any(0))
        model = Model(C=1 / PENALTY, max_iter=1_000)
        with threadpool_limits(1):  # more threads add up in another order
            model.fit(np.hstack([values, missing[:, gaps]]), labels, sample_weight=weights)
        found, columns = model.coef_[0].astype(np.float64), features.shape[1]
        self.coefficients_, self.intercept_ = found[:columns], model.intercept_.astype(np.float64)
        self.missing_ = np.zeros(columns)
        self.missing_[gaps] = found[columns:]
        if not found.any():
            raise NothingLearned("all coefficients are 0")
        return self

    def predict(self, features: Features) -> NDArray[np.float32]:
        scores = np.full(len(features), self.intercept_[0])
        for start in range(0, len(features), BATCH):
            scores[start : start + BATCH] += self._added(features[start : start + BATCH]).sum(1)
        return scores.astype(np.float32)

    def contributions(self, features: Features) -> tuple[NDArray[np.float64], float]:
        return self._added(features), float(self.intercept_[0])

    def _added(self, features: Features) -> NDArray[np.float64]:
        values = (_squeezed(features) - self.means_) / self.scales_ * self.coefficients_
        return np.where(np.isnan(features), self.missing_, values)

    def learned(self) -> dict[str, NDArray]:
        return {name: getattr(self, name) for name in ARRAYS}

    def save(self, folder: Path) -> None:
        save_arrays(folder, self.learned())

    def load(self, folder: Path, columns: int) -> Self:
        found = dict(zip(ARRAYS, load_arrays(folder, ARRAYS), strict=True))
        for name, array in found.items():
            expected = (1,) if name == "intercept_" else (columns,)
            if array.dtype != np.float64 or array.shape != expected:
                raise ValueError(f"{name} is of type {array.dtype} and shape {array.shape}, not float64 and {expected}")
        if not (found["scales_"] > 0).all():
            raise ValueError("scales_ has a value that is not above 0")
        vars(self).update(found)
        return self


def _squeezed(features: Features) -> NDArray[np.float32]:
    return np.sign(features) * np.log1p(np.abs(features))
