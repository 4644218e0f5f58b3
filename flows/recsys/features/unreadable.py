"""Dates and numbers that staging cannot read, and how to write them."""

import re

DATE = re.compile(r"^(\d{1,2})[-/.](\d{1,2})[-/.](\d{4}|\d\d)(\D.*)?$")
VALUES = re.compile(r"(event_at|quantity|price|rating) (.+?)(?=, (?:quantity|price|rating) |$)")  # as staging lists them


def advise(unreadable: str) -> str:
    """What to write for the values of one event, which are listed as its column `unreadable` holds them; "" for none."""
    return "; ".join(_advise(name, value.strip()) for name, value in VALUES.findall(unreadable))


def _advise(name: str, value: str) -> str:
    rewritten = rewrite_date(value) if name == "event_at" else rewrite_number(value)
    usual = "dates like 2023-12-28 13:11:00" if name == "event_at" else "numbers like 1234.50"
    return f"{name} is written like {value[:40]}, which is not read; write {rewritten or usual}"


def rewrite_date(text: str) -> str:
    """A date with its year first; "" if day and month cannot be told apart."""
    found = DATE.match(text)
    if not found:
        return ""
    first, second, year, time = int(found[1]), int(found[2]), found[3], found[4] or ""
    is_day_first = first > 12 or "." in text[:3]  # with points the day comes first, wherever such dates are written
    month, day = (second, first) if is_day_first else (first, second)
    if month > 12 or not (is_day_first or day > 12) or not re.fullmatch(r"([ T]+\d{1,2}:\d\d(:\d\d([.,]\d+)?)?)?", time):
        return ""
    return f"{year if len(year) == 4 else f'20{year}'}-{month:02}-{day:02}{time}"


def rewrite_number(text: str) -> str:
    """A number with a point and nothing between thousands; "" if a comma may be either."""
    found = re.fullmatch(
        r"(-?)(\d{1,3}(?:[. ']\d{3})+|\d+)(?:,(\d+))?|(-?)(\d{1,3}(?:,\d{3}){2,}|\d{1,3},\d{3}(?=\.))(\.\d+)?", text
    )
    if not found or re.fullmatch(r"-?\d{1,3},\d{3}", text):
        return ""
    if found[5]:
        return f"{found[4]}{found[5].replace(',', '')}{found[6] or ''}"
    return found[1] + re.sub(r"\D", "", found[2]) + (f".{found[3]}" if found[3] else "")
