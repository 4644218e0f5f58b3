"""An export of a stranger: what is found in it, what is proposed, and whether a run on it would work, in truth as in words."""

import csv
import json
import re
from collections.abc import Iterable
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import exports
from conftest import PROJECT, ROOT, Fork, assert_refused
from recsys.profiling.profile import FORMS, AttributeProfile, Profile, check
from recsys.settings.loading import parse, resolve

TODAY = date(2024, 6, 1)
START = datetime(2024, 1, 1, 8)
CONFIG = parse((ROOT / "config.toml").read_text())


def profile(inputs: dict[str, Path], name: str = "mine", config: dict[str, Any] = CONFIG) -> Profile:
    return check(config, name, {table: str(path) for table, path in inputs.items()}, PROJECT, TODAY)


def write(path: Path, names: Iterable[str], rows: Iterable[Iterable[Any]]) -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([list(names), *rows])
    return path


def days(count: int, per_day: int = 40) -> list[list[Any]]:
    """Events of 20 users on 30 items; nothing happens on days 10, 11 and 20."""
    return [
        [f"c{number % 20}", f"s{(number * 7 + day) % 30}", START + timedelta(day, 600 * (number % 40)), "order"]
        for day in range(count)
        for number in range(per_day)
        if day not in (10, 11, 20)
    ]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> tuple[Profile, dict[str, Path]]:
    """Ninety days of orders under foreign names, and some rows of every kind that a person must be told of."""
    folder = tmp_path_factory.mktemp("shop")
    rows = days(90)
    rows += [["c1", f"s{item}", START + timedelta(item), "wish"] for item in range(20)]
    rows += [["c1", f"s{item}", "31/12/2023", "order"] for item in range(7)]
    rows += [["", "s1", START, "order"], *[["", f"s{item}", START, "cart"] for item in range(3)]]
    events = write(folder / "log.csv", ["customer_ref", "SKU", "ts", "action", "device"], [[*row, "phone"] for row in rows])
    catalogue = [
        [f"s{item}", f"Thing {item}", f"b{item % 3}", item / 2, "x" if item else "", f"00{item % 2}"] for item in range(25)
    ]
    items = write(folder / "items.csv", ["sku", "name", "brand", "weight", "constant", "colour_code"], [*catalogue, catalogue[0]])
    inputs = {"events": events, "items": items}
    return profile(inputs), inputs


def test_columns_are_found_proposed_or_ignored(shop: tuple[Profile, dict[str, Path]]) -> None:
    found = {(one.table, one.theirs): one.ours for one in shop[0].columns}
    assert [found["events", name] for name in ("customer_ref", "SKU", "ts", "action", "device")] == [
        *("user_id", "item_id", "event_at", "event_type", ""),
    ]
    assert [found["items", name] for name in ("sku", "name", "brand")] == ["item_id", "title", ""]


def test_types_are_counted_and_the_unknown_is_left_to_a_person(shop: tuple[Profile, dict[str, Path]]) -> None:
    assert shop[0].types == {
        "order": (87 * 40 + 8, "purchase"), "wish": (20, ""), "cart": (3, "cart"),
    }  # fmt: skip
    assert any("wish" in remark for remark in shop[0].remarks)


def test_times_have_a_form_gaps_and_a_night(shop: tuple[Profile, dict[str, Path]]) -> None:
    times = shop[0].times
    assert times
    assert times.quiet is not None
    assert set(shop[0].forms) == {"text without a zone", "not readable"}
    assert (times.first, times.days) == (START, 90)
    assert times.gaps == [(date(2024, 1, 11), 2), (date(2024, 1, 21), 1)]
    assert {(times.quiet + hour) % 24 for hour in range(6)}.isdisjoint(range(8, 15))


def test_rejected_events_are_counted_with_examples_as_they_were_sent(shop: tuple[Profile, dict[str, Path]]) -> None:
    found = shop[0]
    assert found.quarantine
    assert {reason: events for reason, events in found.quarantine.rejected.items() if events} == {"ambiguous_date": 7, "no_user": 4}
    assert len(found.examples["ambiguous_date"]) == 5
    assert {row["unreadable"] for row in found.examples["ambiguous_date"]} == {"event_at 31/12/2023"}


def test_an_event_type_that_is_lost_to_the_quarantine_is_told(shop: tuple[Profile, dict[str, Path]]) -> None:
    told = [remark for remark in shop[0].remarks if "events are rejected (" in remark]
    assert told == ["3 of 3 cart events are rejected (no_user)"]


def test_users_items_and_repeats_are_counted(shop: tuple[Profile, dict[str, Path]]) -> None:
    counts = shop[0].counts
    assert counts
    assert (counts.users.number, counts.users.median, counts.items.number) == (20, 174, 30)
    assert counts.repeats > 0.5


def test_attributes_have_a_type_and_are_proposed_if_they_tell_items_apart(shop: tuple[Profile, dict[str, Path]]) -> None:
    (items,) = shop[0].entities
    assert (items.rows, items.duplicates, items.is_dated) == (26, 1, False)
    assert items.covered == pytest.approx(25 / 30, abs=0.01)
    assert items.attributes[:2] == [AttributeProfile("brand", "text", 3, 0.0), AttributeProfile("weight", "number", 25, 0.0)]
    assert items.attributes[3] == AttributeProfile("colour_code", "text", 2, 0.0)
    assert '# item_attributes = ["brand", "weight", "colour_code"]' in shop[0].section


def test_the_longest_horizon_that_fits_is_proposed(shop: tuple[Profile, dict[str, Path]]) -> None:
    assert shop[0].horizon
    assert shop[0].horizon.horizon_days == 14
    assert shop[0].horizon.users == [20, 20, 20]


@pytest.mark.slow
def test_the_section_gives_a_later_check_the_same_findings(shop: tuple[Profile, dict[str, Path]]) -> None:
    found, inputs = shop
    config = CONFIG | {"datasets": CONFIG["datasets"] | parse(found.section)["datasets"]}
    assert resolve(config, "mine").dataset.source_settings == {table: str(path) for table, path in inputs.items()}
    again = profile({}, config=config)
    assert again.is_known
    assert again.problems == []
    assert (again.quarantine, again.counts, again.times) == (found.quarantine, found.counts, found.times)
    assert again.horizons == [found.horizon]
    assert again.section == ""


def test_the_items_may_call_a_column_otherwise_than_the_events(tmp_path: Path) -> None:
    events = write(tmp_path / "log.csv", ["uid", "product", "ts"], [[1, 2, "2024-01-01"]])
    items, users = write(tmp_path / "items.csv", ["sku", "label"], [["2", "Two"]]), write(tmp_path / "users.csv", ["who"], [[1]])
    found = profile({"events": events, "items": items, "users": users})
    assert found.problems  # no column of the users is known to be user_id, so that nothing more is read
    assert parse(found.section)["datasets"]["mine"]["columns"] == {
        "user_id": "uid", "item_id": "product", "event_at": "ts", "items.item_id": "sku", "title": "label", "users.user_id": "...",
    }  # fmt: skip


def test_nothing_is_read_where_a_column_is_missing(tmp_path: Path) -> None:
    found = profile({"events": write(tmp_path / "log.csv", ["uid", "ts", "thing"], [[1, "2024-01-01", 2]])})
    (problem,) = found.problems
    assert "EVENTS has no column that is known to be item_id" in problem
    assert 'user_id = "uid"' in problem
    assert found.quarantine is None


@pytest.fixture(scope="module")
def spreadsheet(tmp_path_factory: pytest.TempPathFactory) -> Profile:
    """Ninety days of orders with decimal commas and an unusual name for the time, separated by semicolons."""
    path = tmp_path_factory.mktemp("spreadsheet") / "sales.csv"
    rows = [[user, item, at, kind, 1, "67,40", "web"] for user, item, at, kind in days(90)]
    with path.open("w", newline="") as file:
        names = ["Customer", "SKU", "When", "Action", "Qty", "Unit Price", "Channel"]
        csv.writer(file, delimiter=";").writerows([names, *rows])
    return profile({"events": path})


def test_a_section_with_a_guessed_column_works_as_it_is_printed(spreadsheet: Profile) -> None:
    found = {one.theirs: (one.ours, one.how.partition(":")[0]) for one in spreadsheet.columns}
    assert found["When"] == ("event_at", "guessed")
    assert any('"When" as event_at' in remark for remark in spreadsheet.remarks)
    again = profile({}, config=CONFIG | {"datasets": parse(spreadsheet.section)["datasets"]})
    assert again.problems == []
    assert (again.quarantine, again.counts, again.times) == (spreadsheet.quarantine, spreadsheet.counts, spreadsheet.times)


def test_a_column_of_numbers_that_cannot_be_read_is_not_proposed(spreadsheet: Profile) -> None:
    assert '"Unit Price"' not in spreadsheet.section
    assert any("is written like 67,40; write 67.40" in remark for remark in spreadsheet.remarks)


@pytest.fixture(scope="module")
def untyped_log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Events whose types are in a column that has no usual name, beside another column of few values and prices with a comma."""
    kinds = ["order", "pageview", "pageview", "refund"]
    rows = [[*row[:3], kinds[number % 4], ("web", "app")[number % 2]] for number, row in enumerate(days(30))]
    rows += [[user, "s1", START + timedelta(number), "order", "web"] for user in ("NULL", "till 3") for number in range(5)]
    rows += [["till 3", f"s{number % 30}", START + timedelta(0, number), "order", "web"] for number in range(145)]
    names = ["user_id", "item_id", "event_at", "Art", "Kanal", "price"]
    return write(tmp_path_factory.mktemp("untyped") / "log.csv", names, [[*row, "67,40"] for row in rows])


@pytest.fixture(scope="module")
def untyped(untyped_log: Path) -> Profile:
    return profile({"events": untyped_log})


def assert_type_column_is_told(found: Profile) -> None:
    (told,) = [remark for remark in found.remarks if "no column is event_type" in remark]
    assert '"pageview" ' in told
    assert 'event_type = "Art"}' in told
    assert found.why != "by the settings"  # the section has no target
    assert "Kanal" not in told


def test_a_column_that_may_hold_event_types_is_told_if_none_is_named(untyped: Profile) -> None:
    assert_type_column_is_told(untyped)


@pytest.mark.slow
def test_a_section_that_names_none_is_told_so_too(untyped_log: Path) -> None:
    section = CONFIG["datasets"]["events"] | {"columns": {"user_id": "user_id"}}
    assert_type_column_is_told(profile({"events": untyped_log}, config=CONFIG | {"datasets": {"mine": section}}))


def test_a_section_says_that_no_column_holds_event_types(untyped_log: Path) -> None:
    section = CONFIG["datasets"]["events"] | {"columns": {"event_type": ""}}
    found = profile({"events": untyped_log}, config=CONFIG | {"datasets": {"mine": section}})
    assert not any("event_type" in remark for remark in found.remarks)


def test_ids_that_stand_for_unknown_users_are_told(untyped: Profile) -> None:
    told = [remark for remark in untyped.remarks if "rejected as no_user" in remark]
    assert [re.findall(r'"(.*)" of (\d+) events', remark) for remark in told] == [[("till 3", "150")], [("NULL", "5")]]


def test_a_column_of_our_own_name_that_cannot_be_read_is_left_out_by_the_section(untyped: Profile) -> None:
    assert parse(untyped.section)["datasets"]["mine"]["columns"] == {"events.price": ""}
    assert untyped.quarantine
    assert sum(untyped.quarantine.rejected.values()) == 0


@pytest.fixture
def german(tmp_path: Path) -> dict[str, Path]:
    """Tables under names that nothing is known of, which two of them share."""
    names = ["Kundennummer", "Artikelnummer", "Bestelldatum", "Menge"]
    return {
        "events": write(tmp_path / "log.csv", names, [[1, 2, "28.12.2023 13:11", 1], [1, 3, "29.12.2023", 1]]),
        "items": write(tmp_path / "items.csv", ["Gruppe", "Artikelnummer"], [["a", "2"], ["a", "3"]]),
        "users": write(tmp_path / "users.csv", ["Kunde"], [[1]]),
    }


def test_all_that_is_missing_is_one_line_with_what_is_likely_meant(german: dict[str, Path]) -> None:
    found = profile(german)
    expected = {"user_id": "...", "item_id": "Artikelnummer", "event_at": "Bestelldatum", "users.user_id": "..."}
    (problem,) = found.problems
    assert "make check-data DATASET=mine" in problem
    assert parse(found.section)["datasets"]["mine"]["columns"] == expected


def test_a_misspelt_column_is_told_with_the_one_that_is_meant(german: dict[str, Path]) -> None:
    names = {"user_id": "Kundenummer", "item_id": "Artikelnummer", "event_at": "Bestelldatum", "users.user_id": "Kunde"}
    section = CONFIG["datasets"]["events"] | {"columns": names}
    (problem,) = profile(german, config=CONFIG | {"datasets": {"mine": section}}).problems
    assert 'columns names "Kundenummer" for user_id, which it lacks: did you mean "Kundennummer"?' in problem
    assert 'user_id = "Kundennummer", item_id = "Artikelnummer"' in problem


def test_a_section_whose_target_is_missing_is_told_before_anything_is_built(tmp_path: Path) -> None:
    events = write(tmp_path / "log.csv", ["user_id", "item_id", "event_at", "event_type"], [[1, 2, "2024-01-01", "view"]])
    found = profile({"events": events}, name="events")
    (problem,) = found.problems
    assert 'no event is of the target "purchase"; the data have "view" 1' in problem
    assert '[datasets.events] in config.toml: target = "view"' in problem
    assert found.counts is None


@pytest.mark.slow
def test_events_without_a_rating_are_told_beside_the_proposed_minimum(tmp_path: Path) -> None:
    rows = [["u", "i", "2024-01-01", rating] for rating in (1, 5, 5, "")]
    found = profile({"events": write(tmp_path / "log.csv", ["user_id", "item_id", "event_at", "rating"], rows)})
    line = next(line for line in found.section.splitlines() if line.startswith("min_rating"))
    assert "25.0% of the events without a rating" in line


def test_a_minimum_without_a_column_of_ratings_is_told(tmp_path: Path) -> None:
    events = write(tmp_path / "log.csv", ["user_id", "item_id", "event_at"], [[1, 2, "2024-01-01"]])
    section = CONFIG["datasets"]["events"] | {"min_rating": 4.0}
    found = profile({"events": events}, config=CONFIG | {"datasets": {"mine": section}})
    assert any("min_rating is 4, but no event has a rating" in problem for problem in found.problems)


@pytest.mark.parametrize(
    ("written", "form"),
    [
        ("2024-01-31", "dates"),
        ("2024/1/3", "dates"),
        ("2024-01-31 10:00", "text without a zone"),
        ("2024-01-31T10:00:00.25", "text without a zone"),
        ("2024-01-31T10:00:00Z", "text with a zone"),
        ("2024-01-31 10:00-05", "text with a zone"),
        ("2024-01-31 10:00:00 +0530", "text with a zone"),
        ("1706695200", "seconds since 1970"),
        ("1706695200.25", "seconds since 1970"),
        ("1706695200000", "milliseconds since 1970"),
        ("1706695200000000", "microseconds since 1970"),
        ("31.01.2024", None),
    ],
)
def test_the_form_of_a_time_is_told(written: str, form: str | None) -> None:
    assert next((name for name, pattern in FORMS.items() if re.search(pattern, written)), None) == form


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Profile:
    """One event, and an item with a list for an attribute."""
    folder = tmp_path_factory.mktemp("few")
    events = write(folder / "log.csv", ["user_id", "item_id", "event_at"], [["u", "i", "2024-01-01"]])
    (folder / "items.jsonl").write_text(json.dumps({"item_id": "i", "tags": ["a", "b"], "colour": "red"}))
    return profile({"events": events, "items": folder / "items.jsonl"})


def test_every_problem_of_few_events_is_told(few: Profile) -> None:
    told = " ".join(few.problems)
    for problem in (
        "1 event, and a run needs 1,000",
        "all events have the same user",
        "all events have the same item",
        "cannot be evaluated",
    ):
        assert problem in told


def test_no_horizon_is_proposed_from_too_little_data(few: Profile) -> None:
    assert not {"horizon_days", "step_days", "exclude_seen"} & parse(few.section)["datasets"]["mine"].keys()
    assert any("the data have 1 day," in problem and "4 for a horizon of 1 day" in problem for problem in few.problems)


def test_dates_have_no_quietest_hours(few: Profile) -> None:
    assert few.times
    assert few.times.quiet is None


def test_a_column_of_lists_alone_is_left_out(few: Profile) -> None:
    (items,) = few.entities
    assert [attribute.name for attribute in items.attributes] == ["colour"]
    assert next(one.how for one in few.columns if one.theirs == "tags") == "ignored: it holds a list"
    assert few.counts


def test_dates_and_numbers_of_another_form_are_told_with_the_form_to_write(tmp_path: Path) -> None:
    rows = [[user, "i", f"{user + 1}.12.2023 13:11", "1.234,50"] for user in range(28)]
    found = profile({"events": write(tmp_path / "log.csv", ["user_id", "item_id", "event_at", "price"], rows)}, name="events")
    told = next(problem for problem in found.problems if "quarantine" in problem)
    assert "event_at is written like 9.12.2023 13:11, which cannot be read; write 2023-12-09 13:11" in told
    assert "price is written like 1.234,50, which cannot be read; write 1234.50" in told
    assert "raise the limit" not in told
    assert any('leave the column out with "events.price" = "" in columns' in remark for remark in found.remarks)


def test_a_horizon_that_is_too_long_a_day_of_an_import_and_the_night_of_the_zone_are_told(tmp_path: Path) -> None:
    rows = days(60) + [[f"c{number}", "s1", START + timedelta(30), "order"] for number in range(600)]
    events = write(tmp_path / "log.csv", ["user_id", "item_id", "event_at", "event_type"], rows)
    section = {"source": "events", "horizon_days": 56, "step_days": 28, "event_types": {"order": "purchase"}}
    section["time_zone"] = "Asia/Kolkata"
    found = profile({"events": events}, config=CONFIG | {"datasets": {"mine": section}})
    assert "horizon_days = 56 is too long for 60 days" in " ".join([*found.remarks, *found.problems])
    assert any(re.search(r"horizon_days = \d+ and step_days = \d+", remark) for remark in found.remarks)
    assert any(remark.startswith("2024-01-31 has 640 events, 16 times the usual day") for remark in found.remarks)
    assert found.times
    assert (found.times.zone, found.times.quiet) == ("Asia/Kolkata", 0)


@pytest.fixture
def fork(tmp_path: Path) -> Fork:
    return Fork(tmp_path / "fork")


def test_a_wrong_name_or_no_path_is_one_line(fork: Fork, tmp_path: Path) -> None:
    assert_refused(fork.run("check-data"), "EVENTS is not given")
    assert_refused(fork.run("check-data", DATASET="none"), 'DATASET "none" is not in config.toml')
    assert_refused(fork.run("check-data", EVENTS="x.csv", DATASET="my data"), 'DATASET "my data" is not a valid name')
    assert_refused(fork.run("check-data", EVENTS=str(tmp_path / "none.csv")), "none.csv", "is not a file")
    half = write(tmp_path / "half.csv", ["user", "time"], [["u", "2024-01-01"]])
    assert_refused(
        fork.run("check-data", EVENTS=str(half)), "a run will not work: EVENTS has no column that is known to be item_id"
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("write", "name", "expected"),
    [
        (exports.write_views, "clickstream", {"horizon_days": 7, "target": "view"}),
        (exports.write_ratings, "ratings", {"target": "like", "min_rating": 4.0, "exclude_seen": True}),
        (exports.write_shop, "weblog", {"horizon_days": 28}),
    ],
)
def test_the_section_that_is_printed_leads_to_a_release(
    fork: Fork, tmp_path: Path, write: Any, name: str, expected: dict[str, Any]
) -> None:
    checked = fork.run("check-data", **write(tmp_path))
    assert checked.returncode == 0, checked.stdout + checked.stderr
    section = checked.stdout.split("# paste this into config.toml\n")[1].split("\n\nWill a run work?")[0]
    assert expected.items() <= parse(section)["datasets"][name].items()
    config = fork.root / "config.toml"
    config.write_text(f"{config.read_text()}\n{section}")
    done = fork.run("run", DATASET=name)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (fork.store(name) / "CURRENT").exists()
