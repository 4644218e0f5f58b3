"""Attributes of items and users become features as of each cutoff, and those that give later events away do not."""

from dataclasses import dataclass, replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest
from scipy import sparse

from conftest import PROJECT, make_settings
from recsys import RecsysError
from recsys.features.attributes import partial_association, partial_correlation
from recsys.features.snapshot import Features
from recsys.features.state import Attribute, State
from recsys.pipeline import build_features, land, open_features
from recsys.recommenders.two_stage import Affinity
from recsys.settings.run import Settings
from recsys.store.snapshots import Store, open_store
from recsys.validation.perturbations import replay

FIRST, DAYS = date(2024, 1, 1), 120
AS_OF, CHANGE = FIRST + timedelta(DAYS), FIRST + timedelta(70)
BRAND = "it's a {brand}"  # names are the user's own
WORLD = f"""
    create view events as
        select 'e' || number as event_id, 'u' || lpad(person::varchar, 2, '0') as user_id,
            'i' || (number * number % 61 % 30) as item_id, 'purchase' as event_type,
            timestamp '{FIRST}' + interval (number * 7 % {DAYS}) day + interval 9 hour as event_at,
            1 as quantity, 1.5 as price, null::varchar as session_id
        from (select range as number, floor(80 * pow(range * 37 % 3000 / 3000, 2))::int as person from range(3000));
    create view items as
        select 'i' || range as item_id, 'Item ' || range as title, 'c' || range % 2 as category, 2.0 as price, true as is_available,
            timestamp '{FIRST}' as available_from, null::timestamp as withdrawn_at, 'b' || range % 7 as "{BRAND}",
            'new' as status, range::varchar as stock, timestamp '{FIRST}' as valid_from
        from range(30)
        union all
        select 'i' || range, 'Item ' || range, 'c' || range % 2, 2.0, true, timestamp '{FIRST}', null, null, 'old',
            (100 + range)::varchar, timestamp '{CHANGE}'
        from range(20);
    create view users as
        select user_id, null::varchar as segment, hash(user_id) % 50 as age, count(*) as orders,
            case when count(*) > 30 then 'gold' else 'plain' end as status, '0' || length(user_id) as zip
        from events group by user_id
"""


@dataclass
class World:
    """A shop whose catalogue changed on one day, in a store."""

    folder: Path
    store: Store

    def settings(self, **run: Any) -> Settings:
        dataset = {
            "horizon_days": 7,
            "step_days": 7,
            "item_attributes": [BRAND, "status", "stock"],
            "user_attributes": ["age", "orders", "status", "zip"],
        }
        inputs = {name: str(self.folder / f"{name}.parquet") for name in ("events", "items", "users")}
        return make_settings("events", dataset=dataset, features={"attribute_values": 3}, inputs=inputs, **run)

    def land(self, until: date) -> str:
        """The raw snapshot of what was there before a day; users are described as on the last."""
        with duckdb.connect() as connection:
            connection.execute(WORLD)
            for table, where in (("events", f"event_at < '{until}'"), ("items", f"valid_from < '{until}'"), ("users", "true")):
                connection.execute(f"copy (from {table} where {where} order by all) to '{self.folder}/{table}.parquet'")
        return land(self.store, self.settings(), AS_OF)[0]

    def build(self, raw_id: str, as_of: str = "") -> Features:
        settings = self.settings(as_of=as_of)
        built = build_features(self.store, raw_id, settings, PROJECT, serving=bool(as_of))
        return open_features(self.store, built.id, settings)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.mktemp("world")
    return World(folder, open_store(str(folder / "store"), "events"))


@pytest.fixture(scope="module")
def now(world: World) -> Features:
    return world.build(world.land(AS_OF))


@pytest.mark.slow
def test_features_of_a_past_day_are_those_of_the_raw_data_of_that_day(world: World, now: Features) -> None:
    day = now.evaluated[0]
    assert now.differences(world.build(world.land(day), as_of=day.isoformat())) == {}


def test_what_is_replayed_has_the_same_attributes(world: World, now: Features) -> None:
    day = now.evaluated[-1]
    replayed = world.build(replay(world.store, now, world.settings(), day), as_of=day.isoformat())
    assert now.differences(replayed) == {}
    was, again = now.state(day), replayed.state(day)
    np.testing.assert_array_equal(was.items["attribute_stock"], again.items["attribute_stock"])
    np.testing.assert_array_equal(was.users["attribute_age"][was.rows(again.user_ids)], again.users["attribute_age"])


@pytest.fixture(scope="module")
def early(now: Features) -> State:
    return now.state(now.cutoffs[-1])


@pytest.fixture(scope="module")
def late(now: Features) -> State:
    return now.state(AS_OF)


def value(state: State, name: str, item: str) -> str:
    (found,) = [one for one in state.attributes if (one.entity, one.name) == ("item", name)]
    index = found.value_index[state.item_ids == item][0]
    return found.values[index] if index >= 0 else "unknown"


def test_every_cutoff_reads_the_values_that_are_valid_then(early: State, late: State) -> None:
    assert early.cutoff < CHANGE < late.cutoff
    for state, status, stock in ((early, "new", 3), (late, "old", 103)):
        assert (value(state, "status", "i3"), value(state, "status", "i25")) == (status, "new")
        assert state.items["attribute_stock"][state.item_ids == "i3"] == stock


def test_a_value_that_was_taken_back_is_unknown(early: State, late: State) -> None:
    assert (value(early, BRAND, "i0"), value(late, BRAND, "i0")) == ("b0", "unknown")


def test_the_most_frequent_values_are_kept_and_the_rest_is_other(early: State) -> None:
    assert [value(early, BRAND, f"i{number}") for number in range(7)] == ["b0", "b1", "b2", *["other"] * 4]


def test_each_item_of_a_value_counts_once_a_user(late: State) -> None:
    category, owned = late.attributes[0], late.owned() > 0
    assert (category.entity, category.name, category.values.tolist()) == ("item", "category", ["c0", "c1"])
    for value in (0, 1):
        expected = np.asarray(owned[:, category.value_index == value].sum(1)).ravel()
        np.testing.assert_array_equal(category.pairs[:, [value]].toarray().ravel(), expected)


def test_numbers_and_text_are_told_apart(now: Features) -> None:
    assert now.attributes["attribute"][now.attributes["is_number"]].tolist() == ["stock", "age", "orders"]
    assert now.attributes["is_dated"].tolist() == [True] * 4 + [False] * 5


def test_a_number_that_counts_later_events_is_left_out(now: Features, early: State) -> None:
    assert now.leaking.keys() == {("user", "orders")}
    assert {name for name in early.users if name.startswith("attribute_")} == {"attribute_age"}


def test_dated_attributes_are_not_suspected(now: Features) -> None:
    assert {entity for entity, _ in now.leaks} == {"user"}


@pytest.mark.parametrize(
    ("names", "words"), [(["colour", "colour"], 'names "colour" twice'), (["colour"], 'text_attributes names "color"; choose of')]
)
def test_attributes_that_cannot_be_meant_are_refused(names: list[str], words: str) -> None:
    with pytest.raises(RecsysError, match=words):
        make_settings(dataset={"item_attributes": names, "text_attributes": ["color"]})


def test_what_is_named_a_code_is_text() -> None:
    settings = make_settings(dataset={"item_attributes": ["brand_id", "Tax Code", "weight", "paid"], "text_attributes": ["weight"]})
    assert settings.dataset.text_only == ["Tax Code", "brand_id", "category", "segment", "weight"]


DRAW = np.random.default_rng(0)
EARLIER = DRAW.poisson(DRAW.gamma(1, 5, 2_000))
LATER = DRAW.poisson(EARLIER + 2.0)


@pytest.mark.parametrize(
    ("values", "low", "high"),
    [(EARLIER + LATER, 0.9, 1), (EARLIER, -0.1, 0.1), (DRAW.random(2_000), -0.1, 0.1), (-LATER, -1, -0.9), (np.ones(2_000), 0, 0)],
    ids=["total", "earlier", "random", "falling", "constant"],
)
def test_a_number_is_correlated_with_what_it_adds_to_the_past(values: np.ndarray, low: float, high: float) -> None:
    assert low <= partial_correlation(values, LATER, [EARLIER]) <= high


@pytest.mark.parametrize(
    ("groups", "low", "high"),
    [(LATER > EARLIER + 2, 0.6, 1), (DRAW.integers(0, 900, 2_000), 0, 0.2), (np.arange(2_000), 0, 0), (np.zeros(2_000), 0, 0)],
    ids=["told", "random", "one each", "one for all"],
)
def test_text_is_associated_with_what_it_tells_beyond_chance(groups: np.ndarray, low: float, high: float) -> None:
    assert low <= partial_association(groups.astype(np.int64), LATER, [EARLIER]) <= high


def affinity(entity: str, value_index: list[int], counts: list[list[int]], recent: list[int]) -> Affinity:
    values = np.array(["a", "b"])
    met = sparse.csr_matrix(np.array(counts, np.float32))
    return Affinity(Attribute(entity, "brand", values, np.array(value_index, np.int32), np.array(recent, np.int32), met))


PAIRS = np.array([0, 0, 1, 1]), np.array([0, 1, 0, 2])  # users, items


def test_a_user_who_met_a_value_more_often_than_all_has_an_affinity_to_its_items() -> None:
    brand = affinity("item", [0, 1, -1], [[4, 0], [0, 0]], [9, 9])
    likes, dislikes, stranger, unknown = brand.of(*PAIRS)
    assert brand.column == "item_brand_affinity"
    assert likes == pytest.approx(np.log((4 + 2.5) / (4 + 5) / 0.5))
    assert dislikes == pytest.approx(np.log(2.5 / (4 + 5) / 0.5))
    assert stranger == 0
    assert np.isnan(unknown)


def test_an_item_that_users_of_a_value_take_more_often_has_an_affinity_to_them() -> None:
    city = affinity("user", [0, 1], [[0, 0], [3, 0], [0, 1]], [9, 9])
    assert city.column == "user_brand_affinity"
    np.testing.assert_array_equal(np.sign(city.of(*PAIRS)), [0, 1, 0, 1])


def test_an_attribute_without_values_has_no_affinities() -> None:
    brand = affinity("item", [-1, -1, -1], [[0, 0], [0, 0]], [0, 0])
    none = Affinity(replace(brand.attribute, values=brand.attribute.values[:0], pairs=sparse.csr_matrix((2, 0))))
    assert np.isnan(none.of(*PAIRS)).all()
