"""The recommenders by name. To add one, add a line to RECOMMENDERS."""

import inspect
import json
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

from recsys import RecsysError
from recsys.recommenders.base import Recommender
from recsys.recommenders.ease import Ease
from recsys.recommenders.item_regression import ItemRegression
from recsys.recommenders.item_to_item import ItemToItem, SameSession
from recsys.recommenders.popularity import Popularity
from recsys.recommenders.repeat_purchase import RepeatPurchase
from recsys.recommenders.similar_titles import SimilarTitles
from recsys.recommenders.title_words import TitleWords
from recsys.recommenders.two_stage import TwoStage
from recsys.recommenders.user_neighbours import UserNeighbours
from recsys.settings import Settings, check_parameters

SIMPLE = ("popularity", "repeat_purchase")  # a first release is compared with these, since nothing is live

RECOMMENDERS: dict[str, type[Recommender]] = {
    kind.name: kind
    for kind in (
        Popularity,
        RepeatPurchase,
        ItemToItem,
        SameSession,
        Ease,
        ItemRegression,
        UserNeighbours,
        SimilarTitles,
        TitleWords,
        TwoStage,
    )
}


def create(name: str, parameters: dict[str, Any], seed: int = 0) -> Recommender:
    """Returns an unfitted recommender. Raises RecsysError if the name or a parameter is wrong.

    seed: for recommenders with a parameter `seed`, unless `parameters` has one.
    """
    kind = _kind(name, "recommenders")
    arguments = ({"seed": seed} if "seed" in inspect.signature(kind).parameters else {}) | parameters
    check_parameters(kind, arguments, f"recommenders.{name}")
    return kind(**arguments)


def check_config(settings: Settings) -> None:
    """Raises RecsysError on unknown recommenders and wrong parameters in [recommenders.*] and [tune.*]."""
    for name, parameters in settings.recommenders.items():
        check_parameters(_kind(name, "recommenders"), parameters, f"recommenders.{name}")
    for name, tried in settings.tune.items():
        for key, values in tried.items():
            for value in values:
                check_parameters(_kind(name, "tune"), {key: value}, f"tune.{name}")


def _kind(name: str, section: str) -> type[Recommender]:
    if name not in RECOMMENDERS:
        raise RecsysError(f"config: {section}.{name} is not a known recommender; choose one of {', '.join(RECOMMENDERS)}")
    return RECOMMENDERS[name]


def load(folder: Path) -> Recommender:
    """Loads the fitted recommender that `save` wrote to a folder. Raises RecsysError if a file is damaged."""
    saved = json.loads((folder / "recommender.json").read_text())
    recommender = create(saved["name"], saved["parameters"])
    try:
        return recommender.restore(folder)
    except (ValueError, LookupError, AttributeError, OSError, EOFError, RuntimeError, BadZipFile) as error:
        raise RecsysError(
            f"the model of {recommender.name} in {folder} cannot be read: {error}; it was changed after it was written:"
            " remove its snapshot and run again"
        ) from None
