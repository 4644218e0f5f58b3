"""The simulated shop: the same bytes always, a past that no later day changes, life's dirt, and a truth that is true."""

import hashlib
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from conftest import PROJECT
from recsys import RecsysError, pipeline
from recsys.evaluation import metrics
from recsys.evaluation.holdout import ScoredWindow, compare
from recsys.recommenders.base import LIST_KINDS
from recsys.releases.reader import Reader
from recsys.settings.run import Settings
from recsys.sources import shop
from recsys.sources.registry import check_inputs, open_simulation, open_source
from recsys.sources.shop import Shop, words
from recsys.sources.shop.world import BUY, STYLES, VIEWS, World
from recsys.store import snapshots
from simulator import simulated

FIRST = date(2024, 1, 1)
USERS, ITEMS, DAYS, EVENTS = 600, 150, 200, 100_000
CUTOFF, HORIZON = FIRST + timedelta(150), 28
EVERYBODY = [f"u{user:07}" for user in range(USERS)]


def small(seed: int = 7) -> Shop:
    return Shop(users=200, items=80, days=90, events=8_000, first_day="2024-01-01", seed=seed)


def land(source: Shop, folder: Path, until: date | None = None) -> Path:
    folder.mkdir()
    source.land(folder, until)
    return folder


def read_events(folder: Path) -> pa.Table:
    """Rows in the order in which they lie in the files."""
    return pa.concat_tables(pq.read_table(path) for path in sorted((folder / "events").iterdir()))


@pytest.fixture(scope="module")
def world() -> Shop:
    return Shop(USERS, ITEMS, DAYS, EVENTS, "2024-01-01", seed=7)


@pytest.fixture(scope="module")
def landed(world: Shop, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return land(world, tmp_path_factory.mktemp("shop") / "raw")


@pytest.fixture(scope="module")
def sent(landed: Path) -> pd.DataFrame:
    """Every event as sent, copies included."""
    return read_events(landed).to_pandas()


@pytest.fixture(scope="module")
def events(sent: pd.DataFrame) -> pd.DataFrame:
    return sent.drop_duplicates("event_id")


@pytest.fixture(scope="module")
def items(landed: Path) -> pd.DataFrame:
    return pq.read_table(landed / "items.parquet").to_pandas().set_index("item_id")


@pytest.fixture(scope="module")
def bought(events: pd.DataFrame) -> pd.DataFrame:
    """What is purchased within the horizon after the cutoff."""
    start = pd.Timestamp(CUTOFF)
    inside = (events.event_at >= start) & (events.event_at < start + pd.Timedelta(days=HORIZON))
    return events[inside & (events.event_type == "purchase")]


def test_landing_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    first, second = land(small(), tmp_path / "first"), land(small(), tmp_path / "second")
    assert snapshots.describe(first) == snapshots.describe(second)


def test_the_default_source_settings_give_the_shop_they_always_gave(tmp_path: Path) -> None:
    folder = land(small(), tmp_path / "raw")
    tables = [read_events(folder), *(pq.read_table(folder / f"{name}.parquet") for name in ("items", "users"))]
    names = {"title", "category", "price", "segment"}
    who_does_what_when = [table.drop_columns([name for name in table.column_names if name in names]) for table in tables]
    assert [digest(rows) for rows in (who_does_what_when, tables)] == ["a124850d1b4630cd", "3c9b22e7ef8c4b7f"]
    source_settings = simulated().dataset.source_settings
    assert (source_settings["staples"], source_settings["newcomers"]) == (small().world.staples, small().world.newcomers)


def test_another_seed_is_another_shop(tmp_path: Path) -> None:
    first, second = land(small(seed=7), tmp_path / "first"), land(small(seed=8), tmp_path / "second")
    assert read_events(first)["user_id"].to_pylist()[:100] != read_events(second)["user_id"].to_pylist()[:100]


@pytest.mark.parametrize(("days", "block_events"), [(1, 500), (30, 500), (89, 500), (30, 3_000), (30, 500_000)])
def test_the_first_days_are_the_same_whatever_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, days: int, block_events: int
) -> None:
    monkeypatch.setattr(shop, "BLOCK_EVENTS", block_events)
    early = read_events(land(small(), tmp_path / "early", FIRST + timedelta(days)))
    whole = read_events(land(small(), tmp_path / "whole"))
    assert 0 < len(early) < len(whole)
    assert early.equals(whole.slice(0, len(early)))


def test_the_size_of_the_files_does_not_change_their_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = land(small(), tmp_path / "one")
    monkeypatch.setattr(shop, "BLOCK_EVENTS", 1_000)
    many = land(small(), tmp_path / "many")
    assert len(list((one / "events").iterdir())) == 1
    assert len(list((many / "events").iterdir())) > 5
    assert read_events(one).equals(read_events(many))


def test_nothing_lands_of_the_day_until_or_later(tmp_path: Path) -> None:
    until = FIRST + timedelta(40)
    folder = land(small(), tmp_path / "raw", until)
    items = pq.read_table(folder / "items.parquet").to_pandas()
    assert read_events(folder).to_pandas().event_at.max() < pd.Timestamp(until)
    assert items.available_from.max() < pd.Timestamp(until)
    assert items.withdrawn_at.dropna().lt(pd.Timestamp(until)).all()


def test_the_last_day_may_be_named(tmp_path: Path) -> None:
    named, whole = land(small(), tmp_path / "named", FIRST + timedelta(90)), land(small(), tmp_path / "whole")
    assert snapshots.describe(named) == snapshots.describe(whole)


@pytest.mark.parametrize("day", [-1, 0, 91])
def test_a_day_that_was_not_simulated_is_refused(tmp_path: Path, day: int) -> None:
    until = FIRST + timedelta(day)
    with pytest.raises(RecsysError, match=f"AS_OF {until} .* pass one from 2024-01-02 to 2024-03-31"):
        small().land(tmp_path, until)
    assert list(tmp_path.iterdir()) == []


def test_days_bring_about_as_many_events_as_the_source_setting_says(sent: pd.DataFrame) -> None:
    assert len(sent) == pytest.approx(EVENTS, rel=0.25)


def test_some_events_come_twice_the_same_in_every_column(sent: pd.DataFrame) -> None:
    copies = sent[sent.duplicated("event_id")]
    assert 0.002 < len(copies) / len(sent) < 0.01
    assert sent.duplicated().sum() == len(copies)


def test_some_events_arrive_days_after_they_happened(tmp_path: Path, world: Shop, events: pd.DataFrame) -> None:
    seen = set(read_events(land(world, tmp_path / "raw", CUTOFF)).to_pandas().event_id)
    before = events[events.event_at < pd.Timestamp(CUTOFF)]
    late = before[~before.event_id.isin(seen)]
    assert len(late) > 0
    assert late.event_at.min() >= pd.Timestamp(CUTOFF) - pd.Timedelta(days=3)


def test_bots_view_much_buy_nothing_and_are_no_users(landed: Path, events: pd.DataFrame) -> None:
    is_bot = events.user_id.str.startswith("b")
    views = events[events.event_type == "view"].groupby("user_id").size()
    assert set(events[is_bot].event_type) == {"view"}
    assert views[views.index.str.startswith("b")].min() > views[views.index.str.startswith("u")].median() * 5
    assert set(events[~is_bot].user_id) <= set(pq.read_table(landed / "users.parquet")["user_id"].to_pylist())


def test_what_is_returned_was_bought_before(events: pd.DataFrame) -> None:
    bought = events[events.event_type == "purchase"].groupby(["user_id", "item_id"]).event_at.min().rename("bought_at")
    returned = events[(events.event_type == "return") & (events.event_at < pd.Timestamp(FIRST + timedelta(DAYS - 5)))]
    both = returned.join(bought, on=["user_id", "item_id"])
    assert len(both) > 50
    assert (both.bought_at < both.event_at).all()


def test_items_arrive_and_are_withdrawn_and_sell_only_between(events: pd.DataFrame, items: pd.DataFrame) -> None:
    shown = events[events.event_type != "return"].join(items[["available_from", "withdrawn_at"]], on="item_id")
    assert (items.available_from >= pd.Timestamp(FIRST)).sum() > 5
    assert items.withdrawn_at.notna().sum() > 5
    assert (items.is_available == items.withdrawn_at.isna()).all()
    assert (shown.event_at >= shown.available_from).all()
    assert not (shown.event_at >= shown.withdrawn_at).any()


def test_purchases_are_repeated_more_often_than_by_chance(events: pd.DataFrame) -> None:
    purchases = events[events.event_type == "purchase"].assign(day=lambda rows: rows.event_at.dt.floor("D"))
    shuffled = purchases.assign(item_id=np.random.default_rng(1).permutation(purchases.item_id))
    repeats, by_chance = ((rows.groupby(["user_id", "item_id"]).day.nunique() >= 5).sum() for rows in (purchases, shuffled))
    assert repeats > 5 * max(by_chance, 1)


def test_without_staples_nobody_has_a_rhythm() -> None:
    world = World(USERS, ITEMS, DAYS, EVENTS, seed=7, staples=0, newcomers=0.4)
    everyone = np.arange(USERS)
    assert world.staple_chance(everyone, 150).shape == (USERS, 0)
    looks = sum((world.visits(everyone, day) * VIEWS * BUY).sum() for day in range(150, 178))
    assert world.truth(everyone, 150, HORIZON).sum() == pytest.approx(looks)


@pytest.mark.parametrize("newcomers", [0.0, 0.4, 0.9, 1.0])
def test_newcomers_arrive_during_the_days(newcomers: float) -> None:
    world = World(5_000, 5_000, DAYS, EVENTS, seed=7, staples=3, newcomers=newcomers)
    assert (world.joins >= 0).mean() == pytest.approx(newcomers, abs=0.03)
    assert (world.arrives >= 0).mean() == pytest.approx(0.75 * newcomers, abs=0.03)
    assert max(world.joins.max(), world.arrives.max()) < DAYS


OUT_OF_RANGE: list[tuple[str, Any]] = [
    ("staples", -1),
    ("newcomers", 1.5),
    ("newcomers", -0.1),
    ("users", 0),
    ("seed", "7"),
    ("user", 5),
    ("first_day", "2031-02-30"),
    ("first_day", "yesterday"),
]


@pytest.mark.parametrize(("name", "wrong"), OUT_OF_RANGE)
def test_a_setting_out_of_range_is_refused(name: str, wrong: Any) -> None:
    settings = simulated({name: wrong})
    with pytest.raises(RecsysError, match=rf"source_settings\.{name} is "):
        open_source(settings.dataset)


def test_ranking_by_truth_beats_ranking_by_popularity(world: Shop, events: pd.DataFrame, bought: pd.DataFrame) -> None:
    users = sorted(bought.user_id.unique())
    pairs = bought[["user_id", "item_id"]].drop_duplicates()
    rows = np.searchsorted(users, pairs.user_id).astype(np.int32)
    columns = number(pairs.item_id)
    age = pd.Timestamp(CUTOFF) - events[events.event_type == "purchase"].set_index("item_id").event_at
    recent = age[(age > pd.Timedelta(0)) & (age <= pd.Timedelta(days=28))]
    popular = np.argsort(-np.bincount(number(recent.index), minlength=ITEMS), kind="stable")[:10].astype(np.int32)
    oracle = np.argsort(-truth(world, users), axis=1)[:, :10].astype(np.int32)
    of_oracle, of_popular = (
        metrics.score(lists, rows, columns, ITEMS, [10])["ndcg@10"].mean() for lists in (oracle, np.tile(popular, (len(users), 1)))
    )
    assert of_oracle > 3 * of_popular > 0.3


def test_as_much_is_bought_as_truth_expects(world: Shop, bought: pd.DataFrame) -> None:
    expected = truth(world, EVERYBODY)
    assert len(bought) > 1_000
    assert expected.sum() == pytest.approx(len(bought), rel=0.15)


def test_as_much_is_bought_as_truth_expects_where_all_is_new_and_nothing_a_habit(tmp_path: Path) -> None:
    cold = Shop(USERS, ITEMS, DAYS, EVENTS, "2024-01-01", seed=7, staples=0, newcomers=0.9)
    rows = read_events(land(cold, tmp_path / "raw")).to_pandas().drop_duplicates("event_id")
    start = pd.Timestamp(CUTOFF)
    inside = (rows.event_at >= start) & (rows.event_at < start + pd.Timedelta(days=HORIZON))
    assert truth(cold, EVERYBODY).sum() == pytest.approx((inside & (rows.event_type == "purchase")).sum(), rel=0.15)


def test_likely_and_unlikely_purchases_happen_as_often_as_truth_expects(world: Shop, bought: pd.DataFrame) -> None:
    expected = truth(world, EVERYBODY)
    happened = np.zeros_like(expected)
    np.add.at(happened, (number(bought.user_id), number(bought.item_id)), 1)
    likeliest = np.argsort(-expected, axis=None)
    quarter = (np.cumsum(expected.ravel()[likeliest]) / expected.sum() * 4).astype(int).clip(0, 3)
    counts = np.bincount(quarter, happened.ravel()[likeliest])
    np.testing.assert_allclose(counts, expected.sum() / 4, rtol=0.2)


def test_truth_follows_the_order_of_the_ids_asked_and_expects_nothing_of_strangers(world: Shop) -> None:
    whole = truth(world, EVERYBODY)
    users, items = np.array(["b0000003", "u0000003", "u9999999", "", "u0000001"]), np.array(["i0000005", "gone", "i0000002"])
    expected = np.zeros((5, 3))
    expected[np.ix_([1, 4], [0, 2])] = whole[np.ix_([3, 1], [5, 2])]
    assert expected[[1, 4]].sum() > 0
    np.testing.assert_allclose(world.truth(users, items, CUTOFF, HORIZON), expected)


def test_truth_expects_nothing_of_what_is_withdrawn(world: Shop, items: pd.DataFrame) -> None:
    gone = number(items.index[items.withdrawn_at <= pd.Timestamp(CUTOFF)])
    expected = truth(world, EVERYBODY)
    assert len(gone) > 0
    assert expected[:, gone].sum() == 0


def test_every_item_has_a_title_of_its_own_and_a_price_of_its_kind() -> None:
    world = World(10, 30_000, DAYS, EVENTS, seed=7, staples=3, newcomers=0.4)
    assert len(np.unique(world.title)) == 30_000
    lamps, lights = (world.base_price[np.char.find(world.title, kind) > 0] for kind in ("floor lamp", "tea lights"))
    assert lights.max() < lamps.min()


def test_titles_tell_the_style_more_often_than_by_chance() -> None:
    world = World(10, 2_000, DAYS, EVENTS, seed=7, staples=3, newcomers=0.4)
    style, category = world.cell % STYLES, world.category
    first = np.array([title.split()[0] for title in world.title])
    one, other = np.nonzero((first[:, None] == first) & (category[:, None] != category))
    assert 0.6 < (style[one] == style[other]).mean() < 0.95


def test_an_item_keeps_its_title_whatever_arrives_later(tmp_path: Path, landed: Path, world: Shop) -> None:
    early = pq.read_table(land(world, tmp_path / "raw", CUTOFF) / "items.parquet").to_pylist()
    later = {row["item_id"]: row["title"] for row in pq.read_table(landed / "items.parquet").to_pylist()}
    assert len(early) < len(later)
    assert all(later[row["item_id"]] == row["title"] for row in early)


def test_any_number_of_categories_has_names() -> None:
    listed = len(words.CATEGORIES)
    names = words.name_categories(2 * listed + 1).tolist()
    assert len(set(names)) == len(names)
    assert names[:4] == words.name_categories(4).tolist()
    assert names[listed] == f"{names[0]} 2"


def test_what_is_used_up_stands_where_the_world_buys_again() -> None:
    world = World(10, 2_000, DAYS, EVENTS, seed=7, staples=3, newcomers=0.4)
    palettes = [words.CATEGORIES[place % len(words.CATEGORIES)][1] for place in range(world.categories)]
    assert [palette == "consumable" for palette in palettes] == np.isfinite(world.period).tolist()


def test_no_word_speaks_for_two_styles() -> None:
    for texts in words.PALETTES.values():
        listed = [text.split() for text in texts]
        assert all(len(one) == STYLES * words.WORDS for one in listed)
        assert len({word for one in listed for word in one}) == 2 * STYLES * words.WORDS


def digest(tables: list[pa.Table]) -> str:
    return hashlib.sha256(repr([table.to_pydict() for table in tables]).encode()).hexdigest()[:16]


def truth(world: Shop, users: list[str]) -> np.ndarray:
    """Of all items, in the order of their ids."""
    return world.truth(np.array(users), np.array([f"i{item:07}" for item in range(ITEMS)]), CUTOFF, HORIZON)


def number(ids: pd.Series | pd.Index) -> np.ndarray:
    return ids.str[1:].to_numpy().astype(np.int32)


# THE ORACLE, in a run on the simulated shop


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[snapshots.Store, str, pipeline.Selection, Settings]:
    """A store with a release of simple recommenders, the id of its features, and what was chosen by which settings."""
    size = {"users": 300, "items": 80, "days": 200, "events": 25_000, "seed": 3}
    settings = simulated(size, evaluation={"selection_windows": 1}, features={"training_windows": 1})
    names = ("popularity", "repeat_purchase", "item_to_item")
    settings = replace(settings, recommenders={name: settings.recommenders[name] for name in names})
    store = snapshots.open_store(str(tmp_path_factory.mktemp("store")), "shop")
    raw, _ = pipeline.land(store, settings, date(2026, 1, 1))
    built = pipeline.build_features(store, raw, settings, PROJECT).id
    trained = [pipeline.train(store, recipe, built, {}, settings) for recipe in pipeline.recipes(settings, audit=False)]
    return store, built, pipeline.select(trained, settings), settings


@pytest.mark.parametrize("list_kind", LIST_KINDS)
def test_nobody_beats_the_oracle_beyond_noise(
    run: tuple[snapshots.Store, str, pipeline.Selection, Settings], list_kind: str
) -> None:
    store, built, selection, settings = run
    best: list[ScoredWindow] = [pipeline.oracle(store, built, settings)[list_kind]]
    gains = {name: compare(windows[list_kind][:1], best, "ndcg@10", settings) for name, windows in selection.evaluations.items()}
    assert set(gains) == {"popularity", "repeat_purchase", "item_to_item"}
    assert all(gain.low <= 0 for gain in gains.values()), gains
    assert gains["popularity"].high < 0


def test_example_users_of_a_release_have_the_oracles_lists(
    run: tuple[snapshots.Store, str, pipeline.Selection, Settings],
) -> None:
    store, built, selection, settings = run
    release = store.load("release", pipeline.recommend(store, selection, built, settings, {}))
    features = pipeline.open_features(store, built, settings)
    state, source = features.state(features.as_of), open_simulation(settings.dataset)
    assert source
    examples = Reader(release).examples
    assert {user["why"] for user in examples} == {"active", "typical", "newcomer", "segment"}
    for user in examples:
        expected = source.truth(np.array([user["user_id"]]), state.item_ids, state.cutoff, settings.dataset.horizon_days)[0]
        expected = expected * state.items["is_available"]
        assert user["oracle"]["all_items"][0]["item_id"] == state.item_ids[expected.argmax()]


@pytest.mark.parametrize(("name", "meaning"), [("events", "there, events is a number in config.toml"), ("raw", "leave RAW out")])
def test_the_shop_reads_no_files(name: str, meaning: str) -> None:
    with pytest.raises(RecsysError, match=f'{name.upper()} is "x.csv", but dataset "shop" .*{meaning}'):
        check_inputs("shop", {name: "x.csv"}, "shop")
