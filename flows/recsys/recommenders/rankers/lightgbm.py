"""LightGBM's lambdarank: trees that learn the order of each user's candidates. Needs the extra `lightgbm`."""

import hashlib
import json
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from recsys import RecsysError
from recsys.recommenders.rankers.base import MIN_ROWS, Features, NothingLearned, Ranker, check_labels

MODEL, CHECKSUM = "ranker.txt", "ranker.json"


class LightGBM(Ranker):
    """Gradient boosting whose gradients are weighted by the change of NDCG when two of a user's candidates swap places (LambdaMART:
    Burges 2010, Microsoft Research report MSR-TR-2010-82). Scores are only comparable within one user.

    text_: the model in LightGBM's text format.
    """

    name = "lightgbm"
    text_: str

    def __init__(self, trees: int = 100, leaves: int = 31, rate: float = 0.1, seed: int = 0):
        self.trees = trees
        self.leaves = leaves
        self.rate = rate
        self.seed = seed

    @classmethod
    def missing(cls) -> str:
        if find_spec("lightgbm"):
            return ""
        return "it needs the extra lightgbm, which is not installed; run `make .venv/.lightgbm` (requirements/lightgbm.lock)"

    def fit(self, features: Features, labels: NDArray[np.bool_], weights: NDArray[np.float32], groups: NDArray[np.int64]) -> Self:
        check_labels(labels)
        parameters = {
            "objective": "lambdarank",
            "learning_rate": self.rate,
            "num_leaves": self.leaves,
            "min_data_in_leaf": MIN_ROWS,
            "max_bin": 127,
            "feature_fraction_bynode": 0.5,
            "seed": self.seed,
            "deterministic": True,
            "force_row_wise": True,  # otherwise LightGBM chooses by measured time
            "num_threads": 1,
            "verbosity": -1,
        }
        starts = np.flatnonzero(np.append(True, groups[1:] != groups[:-1]))
        library = _library()
        data = library.Dataset(
            features, labels.astype(np.int32), weight=weights, group=np.diff(np.append(starts, len(groups))), params=parameters
        )
        self._open(library.train(parameters, data, self.trees).model_to_string())
        if set(_numbers(self.text_, "num_leaves")) == {"1"}:
            raise NothingLearned("no tree found a split")
        return self

    def predict(self, features: Features) -> NDArray[np.float32]:
        return self._predict(features, raw_score=True).astype(np.float32)

    def contributions(self, features: Features) -> tuple[NDArray[np.float64], float]:
        """Shapley values (Lundberg et al. 2020, doi:10.1038/s42256-019-0138-9)."""
        if not len(features):
            return np.zeros(features.shape), 0.0
        found = self._predict(features, pred_contrib=True)
        return found[:, :-1], float(found[0, -1])

    def learned(self) -> dict[str, NDArray]:
        return {"leaf_values_": np.array(_numbers(self.text_, "leaf_value"), np.float64)}

    def save(self, folder: Path) -> None:
        content = self.text_.encode()
        (folder / MODEL).write_bytes(content)
        (folder / CHECKSUM).write_text(json.dumps({"sha256": hashlib.sha256(content).hexdigest()}))

    def load(self, folder: Path, columns: int) -> Self:
        """Verifies the text's checksum first, since LightGBM's compiled code crashes on a damaged text."""
        content = (folder / MODEL).read_bytes()
        if hashlib.sha256(content).hexdigest() != json.loads((folder / CHECKSUM).read_bytes())["sha256"]:
            raise ValueError(f"{MODEL} does not have the checksum in {CHECKSUM}")
        text = content.decode()
        if (found := _numbers(text, "max_feature_idx")) != [str(columns - 1)]:
            raise ValueError(f"trees of features 0 to {', '.join(found)}, not of {columns} features")
        self._open(text)
        return self

    def _open(self, text: str) -> None:
        library = _library()
        try:
            self.text_, self._booster = text, library.Booster(model_str=text)
        except library.basic.LightGBMError as error:
            raise ValueError(f"LightGBM: {error}") from None

    def _predict(self, features: Features, **options: bool) -> NDArray[np.float64]:
        return self._booster.predict(features, num_threads=1, **options) if len(features) else np.zeros(0)


def _library() -> ModuleType:
    if problem := LightGBM.missing():
        raise RecsysError(f'ranker is "lightgbm"; {problem}')
    try:
        import lightgbm
    except OSError as error:
        raise RecsysError(f"LightGBM cannot be loaded: {error}; install libgomp1 (Debian: apt-get install libgomp1)") from None
    return lightgbm


def _numbers(text: str, name: str) -> list[str]:
    """Numbers in all lines `name=...` of a model's text."""
    return [number for line in text.splitlines() if line.startswith(f"{name}=") for number in line.partition("=")[2].split()]
