"""Prints the output of verbs: plain lines, and tables without boxes."""

import sys
from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Column, Table

console = Console(highlight=False, width=None if sys.stdout.isatty() else 160)


def say(text: str) -> None:
    """Prints a line without markup and without wrapping it."""
    console.print(text, markup=False, soft_wrap=True)


def table(names: Iterable[str], rows: Iterable[Sequence[str]] = (), right: Sequence[int] = ()) -> Table:
    """A table with these column names. right: numbers of the columns that are aligned to the right."""
    columns = (Column(name, justify="right" if number in right else "left", overflow="fold") for number, name in enumerate(names))
    made = Table(*columns, box=None, padding=(0, 2, 0, 0))
    for row in rows:
        made.add_row(*row)
    return made
