"""Every day of a history in counts, of events written by hand."""

from datetime import date

import duckdb
import pytest

from recsys.features.daily_profile import DailyProfile, read

# user, item, type, price, time. User 0 comes back to item 0 after 30 days, when it is dear; user 1 takes a copy of it then.
EVENTS = """values
    (0, 0, 'view', 2.0, timestamp '2024-01-01 10:00'), (0, 0, 'purchase', 2.0, timestamp '2024-01-01 10:10'),
    (1, 1, 'view', null, timestamp '2024-01-01 11:00'),
    (0, 0, 'purchase', 200.0, timestamp '2024-01-31 10:10'), (0, 1, 'view', 0.0, timestamp '2024-01-31 10:00'),
    (1, 2, 'view', 3.0, timestamp '2024-01-31 23:00'), (2, 0, 'view', 2.0, timestamp '2024-01-31 23:00')"""


@pytest.fixture(scope="module")
def profile() -> DailyProfile:
    with duckdb.connect() as connection:
        for name, query in {
            "events": f"""select *, case item_index when 2 then 6 else 1 end as quantity
                from ({EVENTS}) events(user_index, item_index, event_type, price, event_at)""",
            "items": """select * from (values (0, 'a', 'Red cup', 'cups'), (1, 'b', 'Plate', 'plates'), (2, 'c', 'RED-CUP', 'cups'))
                items(item_index, item_id, title, category)""",
            "users": """select * from (values (0, 'u', 'north'), (1, 'v', 'south'), (2, 'w', 'south'))
                users(user_index, user_id, segment)""",
            "rejected": "select 'bot' as reason, timestamp '2024-01-31 10:00' as event_at",
        }.items():
            connection.execute(f"create table {name} as {query}")
        return read(connection, "events", "items", "users", "rejected", date(2024, 2, 2))


def last(profile: DailyProfile, dimension: str) -> dict[str, int]:
    """Counts of the last day with an event, without zeros."""
    counts = profile.counts[dimension][:, -2]
    return {value: int(count) for value, count in zip(profile.values[dimension], counts, strict=True) if count}


def test_days_without_events_are_days(profile: DailyProfile) -> None:
    assert (profile.first, profile.days) == (date(2024, 1, 1), 32)
    assert profile.of("events").tolist() == [3, *[0] * 29, 4, 0]


@pytest.mark.parametrize(
    ("dimension", "counts"),
    [
        ("category", {"cups": 3, "plates": 1}),
        ("segment", {"north": 2, "south": 2}),
        ("event_type", {"purchase": 1, "view": 3}),
        ("hour", {"10": 2, "23": 2}),
        ("price_band", {"zero": 1, "1": 2, "7": 1}),
        ("quantity_band", {"0": 3, "2": 1}),
        ("price_step", {"92": 1, "0": 1}),
        ("largest_user", {"u": 2}),
        ("largest_item", {"a": 2}),
        ("rejected", {"bot": 1}),
        ("copies", {"all": 1}),
        ("repeated", {"all": 1}),
    ],
)
def test_events_are_counted(profile: DailyProfile, dimension: str, counts: dict[str, int]) -> None:
    assert last(profile, dimension) == counts


def test_what_is_known_for_four_weeks_is_established(profile: DailyProfile) -> None:
    assert last(profile, "users") == {"all": 3, "established": 2}
    assert last(profile, "items") == {"all": 3}
    assert last(profile, "established_items") == {"all": 3}
    assert last(profile, "events") == {"all": 4, "established": 2, "again": 1}


def test_the_days_before_one_know_nothing_of_it(profile: DailyProfile) -> None:
    assert profile.before(date(2024, 1, 31)).of("events").tolist() == [3, *[0] * 29]
    assert profile.before(date(2023, 12, 31)).days == 0
