"""Exports with event types of their own: what is the target, what a weaker signal, and what is said of an unknown type."""

from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import duckdb
import pandas as pd
import pytest

from conftest import PROJECT, make_settings
from recsys import RecsysError, pipeline
from recsys.features import warehouse
from recsys.features.snapshot import Features
from recsys.releases import files
from recsys.settings import event_types
from recsys.settings.loading import parse
from recsys.settings.run import Settings
from recsys.store.snapshots import Manifest, Store, open_store

LANDED_ON = date(2024, 6, 1)
QUOTED = 'it\'s "over"'
Rows = list[dict[str, Any]]


def rows(count: int, user: str = "u0", **values: Any) -> Rows:
    """Events on as many items, over a hundred days."""
    start = date(2024, 1, 1)
    return [{"user_id": user, "item_id": f"i{n}", "event_at": str(start + timedelta(n % 100)), **values} for n in range(count)]


def export(folder: Path, sent: Rows, **dataset: Any) -> tuple[Store, Settings]:
    """A store, and settings under which these rows are its dataset."""
    pd.DataFrame(sent).to_parquet(folder / "events.parquet")
    few = {"training_windows": 1}, {"selection_windows": 1, "selection_users": 1, "bootstraps": 10}
    settings = make_settings(
        "events",
        inputs={"events": str(folder / "events.parquet")},
        dataset={"horizon_days": 7, "step_days": 7} | dataset,
        features=few[0],
        evaluation=few[1],
        checks={"raw": {"min_events": 1}},
    )
    return open_store(str(folder / "store"), "events"), settings


def land(folder: Path, sent: Rows, **dataset: Any) -> str:
    store, settings = export(folder, sent, **dataset)
    return pipeline.land(store, settings, LANDED_ON)[0]


def refusal(folder: Path, sent: Rows, **dataset: Any) -> str:
    """What landing says; one line."""
    with pytest.raises(RecsysError) as error:
        land(folder, sent, **dataset)
    assert "\n" not in str(error.value)
    return str(error.value)


def build(folder: Path, sent: Rows, **dataset: Any) -> Features:
    store, settings = export(folder, sent, **dataset)
    raw, _ = pipeline.land(store, settings, LANDED_ON)
    return pipeline.open_features(store, pipeline.build_features(store, raw, settings, PROJECT).id, settings)


def ask(features: Features, query: str) -> list[tuple]:
    with duckdb.connect() as connection:
        connection.execute(f"set file_search_path = '{features.path}'")
        return connection.execute(f"{query} order by all").fetchall()


def typed(features: Features) -> list[tuple]:
    """Types of the events, whether they are the target, and how many there are."""
    return ask(features, "select event_type, is_target, count(*) from 'fct_events.parquet' group by all")


def test_views_alone_are_refused_with_the_line_that_makes_them_the_target(tmp_path: Path) -> None:
    said = refusal(tmp_path, rows(20, event_type="View "))
    assert 'no event is of the target "purchase"; the data have "view" 20 (100.00%)' in said
    assert '[datasets.events] in config.toml: target = "view"' in said
    assert land(tmp_path, rows(20, event_type="View "), target="view")


def test_an_unknown_type_above_a_thousandth_stops_the_run_at_landing(tmp_path: Path) -> None:
    said = refusal(tmp_path, rows(1_000) + rows(2, event_type="click"))
    assert 'the event types "click" 2 (0.20%) are not known' in said
    assert 'event_types = {click = "view"}' in said


def test_an_unknown_type_up_to_a_thousandth_is_left_to_the_quarantine(tmp_path: Path) -> None:
    assert land(tmp_path, rows(999) + rows(1, event_type="click"))


@pytest.mark.parametrize(
    ("target", "types", "lines"),
    [
        ("purchase", {"play": 9, "skip": 20}, ['target = "play"', 'event_types = {skip = "ignore"}']),
        (
            "purchase",
            {"view": 90, "addtocart": 5, "transaction": 2},
            ['event_types = {addtocart = "cart", transaction = "purchase"}'],
        ),
        ("play", {"play": 9, "purchase": 1}, ['event_types = {purchase = "cart"}']),
        ("cart", {"cart": 9, "purchase": 1}, ['event_types = {purchase = "view"}']),
        ("purchase", {"": 9, "page view": 1, QUOTED: 1}, ['event_types = {"page view" = "view", "it\'s \\"over\\"" = "ignore"}']),
        ("purchase", {"view": 9, "cart": 1}, ['target = "cart"']),
        ("purchase", {"job apply": 1}, ['target = "job_apply"', 'event_types = {"job apply" = "job_apply"}']),
    ],
)
def test_the_lines_that_are_proposed_make_every_type_known(target: str, types: dict[str, int], lines: list[str]) -> None:
    before = make_settings("events", dataset={"target": target}).dataset
    assert event_types.propose_lines(types, before) == lines
    after = make_settings("events", dataset={"target": target} | parse("\n".join(lines))).dataset
    event_types.check_types(types, after, "datasets.events")


def test_lines_that_are_there_already_are_kept() -> None:
    dataset = make_settings("events", dataset={"event_types": {"Ping": "ignore"}}).dataset
    assert event_types.propose_lines({"": 1, "ping": 1, "tap": 1}, dataset) == ['event_types = {ping = "ignore", tap = "ignore"}']


def test_a_line_that_contradicts_the_proposed_target_goes() -> None:
    dataset = make_settings("events", dataset={"target": "play", "event_types": {"purchase": "cart"}}).dataset
    assert event_types.propose_lines({"purchase": 1}, dataset) == ['target = "purchase"', "event_types = {}"]


def test_a_minimum_without_ratings_is_refused(tmp_path: Path) -> None:
    assert "min_rating is 4, but no event has a rating" in refusal(tmp_path, rows(20), min_rating=4.0)
    assert "but the highest rating is 3" in refusal(tmp_path, rows(20, rating="3"), min_rating=4.0)


def test_repeats_are_target_events_on_an_item_of_an_earlier_day() -> None:
    with duckdb.connect() as connection:
        connection.execute("""create table events as select * from (values
            ('u', 'i', timestamp '2024-01-01 10:00'), ('u', 'i', timestamp '2024-01-01 11:00'), ('u', 'i', timestamp '2024-01-02'),
            ('u', 'j', timestamp '2024-01-02'), ('v', 'i', timestamp '2024-01-03')
        ) as sent(user_id, item_id, event_at)""")
        assert event_types.repeat_share(connection, "events") == 0.25
        assert event_types.repeat_share(connection, "(from events limit 0)") == 0


@pytest.fixture(scope="module")
def plays(tmp_path_factory: pytest.TempPathFactory) -> Features:
    """Plays, with weaker signals under names that only settings explain, and one event in a thousand that they do not."""
    sent = rows(980, event_type="play") + rows(10, event_type=QUOTED) + rows(5, event_type="purchase") + rows(4, event_type="ping")
    known = {f" {QUOTED.upper()}": "view", "purchase": "cart", "ping": "ignore"}
    return build(tmp_path_factory.mktemp("plays"), sent + rows(1, event_type="huh"), target="play", event_types=known)


def test_types_are_mapped_whatever_their_names(plays: Features) -> None:
    assert typed(plays) == [("cart", False, 5), ("play", True, 980), ("view", False, 10)]


def test_an_ignored_event_is_neither_kept_nor_rejected(plays: Features) -> None:
    assert ask(plays, "select event_type, reason from 'int_events_rejected.parquet'") == [("huh", "unknown_type")]


def test_features_depend_on_what_is_the_target(plays: Features) -> None:
    raw = SimpleNamespace(made_from={"landed_on": "2024-06-01"})
    ids = set()
    for dataset in ({}, {"target": "play"}, {"event_types": {"a": "view"}}, {"event_types": {"a": "cart"}}, {"min_rating": 3.0}):
        variables = warehouse.parameters(cast(Manifest, raw), make_settings("events", dataset=dataset))
        ids.add(warehouse.features_id(variables, "raw", PROJECT))
    assert len(ids) == 5


@pytest.fixture(scope="module")
def carts(tmp_path_factory: pytest.TempPathFactory) -> Features:
    """Carts as the target; views of the same items, and one purchase that counts as a view."""
    sent = rows(30, event_type="cart") + rows(30, event_type="view") + rows(1, event_type="purchase")
    return build(tmp_path_factory.mktemp("carts"), sent, target="cart", event_types={"purchase": "view"})


def test_a_target_that_is_a_weaker_signal_elsewhere_counts_once(carts: Features) -> None:
    at = f"cutoff = timestamp '{carts.as_of}'"
    assert ask(carts, f"select target_events, carts, views from 'feat_users.parquet' where {at}") == [(30, 0, 31)]
    assert ask(carts, f"select sum(baskets), sum(carts_91d) from 'feat_user_items.parquet' where {at}") == [(30, 0)]
    assert ask(carts, f"select sum(target_events), sum(carts_28d) from 'feat_items.parquet' where {at}") == [(30, 0)]


def test_a_state_looks_at_weaker_signals_only(carts: Features) -> None:
    state = carts.state(carts.as_of)
    assert len(state.history["days"]) == 30
    assert len(state.views_and_carts["days"]) == 30  # the purchase is on an item that was viewed on that day


@pytest.mark.slow
def test_a_target_event_with_a_low_rating_or_none_is_a_view(tmp_path: Path) -> None:
    sent = rows(20, rating="5") + rows(4, rating="4") + rows(10, rating="3.5") + rows(5) + rows(1, rating="five")
    rated = build(tmp_path, sent, target="rating", min_rating=4.0)
    assert typed(rated) == [("rating", True, 24), ("view", False, 15)]
    assert ask(rated, "select reason, reasons from 'int_events_rejected.parquet'") == [("bad_rating", "bad_rating")]


@pytest.mark.slow
def test_a_credit_note_with_a_minus_is_a_return(tmp_path: Path) -> None:
    sent = rows(30, event_type="order") + rows(3, event_type="credit", quantity="-2", price="-5") + rows(1, quantity="-2")
    known = {"order": "purchase", "credit": "return"}
    built = build(tmp_path, sent, event_types=known, max_quarantine=0.5)
    returned = "select distinct quantity::int, price::int from 'fct_events.parquet' where event_type = 'return'"
    assert ask(built, returned) == [(2, 5)]
    assert ask(built, "select reason, count(*) from 'int_events_rejected.parquet' group by all") == [("bad_quantity", 1)]


@pytest.mark.slow
def test_views_alone_become_a_release_that_speaks_of_views(tmp_path: Path) -> None:
    start = date(2024, 1, 1)
    sent = [
        {"user_id": f"u{user}", "item_id": f"i{(day * (1 + user % 4) + user) % 97}", "event_at": str(start + timedelta(day))}
        for user in range(60)
        for day in range(80)
    ]
    sent = [event | {"event_type": "view"} for event in sent]
    store, settings = export(tmp_path, sent, target="view", exclude_seen=True)
    settings = replace(settings, recommenders={"popularity": {"days": 7}, "item_to_item": {}})
    raw, results = pipeline.land(store, settings, LANDED_ON)
    features = pipeline.build_features(store, raw, settings, PROJECT).id
    trained = [pipeline.train(store, recipe, features, {}, settings) for recipe in pipeline.recipes(settings, audit=False)]
    selection = pipeline.select(trained, settings)
    id = pipeline.recommend(store, selection, features, settings, {})
    report = pipeline.validate(store, id, results, selection, None, {}, LANDED_ON, settings, PROJECT)
    about = files.about(store.load("release", id))
    assert (about["target"], about["exclude_seen"]) == ("view", True)
    model = store.load("model", selection.model_id).manifest.made_from
    assert (model["target"], model["exclude_seen"]) == ("view", True)
    said = " ".join(result.message for result in report.results)
    assert "users have a view in the holdout" in said
    assert "purchase" not in said
