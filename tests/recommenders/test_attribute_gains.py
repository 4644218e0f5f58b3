"""What attributes do to lists of new items: one that users go by makes them better beyond noise, a random one does not, and one
that counts later events is left out. In a small fashion shop, whose items come and go, and in the simulated shop."""

import shutil
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from conftest import PROJECT, make_settings
from recsys.evaluation.holdout import ScoredWindows, compare, evaluate
from recsys.evaluation.metrics import Interval
from recsys.features.snapshot import Features
from recsys.pipeline import build_features, land, open_features
from recsys.recommenders.registry import create
from recsys.settings.run import Settings
from recsys.sources.registry import open_source
from recsys.sources.shop import Shop as SimulatedShop
from recsys.store.snapshots import Store, open_store
from simulator import simulated

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

FIRST, DAYS, LIFE = date(2024, 1, 1), 220, 45  # days that an item is for sale
USERS, ITEMS, BRANDS = 1_200, 600, 12
LUCK = 0.002  # of NDCG@10, which another seed moves it by; intervals are over users alone
COLD_STARTS = {
    "users": 4_000,
    "items": 300,
    "days": 300,
    "events": 330_000,
    "first_day": "2024-01-01",
    "seed": 11,
    "newcomers": 0.9,
}


@dataclass
class Shop:
    """A raw snapshot, whose items have more columns than are used."""

    store: Store
    raw: str
    settings: Settings
    _windows: dict[str, ScoredWindows] = field(default_factory=dict)

    def features(self, name: str) -> Features:
        """With one item attribute, or none for an empty name."""
        attributes = [name] if name else []
        chosen = replace(self.settings, dataset=replace(self.settings.dataset, item_attributes=attributes))
        return open_features(self.store, build_features(self.store, self.raw, chosen, PROJECT).id, chosen)

    def windows(self, name: str) -> ScoredWindows:
        """How good two_stage is with it on the holdout and the selection windows."""
        if name not in self._windows:
            features = self.features(name)
            recommender = create("two_stage", self.settings.recommenders["two_stage"], self.settings.seed)
            self._windows[name] = evaluate(recommender, features, self.settings, features.evaluated)
        return self._windows[name]

    def gain(self, name: str) -> Interval:
        """NDCG of lists of new items with the attribute less that without."""
        return compare(self.windows(name)["new_items"], self.windows("")["new_items"], "ndcg@10", self.settings)


def fashion_shop(folder: Path) -> None:
    """Users buy a few brands each, and of these whatever is there."""
    draw = np.random.default_rng(3)
    arrives, brand = draw.integers(-LIFE, DAYS, ITEMS), draw.integers(BRANDS, size=ITEMS)
    appeal = np.exp(draw.normal(0, 0.7, ITEMS))
    liked = draw.dirichlet(np.full(BRANDS, 0.15), USERS)
    chance = 0.05 * np.exp(draw.normal(0, 0.6, USERS))
    rows = []
    for day in range(DAYS):
        there = np.where((arrives <= day) & (day < arrives + LIFE), appeal, 0.0)
        for user in np.flatnonzero(draw.random(USERS) < chance):
            weights = there * liked[user][brand]
            chosen = draw.choice(ITEMS, draw.integers(1, 4), p=weights / weights.sum())
            rows += [(f"u{user}", item, FIRST + timedelta(day)) for item in chosen]
    bought = pd.DataFrame(rows, columns=["user_id", "item", "event_at"])
    bought.assign(item_id="i" + bought["item"].astype(str)).drop(columns="item").to_csv(folder / "events.csv", index=False)
    catalogue = {
        "item_id": [f"i{item}" for item in range(ITEMS)],
        "available_from": [FIRST + timedelta(int(day)) for day in arrives],
        "withdrawn_at": [FIRST + timedelta(int(day) + LIFE) for day in arrives],
        "style": [f"brand {number}" for number in brand],
        "shelf": [f"shelf {number}" for number in draw.integers(BRANDS, size=ITEMS)],
        "total_sold": np.bincount(bought["item"], minlength=ITEMS),
    }
    pd.DataFrame(catalogue).to_csv(folder / "items.csv", index=False)


def styled_shop(store: Store, settings: Settings) -> str:
    """Raw snapshot of the simulated shop, in which its cells, and not its categories, are told."""
    raw = store.load("raw", land(store, settings, date(2026, 1, 1))[0])
    source = open_source(settings.dataset)
    assert isinstance(source, SimulatedShop)
    with store.draft() as folder:
        for name in raw.manifest.files:
            (folder / name).parent.mkdir(exist_ok=True)
            shutil.copy(raw.path / name, folder / name)
        items = pq.read_table(folder / "items.parquet")
        numbers = np.array([int(id[1:]) for id in items["item_id"].to_pylist()])
        sold = pq.read_table(folder / "events", filters=[("event_type", "=", "purchase")])["item_id"].to_pandas().value_counts()
        catalogue = items.to_pandas().assign(
            category="all",
            title=items["item_id"],  # titles would tell of the cells, too
            style=[f"cell {cell}" for cell in source.world.cell[numbers]],
            shelf=[f"shelf {number}" for number in np.random.default_rng(1).integers(40, size=len(numbers))],
        )
        catalogue["total_sold"] = catalogue["item_id"].map(sold).fillna(0).astype(int)
        pq.write_table(pa.Table.from_pandas(catalogue, preserve_index=False), folder / "items.parquet")
        return store.commit(folder, "raw", raw.manifest.made_from).id


@pytest.fixture(scope="module", params=["fashion", "simulated"])
def shop(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Shop:
    folder = tmp_path_factory.mktemp(request.param)
    store = open_store(str(folder / "store"), request.param)
    if request.param == "fashion":
        fashion_shop(folder)
        inputs = {name: str(folder / f"{name}.csv") for name in ("events", "items")}
        dataset = {"horizon_days": 14, "step_days": 14, "item_attributes": ["style", "shelf", "total_sold"]}
        settings = make_settings("events", dataset=dataset, inputs=inputs)
        return Shop(store, land(store, settings, FIRST + timedelta(DAYS))[0], settings)
    settings = simulated(COLD_STARTS, evaluation={"selection_windows": 3})
    return Shop(store, styled_shop(store, settings), settings)


def test_an_attribute_that_users_go_by_makes_lists_of_new_items_better(shop: Shop) -> None:
    gain = shop.gain("style")
    assert gain.low > 0
    assert gain.mean > LUCK


def test_a_random_attribute_makes_them_no_better(shop: Shop) -> None:
    assert shop.gain("shelf").low < LUCK


def test_an_attribute_that_counts_later_events_is_left_out(shop: Shop) -> None:
    features = shop.features("total_sold")
    assert features.leaking.keys() == {("item", "total_sold")}
    assert features.state(features.evaluated[0]).items.keys() == shop.features("").state(features.evaluated[0]).items.keys()
