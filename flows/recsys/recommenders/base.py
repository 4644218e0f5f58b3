"""Base class of the recommenders. To add one, write a subclass and its line in registry.py."""

import inspect
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from recsys import RecsysError
from recsys.features import State, TrainingWindow, matrix_of_file, places
from recsys.recommenders.top_k import rank

CHUNK = 2_000  # number of users ranked at a time, to bound the memory
LIST_KINDS = {"all_items": False, "new_items": True}  # value: whether lists leave out items that the user had a target event with
FILL_DAYS = 28  # window of the popularity that breaks ties and fills up lists


class TooLittleData(RecsysError):
    """The data are too few to fit this recommender. A run skips it and goes on with the others."""


@dataclass(frozen=True)
class Lists:
    """Ranked lists of some users, best item first.

    items: (users, k) indexes of the state's items, -1 where the list ends. scores: (users, k), of any sign. Items with a score of 0
    were filled up from recent popularity. kept_out: only from `rank`; rows and items that scored above the last item of the list
    but were not allowed in it.
    """

    items: NDArray[np.int32]
    scores: NDArray[np.float32]
    kept_out: tuple[NDArray[np.int64], NDArray[np.int32]] | None = None


Scorer = Callable[[NDArray[np.int64]], sparse.csr_matrix]


class Recommender(ABC):
    """Fits on a state, and ranks for the users of the same or a later state.

    As in scikit-learn, `__init__` only stores parameters, `fit` returns self, and the fitted arrays and sparse matrices have names
    that end in `_`.
    """

    name: ClassVar[str]
    only_seen: ClassVar[bool] = False  # whether it scores only items that the user had a target event with, so no new items
    item_ids_: NDArray[np.str_]
    left_out: Sequence[str] = ()  # features that the last fit did not use, since they have too few values

    def fit(self, state: State, windows: Sequence[TrainingWindow] = ()) -> Self:
        """Fits on everything before the state's cutoff.

        windows: earlier cutoffs whose horizons have ended, newest first, for recommenders that learn from labels. Raises
        TooLittleData if there is nothing to learn from.
        """
        self.learn(state)
        if lack := self._lack(state):
            raise TooLittleData(f"{self.name}: {lack}")
        return self

    @abstractmethod
    def _fit(self, state: State) -> None:
        """Sets the fitted attributes."""

    def learn(self, state: State) -> Self:
        """Fits on the state like `fit`, but accepts too little data. Without any, it ranks by recent popularity."""
        self.item_ids_ = state.item_ids
        self._fit(state)
        return self

    def _lack(self, state: State) -> str:
        """Says which data the state lacks to fit this recommender; "" if it has enough."""
        return ""

    @abstractmethod
    def scorer(self, state: State) -> Scorer:
        """Returns a function that takes row numbers of users of this state and returns their scores, a (rows, items) sparse matrix.
        Scores may have any sign; 0 means no score."""

    def recommend(self, user_ids: NDArray[np.str_], k: int, state: State, exclude_seen: bool = False) -> Lists:
        """Returns the k best available items of each user. Ties are broken by recent popularity, then by id.

        user_ids: unknown users get recent popularity. exclude_seen: leave out items that the user has had a target event with.
        """
        lists = Lists(np.full((len(user_ids), k), -1, np.int32), np.zeros((len(user_ids), k), np.float32))
        for start, (part,) in self.rank(user_ids, k, state, (exclude_seen,)):
            lists.items[start : start + len(part.items)], lists.scores[start : start + len(part.items)] = part.items, part.scores
        return lists

    def rank(
        self,
        user_ids: NDArray[np.str_],
        k: int,
        state: State,
        exclusions: Sequence[bool],
        listed: NDArray[np.bool_] | None = None,
        at_a_time: int = 0,
    ) -> Iterator[tuple[int, list[Lists]]]:
        """Yields the lists of some users at a time: the position of the first user, and Lists for each value in `exclusions`.

        exclusions: values of `exclude_seen`; users are scored once for all. listed: mask of the items that may be listed; by
        default the available ones. at_a_time: number of users; 0 for CHUNK.
        """
        listed = state.items["is_available"] if listed is None else listed
        popular = popularity_order(state)
        popular = popular[listed[popular]]
        score, owned, rows = self.scorer(state), state.owned(), state.rows(user_ids)
        size = at_a_time or CHUNK
        for start in range(0, len(rows), size):
            asked = rows[start : start + size]
            known = np.flatnonzero(asked >= 0)
            scores, bought = (_widen(part, known, len(asked)) for part in (score(asked[known]), owned[asked[known]]))
            lists = []
            for exclude_seen in exclusions:
                hidden = np.tile(~listed, (len(asked), 1))
                if exclude_seen:
                    hidden[bought.nonzero()] = True
                lists.append(Lists(*rank(scores, hidden, k, popular)))
            yield start, lists

    def columns(self, state: State) -> NDArray[np.int64]:
        """Returns the index in the state of each fitted item; -1 for items that are not in the state."""
        return places(state.item_ids, self.item_ids_)

    def parameters(self) -> dict[str, Any]:
        """Returns the arguments of `__init__`."""
        return {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}

    def save(self, folder: Path) -> None:
        """Writes the parameters (JSON) and fitted arrays (npz) to a folder. Neither format can run code on load."""
        arrays: dict[str, NDArray] = {}
        for name, value in sorted(vars(self).items()):
            if name.endswith("_") and sparse.issparse(value):
                arrays |= {f"{name}.{part}": getattr(value, part) for part in ("data", "indices", "indptr")}
                arrays[f"{name}.shape"] = np.array(value.shape)
            elif name.endswith("_"):
                arrays[name] = value
        np.savez(folder / "learned.npz", **arrays, allow_pickle=False)
        (folder / "recommender.json").write_text(json.dumps({"name": self.name, "parameters": self.parameters()}, sort_keys=True))

    def restore(self, folder: Path) -> Self:
        """Loads what `save` wrote. Raises ValueError if it is damaged."""
        with np.load(folder / "learned.npz", allow_pickle=False) as arrays:
            parts = {name: arrays[name] for name in arrays.files}
        for name in sorted({name.partition(".")[0] for name in parts}):
            if name in parts:
                setattr(self, name, parts[name])
            else:
                own = {part: parts[f"{name}.{part}"] for part in ("data", "indices", "indptr", "shape")}
                setattr(self, name, matrix_of_file(own, own["shape"].tolist()))
        return self


def popularity_order(state: State) -> NDArray[np.int64]:
    """Returns the indexes of the available items, by falling number of target events in the last weeks, then ever, then by id."""
    recent, ever = state.items[f"target_events_{FILL_DAYS}d"], state.items["target_events"]
    order = np.lexsort((np.arange(state.shape[1]), -np.nan_to_num(ever), -np.nan_to_num(recent)))
    return order[state.items["is_available"][order]]


def _widen(matrix: sparse.csr_matrix, rows: NDArray, height: int) -> sparse.csr_matrix:
    """Spreads the rows of a matrix to the positions `rows` of a matrix with `height` rows; the others are empty."""
    lengths = np.zeros(height, np.int64)
    lengths[rows] = np.diff(matrix.indptr)
    return sparse.csr_matrix(
        (matrix.data, matrix.indices, np.concatenate([[0], np.cumsum(lengths)])), shape=(height, matrix.shape[1])
    )
