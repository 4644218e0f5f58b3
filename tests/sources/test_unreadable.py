"""Values that staging rejects, and what a message says to write instead."""

import pytest

from recsys.features.unreadable import advise, rewrite_date, rewrite_number


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("28.12.2023 13:11", "2023-12-28 13:11"),
        ("05.01.2024", "2024-01-05"),
        ("31/12/23 10:00:01", "2023-12-31 10:00:01"),
        ("12/31/2023", "2023-12-31"),
        ("05/01/2024", ""),
        ("12/31/2023 1:00 PM", ""),
        ("yesterday", ""),
    ],
)
def test_a_date_is_written_with_the_year_first_if_its_order_is_certain(written: str, expected: str) -> None:
    assert rewrite_date(written) == expected


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("1.234,50", "1234.50"),
        ("-2,00", "-2.00"),
        ("1 234 567,5", "1234567.5"),
        ("1,234.50", "1234.50"),
        ("1,234,567", "1234567"),
        ("1,234", ""),
        ("free", ""),
    ],
)
def test_a_number_is_written_with_a_point_if_its_comma_is_certain(written: str, expected: str) -> None:
    assert rewrite_number(written) == expected


def test_every_unreadable_value_of_an_event_is_told_with_its_column() -> None:
    told = advise("event_at 28.12.2023 13:11, quantity 2,00, price free, and more")
    assert [part.partition(" is written like ")[::2] for part in told.split("; ") if " is written like " in part] == [
        ("event_at", "28.12.2023 13:11, which cannot be read"),
        ("quantity", "2,00, which cannot be read"),
        ("price", "free, and more, which cannot be read"),
    ]
    assert "write 2023-12-28 13:11; write" not in told
    assert "write 2023-12-28 13:11" in told
    assert "write 2.00" in told


def test_one_value_of_each_column_is_told_of_several_events() -> None:
    told = advise("event_at 28.12.2023", "quantity 2,00", "event_at 29.12.2023, price 3,50")
    assert [part.split()[0] for part in told.split("; ") if " is written like " in part] == ["event_at", "quantity", "price"]
    assert "29.12.2023" not in told


def test_nothing_is_told_of_events_that_can_be_read() -> None:
    assert advise("") == ""
