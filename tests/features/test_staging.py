"""From your own files to the feature snapshot: times, types, quarantine and ids, through every model that stands between."""

import csv
import json
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from conftest import PROJECT, make_settings
from recsys import RecsysError, pipeline
from recsys.features import warehouse
from recsys.settings.run import Settings
from recsys.store.snapshots import Store, open_store
from recsys.validation import perturbations

LANDED_ON = date(2024, 4, 3)
COLUMNS = ["user_id", "item_id", "event_at", "event_type", "quantity", "price", "session_id", "event_id"]
NOON = "2024-02-01 12:00:00"
TIMES = {
    "2024-01-01 00:30:00": datetime(2024, 1, 1, 0, 30),
    "2024-01-01T00:30:00": datetime(2024, 1, 1, 0, 30),
    "2024-01-01T00:30:00Z": datetime(2024, 1, 1, 0, 30),
    "2024-01-01T00:30:00+02:00": datetime(2023, 12, 31, 22, 30),
    "2024-01-01 00:30:00.250-05:30": datetime(2024, 1, 1, 6, 0, 0, 250_000),
    "2024-01-05": datetime(2024, 1, 5),
    "2024-04-02 23:59:59": datetime(2024, 4, 2, 23, 59, 59),  # the last second of a day that is over
    "2024-04-03T01:30:00+02:00": datetime(2024, 4, 2, 23, 30),
    "2024-1-5 9:05": datetime(2024, 1, 5, 9, 5),
    "2024/01/05 10:00": datetime(2024, 1, 5, 10),
    " 2024-01-05 10:00:00,250 ": datetime(2024, 1, 5, 10, 0, 0, 250_000),
    "2024-01-05 10:00:00 UTC": datetime(2024, 1, 5, 10),
    "2024-01-05 10:00:00 +0200": datetime(2024, 1, 5, 8),
    "2024-01-05t10:00:00z": datetime(2024, 1, 5, 10),
    "1704067200": datetime(2024, 1, 1),
    "1704067200.25": datetime(2024, 1, 1, 0, 0, 0, 250_000),
    "1.7040672e+09": datetime(2024, 1, 1),
    "1704067200250": datetime(2024, 1, 1, 0, 0, 0, 250_000),
    "1704067200250001": datetime(2024, 1, 1, 0, 0, 0, 250_001),
    "1704067200250000000": datetime(2024, 1, 1, 0, 0, 0, 250_000),
}
TYPES = {"": "purchase", " ": "purchase", "purchase": "purchase", "View": "view", " CART ": "cart", "return": "return"}
QUANTITIES = {"": 1, "1": 1, " 3 ": 3, "2.5": 2.5, "1e2": 100}
ODD_IDS = [
    "007", "1e5", "1.0", "-0", "NULL", "null", "NaN", "true", "😀", "Zoë", 'a"b', "it's", "'); drop table events; --",
    "a,b;c", "a|b", " padded ", "{{ 1 }}", "\\N", "%",
]  # fmt: skip


def row(**values: str) -> dict[str, str]:
    return {"user_id": "u1", "item_id": "i1", "event_at": NOON} | values


GOOD = [
    *(row(user_id=f"u{day % 5}", item_id=f"i{day % 4}", event_at=str(date(2024, 1, 1) + timedelta(day))) for day in range(90)),
    *(row(user_id="time", item_id=at, event_at=at) for at in TIMES),
    *(row(user_id="type", item_id=f"type{kind}", event_type=kind) for kind in TYPES),
    *(row(user_id="quantity", item_id=f"quantity{number}", quantity=number) for number in QUANTITIES),
    *(row(user_id=id, item_id=id) for id in ODD_IDS),
    *(row(user_id=f"crowd{number}") for number in range(900)),  # beside whom one unknown type is a rare exception
    row(user_id="same", session_id="the same in everything"),
    row(user_id="same", session_id="the same in all but the session"),
    row(user_id="same", session_id="named twice", event_id="e1", price="1"),
    row(user_id="u" * 128, item_id="i" * 128),
    row(user_id="a|b", item_id="c"),
    row(user_id="a", item_id="b|c"),
]

# Each with the reason that it is counted under; its session says what is wrong with it.
BAD = [
    *[("duplicate", row(user_id="same", session_id="the same in everything"))] * 2,
    ("duplicate", row(user_id="same", session_id="named twice, later", event_id="e1", event_at="2024-02-01 13:00:00", price="2")),
    ("no_user", row(user_id="", session_id="missing user")),
    ("no_user", row(user_id=" ", session_id="blank user")),
    ("no_item", row(item_id="", session_id="missing item")),
    ("control_characters", row(user_id="a\x01b", session_id="control character in the user")),
    ("control_characters", row(item_id="a\tb", session_id="tab in the item")),
    ("control_characters", row(item_id="a\nb", session_id="line end in the item")),
    ("control_characters", row(user_id="a\x7fb", session_id="delete in the user")),
    ("bad_time", row(event_at="", session_id="missing time")),
    ("bad_time", row(event_at="yesterday", session_id="text for a time")),
    ("bad_time", row(event_at="2024-02-30", session_id="a day that no month has")),
    *(
        ("bad_time", row(event_at=at, session_id=f"{at} for a time"))
        for at in (
            "2024",
            "10:00",
            "epoch",
            "infinity",
            "-infinity",
            "nan",
            "20240105",
            "202401051000",
            "2024-01-05 10:00:00 PM",
            "12345678",
            "253402300799",
        )
    ),
    ("ambiguous_date", row(event_at="05/01/2024", session_id="day or month first")),
    ("ambiguous_date", row(event_at="31.12.2023 10:00", session_id="points in a date")),
    ("ambiguous_date", row(event_at="5-1-24", session_id="a short year")),
    ("future", row(event_at="2024-04-05 00:00:00", session_id="later than any clock")),
    ("future", row(event_at="2124-02-01", session_id="a century ahead")),
    ("long_id", row(user_id="u" * 129, session_id="a user id of 129 characters")),
    ("long_id", row(item_id="i" * 3_000_000, session_id="an item id of 3 million characters")),
    *(
        ("too_early", row(event_at=at, session_id=f"{at} for a time"))
        for at in ("1970-01-01", "0001-01-01", "1900-01-01 00:00:00Z")
    ),
    ("too_early", row(event_at="1989-12-31 23:59:59", session_id="a second too early")),
    ("unknown_type", row(event_type="click", session_id="unknown type")),
    ("bad_quantity", row(quantity="0", session_id="zero pieces")),
    ("bad_quantity", row(quantity="-1", session_id="pieces below zero")),
    ("bad_quantity", row(quantity="two", session_id="text for pieces")),
    ("bad_price", row(price="-0.01", session_id="price below zero")),
    ("bad_price", row(price="free", session_id="text for a price")),
    ("bad_price", row(price="1,50", session_id="decimal comma")),
    ("no_user", row(user_id="", event_at="yesterday", price="free", session_id="three reasons")),
    ("bad_time", row(event_at="yesterday", price="-1", session_id="bad time, price below zero")),
    ("bad_time", row(event_at="yesterday", price="free", session_id="bad time, text for a price")),
]
REASONS = {bad["session_id"]: reason for reason, bad in BAD}
REJECTED = Counter(reason for reason, _ in BAD)
SENT = len(GOOD) + len(BAD)


@dataclass
class Landed:
    """A store with one raw snapshot, and the source settings that it was landed with."""

    store: Store
    inputs: dict[str, str]
    time_zone: str = "UTC"
    raw_id: str = ""

    def __post_init__(self) -> None:
        self.raw_id, _ = pipeline.land(self.store, self.settings(), LANDED_ON)

    def settings(self, max_quarantine: float = 1.0, as_of: str = "") -> Settings:
        dataset = {"horizon_days": 7, "step_days": 7, "max_quarantine": max_quarantine, "time_zone": self.time_zone}
        return make_settings("events", inputs=self.inputs, checks={"raw": {"min_events": 1}}, dataset=dataset, as_of=as_of)

    def build(self, max_quarantine: float = 1.0, as_of: str = "") -> pipeline.BuiltFeatures:
        return pipeline.build_features(self.store, self.raw_id, self.settings(max_quarantine, as_of), PROJECT)


@dataclass
class Built:
    """A feature snapshot, to be asked in SQL."""

    landed: Landed
    result: pipeline.BuiltFeatures

    def query(self, columns: str, tables: str) -> list[tuple]:
        with duckdb.connect() as connection:
            folder = str(self.landed.store.load("features", self.result.id).path)
            connection.execute("set file_search_path = " + "'" + folder.replace("'", "''") + "'")
            return connection.execute(f"select {columns} from {tables} order by all").fetchall()

    def column(self, name: str, table: str) -> list[Any]:
        return [value for (value,) in self.query(name, f"'{table}.parquet'")]

    def events(self, columns: str, where: str = "true") -> list[tuple]:
        named = "'dim_users.parquet' as users using (user_index) join 'dim_items.parquet' as items using (item_index)"
        return self.query(columns, f"'fct_events.parquet' as events join {named} where {where}")


@pytest.fixture(scope="module", autouse=True)
def elsewhere() -> Iterator[None]:
    """A machine whose clock is not set to UTC."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", "America/New_York")
        yield


@pytest.fixture(scope="module")
def landed(tmp_path_factory: pytest.TempPathFactory) -> Landed:
    """CSV files with everything in them that can go wrong."""
    folder = tmp_path_factory.mktemp("staging")
    with (folder / "events.csv").open("w", encoding="utf8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, restval="")
        writer.writeheader()
        writer.writerows([*GOOD, *(bad for _, bad in BAD)])
    (folder / "items.csv").write_text(
        "item_id,title,price,is_available,withdrawn_at\ni1,The first,9.99,false,2024-03-01\n"
        "007,Agent,free,,\nunsold,Unsold,1,Sold out,soon\na\x01b,Odd,1,true,\n"
        f"{'l' * 129},Long,1,yes,\n"
    )
    (folder / "users.csv").write_text("user_id,segment\nu1,north\nnobody,south\n")
    inputs = {name: str(folder / f"{name}.csv") for name in ("events", "items", "users")}
    return Landed(open_store(str(folder / "store"), "events"), inputs)


@pytest.fixture(scope="module")
def refused(landed: Landed) -> tuple[str, list[str]]:
    """What is said when the quarantine is fuller than allowed, and the feature snapshots there are afterwards."""
    with pytest.raises(RecsysError) as error:
        landed.build(max_quarantine=0.01)
    return str(error.value), landed.store.ids("features")


@pytest.fixture(scope="module")
def quarantine(landed: Landed, refused: tuple[str, list[str]], tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, str]]:
    """The rejected events of the run that was refused, as a CSV file holds them."""
    target = tmp_path_factory.mktemp("it's") / "quarantine.csv"
    rows = pipeline.write_rejected(landed.store, landed.raw_id, landed.settings(max_quarantine=0.05), PROJECT, target)
    with target.open(encoding="utf8", newline="") as file:
        found = list(csv.DictReader(file))
    assert len(found) == rows
    return found


@pytest.fixture(scope="module")
def built(landed: Landed, quarantine: list[dict[str, str]]) -> Built:
    return Built(landed, landed.build())


def test_too_many_bad_rows_are_one_error_with_the_counts(refused: tuple[str, list[str]]) -> None:
    message, _ = refused
    assert f"quarantine holds {len(BAD)} of {SENT:,} events" in message
    assert all(f"{count} {reason}" in message for reason, count in REJECTED.items())
    assert "more than max_quarantine = 1.0%; correct the data, or raise the limit" in message
    assert "`make quarantine DATASET=events`" in message
    assert "\n" not in message


def test_too_many_bad_rows_leave_no_feature_snapshot(refused: tuple[str, list[str]]) -> None:
    assert refused[1] == []


def test_the_rejected_events_of_a_refused_run_can_be_written(quarantine: list[dict[str, str]]) -> None:
    assert Counter(row["reason"] for row in quarantine) == REJECTED
    assert [row["reasons"] for row in quarantine if row["session_id"] == "three reasons"] == ["no_user,bad_price,bad_time"]


def test_values_that_cannot_be_read_are_told_as_they_were_sent(quarantine: list[dict[str, str]]) -> None:
    told = {row["session_id"]: row["unreadable"] for row in quarantine}
    assert told["day or month first"] == "event_at 05/01/2024"
    assert told["bad time, text for a price"] == "event_at yesterday, price free"
    assert told["price below zero"] == ""


def test_those_of_a_feature_snapshot_are_the_same(built: Built, quarantine: list[dict[str, str]], tmp_path: Path) -> None:
    target = tmp_path / "quarantine.parquet"
    pipeline.write_rejected(built.landed.store, built.landed.raw_id, built.landed.settings(), PROJECT, target)
    assert pq.read_table(target)["session_id"].to_pylist() == [row["session_id"] or None for row in quarantine]


def test_a_known_snapshot_is_held_to_a_stricter_limit_too(built: Built) -> None:
    with pytest.raises(RecsysError, match=f"quarantine holds {len(BAD)} of {SENT:,} events"):
        built.landed.build(max_quarantine=0.01)


def test_the_quarantine_counts_each_bad_row_once(built: Built) -> None:
    quarantine = built.result.quarantine
    assert quarantine.sent == SENT
    assert {reason: count for reason, count in quarantine.rejected.items() if count} == dict(REJECTED)


@pytest.mark.parametrize("wrong", REASONS)
def test_a_bad_row_is_rejected_for_its_reason(built: Built, wrong: str) -> None:
    found = built.query("distinct reason", f"'int_events_rejected.parquet' where session_id = '{wrong}'")
    assert found == [(REASONS[wrong],)]


def test_every_good_row_is_an_event(built: Built) -> None:
    assert Counter(built.events("user_id, item_id")) == Counter((good["user_id"], good["item_id"]) for good in GOOD)


@pytest.mark.parametrize("text", TIMES)
def test_times_are_brought_to_utc(built: Built, text: str) -> None:
    assert built.events("event_at", f"user_id = 'time' and item_id = '{text}'") == [(TIMES[text],)]


@pytest.mark.parametrize("text", TYPES)
def test_types_are_in_small_letters_and_none_is_a_purchase(built: Built, text: str) -> None:
    assert built.events("event_type", f"item_id = 'type{text}'") == [(TYPES[text],)]


@pytest.mark.parametrize("text", QUANTITIES)
def test_quantities_are_numbers_and_none_is_one(built: Built, text: str) -> None:
    assert built.events("quantity::double", f"item_id = 'quantity{text}'") == [(QUANTITIES[text],)]


def test_of_two_events_of_one_name_the_earlier_is_kept(built: Built) -> None:
    assert built.events("events.price::double", "user_id = 'same' and events.price is not null") == [(1.0,)]


def test_odd_ids_are_intact(built: Built) -> None:
    assert set(ODD_IDS) <= set(built.column("user_id", "dim_users"))
    assert set(ODD_IDS) <= set(built.column("item_id", "dim_items"))


def test_the_catalogue_describes_items_and_adds_those_without_events(built: Built) -> None:
    rows = built.query("item_id, title, price::double, is_available, withdrawn_at::date::varchar", "'dim_items.parquet'")
    items = {id: tuple(rest) for id, *rest in rows}
    assert items["i1"] == ("The first", 9.99, False, "2024-03-01")
    assert items["007"] == ("Agent", None, True, None)
    assert items["unsold"] == ("Unsold", 1.0, False, None)
    assert items["i2"] == ("i2", None, True, None)


def test_the_catalogue_brings_no_control_characters_in(built: Built) -> None:
    assert [id for id in built.column("item_id", "dim_items") if not id.isprintable()] == []


def test_no_id_is_longer_than_allowed(built: Built, quarantine: list[dict[str, str]]) -> None:
    ids = [*built.column("item_id", "dim_items"), *built.column("user_id", "dim_users")]
    assert max(map(len, ids)) == 128
    assert {len(row["item_id"]) for row in quarantine if "3 million" in row["session_id"]} == {128}


def test_users_are_those_with_events_and_their_segment_where_it_is_known(built: Built) -> None:
    users = dict(built.query("user_id, segment", "'dim_users.parquet'"))
    assert (users["u1"], users["u2"]) == ("north", "unknown")
    assert "nobody" not in users


def test_features_can_be_read_at_every_cutoff(built: Built) -> None:
    features = pipeline.open_features(built.landed.store, built.result.id, built.landed.settings())
    purchases = [len(features.state(cutoff).history["days"]) for cutoff in features.cutoffs]
    days = built.landed.settings().cutoff_days
    assert features.cutoffs == [date(2024, 4, 3) - timedelta(before) for before in days]
    assert purchases == sorted(purchases, reverse=True)
    assert purchases[3] > 0


# Files of one folder, each typed in its own way, seen from a day in the past. In winter London is on UTC.
AS_OF = datetime(2024, 2, 1)
BEFORE = AS_OF - timedelta(seconds=1)


def parquet_folder(folder: Path) -> str:
    folder.mkdir()
    times = [datetime(2024, 1, 1), BEFORE, AS_OF, datetime(2024, 3, 1)]
    east = timezone(timedelta(hours=2))
    first = {"user_id": [1, 2, 1, 3], "item_id": ["a", "b", "c", "d"], "event_at": times, "quantity": [1, 1, 1, 1]}
    second = {"user_id": [4], "item_id": ["half"], "event_at": [datetime(2024, 1, 10, 0, 30, tzinfo=east)], "quantity": [2.5]}
    pq.write_table(pa.table(first), folder / "first.parquet")
    pq.write_table(pa.table(second), folder / "second.parquet")
    return str(folder)


LONDON = {
    "summer": ("2023-07-01 12:00:00", datetime(2023, 7, 1, 11)),
    "offset": ("2023-07-01 12:00:00+02:00", datetime(2023, 7, 1, 10)),
    "seconds": (1688209200, datetime(2023, 7, 1, 11)),
    "skipped": ("2023-03-26 01:30:00", datetime(2023, 3, 26, 1, 30)),  # there was no such hour: half past two in summer
    "twice": ("2023-10-29 01:30:00", datetime(2023, 10, 29, 1, 30)),  # in summer, and an hour later in winter
    "typed": (datetime(2023, 7, 1, 12), datetime(2023, 7, 1, 11)),
}


@pytest.fixture(scope="module")
def typed(tmp_path_factory: pytest.TempPathFactory) -> Landed:
    folder = tmp_path_factory.mktemp("typed") / "it's a place"
    folder.mkdir()
    pattern = parquet_folder(folder / "in")
    rows = [{"user_id": 4, "item_id": name, "event_at": at} for name, (at, _) in LONDON.items()]
    (folder / "in" / "third.jsonl").write_text("\n".join(json.dumps(row) for row in rows if row["item_id"] != "typed"))
    pq.write_table(pa.Table.from_pylist(rows[-1:]), folder / "in" / "fourth.parquet")
    return Landed(open_store(str(folder / "store"), "events"), {"events": pattern}, "Europe/London")


@pytest.fixture(scope="module")
def past(typed: Landed, tmp_path_factory: pytest.TempPathFactory) -> Built:
    scratch = tmp_path_factory.mktemp("scratch") / "it's scratch"
    scratch.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(scratch))
        patch.setenv("TMPDIR", str(scratch))
        return Built(typed, typed.build(as_of="2024-02-01"))


def test_an_as_of_in_the_past_sees_only_earlier_events(past: Built) -> None:
    assert max(past.column("event_at", "fct_events")) == BEFORE
    assert past.column("item_id", "dim_items") == sorted(["a", "b", "half", *LONDON])
    assert past.column("user_id", "dim_users") == ["1", "2", "4"]


def test_a_time_with_a_zone_in_parquet_is_brought_to_utc(past: Built) -> None:
    assert past.events("event_at", "item_id = 'half'") == [(datetime(2024, 1, 9, 22, 30),)]


@pytest.mark.parametrize("name", LONDON)
def test_a_time_without_a_zone_is_in_that_of_the_dataset(past: Built, name: str) -> None:
    assert past.events("event_at", f"item_id = '{name}'") == [(LONDON[name][1],)]


def test_a_file_of_whole_numbers_does_not_round_those_of_the_next(past: Built) -> None:
    assert past.events("quantity::double", "item_id = 'half'") == [(2.5,)]


@pytest.mark.parametrize(
    ("as_of", "is_refused"), [("2024-01-01", True), ("2024-01-02", False), ("2024-03-02", False), ("2024-03-03", True)]
)
def test_an_as_of_outside_the_data_is_refused(as_of: str, is_refused: bool) -> None:
    """As the models leave the cutoffs of events from 2024-01-01 to 2024-03-01."""
    with duckdb.connect() as connection:
        connection.execute(f"create table int_cutoffs as select date '{as_of}' as as_of, date '2024-03-02' as last_as_of")
        connection.execute("create table int_events_accepted as select timestamp '2024-01-01 12:00:00' as event_at")
        with pytest.raises(RecsysError, match=f"AS_OF {as_of} is outside the data") if is_refused else nullcontext():
            warehouse._refuse_as_of(connection, make_settings())


@pytest.mark.slow
def test_an_as_of_later_than_the_data_builds_nothing(typed: Landed, past: Built) -> None:
    with pytest.raises(RecsysError, match=r"AS_OF 2024-03-03 is outside the data: .* of 2024-03-01; pass AS_OF=2024-03-02 or"):
        typed.build(as_of="2024-03-03")
    assert typed.store.ids("features") == [past.result.id]


def test_a_csv_may_lie_beside_parquet_files(tmp_path: Path) -> None:
    folder = parquet_folder(tmp_path / "in")
    (tmp_path / "in" / "third.csv").write_text("user_id,item_id,event_at\nu,i,no day\n")
    landed = Landed(open_store(str(tmp_path / "store"), "events"), {"events": folder})
    profile = warehouse.profile(landed.store.load("raw", landed.raw_id), landed.settings())
    assert {(row["table"], row["rows"]) for row in profile} == {("events", 6), ("items", 0), ("users", 0)}


def test_a_path_may_hold_an_apostrophe_and_a_space(typed: Landed, past: Built) -> None:
    settings = typed.settings(as_of="2024-02-01")
    features = pipeline.open_features(typed.store, past.result.id, settings)
    assert "it's a place" in str(features.path)
    assert features.state(features.as_of).shape[0] == 3
    assert features.differences(features) == {}
    assert perturbations.replay(typed.store, features, settings, features.as_of)
