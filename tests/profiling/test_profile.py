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
from recsys.profiling.profile import FORMS, Profile, Rows, check
from recsys.settings.loading import parse, resolve

TODAY = date(2024, 6, 1)
START = datetime(2024, 1, 1, 8)
CONFIG = parse((ROOT / "config.toml").read_text())


def profile(inputs: dict[str, Path], name: str = "mine", config: dict[str, Any] = CONFIG) -> Profile:
    return check(config, name, {table: str(path) for table, path in inputs.items()}, PROJECT, TODAY)


def lines(found: Profile, title: str) -> str:
    """The lines of a part of the profile."""
    return "\n".join(part for part in found.parts[title] if isinstance(part, str))


def rows(found: Profile, title: str) -> list[list[str]]:
    """The rows of the tables of a part."""
    return [list(row) for part in found.parts[title] if isinstance(part, Rows) for row in part.rows]


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
    assert [[own, events, ours] for own, events, _, ours in rows(shop[0], "Event types")] == [
        ["order", "3,488", "purchase"], ["wish", "20", "undecided"], ["cart", "3", "cart"],
    ]  # fmt: skip
    assert any("wish" in remark for remark in shop[0].remarks)


def quietest_hour(found: Profile) -> int:
    return int(re.findall(r"quietest six hours are (\d\d):00", lines(found, "Times"))[0])


def test_times_have_a_form_gaps_and_a_night(shop: tuple[Profile, dict[str, Path]]) -> None:
    told = lines(shop[0], "Times")
    assert "text without a zone 99.8%, not readable 0.2%\n" in told
    assert "2024-01-01 08:00 to" in told
    assert ", 90 days" in told
    assert "without an event: 3; the longest runs: 2 from 2024-01-11, 1 from 2024-01-21" in told
    assert {(quietest_hour(shop[0]) + hour) % 24 for hour in range(6)}.isdisjoint(range(8, 15))


def test_rejected_events_are_counted_with_examples_as_they_were_sent(shop: tuple[Profile, dict[str, Path]]) -> None:
    told, examples = lines(shop[0], "Quarantine"), rows(shop[0], "Quarantine")
    assert told.partition("\n")[0].endswith(": 7 ambiguous_date, 4 no_user")
    assert "ambiguous_date, 5 of 7:" in told
    assert sum("event_at 31/12/2023" in row for row in examples) == 5


def test_an_event_type_that_is_lost_to_the_quarantine_is_told(shop: tuple[Profile, dict[str, Path]]) -> None:
    told = [remark for remark in shop[0].remarks if "events are rejected (" in remark]
    assert told == ["3 of 3 cart events are rejected (no_user)"]


def test_users_items_and_repeats_are_counted(shop: tuple[Profile, dict[str, Path]]) -> None:
    told = lines(shop[0], "Users and items")
    assert "20 users; events of a user: median 174," in told
    assert "30 items; " in told
    assert float(re.findall(r"([\d.]+)% of the purchase events are on an item that the user had", told)[0]) > 50


def test_attributes_have_a_type_and_are_proposed_if_they_tell_items_apart(shop: tuple[Profile, dict[str, Path]]) -> None:
    told = lines(shop[0], "Tables of items and users")
    assert "items: 26 rows, 1 of them duplicates" in told
    assert "undated" in told
    assert float(re.findall(r"([\d.]+)% of the events have a row", told)[0]) == pytest.approx(100 * 25 / 30, abs=1)
    brand, weight, _, code = rows(shop[0], "Tables of items and users")
    assert (brand, weight) == (["brand", "text", "3", "0.0%"], ["weight", "number", "25", "0.0%"])
    assert code == ["colour_code", "text", "2", "0.0%"]
    assert '# item_attributes = ["brand", "weight", "colour_code"]' in shop[0].section


def test_the_longest_horizon_that_fits_is_proposed(shop: tuple[Profile, dict[str, Path]]) -> None:
    (used,) = [row for row in rows(shop[0], "Horizon") if row[-1] == "used"]
    assert used[0].startswith("14 / ")
    assert used[3:5] == ["20", "20, 20"]


def assert_same_events(again: Profile, found: Profile) -> None:
    for title in ("Quarantine", "Users and items"):
        assert again.parts[title] == found.parts[title] != []
    told, before = (lines(one, "Times").replace("by the settings", "by default") for one in (again, found))
    assert told == before


@pytest.mark.slow
def test_the_section_gives_a_later_check_the_same_findings(shop: tuple[Profile, dict[str, Path]]) -> None:
    found, inputs = shop
    config = CONFIG | {"datasets": CONFIG["datasets"] | parse(found.section)["datasets"]}
    assert resolve(config, "mine").dataset.source_settings == {table: str(path) for table, path in inputs.items()}
    again = profile({}, config=config)
    assert again.is_known
    assert again.problems == []
    assert_same_events(again, found)
    assert rows(again, "Horizon") == [row for row in rows(found, "Horizon") if row[-1] == "used"]
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
    assert not found.parts["Quarantine"]


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
    assert_same_events(again, spreadsheet)


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
    assert "(by the settings)" not in lines(found, "Event types")  # the section has no target
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
    assert lines(untyped, "Quarantine").startswith("0 of ")


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
    assert not found.parts["Users and items"]


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
    assert "1 day" in lines(few, "Times")
    assert "quietest" not in lines(few, "Times")


def test_a_column_of_lists_alone_is_left_out(few: Profile) -> None:
    assert [name for name, *_ in rows(few, "Tables of items and users")] == ["colour"]
    assert next(one.how for one in few.columns if one.theirs == "tags") == "ignored: it holds a list"
    assert few.parts["Users and items"]


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
    assert 'time_zone = "Asia/Kolkata" is used, by the settings' in lines(found, "Times")
    assert quietest_hour(found) == 0


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
