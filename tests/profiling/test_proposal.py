"""Settings proposed for an export: event types by their names, ratings, horizons, and a section that reads back as it was meant."""

import pytest

from conftest import make_settings
from recsys.profiling.proposal import measure_horizon, propose_min_rating, propose_name, render
from recsys.settings.event_types import propose_types
from recsys.settings.loading import parse
from recsys.settings.run import Dataset


@pytest.mark.parametrize(
    ("counts", "target", "event_types"),
    [
        ({"": 5}, "purchase", {}),
        ({"view": 5}, "view", {}),
        ({"page_view": 5, "product clicked": 1}, "view", {"page_view": "view", "product clicked": "view"}),
        ({"pv": 9, "addtocart": 3, "buy": 1}, "purchase", {"pv": "view", "addtocart": "cart", "buy": "purchase"}),
        ({"detail": 9, "basket": 3}, "cart", {"detail": "view", "basket": "cart"}),
        ({"view": 9, "order completed": 3, "refund": 1}, "purchase", {"order completed": "purchase", "refund": "return"}),
        ({"open": 9, "played": 3}, "play", {"open": "ignore", "played": "play"}),
        ({"like": 2, "play": 3}, "play", {"like": "ignore"}),
        ({"": 5, "view": 3}, "purchase", {}),
        ({"job apply": 3}, "job_apply", {"job apply": "job_apply"}),
        ({"begin_checkout": 2, "purchase": 1}, "purchase", {"begin_checkout": "ignore"}),
    ],
)
def test_types_are_proposed_by_their_names(counts: dict[str, int], target: str, event_types: dict[str, str]) -> None:
    proposed = propose_types(counts)
    assert (proposed.target, proposed.event_types) == (target, event_types)
    assert proposed.is_sure
    assert Dataset("events", 7, 7, target=proposed.target, event_types=proposed.event_types)


def test_types_without_any_usual_name_are_left_to_a_person() -> None:
    proposed = propose_types({"foo": 2, "bar": 1})
    assert not proposed.is_sure
    assert proposed.undecided == ["bar"]


@pytest.mark.parametrize(
    ("counts", "least"),
    [
        ({1: 1, 2: 1, 3: 1, 4: 1, 5: 1}, 4),
        ({0: 5, 1: 5}, 1),
        ({2: 3, 6: 3, 10: 3}, 8),
        ({1: 9, 2: 9, 5: 1}, 2),  # hardly any reach four fifths of the scale: the median
        ({5: 9}, None),
    ],
)
def test_a_least_rating_is_proposed_from_the_scale(counts: dict[float, int], least: float | None) -> None:
    assert propose_min_rating(counts) == least


@pytest.mark.parametrize(("days", "windows"), [(27, 0), (28, 1), (35, 2), (900, 8)])
def test_training_windows_are_counted_behind_the_oldest_evaluated_cutoff(days: int, windows: int) -> None:
    settings = make_settings("events", dataset={"horizon_days": 7, "step_days": 7})
    assert settings.evaluation.selection_windows == 2
    assert measure_horizon(settings, days, [9, 9, 9]).windows == windows


def test_a_horizon_fits_if_every_evaluated_cutoff_has_users_and_a_window_to_learn_from() -> None:
    settings = make_settings("events", dataset={"horizon_days": 7, "step_days": 7})
    assert measure_horizon(settings, 28, [9, 9, 9]).fits
    assert not measure_horizon(settings, 27, [9, 9, 9]).fits
    assert not measure_horizon(settings, 28, [9, 9, 0]).fits


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("exports/Play Log.csv.gz", "play_log"),
        ("s3://bucket/clicks/*.parquet", "clicks"),
        ("/data/events/", "events_2"),
        ("*.csv", "export"),
    ],
)
def test_a_dataset_is_named_by_where_its_events_lie(path: str, name: str) -> None:
    assert propose_name(path, ["events", "shop"]) == name


def test_a_section_reads_back_whatever_its_names_hold() -> None:
    odd = 'it\'s "over" \\ \x7f 😀'
    values = {
        "source": "events",
        "horizon_days": 7,
        "step_days": 7,
        "columns": {"user_id": odd, "items.price": "a.b"},
        "target": "play",
        "event_types": {odd: "view", "x": "ignore"},
        "min_rating": 3.5,
        "exclude_seen": True,
        "time_zone": "UTC",
        "source_settings": {"events": odd},
    }
    text = render("plays", values, {"time_zone": "a guess", "event_types.x": "decide"}, {"item_attributes": ["brand", odd]})
    assert parse(text) == {"datasets": {"plays": values}}
    spared = text.replace("# item_attributes", "item_attributes")
    assert parse(spared)["datasets"]["plays"]["item_attributes"] == ["brand", odd]


def test_a_section_leaves_out_what_the_defaults_say() -> None:
    values = {"source": "events", "horizon_days": 7, "step_days": 7, "target": "purchase", "event_types": {}, "columns": {}}
    read = parse(render("shop", values | {"exclude_seen": False, "source_settings": {"events": "x.csv"}}, {}))
    assert set(read["datasets"]["shop"]) == {"source", "horizon_days", "step_days", "source_settings"}
