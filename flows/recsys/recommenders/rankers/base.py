"""What a ranker is: the second stage of two_stage, which learns from earlier windows how to score candidates by their features."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import ClassVar, Self
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from recsys import RecsysError

FILE = "ranker.npz"
MIN_ROWS = 50  # training rows that a rule must rest on: rows in a leaf, values in a column

Features = NDArray[np.float32]  # (rows, columns): a row for each candidate, NaN where a value is missing


class NothingLearned(RecsysError):
    """The labels are all the same, or no feature tells them apart."""


class Ranker(ABC):
    """As in scikit-learn, `__init__` only stores parameters, `fit` returns self, and fitted state is in attributes whose names
    end in `_`. A new ranker is a class in a file here and its line in the registry.

    Randomness comes from the parameter `seed` alone. The same data give the same bytes, whatever the number of threads.
    """

    name: ClassVar[str]
    is_probability: ClassVar[bool] = False  # whether `predict` gives 1 / (1 + exp(-sum)) of the contributions' sum

    @classmethod
    def missing(cls) -> str:
        """What the ranker needs that is not installed, and what to do; empty where it can run."""
        return ""

    @abstractmethod
    def fit(self, features: Features, labels: NDArray[np.bool_], weights: NDArray[np.float32], groups: NDArray[np.int64]) -> Self:
        """Learns which candidates led to a target event. Every argument has one entry for each row.

        weights: how many candidates a row stands for. groups: equal numbers for the candidates of one user in one window; they
        stand together. No column is empty (see `usable`). Raises NothingLearned.
        """

    @abstractmethod
    def predict(self, features: Features) -> NDArray[np.float32]:
        """Scores, (rows,): finite numbers of any sign, higher is better. A row's score does not depend on the other rows."""

    @abstractmethod
    def contributions(self, features: Features) -> tuple[NDArray[np.float64], float]:
        """What each feature adds to the score of each row, (rows, columns), and the base that all rows share. Added up they are the
        score, or its log-odds where `is_probability`."""

    @abstractmethod
    def learned(self) -> dict[str, NDArray]:
        """Fitted numbers by name. Checks refuse a model with an empty array, a NaN or an infinity among them."""

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Writes what was learned into files of the folder, in formats that run no code on load."""

    @abstractmethod
    def load(self, folder: Path, columns: int) -> Self:
        """Takes up what `save` wrote of a ranker that was fitted on so many columns. Raises FileNotFoundError if there is nothing,
        ValueError or LookupError if it does not fit together."""


def save_arrays(folder: Path, arrays: Mapping[str, NDArray]) -> None:
    np.savez(folder / FILE, **arrays, allow_pickle=False)


def load_arrays(folder: Path, names: Iterable[str]) -> list[NDArray]:
    """What `save_arrays` wrote under these names. Raises as `Ranker.load` does."""
    try:
        with np.load(folder / FILE, allow_pickle=False) as arrays:
            return [arrays[name] for name in names]
    except FileNotFoundError:
        raise
    except (EOFError, OSError, RuntimeError, BadZipFile) as error:  # what zipfile raises on damage
        raise ValueError(f"{FILE}: {error}") from None


def usable(features: Features) -> NDArray[np.bool_]:
    """Columns with enough values to learn from. scikit-learn draws 200,000 rows for its thresholds, and fails on a column that has
    no value in any of them."""
    return np.array([np.count_nonzero(~np.isnan(column)) for column in features.T]) >= max(MIN_ROWS, len(features) / 10_000)


def check_labels(labels: NDArray[np.bool_]) -> None:
    """Raises NothingLearned if all labels are the same."""
    if labels.all() or not labels.any():
        raise NothingLearned(f"{int(labels.sum()):,} of {len(labels):,} labels are true; a ranker needs some of both kinds")
