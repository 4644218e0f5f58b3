"""Detectors over time, on profiles written by hand: every fault is found on its first day, and a healthy change blocks nothing."""

from collections.abc import Callable
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from conftest import failures, make_settings, make_state, sabotage
from recsys.features.daily_profile import DailyProfile
from recsys.features.warehouse import Quarantine
from recsys.store.snapshots import Manifest, Snapshot
from recsys.validation.check_input import CheckInput
from recsys.validation.checks.history import DETECTORS, HistoryLimits, detect, impossible_times, known_items, new_days, past_days
from recsys.validation.past_days import calibrate
from recsys.validation.registry import limits
from recsys.validation_report import CheckResult

FIRST, DAYS = date(2024, 1, 1), 140
LIMITS: HistoryLimits = limits("history", make_settings())
WEEKDAYS = np.array([0.8, 0.9, 1.0, 1.0, 1.1, 1.3, 0.9])
Change = Callable[[dict[str, dict[str, np.ndarray]]], None]


def steady(days: int = DAYS, events: float = 1_000, seed: int = 0) -> dict[str, dict[str, np.ndarray]]:
    """Counts of a shop in which nothing happens but noise and weekdays, by dimension and value."""
    draw = np.random.default_rng(seed)
    level = events * np.resize(WEEKDAYS, days) * np.exp(draw.normal(0, 0.05, days))

    def counts(share: float) -> np.ndarray:
        return draw.poisson(share * level)

    hours = np.exp(-(((np.arange(24) - 15) / 3.0) ** 2))
    made: dict[str, dict[str, np.ndarray]] = {
        "category": {f"c{number}": counts(share) for number, share in enumerate((0.4, 0.3, 0.2, 0.1))},
        "segment": {"north": counts(0.6), "south": counts(0.4)},
        "event_type": {"view": counts(0.8), "cart": counts(0.1), "purchase": counts(0.1)},
        "price_band": {"2": counts(0.5), "3": counts(0.5)},
        "hour": {f"{hour}": counts(share) for hour, share in enumerate(hours / hours.sum())},
        "price_step": {"0": counts(0.9), "-4": counts(0.1)},
        "users": {"all": counts(0.25), "established": counts(0.2)},
        "items": {"all": counts(0.3)},
        "established_items": {"all": counts(0.8)},
        "copies": {"all": counts(0.001)},
        "largest_user": {"u1": counts(0.012)},
        "largest_item": {"i1": counts(0.02)},
        "rejected": {"bot": counts(0.01)},
    }
    whole = sum(made["category"].values())
    made["events"] = {"all": np.asarray(whole), "established": counts(0.7), "again": counts(0.3), "chance": counts(0.03)}
    made["repeated"] = {"all": counts(0.01)}
    return made


def to_profile(counts: dict[str, dict[str, np.ndarray]]) -> DailyProfile:
    values = {dimension: list(found) for dimension, found in counts.items()}
    return DailyProfile(FIRST, values, {name: np.array(list(found.values())) for name, found in counts.items()})


def judge(change: Change = lambda counts: None, days: int = DAYS, judged: int = 1, **made: Any) -> dict[str, CheckResult]:
    """What fails on the last day, by name."""
    counts = steady(days, **made)
    change(counts)
    found = detect(to_profile(counts), FIRST + timedelta(days), LIMITS, judged)
    assert [result.name for result in found] == [detector.name for detector in DETECTORS]
    return {result.name: result for result in found if not result.passed}


def times(factor: float, days: int, *names: str) -> Change:
    """Multiplies the last days of dimensions, or of all."""

    def change(counts: dict[str, dict[str, np.ndarray]]) -> None:
        for name in names or counts:
            for values in counts[name].values():
                values[-days:] = values[-days:] * factor

    return change


def moved(dimension: str, source: str, target: str, share: float = 1.0, days: int = 1) -> Change:
    """Takes a share of a value's counts for another value's."""

    def change(counts: dict[str, dict[str, np.ndarray]]) -> None:
        values = counts[dimension]
        part = (share * values[source][-days:]).astype(int)
        values[source][-days:] -= part
        values.setdefault(target, np.zeros_like(values[source]))[-days:] += part

    return change


def shifted(hours: int) -> Change:
    def change(counts: dict[str, dict[str, np.ndarray]]) -> None:
        last = np.roll([counts["hour"][f"{hour}"][-1] for hour in range(24)], hours)
        for hour in range(24):
            counts["hour"][f"{hour}"][-1] = last[hour]

    return change


def set_to(dimension: str, value: str, count: float, days: int = 1) -> Change:
    def change(counts: dict[str, dict[str, np.ndarray]]) -> None:
        counts[dimension].setdefault(value, np.zeros(DAYS, int))[-days:] = count

    return change


def test_a_shop_that_goes_on_as_before_passes(inputs: CheckInput) -> None:
    assert failures("history", inputs) == {}
    assert failures("history", sabotage(inputs, live=inputs.release)) == {}


def test_an_ordinary_day_passes() -> None:
    assert judge() == {}


@pytest.mark.parametrize(
    ("change", "name", "severity", "word"),
    [
        (times(0.05, 6), "volume", "block", "6 of the last 7 days"),
        (times(0.5, 1), "volume", "warn", "events"),
        (times(0.4, 1, "users"), "users", "warn", "users"),
        (moved("category", "c0", "c9"), "mix", "warn", "category c"),
        (moved("segment", "north", "south", days=6), "mix", "block", "segment north"),
        (moved("event_type", "view", "purchase"), "event_types", "block", "view"),
        (moved("event_type", "view", "purchase", 0.2), "event_types", "warn", "purchase"),
        (moved("price_step", "0", "92"), "prices", "block", "99.5 times"),
        (moved("price_step", "0", "92", 0.2), "prices", "block", "99.5 times"),
        (moved("price_step", "0", "92", 0.08), "prices", "warn", "far from"),
        (moved("price_step", "0", "4"), "prices", "warn", "median"),
        (moved("price_band", "2", "0"), "mix", "warn", "price"),
        (set_to("users", "established", 5), "repeat_rate", "block", "ids seem to have changed"),
        (set_to("events", "again", 40), "repeat_rate", "block", "mixed up"),
        (set_to("events", "again", 150), "repeat_rate", "warn", "had before"),
        (set_to("established_items", "all", 20), "catalogue", "block", "items"),
        (set_to("established_items", "all", 400), "catalogue", "warn", "known items"),
        (set_to("copies", "all", 100), "copies", "warn", "title"),
        (set_to("largest_user", "u7", 300), "one_account", "warn", "u7"),
        (set_to("largest_item", "i7", 500), "mix", "warn", "i7"),
        (shifted(3), "hours", "warn", "+3 hours"),
        (shifted(-1), "hours", "warn", "-1 hours"),
        (set_to("rejected", "bad_price", 400), "rejected", "warn", "bad_price"),
    ],
)
def test_a_fault_is_named_on_its_first_day(change: Change, name: str, severity: str, word: str) -> None:
    found = judge(change)
    assert (found[name].severity, word in found[name].message) == (severity, True), found[name].message
    assert "look at it in DuckDB: select" in found[name].message


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(times(5, 21), id="christmas"),
        pytest.param(times(10, 1), id="black friday"),
        pytest.param(times(0.4, 60), id="quiet summer"),
        pytest.param(times(0, 3), id="closed days"),
        pytest.param(times(0, 4), id="easter"),
        pytest.param(moved("category", "c0", "c1", 0.8, 3), id="flash sale"),
        pytest.param(moved("category", "c0", "new", 0.4, 20), id="new category"),
        pytest.param(moved("price_step", "0", "3", 1.0, 20), id="price rise"),
        pytest.param(moved("price_step", "0", "-13", 0.3, 3), id="sale"),
        pytest.param(set_to("users", "all", 900, 14), id="campaign"),
        pytest.param(set_to("established_items", "all", 500, 20), id="novelties"),
        pytest.param(set_to("largest_user", "u7", 300), id="wholesale"),
    ],
)
def test_a_healthy_change_blocks_nothing(change: Change) -> None:
    assert "block" not in {result.severity for result in judge(change).values()}


def test_events_lost_at_random_are_found_where_days_vary_much() -> None:
    """Half of a day's events is missing, which is a usual number of events here, but only a tenth of its users."""

    def change(counts: dict[str, dict[str, np.ndarray]]) -> None:
        swing = np.exp(np.random.default_rng(1).normal(0, 0.4, DAYS))
        swing[-1] = 1
        for values in counts.values():
            for value in values:
                values[value] = (values[value] * swing).astype(int)
        users = counts["users"]["all"][-1]
        times(0.5, 1)(counts)
        counts["users"]["all"][-1] = 0.9 * users

    found = judge(change)
    assert list(found) == ["users"]
    assert "users as a share of events" in found["users"].message


def test_a_change_that_lasts_is_told_once() -> None:
    """Five times the volume for three weeks, and then as before."""
    counts = steady()
    for values in counts.values():
        for found in values.values():
            found[100:121] *= 5
    profile = to_profile(counts)
    days = [(day, detect(profile, FIRST + timedelta(day + 1), LIMITS)) for day in range(98, 125)]
    told = [(day, one.name) for day, found in days for one in found if one.name in ("volume", "users") and not one.passed]
    assert told == [(100, "volume"), (100, "users")]


def test_a_change_that_lasts_hides_no_later_one() -> None:
    """Six quiet weeks begin. A month later the threshold is near that of the days before, and not ten times as high."""
    counts = steady()
    for values in counts.values():
        for found in values.values():
            found[98:] = 0.4 * found[98:]
    before, after = (
        next(one for one in detect(to_profile(counts), FIRST + timedelta(day), LIMITS) if one.name == "volume")
        for day in (98, DAYS)
    )
    assert float(after.threshold) < 1.5 * float(before.threshold)


def test_a_collapse_blocks_as_long_as_it_lasts() -> None:
    for days in (1, 5, 20):
        assert judge(moved("event_type", "view", "purchase", days=days))["event_types"].severity == "block"


def test_a_weekly_run_sees_what_began_since_the_last_one() -> None:
    change = moved("event_type", "view", "purchase", 0.2, days=5)
    assert "event_types" not in judge(change)
    assert judge(change, judged=7)["event_types"].severity == "warn"


def test_days_that_were_sent_anew_are_new() -> None:
    """The live release ends three days before; then days of its past come with other types, and with a few late events."""
    end, live = FIRST + timedelta(DAYS), to_profile(steady()).before(FIRST + timedelta(DAYS - 3))
    changed, late = steady(), steady()
    moved("event_type", "view", "purchase", 0.2, days=10)(changed)
    times(1.02, 10)(late)
    assert new_days(live, to_profile(steady()), end, LIMITS) == 3
    assert new_days(live, to_profile(changed), end, LIMITS) == 10
    assert new_days(live, to_profile(late), end, LIMITS) == 3
    assert new_days(None, to_profile(late), end, LIMITS) == 28


def test_a_weekday_on_which_the_shop_is_closed_is_usual() -> None:
    def close(counts: dict[str, dict[str, np.ndarray]]) -> None:
        for values in counts.values():
            for found in values.values():
                found[6::7] = 0

    assert judge(close) == {}


def test_last_years_season_is_usual() -> None:
    """The same three weeks of five times the volume, a year later."""

    def peak(counts: dict[str, dict[str, np.ndarray]]) -> None:
        for values in counts.values():
            for found in values.values():
                found[-365:-344] *= 5
                found[-1] *= 5

    assert "volume" not in judge(peak, days=420)
    assert "volume" in judge(times(5, 1), days=420)


def test_growth_is_usual() -> None:
    def grow(counts: dict[str, dict[str, np.ndarray]]) -> None:
        for values in counts.values():
            for name, found in values.items():
                values[name] = (found * 10 ** (np.clip(np.arange(DAYS) - 80, 0, 60) / 60)).astype(int)

    assert judge(grow) == {}


def test_a_short_history_only_warns() -> None:
    found = judge(moved("event_type", "view", "purchase"), days=50)
    assert found["event_types"].severity == "warn"
    assert judge(days=50) == {}
    assert judge(days=1) == {}


def test_a_short_history_tells_a_change_that_lasts() -> None:
    """Half the users, or exchanged users, for the last seven of 45 days with 120 events each."""
    assert "volume" in judge(times(0.5, 7), days=45, judged=7, events=120)

    def exchange(counts: dict[str, dict[str, np.ndarray]]) -> None:
        counts["events"]["again"][-7:] = counts["events"]["chance"][-7:]

    assert "repeat_rate" in judge(exchange, days=45, judged=7, events=120)
    assert judge(days=45, judged=7, events=120) == {}


def test_a_new_account_with_half_of_the_events_in_a_short_history() -> None:
    assert "one_account" in judge(set_to("largest_user", "u1", 120), days=45, events=120)


def test_who_takes_nothing_twice_does_not_begin_to() -> None:
    """Films, of which other users have seen a tenth."""

    def films(again: int) -> Change:
        def change(counts: dict[str, dict[str, np.ndarray]]) -> None:
            counts["events"]["chance"] = counts["events"]["established"] // 10
            counts["events"]["again"] = np.zeros(DAYS, int)
            counts["events"]["again"][-1] = again

        return change

    assert "had before" in judge(films(5), events=60)["repeat_rate"].message
    assert "repeat_rate" not in judge(films(0), events=60)


def test_the_hours_of_few_events_scatter() -> None:
    """Most events come an hour later: among a hundred that is nearer to chance than among two thousand."""

    def later(counts: dict[str, dict[str, np.ndarray]]) -> None:
        hours = counts["hour"]
        moved = [int(0.8 * hours[f"{hour}"][-1]) for hour in range(24)]
        for hour in range(24):
            hours[f"{hour}"][-1] += moved[hour - 1] - moved[hour]

    many, few = (judge(later, events=events)["hours"] for events in (2_000, 110))
    assert float(many.value) > 2 * float(few.value)


def test_few_rows_say_little() -> None:
    """A third of the events is of another type: by chance among thirty events, not among a thousand."""
    change = moved("event_type", "view", "cart", 0.12)
    assert "event_types" in judge(change, events=2_000)
    assert "event_types" not in judge(change, events=30)


def test_noise_keeps_the_budget_of_false_alarms() -> None:
    """Without a minimal size, which makes alarms rarer still, one day in thirty may warn."""
    eager = replace(
        LIMITS, warn_volume=1.0001, warn_share=1e-6, warn_fall=1e-6, warn_price=1.0001, warn_account=1.0001, warn_hours=1e-6
    )
    profile = to_profile(steady(400))
    days = [FIRST + timedelta(day) for day in range(280, 400)]
    assert 0 < sum(any(not one.passed for one in detect(profile, day, eager)) for day in days) <= 2 * 120 / 365 * 12


def test_unusual_days_stay_out_of_the_past() -> None:
    """Three of the eight Mondays before were lost; the next one is judged by the others, and a fourth is found."""

    def lose(counts: dict[str, dict[str, np.ndarray]]) -> None:
        for values in counts.values():
            for found in values.values():
                found[[-57, -50, -43]] = 0

    assert judge(lose) == {}

    def lose_again(counts: dict[str, dict[str, np.ndarray]]) -> None:
        lose(counts)
        times(0, 1)(counts)

    assert "volume" in judge(lose_again)


def test_a_profile_may_go_on_after_the_day() -> None:
    counts = steady()
    times(0, 1)(counts)
    profile = to_profile(counts)
    assert all(one.passed for one in detect(profile, FIRST + timedelta(DAYS - 1), LIMITS))
    assert not all(one.passed for one in detect(profile, FIRST + timedelta(DAYS), LIMITS))


def test_the_threshold_continues_the_tail_of_the_past() -> None:
    """Of exponential distances with a mean of 1, one in a thousand is above 6.9; normal noise sets the least."""
    past = np.random.default_rng(0).exponential(1, 20_000)
    assert calibrate(past, 1, 0.001) == pytest.approx(6.9, abs=0.3)
    assert calibrate(np.zeros(100), 1, 0.01) == pytest.approx(2.576, abs=0.001)


def items_result(tmp_path: Path, titles: list[str], categories: list[str]) -> CheckResult:
    """Of a hundred items of the live release, item 0 to 99 in categories of 25 each, that are as given now."""
    ids = [f"i{number:02}" for number in range(100)]
    before = {"title": [f"Item {number}" for number in range(100)], "category": [f"c{number // 25}" for number in range(100)]}
    pq.write_table(pa.table({"item_id": ids} | before), tmp_path / "items.parquet")
    state = make_state(np.eye(100, dtype=int))
    items = state.items | {"title": np.array(titles), "category": np.array(categories)}
    now = replace(state, item_ids=np.array(ids), items=items)
    return known_items(Snapshot(tmp_path, Manifest("release", "r", {}, {}, {})), now, LIMITS)


@pytest.mark.parametrize(
    ("titles", "categories", "severity"),
    [
        ("{}", "c{}", None),
        ("shifted", "c{}", "block"),
        ("New {}", "c{}", "warn"),
        ("{}", "scattered", "block"),
        ("{}", "renamed {}", "warn"),
    ],
)
def test_items_that_are_known_stay_what_they_are(tmp_path: Path, titles: str, categories: str, severity: str | None) -> None:
    named = {"shifted": [f"Item {(number + 1) % 100}" for number in range(100)]}
    sorted_in = {"scattered": [f"c{number * 7 % 11}" for number in range(100)]}
    found = items_result(
        tmp_path,
        named.get(titles, [f"Item {number}" if titles == "{}" else titles.format(number) for number in range(100)]),
        sorted_in.get(categories, [categories.format(number // 25) for number in range(100)]),
    )
    assert (None if found.passed else found.severity) == severity, found.message


def test_past_days_that_changed() -> None:
    live = to_profile(steady())
    counts = steady()
    assert past_days(live, to_profile(counts), LIMITS).passed
    counts["events"]["all"][100:140] *= 2
    assert not past_days(live, to_profile(counts), LIMITS).passed
    assert not past_days(live, replace(live.before(live.first), first=live.first), LIMITS).passed


def test_a_day_that_was_sent_again() -> None:
    result = judge(set_to("repeated", "all", 900))["copies"]
    assert (result.blocks, "sent again" in result.message) == (True, True)


def test_times_that_were_cut_off() -> None:
    def cut(counts: dict[str, dict[str, np.ndarray]]) -> None:
        whole = sum(hours[-1] for hours in counts["hour"].values())
        for hours in counts["hour"].values():
            hours[-1] = 0
        counts["hour"]["0"][-1] = whole

    assert judge(cut)["hours"].blocks


def test_times_that_cannot_be() -> None:
    assert impossible_times(Quarantine(10_000, {"too_early": 20, "bot": 500}, {})).passed
    assert not impossible_times(Quarantine(10_000, {"too_early": 20, "future": 1}, {})).passed


def test_users_who_are_known_stay_in_their_segments(inputs: CheckInput) -> None:
    healthy = sabotage(inputs, live=inputs.release)
    assert "known_users" not in failures("history", healthy)
    users = inputs.state.users | {"segment": np.roll(inputs.state.users["segment"], 1)}
    assert "known_users" in failures("history", sabotage(healthy, state=replace(inputs.state, users=users)))


def test_events_that_are_known_stay_with_their_users(inputs: CheckInput) -> None:
    healthy = sabotage(inputs, live=inputs.release)
    assert "known_histories" not in failures("history", healthy)
    state, users = inputs.state, inputs.state.history["user_index"]
    exchanged = replace(state, history=state.history | {"user_index": (users + 1) % state.shape[0]})
    assert failures("history", sabotage(healthy, state=exchanged))["known_histories"].blocks
    fewer = replace(state, history={name: column[::2] for name, column in state.history.items()})
    assert "known_histories" in failures("history", sabotage(healthy, state=fewer))
