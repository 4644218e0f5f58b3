"""Advises how to write dates and numbers that the staging models cannot read."""

import re

DATE = re.compile(r"^(\d{1,2})[-/.](\d{1,2})[-/.](\d{4}|\d\d)(\D.*)?$")
VALUES = re.compile(r"(event_at|quantity|price|rating) (.+?)(?=, (?:quantity|price|rating) |$)")  # form of the column `unreadable`


def advise(*unreadable: str) -> str:
    """Returns what to write instead of events' unreadable values, one of each column; "" if there are none.

    unreadable: values of the events' column `unreadable`.
    """
    values: dict[str, str] = {}
    for event in unreadable:
        for name, value in VALUES.findall(event):
            values.setdefault(name, value.strip())
    return "; ".join(_advise(name, value) for name, value in values.items())


def _advise(name: str, value: str) -> str:
    rewritten = rewrite_date(value) if name == "event_at" else rewrite_number(value)
    usual = "dates like 2023-12-28 13:11:00" if name == "event_at" else "numbers like 1234.50"
    return f"{name} is written like {value[:40]}, which cannot be read; write {rewritten or usual}"


def rewrite_date(text: str) -> str:
    """Returns a date with its year first; "" if it is not clear which part is the day."""
    match = DATE.match(text)
    if not match:
        return ""
    first, second, year, time = int(match[1]), int(match[2]), match[3], match[4] or ""
    is_day_first = first > 12 or "." in text[:3]  # dates with points always have the day first
    month, day = (second, first) if is_day_first else (first, second)
    if month > 12 or not (is_day_first or day > 12) or not re.fullmatch(r"([ T]+\d{1,2}:\d\d(:\d\d([.,]\d+)?)?)?", time):
        return ""
    return f"{year if len(year) == 4 else f'20{year}'}-{month:02}-{day:02}{time}"


def rewrite_number(text: str) -> str:
    """Returns a number with a decimal point and no thousands separators; "" if a comma could be either."""
    match = re.fullmatch(
        r"(-?)(\d{1,3}(?:[. ']\d{3})+|\d+)(?:,(\d+))?|(-?)(\d{1,3}(?:,\d{3}){2,}|\d{1,3},\d{3}(?=\.))(\.\d+)?", text
    )
    if not match or re.fullmatch(r"-?\d{1,3},\d{3}", text):
        return ""
    if match[5]:
        return f"{match[4]}{match[5].replace(',', '')}{match[6] or ''}"
    return match[1] + re.sub(r"\D", "", match[2]) + (f".{match[3]}" if match[3] else "")
