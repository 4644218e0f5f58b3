"""Retail data as dense as those of a wholesaler: few customers, wide baskets, a large catalogue, and half of the lines repeats.

The simulated shop has many users with small baskets, which costs much less: what item-to-item similarity, user neighbours and
candidates cost grows with the square of the items that one user or one basket has.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

FIRST_DAY = np.datetime64("2022-01-01")
CATEGORY_SIZE = 200  # average number of items
REPEATS = 0.66  # share of repeats in a customer's later baskets; half of all lines, since nobody repeats in a first basket
LINES = (20, 41)  # limits of a basket's number of lines
RECENT = 1_500  # a customer's last lines that repeats are drawn from
WORDS = {
    "colour": "white black red blue green pink grey silver gold natural ivory cream brown purple yellow turquoise",
    "material": "wooden glass metal ceramic cotton paper wicker enamel felt linen slate zinc bamboo leather marble jute wax resin",
    "motif": "heart star rose bird dolly retro vintage spotty striped daisy owl rabbit robin alphabet paisley zebra circus garden"
    " london paris botanical feather poppy butterfly cherry harlequin skull toadstool woodland gingham",
    "size": "small large mini set jumbo medium travel tall",
    "thing": "bag box mug candle holder light sign frame clock cushion hook basket tin jar bowl plate tray lantern ornament doormat"
    " apron towel purse necklace bracelet ring card wrap ribbon sticker notebook pencil magnet stool drawer cabinet mirror vase",
}


class DenseRetail(NamedTuple):
    """Numbers of customers, items, order lines and days."""

    users: int = 5_000
    items: int = 40_000
    events: int = 600_000
    days: int = 730
    seed: int = 1


def write(folder: Path, size: DenseRetail) -> dict[str, str]:
    """Writes events.parquet and items.parquet for the source `events`. Returns their paths by the name of the table. The same size
    gives the same rows."""
    catalogue = Catalogue(size)
    lines = np.concatenate(list(_baskets(size, catalogue)))
    lines = lines[np.lexsort((lines["item"], lines["basket"], lines["minute"]))]
    draw = np.random.default_rng([size.seed, 2])
    events = {
        "user_id": _ids("c", lines["user"]),
        "item_id": _ids("p", lines["item"]),
        "event_at": FIRST_DAY.astype("datetime64[s]") + lines["minute"].astype("timedelta64[m]"),
        "session_id": _ids("o", lines["basket"]),
        "quantity": draw.choice([1, 2, 3, 4, 6, 12, 24, 48], len(lines), p=[0.3, 0.15, 0.08, 0.1, 0.12, 0.15, 0.07, 0.03]),
        "price": catalogue.prices[lines["item"]],
    }
    items = {
        "item_id": _ids("p", np.arange(size.items)),
        "title": catalogue.titles,
        "category": _ids("category ", catalogue.categories),
        "price": catalogue.prices,
        "available_from": FIRST_DAY.astype("datetime64[s]") + catalogue.first_days.astype("timedelta64[D]"),
        "is_available": catalogue.last_days >= size.days,
    }
    paths = {}
    for name, columns in {"events": events, "items": items}.items():
        pq.write_table(pa.table(columns), folder / f"{name}.parquet")
        paths[name] = str(folder / f"{name}.parquet")
    return paths


class Catalogue:
    """Items with categories, titles, prices and days on sale. Within a category, popularity falls with the rank as in Zipf's law,
    so most items sell rarely."""

    def __init__(self, size: DenseRetail):
        draw = np.random.default_rng([size.seed, 0])
        number = max(1, size.items // CATEGORY_SIZE)
        share = _zipf(number, 0.5, draw)
        self.categories = np.sort(draw.choice(number, size.items, p=share))
        self.starts = np.searchsorted(self.categories, np.arange(number + 1))
        weights = np.concatenate([_zipf(count, 0.9, draw) for count in np.diff(self.starts)])
        self.cumulative = np.cumsum(weights)  # rises by 1 in each category
        self.prices = np.round(np.exp(draw.normal(1.2, 0.8, size.items)) + 0.05, 2)
        comes, goes = draw.random((2, size.items)) < 0.5
        self.first_days = np.where(comes, draw.integers(0, size.days, size.items), 0)
        self.last_days = np.where(goes, self.first_days + draw.integers(60, size.days, size.items), size.days)
        self.popularity = share
        self.titles = _titles(self.categories, draw)

    def draw(self, categories: NDArray, chance: NDArray) -> NDArray[np.int64]:
        """An item of each category by popularity. chance: random numbers from 0 to 1."""
        base = np.where(self.starts[categories] > 0, self.cumulative[self.starts[categories] - 1], 0.0)
        found = np.searchsorted(self.cumulative, base + chance)
        return np.clip(found, self.starts[categories], self.starts[categories + 1] - 1)

    def sold(self, items: NDArray, day: int) -> NDArray[np.bool_]:
        return (self.first_days[items] <= day) & (day < self.last_days[items])


def _baskets(size: DenseRetail, catalogue: Catalogue) -> Iterator[NDArray]:
    """The lines of each basket, customer by customer."""
    draw = np.random.default_rng([size.seed, 1])
    kind = np.dtype([("user", np.int64), ("basket", np.int64), ("item", np.int64), ("minute", np.int64)])
    activity = draw.lognormal(0, 1.2, size.users)
    surplus = round(size.events / np.mean([LINES[0], LINES[1] - 1])) - size.users
    numbers = 1 + draw.multinomial(surplus, activity / activity.sum())
    full = [
        category for category in range(len(catalogue.popularity)) if catalogue.starts[category] < catalogue.starts[category + 1]
    ]
    popularity = catalogue.popularity[full] / catalogue.popularity[full].sum()
    basket = 0
    for user, number in enumerate(numbers.tolist()):
        first = 0 if draw.random() < 0.4 else draw.integers(0, size.days - 7)  # others come later
        days = np.sort(draw.integers(first, size.days, number))
        likes = draw.choice(full, min(len(full), 3 + draw.poisson(4) + number // 4), replace=False, p=popularity)
        tastes = draw.dirichlet(np.full(len(likes), 0.7))
        owned = np.zeros(0, np.int64)
        for day in days.tolist():
            lines = int(draw.integers(*LINES))
            again = int(draw.binomial(lines, REPEATS)) if len(owned) else 0
            known = draw.choice(owned[-RECENT:], 3 * again) if again else owned[:0]
            known = _first(known[catalogue.sold(known, day)], again)
            themes = draw.choice(likes, 4, p=tastes)  # a basket is for a few purposes
            tried = catalogue.draw(draw.choice(themes, 6 * lines), draw.random(6 * lines))
            tried = tried[catalogue.sold(tried, day) & ~np.isin(tried, known)]
            items = np.concatenate([known, _first(tried, lines - len(known))])
            owned = np.concatenate([owned, items])
            minute = day * 24 * 60 + draw.integers(7 * 60, 19 * 60)
            rows = np.empty(len(items), kind)
            rows["user"], rows["basket"], rows["item"], rows["minute"] = user, basket, items, minute
            basket += 1
            yield rows


def _first(items: NDArray, count: int) -> NDArray:
    """The first `count` distinct items, in order."""
    _, places = np.unique(items, return_index=True)
    return items[np.sort(places)[:count]]


def _zipf(count: int, exponent: float, draw: np.random.Generator) -> NDArray[np.float64]:
    """Shares of `count` things in random order."""
    weights = draw.permutation((np.arange(count) + 3.0) ** -exponent)
    return weights / weights.sum()


def _titles(categories: NDArray, draw: np.random.Generator) -> NDArray[np.str_]:
    """Titles of two to five words; each category has things of its own."""
    words = {kind: np.array(known.split()) for kind, known in WORDS.items()}
    title = np.full(len(categories), "", "<U80")
    for kind, chance in (("size", 0.3), ("colour", 0.6), ("material", 0.5), ("motif", 0.7)):
        drawn = words[kind][draw.choice(len(words[kind]), len(categories), p=_zipf(len(words[kind]), 0.7, draw))]
        title = np.where(draw.random(len(categories)) < chance, np.char.add(np.char.add(title, drawn), " "), title)
    things = words["thing"]
    own = things[(categories * 7 + draw.integers(0, 3, len(categories))) % len(things)]
    return np.char.add(np.char.add(title, own), np.char.mod(" no. %d", draw.integers(1, 2_000, len(categories))))


def _ids(prefix: str, numbers: NDArray) -> NDArray[np.str_]:
    return np.char.mod(f"{prefix}%d", numbers)
