"""A simulated shop, whose expected future events are known. It serves as sample data and in tests.

Delete this folder and its line in registry.py once you use your own events.
"""

from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Annotated, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pydantic import Field

from recsys import RecsysError
from recsys.settings import Count, Day, PositiveDays, Seed, Share
from recsys.sources.base import Simulation
from recsys.sources.shop.words import Ints, name_categories
from recsys.sources.shop.world import BUY, CART, VIEWS, Floats, World
from recsys.validation_report import CheckResult

TYPES = np.array(["view", "cart", "purchase", "return"])
VIEW, ADD, PURCHASE, RETURN = range(4)
SEGMENTS = np.array(["families", "offices", "collectors", "students"])  # they prefer the natural, urban, classic and playful styles
BLOCK_EVENTS = 500_000  # approximate number of events of a file, which holds whole days

Columns = dict[str, np.ndarray]


class Shop(Simulation):
    """Views, carts, purchases and returns of a simulated shop, with bots, late events and duplicates. World has the parameters."""

    max_null_share: ClassVar = {
        "events": dict.fromkeys(
            ("event_id", "user_id", "item_id", "event_type", "event_at", "quantity", "price", "session_id"), 0.0
        ),
        "items": dict.fromkeys(("item_id", "title", "category", "price", "is_available"), 0.0),
        "users": dict.fromkeys(("user_id", "segment"), 0.0),
    }

    def __init__(
        self,
        users: Count,
        items: Count,
        days: PositiveDays,
        events: Count,
        first_day: Day,
        seed: Seed,
        staples: Annotated[int, Field(ge=0, le=1_000)] = 3,
        newcomers: Share = 0.4,
    ):
        self.world = World(users, items, days, events, seed, staples, newcomers)
        self.first_day = date.fromisoformat(first_day)

    def land(self, folder: Path, until: date | None = None) -> list[CheckResult]:
        """Writes the events that arrived before the day `until`, by default all."""
        days = (until - self.first_day).days if until else self.world.days
        if not 0 < days <= self.world.days:
            last = self.first_day + timedelta(self.world.days)
            raise RecsysError(
                f"AS_OF {until} lies outside the simulated days; pass one from {self.first_day + timedelta(1)} to {last}"
            )
        (folder / "events").mkdir()
        size = max(1, round(BLOCK_EVENTS * self.world.days / self.world.events))
        for number, rows in enumerate(self._blocks(days, size)):
            pq.write_table(self._events(rows), folder / "events" / f"{number:04}.parquet")
        pq.write_table(self._items(days), folder / "items.parquet")
        pq.write_table(self._users(days), folder / "users.parquet")
        return []

    def truth(self, user_ids: NDArray[np.str_], item_ids: NDArray[np.str_], cutoff: date, horizon_days: int) -> Floats:
        users, items = _numbers("u", user_ids, self.world.users), _numbers("i", item_ids, self.world.items)
        expected = self.world.truth(users[users >= 0], (cutoff - self.first_day).days, horizon_days)
        truth = np.zeros((len(users), len(items)))
        truth[np.ix_(users >= 0, items >= 0)] = expected[:, items[items >= 0]]
        return truth

    def _blocks(self, days: int, size: int) -> Iterator[Columns]:
        """Yields events in order of arrival, `size` days at a time. Events that arrive after the last day are left out."""
        waiting: list[Columns] = []
        for first in range(0, days, size):
            end = min(first + size, days)
            rows = _stack([*waiting, *(self._day(day) for day in range(first, end))])
            here = rows["arrived"] < end
            waiting = [{name: column[~here] for name, column in rows.items()}]
            order = np.lexsort((rows["number"][here], rows["day"][here], rows["arrived"][here]))
            yield {name: column[here][order] for name, column in rows.items()}

    def _day(self, day: int) -> Columns:
        """All events caused on a day. Returns happen, and late events arrive, on later days."""
        world, draw = self.world, self.world.draw(100, day)
        everyone = np.arange(world.users)
        visitors = everyone[draw.random(world.users) < world.visits(everyone, day)]
        user = np.repeat(visitors, 1 + draw.poisson(VIEWS - 1, len(visitors)))
        item = self._view(draw, world.taste(visitors, day), np.searchsorted(visitors, user), day)
        dice = draw.random(len(user))
        carts, buys = dice < CART, dice < BUY
        due, slot = np.nonzero(draw.random(world.staple.shape) < world.staple_chance(everyone, day))
        bots = max(1, world.users // 500)
        bot = np.repeat(np.arange(bots), draw.poisson(0.02 * world.events / world.days / bots, bots))
        for_sale = np.flatnonzero(world.weight(day) > 0)
        bought = np.concatenate([item[buys], world.staple[due, slot]])
        buyer = np.concatenate([user[buys], due])
        back = draw.random(len(bought)) < 0.03
        users = np.concatenate([user, user[carts], buyer, buyer[back], -1 - bot])
        items = np.concatenate([item, item[carts], bought, bought[back], draw.choice(for_sale, len(bot))])
        kinds = np.repeat([VIEW, ADD, PURCHASE, RETURN, VIEW], [len(item), carts.sum(), len(bought), back.sum(), len(bot)])
        happened = day + np.where(kinds == RETURN, draw.integers(1, 15, len(users)), 0)
        start = (np.abs(users) * 7919 + day * 104_729) % 57_600 + 25_200  # one visit per user and day, between 7:00 and 23:00
        rows = {
            "day": happened,
            "number": np.arange(len(users)) + np.int64(day) * 10_000_000,
            "user": users,
            "item": items,
            "kind": kinds,
            "second": np.minimum(start + kinds * 300 + draw.integers(0, 300, len(users)), 86_399),
            "quantity": np.where(kinds >= PURCHASE, 1 + draw.poisson(0.3, len(users)), 1),
            "price": world.price(day)[items],
            "arrived": happened + np.where(draw.random(len(users)) < 0.01, draw.integers(1, 4, len(users)), 0),
        }
        again = np.flatnonzero(draw.random(len(users)) < 0.005)
        return _stack([rows, {name: column[again] for name, column in rows.items()}])

    def _view(self, draw: np.random.Generator, taste: Floats, row: Ints, day: int) -> Ints:
        """The item of each view: first a cell by the taste of the user in `row`, then an item of it by its weight that day."""
        cell = (np.cumsum(taste, 1)[row] < draw.random(len(row))[:, None]).sum(1).clip(0, taste.shape[1] - 1)
        order = np.argsort(self.world.cell, kind="stable")
        ends = np.cumsum(self.world.weight(day)[order])
        totals = np.bincount(self.world.cell, self.world.weight(day), taste.shape[1])
        before = np.concatenate([[0.0], np.cumsum(totals)])[cell]
        place = np.searchsorted(ends, before + draw.random(len(row)) * totals[cell], side="right")
        return order[place.clip(0, len(order) - 1)]

    def _events(self, rows: Columns) -> pa.Table:
        at = np.datetime64(self.first_day, "us") + rows["day"].astype("m8[D]") + rows["second"].astype("m8[s]")
        user = _label(np.where(rows["user"] < 0, "b", "u"), np.where(rows["user"] < 0, -1 - rows["user"], rows["user"]))
        return pa.table(
            {
                "event_id": pc.binary_join_element_wise("e", _text(rows["number"]), ""),
                "user_id": user,
                "item_id": _label("i", rows["item"]),
                "event_type": TYPES[rows["kind"]],
                "event_at": at,
                "quantity": rows["quantity"],
                "price": rows["price"],
                "session_id": pc.binary_join_element_wise(user, _text(rows["day"]), "-"),
            }
        )

    def _items(self, days: int) -> pa.Table:
        world = self.world
        known = np.flatnonzero(world.arrives < days)
        first = np.datetime64(self.first_day, "us")
        withdrawn = world.withdrawn[known]
        return pa.table(
            {
                "item_id": _label("i", known),
                "title": world.title[known],
                "category": name_categories(world.categories)[world.category[known]],
                "price": world.price(days - 1)[known],
                "is_available": withdrawn >= days,
                "available_from": first + world.arrives[known].astype("m8[D]"),
                "withdrawn_at": pa.array(first + withdrawn.astype("m8[D]"), mask=withdrawn >= days),
            }
        )

    def _users(self, days: int) -> pa.Table:
        known = np.flatnonzero(self.world.joins < days)
        return pa.table({"user_id": _label("u", known), "segment": SEGMENTS[self.world.style[known].argmax(1)]})


def _stack(parts: list[Columns]) -> Columns:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _text(numbers: Ints) -> pa.Array:
    return pc.cast(pa.array(numbers), pa.string())


def _label(letter: str | np.ndarray, numbers: Ints) -> pa.Array:
    """Ids such as u0000042, which sort as the numbers do."""
    letters = pa.scalar(letter) if isinstance(letter, str) else pa.array(letter)
    return pc.binary_join_element_wise(letters, pc.utf8_lpad(_text(numbers), 7, "0"), "")


def _numbers(letter: str, ids: NDArray[np.str_], count: int) -> Ints:
    """The number of each id that `_label` makes of the first `count` numbers; -1 for other ids, such as those of bots."""
    return pc.index_in(pa.array(ids), _label(letter, np.arange(count))).fill_null(-1).to_numpy().astype(np.int64)
