"""What a recommender is. A new one is: a class in a file here, and its line in the registry."""

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

CHUNK = 2_000  # users ranked at a time: bounds the memory
LIST_KINDS = {"all_items": False, "new_items": True}  # and whether lists leave out items that the user has seen
FILL_DAYS = 28  # recent popularity breaks ties and fills lists up


class TooLittleData(RecsysError):
    """A recommender has nothing to learn from in these data. It is skipped, and the others compete."""


@dataclass(frozen=True)
class Lists:
    """Ranked items of some users, best first: (users, k) rows of the state's items, -1 where there are no more, and their
    scores, which may have any sign. Items with a score of 0 are recent popularity, which fills the list up.
    kept_out: rows and items that scored above the last of their list and may not be in it; only `rank` tells them."""

    items: NDArray[np.int32]
    scores: NDArray[np.float32]
    kept_out: tuple[NDArray[np.int64], NDArray[np.int32]] | None = None


Scorer = Callable[[NDArray[np.int64]], sparse.csr_matrix]


class Recommender(ABC):
    """Learns from a state and ranks for the users of another one, later or the same. As in scikit-learn, `__init__` only
    stores its parameters, `fit` returns self, and what was learned is in arrays and sparse matrices whose names end in `_`."""

    name: ClassVar[str]
    only_seen: ClassVar[bool] = False  # scores nothing but items that a user has had, so no list without those is its own
    item_ids_: NDArray[np.str_]
    left_out: Sequence[str] = ()  # features that the last fit did without, since they have too few values

    def fit(self, state: State, windows: Sequence[TrainingWindow] = ()) -> Self:
        """Learns from everything before the state's cutoff. `windows`: earlier cutoffs whose horizons ended by then, newest
        first, for those that learn from outcomes. Raises TooLittleData where there is nothing to learn from."""
        self.learn(state)
        if lack := self._lack(state):
            raise TooLittleData(f"{self.name}: {lack}")
        return self

    @abstractmethod
    def _fit(self, state: State) -> None:
        """Sets what is learned from the state."""

    def learn(self, state: State) -> Self:
        """What `fit` does with the state, without its check: a recommender that learned nothing ranks by recent popularity."""
        self.item_ids_ = state.item_ids
        self._fit(state)
        return self

    def _lack(self, state: State) -> str:
        """What the state it was fitted on lacks, in words; empty where it can learn."""
        return ""

    @abstractmethod
    def scorer(self, state: State) -> Scorer:
        """Returns a function of rows of users of this state. It gives (rows, items) scores of the items that speak to them, of any
        sign; a score of 0 is none."""

    def recommend(self, user_ids: NDArray[np.str_], k: int, state: State, exclude_seen: bool = False) -> Lists:
        """The k best available items of each user, ties broken by recent popularity and then by id; unknown users get
        recent popularity. `exclude_seen` leaves out items that the user has had a target event with."""
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
        """The same for some users at a time, with the place of the first, scored once for all kinds of list.
        `listed`: the items that lists may hold, where they are not all that are available. `at_a_time`: users; 0 for CHUNK."""
        listed = state.items["is_available"] if listed is None else listed
        popular = popularity_order(state)
        popular = popular[listed[popular]]
        place = np.zeros(state.shape[1], np.int64)  # of each item in the order
        place[popular] = np.arange(len(popular))
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
                lists.append(Lists(*rank(scores, hidden, k, popular, place)))
            yield start, lists

    def columns(self, state: State) -> NDArray[np.int64]:
        """Row in the state of each item that was learned; -1 for those that are gone."""
        return places(state.item_ids, self.item_ids_)

    def importance(self, state: State, rows: NDArray[np.int64]) -> dict[str, float]:
        """Share of each feature in the scores of these users' candidates, largest first; empty if there are none."""
        return {}

    def parameters(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}

    def save(self, folder: Path) -> None:
        """Writes parameters (JSON) and what was learned (npz): no format that could run code on load."""
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
        """Takes up what `save` wrote. Raises ValueError if it does not fit together."""
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
    """Available items, most target events of the last weeks first, then most ever, then by id."""
    recent, ever = state.items[f"target_events_{FILL_DAYS}d"], state.items["target_events"]
    order = np.lexsort((np.arange(state.shape[1]), -np.nan_to_num(ever), -np.nan_to_num(recent)))
    return order[state.items["is_available"][order]]


def _widen(matrix: sparse.csr_matrix, rows: NDArray, height: int) -> sparse.csr_matrix:
    """The matrix with empty rows put in, such that its rows come to stand at `rows` of `height`."""
    lengths = np.zeros(height, np.int64)
    lengths[rows] = np.diff(matrix.indptr)
    return sparse.csr_matrix(
        (matrix.data, matrix.indices, np.concatenate([[0], np.cumsum(lengths)])), shape=(height, matrix.shape[1])
    )
