"""Exports that lack something: columns, tables, users, repeats, days. All are cut from one small shop."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

ITEMS = 80


@dataclass(frozen=True)
class Export:
    """The tables that a stranger brings, and the settings of the dataset that go with them."""

    events: pd.DataFrame
    items: pd.DataFrame | None
    users: pd.DataFrame | None
    dataset: dict[str, Any] = field(default_factory=dict)

    def write(self, folder: Path) -> dict[str, str]:
        """CSV files, by the name of the table."""
        tables = {"events": self.events, "items": self.items, "users": self.users}
        for name, table in tables.items():
            if table is not None:
                table.to_csv(folder / f"{name}.csv", index=False)
        return {name: str(folder / f"{name}.csv") for name, table in tables.items() if table is not None}


def shop(users: int = 60, days: int = 64, per_day: float = 0.25, favourites: int = 6, loyalty: float = 0.6) -> Export:
    """Users come on some days and buy one or two items, mostly of their own favourites, which they look at before."""
    dice = np.random.default_rng(5)
    popularity = 1 / np.arange(1, ITEMS + 1)
    popularity /= popularity.sum()
    own = [dice.choice(ITEMS, favourites, replace=False) for _ in range(users)]
    rows: list[tuple[Any, ...]] = []
    for day in range(days):
        for user in np.flatnonzero(dice.random(users) < per_day):
            for item in {int(dice.choice(own[user] if dice.random() < loyalty else ITEMS)) for _ in range(2)}:
                at = pd.Timestamp("2024-03-01") + pd.Timedelta(day, "D") + pd.Timedelta(int(dice.integers(80_000)), "s")
                who = (f"u{user:03}", f"i{item:02}")
                rows.append((*who, at - pd.Timedelta(60, "s"), "view", None, None))
                rows.append((*who, at, "purchase", 1 + item % 3, 5 + item))
    events = pd.DataFrame(rows, columns=["user_id", "item_id", "event_at", "event_type", "quantity", "price"])
    ids = np.arange(ITEMS)
    titles = [f"shape{item // 3} tone{item % 27}" for item in ids]  # each word in three titles, few enough to tell items apart
    items = pd.DataFrame(
        {"item_id": [f"i{item:02}" for item in ids], "title": titles, "category": [f"c{item % 4}" for item in ids]}
    )
    people = pd.DataFrame(
        {"user_id": [f"u{user:03}" for user in range(users)], "segment": [f"s{user % 3}" for user in range(users)]}
    )
    return Export(events, items, people, {"horizon_days": 7, "step_days": 7})


def without(*columns: str) -> Export:
    whole = shop()
    return Export(whole.events.drop(columns=list(columns)), whole.items, whole.users, whole.dataset)


def three_columns() -> Export:
    whole = shop()
    bought = whole.events[whole.events["event_type"] == "purchase"]
    return Export(bought[["user_id", "item_id", "event_at"]], None, None, whole.dataset)


def one_category() -> Export:
    whole = shop()
    assert whole.items is not None
    return Export(whole.events, whole.items.assign(category="all"), whole.users, whole.dataset)


def without_repeats() -> Export:
    whole = shop(loyalty=0.2)
    events = whole.events.drop_duplicates(["user_id", "item_id", "event_type"])
    return Export(events, whole.items, whole.users, whole.dataset)


def nothing_but_repeats() -> Export:
    """Everybody has bought all of their two items in the first weeks, and goes on."""
    return shop(per_day=0.5, favourites=2, loyalty=1.0)


def one_week() -> Export:
    whole = shop(users=150, days=7, per_day=0.7)
    return Export(whole.events, whole.items, whole.users, {"horizon_days": 1, "step_days": 1})


def without_items() -> Export:
    return Export(shop().events, None, shop().users, shop().dataset)


def without_users() -> Export:
    return Export(shop().events, shop().items, None, shop().dataset)


ODD: dict[str, Callable[[], Export]] = {
    "without price": lambda: without("price"),
    "without quantity": lambda: without("quantity"),
    "without items": without_items,
    "without users": without_users,
    "three columns": three_columns,
    "100 users": lambda: shop(users=100),
    "one category": one_category,
    "without repeats": without_repeats,
    "nothing but repeats": nothing_but_repeats,
    "one week": one_week,
}
