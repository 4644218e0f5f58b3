"""Recommenders, by the name that config.toml calls them."""

import inspect
import json
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

from recsys import RecsysError
from recsys.recommenders.base import LIST_KINDS, Lists, Recommender, TooLittleData
from recsys.recommenders.ease import Ease
from recsys.recommenders.item_regression import ItemRegression
from recsys.recommenders.item_to_item import ItemToItem, SameBasket, SameSession
from recsys.recommenders.popularity import Popularity
from recsys.recommenders.repeat_purchase import RepeatPurchase
from recsys.recommenders.similar_titles import SimilarTitles
from recsys.recommenders.title_words import TitleWords
from recsys.recommenders.two_stage import TwoStage
from recsys.recommenders.user_neighbours import UserNeighbours
from recsys.settings import Settings, check_parameters

__all__ = ["LIST_KINDS", "RECOMMENDERS", "SIMPLE", "Lists", "Recommender", "TooLittleData", "create", "load"]

SIMPLE = ("popularity", "repeat_purchase")  # what a first release is compared with, since nothing is live

RECOMMENDERS: dict[str, type[Recommender]] = {
    kind.name: kind
    for kind in (
        Popularity,
        RepeatPurchase,
        ItemToItem,
        SameBasket,
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
    """An unfitted recommender by its name; those that draw take the run's seed, unless they are given their own."""
    kind = _kind(name, "recommenders")
    own = {"seed": seed} if "seed" in inspect.signature(kind).parameters else {}
    check_parameters(kind, own | parameters, f"recommenders.{name}")
    return kind(**own | parameters)


def check_config(settings: Settings) -> None:
    """Raises on a recommender that is not known, and on a wrong parameter of one, or a wrong value to try for it."""
    for name, parameters in settings.recommenders.items():
        check_parameters(_kind(name, "recommenders"), parameters, f"recommenders.{name}")
    for name, tried in settings.tune.items():
        for key, values in tried.items():
            for value in values:
                check_parameters(_kind(name, "tune"), {key: value}, f"tune.{name}")


def _kind(name: str, section: str) -> type[Recommender]:
    if name not in RECOMMENDERS:
        raise RecsysError(f"config: {section}.{name} is no recommender that is known; choose one of {', '.join(RECOMMENDERS)}")
    return RECOMMENDERS[name]


def load(folder: Path) -> Recommender:
    """A fitted recommender, from what `save` wrote."""
    written = json.loads((folder / "recommender.json").read_text())
    recommender = create(written["name"], written["parameters"])
    try:
        return recommender.restore(folder)
    except (ValueError, LookupError, AttributeError, OSError, EOFError, RuntimeError, BadZipFile) as error:
        raise RecsysError(
            f"the model of {recommender.name} in {folder} cannot be read: {error}; it was changed after it was written:"
            " remove its snapshot and run again"
        ) from None
