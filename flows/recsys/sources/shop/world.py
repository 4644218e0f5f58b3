"""The simulation behind the shop: tastes of users, appeal and prices of items, by day.

No day depends on the events of earlier days. So each day can be drawn alone, the first n days do not depend on the number of days
drawn, and the truth is a sum over days.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from recsys.sources.shop.words import Ints, name_items

Floats = NDArray[np.float64]

STYLES = 4  # independent of categories, so that item-to-item similarity has something to learn
VIEWS = 4.0  # mean views per visit
CART, BUY = 0.25, 0.12  # shares of views that lead to a cart event and to a purchase
STAPLE_BUY = 0.8  # expected purchases of a staple per period
WEEKDAY = np.array([0.9, 0.9, 0.95, 1.0, 1.15, 1.2, 0.9])


@dataclass(frozen=True)
class World:
    """A simulated shop. All random values follow from the seed.

    events: approximate number of events in `days` days. staples: largest number of items that a user buys again and again.
    newcomers: share of the users who join during the days; three quarters of it is the share of new items.
    """

    users: int
    items: int
    days: int
    events: int
    seed: int
    staples: int
    newcomers: float

    def draw(self, *stream: int) -> np.random.Generator:
        """A random generator for one purpose. Each stream is independent, so drawing more of one does not change the others."""
        return np.random.default_rng([self.seed, *stream])

    def _arrival(self, stream: int, count: int, share: float) -> Ints:
        """Arrival days of `count` users or items: about `share` of them during the days, the others before the first (-1)."""
        share = max(share, 1e-9)
        return (self.draw(stream).uniform(share - 1, share, count) / share * self.days).astype(int).clip(-1)

    # The catalogue.
    @cached_property
    def categories(self) -> int:
        return int(np.clip(self.items // 30, 4, 60))

    @cached_property
    def category(self) -> Ints:
        return self.draw(1).integers(self.categories, size=self.items)

    @cached_property
    def cell(self) -> Ints:
        """Category and style of each item, as one number."""
        return self.category * STYLES + self.draw(2).integers(STYLES, size=self.items)

    @cached_property
    def arrives(self) -> Ints:
        """Day on which each item enters the shop; -1 before the first."""
        return self._arrival(3, self.items, 0.75 * self.newcomers)

    @cached_property
    def withdrawn(self) -> Ints:
        """Day on which each item is withdrawn; for most after the last day."""
        return self.arrives + 60 + (self.draw(4).exponential(4.0, self.items) * self.days).astype(int)

    @cached_property
    def _named(self) -> tuple[NDArray[np.str_], Floats]:
        """Title and usual price of each item. They depend on its cell, and do not influence the simulated users."""
        return name_items(self.category, self.cell % STYLES, self.draw(18))

    @property
    def title(self) -> NDArray[np.str_]:
        return self._named[0]

    @cached_property
    def base_price(self) -> Floats:
        return np.floor(self._named[1] * np.exp(self.draw(6).normal(0, 0.2, self.items))) + 0.9

    @cached_property
    def period(self) -> Floats:
        """Days between two purchases of a staple, by category; infinite for categories whose items are not used up."""
        periods = self.draw(7).uniform(8, 50, self.categories)
        return np.where(np.arange(self.categories) % 5 < 2, periods, np.inf)

    @cached_property
    def _appeal(self) -> Floats:
        return np.exp(self.draw(8).normal(0, 1, self.items))

    @cached_property
    def _fashion(self) -> tuple[Floats, Floats, Floats]:
        draw = self.draw(9)
        return draw.uniform(0, 0.9, self.items), draw.uniform(60, 300, self.items), draw.uniform(0, 2 * np.pi, self.items)

    def on_sale(self, day: int) -> NDArray[np.bool_]:
        return self.draw(10, day // 7).random(self.items) < 0.05

    def price(self, day: int) -> Floats:
        return np.round(self.base_price * np.where(self.on_sale(day), 0.8, 1.0), 2)

    def weight(self, day: int) -> Floats:
        """Relative chance of each item to be viewed among the items of its cell; 0 if it is not for sale."""
        height, period, phase = self._fashion
        fashion = np.exp(height * np.sin(2 * np.pi * day / period + phase))
        newness = 1 + 2 * np.exp(-np.maximum(day - self.arrives, 0) / 20.0)
        there = (self.arrives <= day) & (day < self.withdrawn)
        return np.where(there, self._appeal * fashion * newness * np.where(self.on_sale(day), 1.5, 1.0), 0.0)

    # The users.
    @cached_property
    def joins(self) -> Ints:
        return self._arrival(11, self.users, self.newcomers)

    @cached_property
    def leaves(self) -> Ints:
        return self.joins.clip(0) + 20 + (self.draw(12).exponential(0.8, self.users) * self.days).astype(int)

    @cached_property
    def activity(self) -> Floats:
        """Each user's chance of a visit on an average weekday, scaled so that `days` days have about `events` events."""
        activity = np.exp(self.draw(13).normal(0, 0.8, self.users))
        alive = np.clip(np.minimum(self.leaves, self.days) - self.joins.clip(0), 0, None)
        per_visit = VIEWS * (1 + CART + BUY)
        return np.clip(0.93 * self.events * activity / max((alive * activity).sum() * per_visit, 1), 0, 0.9)

    @cached_property
    def style(self) -> Floats:
        return self.draw(14).dirichlet(np.full(STYLES, 0.5), self.users)

    @cached_property
    def _taste(self) -> tuple[Floats, Floats, Floats]:
        draw = self.draw(15)
        shape = (self.users, self.categories)
        return draw.normal(0, 1.5, shape), draw.uniform(100, 400, (self.users, 1)), draw.uniform(0, 2 * np.pi, shape)

    def taste(self, users: Ints, day: int) -> Floats:
        """Share of each cell in the views of users: (users, cells). It changes slowly over the days."""
        liking, period, phase = self._taste
        logits = liking[users] + 0.8 * np.sin(2 * np.pi * day / period[users] + phase[users])
        shares = np.exp(logits)
        cells = (shares[:, :, None] * self.style[users][:, None, :]).reshape(len(users), self.categories * STYLES)
        cells *= np.bincount(self.cell, self.weight(day), cells.shape[1]) > 0
        return cells / np.maximum(cells.sum(1, keepdims=True), 1e-300)

    def visits(self, users: Ints, day: int) -> Floats:
        """Chance that each user visits the shop on a day."""
        here = (self.joins[users] <= day) & (day < self.leaves[users])
        return np.where(here, self.activity[users] * WEEKDAY[day % 7], 0.0).clip(0, 0.95)

    # Staples: items that a user buys again and again, each with its own period.
    @cached_property
    def staple(self) -> Ints:
        """Staple items of each user: (users, staples), -1 for an empty slot."""
        draw = self.draw(16)
        items = np.flatnonzero(np.isfinite(self.period[self.category]))
        if len(items) == 0:
            return np.full((self.users, self.staples), -1)
        weights = self._appeal[items] / self._appeal[items].sum()
        chosen = items[draw.choice(len(items), (self.users, self.staples), p=weights)]
        return np.where(draw.random(chosen.shape) < 0.6, chosen, -1)

    @cached_property
    def _rhythm(self) -> tuple[Floats, Floats, Ints, Ints]:
        draw = self.draw(17)
        period = self.period[self.category][self.staple] * np.exp(draw.normal(0, 0.2, self.staple.shape))
        period = np.where((self.staple >= 0) & np.isfinite(period), period, 1e9)
        phase = draw.random(period.shape) * period
        first = draw.integers(-self.days // 2, self.days, period.shape)
        last = first + 30 + (draw.exponential(0.5, period.shape) * self.days).astype(int)
        return period, phase, first, last

    def staple_chance(self, users: Ints, day: int) -> Floats:
        """Chance that a user buys each of their staples on a day: (users, staples)."""
        period, phase, first, last = (part[users] for part in self._rhythm)
        spread = np.maximum(np.round(0.15 * period), 1)
        off = np.abs((day - phase + period / 2) % period - period / 2)  # days from the nearest due day
        item = self.staple[users]
        wanted = (item >= 0) & (first <= day) & (day < last) & (self.arrives[item] <= day) & (day < self.withdrawn[item])
        here = ((self.joins[users] <= day) & (day < self.leaves[users]))[:, None]
        return np.where(wanted & here & (off <= spread), STAPLE_BUY / (2 * spread + 1), 0.0)

    def truth(self, users: Ints, cutoff: int, horizon: int) -> Floats:
        """Expected purchases of each item by each of the given users, in `horizon` days from day `cutoff`: (users, items).

        Ranking by them is the oracle: no recommender can expect to do better.
        """
        days, expected = range(cutoff, cutoff + horizon), np.zeros((len(users), self.items))
        purchases = np.stack([self.taste(users, day) * (self.visits(users, day) * VIEWS * BUY)[:, None] for day in days])
        weight = np.stack([self.weight(day) for day in days])
        for cell in np.unique(self.cell):
            there = np.flatnonzero(self.cell == cell)
            share = weight[:, there] / np.maximum(weight[:, there].sum(1, keepdims=True), 1e-300)
            expected[:, there] = purchases[:, :, cell].T @ share
        chance = np.sum([self.staple_chance(users, day) for day in days], 0)
        np.add.at(expected, (np.arange(len(users))[:, None], self.staple[users].clip(0)), chance)
        return expected
