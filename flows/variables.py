"""The variables of make's command line: which there are, and what each may hold. Every verb checks all of them before it starts."""

import math
import re
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import NamedTuple

from recsys import RecsysError
from recsys.settings import parse_day


class Range(NamedTuple):
    """A number from `least` to `most`; without the `least` itself if it is `above`."""

    least: float
    most: float
    is_whole: bool = False
    above: bool = False

    def __str__(self) -> str:
        limits = f"above {self.least:g} and up to {self.most:,}" if self.above else f"from {self.least:,} to {self.most:,}"
        return f"a {'whole ' * self.is_whole}number {limits}"


NUMBERS = {
    "SAMPLE": Range(0, 1, above=True),
    "CANARY": Range(0, 1),
    "SHARE": Range(0, 1),
    "KEEP": Range(1, 1_000_000, is_whole=True),
    "GRACE_HOURS": Range(0, 87_600),
    "PORT": Range(1, 65_535, is_whole=True),
}
DAYS = ("AS_OF", "DAY", "FROM")
ON = ("1", "true", "yes", "on")
OFF = ("", "0", "false", "no", "off")
SWITCHES = ("YES", "NOVEL", "OFF", "SYSTEMD", "UNATTENDED", "PRODUCTION", "ESCAPE", "LIST")
UNLISTED = ("STORE", "UNATTENDED", "LIST")  # which `make help` does not tell


def is_on(value: str) -> bool:
    """Whether a switch is on."""
    return value.strip().lower() in ON


def check(given: Mapping[str, str], makefile: Path) -> None:
    """Raises RecsysError naming a variable that no verb has, or one with a value that it cannot have. An empty one is not given."""
    text = makefile.read_text()
    known = {*re.findall(r"\b([A-Z][A-Z_]*)=", "".join(re.findall(r"##(.*)", text))), *UNLISTED}
    known |= set(re.findall(r"^(?:export )?([A-Z_]+) *[:?]?=", text, re.MULTILINE))
    for name, value in ((name, value.strip()) for name, value in given.items()):
        if name not in known:
            close = get_close_matches(name, sorted(known), 1)
            raise RecsysError(f"{name} is no variable of any verb; {f'did you mean {close[0]}?' if close else '`make` lists them'}")
        if value and name in NUMBERS and not _is_within(value, NUMBERS[name]):
            raise RecsysError(f'{name} is "{value}"; it must be {NUMBERS[name]}')
        if value and name in DAYS:
            parse_day(name, value)
        if name in SWITCHES and value.lower() not in (*ON, *OFF):
            raise RecsysError(f'{name} is "{value}"; it must be 1 or 0')


def _is_within(text: str, allowed: Range) -> bool:
    try:
        value = float(text)
    except ValueError:
        return False
    if not math.isfinite(value) or (allowed.is_whole and not text.isdecimal()):
        return False
    return allowed.least <= value <= allowed.most and not (allowed.above and value == allowed.least)
