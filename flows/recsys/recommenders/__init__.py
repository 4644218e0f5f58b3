"""Recommenders, by the name that config.toml calls them."""

import json
from pathlib import Path
from typing import Any

from recsys import RecsysError
from recsys.recommenders.base import Lists, Recommender
from recsys.recommenders.item_to_item import ItemToItem
from recsys.recommenders.popularity import Popularity
from recsys.recommenders.repeat_purchase import RepeatPurchase

__all__ = ["RECOMMENDERS", "Lists", "Recommender", "create", "load"]

RECOMMENDERS: dict[str, type[Recommender]] = {
    kind.name: kind
    for kind in (Popularity, RepeatPurchase, ItemToItem)
}  # fmt: skip


def create(name: str, parameters: dict[str, Any]) -> Recommender:
    """An unfitted recommender by its name."""
    if name not in RECOMMENDERS:
        raise RecsysError(f'recommender "{name}" is not known; config.toml may name {", ".join(RECOMMENDERS)}')
    try:
        return RECOMMENDERS[name](**parameters)
    except TypeError as error:
        raise RecsysError(
            f"recommender {name} does not take these parameters: {error}; see [recommenders.{name}] in config.toml"
        ) from None


def load(folder: Path) -> Recommender:
    """A fitted recommender, from what `save` wrote."""
    written = json.loads((folder / "recommender.json").read_text())
    return create(written["name"], written["parameters"]).restore(folder)
