"""Logistic regression: a weighted sum of the features, which is fast to fit and easy to read."""

from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from recsys.recommenders.rankers.base import Features, NothingLearned, Ranker, check_labels, load_arrays, save_arrays

ARRAYS = ("means_", "scales_", "coefficients_", "missing_", "intercept_")
BATCH = 2_048  # number of rows scored at a time, to bound the memory
PENALTY = 10.0  # weight of the squared coefficients relative to the sum of the log-losses


class LogisticRegression(Ranker):
    """Log-odds as a weighted sum of the features; scores are log-odds.

    Each feature is transformed to sign(x) log(1 + |x|), since counts and prices have long tails, and then scaled to mean 0 and
    standard deviation 1. A missing value adds a fitted constant.

    means_, scales_, coefficients_, missing_: of shape (columns,). intercept_: of shape (1,).
    """

    name = "logistic_regression"
    means_: NDArray[np.float64]
    scales_: NDArray[np.float64]
    coefficients_: NDArray[np.float64]
    missing_: NDArray[np.float64]
    intercept_: NDArray[np.float64]

    def fit(self, features: Features, labels: NDArray[np.bool_], weights: NDArray[np.float32], groups: NDArray[np.int64]) -> Self:
        from sklearn.linear_model import LogisticRegression as Model  # costs a CPU second

        check_labels(labels)
        values, missing = _log_scaled(features), np.isnan(features)
        self.means_ = np.nanmean(values, 0, dtype=np.float64)
        spread = np.nanstd(values, 0, dtype=np.float64)
        self.scales_ = np.where(spread > 1e-6, spread, 1.0)
        values = np.nan_to_num((values - self.means_) / self.scales_).astype(np.float32)
        gaps = np.flatnonzero(missing.any(0))
        model = Model(C=1 / PENALTY, max_iter=1_000)
        with threadpool_limits(1):  # with more threads, sums depend on their order
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
        values = (_log_scaled(features) - self.means_) / self.scales_ * self.coefficients_
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


def _log_scaled(features: Features) -> NDArray[np.float32]:
    return np.sign(features) * np.log1p(np.abs(features))
