"""Base class of the rankers: the second stage of two_stage, which scores candidates by their features."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import ClassVar, Self
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from recsys import RecsysError

FILE = "ranker.npz"
MIN_ROWS = 50  # smallest number of training rows in a leaf, and of values in a column

Features = NDArray[np.float32]  # (candidates, columns), NaN for a missing value


class NothingLearned(RecsysError):
    """All labels are the same, or no feature is related to them."""


class Ranker(ABC):
    """As in scikit-learn, `__init__` only stores parameters, `fit` returns self, and fitted attributes have names that end in `_`.

    Random numbers depend only on the parameter `seed`. The same data give the same bytes for any number of threads.
    """

    name: ClassVar[str]
    is_probability: ClassVar[bool] = False  # whether `predict` returns 1 / (1 + exp(-sum of contributions))

    @classmethod
    def missing(cls) -> str:
        """Says what the ranker needs that is not installed, and what to do; "" if it can run."""
        return ""

    @abstractmethod
    def fit(self, features: Features, labels: NDArray[np.bool_], weights: NDArray[np.float32], groups: NDArray[np.int64]) -> Self:
        """Learns which candidates lead to a target event. Every argument has one entry per candidate.

        weights: number of candidates that a row represents. groups: the same number for all candidates of one user in one window,
        which are adjacent. No column is empty (see `usable`). Raises NothingLearned.
        """

    @abstractmethod
    def predict(self, features: Features) -> NDArray[np.float32]:
        """Returns (rows,) scores: finite numbers of any sign, higher is better. A row's score does not depend on other rows."""

    @abstractmethod
    def contributions(self, features: Features) -> tuple[NDArray[np.float64], float]:
        """Returns the contribution of each feature to each score, (rows, columns), and a base value. The base plus a row's
        contributions is its score, or the log-odds of the score if `is_probability`."""

    @abstractmethod
    def learned(self) -> dict[str, NDArray]:
        """Returns the fitted numbers by name. The checks refuse a model with an empty array, a NaN or an infinity in them."""

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Writes the fitted attributes to files of a folder, in formats that cannot run code on load."""

    @abstractmethod
    def load(self, folder: Path, columns: int) -> Self:
        """Loads what `save` wrote. columns: number of features that the ranker was fitted on.

        Raises FileNotFoundError if a file is missing, ValueError or LookupError if one is damaged.
        """


def save_arrays(folder: Path, arrays: Mapping[str, NDArray]) -> None:
    np.savez(folder / FILE, **arrays, allow_pickle=False)


def load_arrays(folder: Path, names: Iterable[str]) -> list[NDArray]:
    """Loads arrays that `save_arrays` wrote, by their names. Raises like `Ranker.load`."""
    try:
        with np.load(folder / FILE, allow_pickle=False) as arrays:
            return [arrays[name] for name in names]
    except FileNotFoundError:
        raise
    except (EOFError, OSError, RuntimeError, BadZipFile) as error:  # errors of zipfile for damaged files
        raise ValueError(f"{FILE}: {error}") from None


def usable(features: Features) -> NDArray[np.bool_]:
    """Returns a mask of the columns with enough values to learn from. scikit-learn takes its thresholds from a sample of 200,000
    rows, and fails on a column that has no value in it."""
    return np.array([np.count_nonzero(~np.isnan(column)) for column in features.T]) >= max(MIN_ROWS, len(features) / 10_000)


def check_labels(labels: NDArray[np.bool_]) -> None:
    """Raises NothingLearned if all labels are the same."""
    if labels.all() or not labels.any():
        raise NothingLearned(f"{int(labels.sum()):,} of {len(labels):,} labels are true; a ranker needs some of both kinds")
