"""Healthy scenarios: what a real shop lives through and no check may stop. Each is the simulated shop under another law from the
day START on, the first of the DAYS that checks look at."""

import shutil
from datetime import date, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import duckdb
import numpy as np

from recsys.sources.shop import Shop
from recsys.sources.shop.world import Floats, Ints, World

START, DAYS = 150, 60
FIRST_DAY = date(2024, 1, 1)
SOURCE_SETTINGS: dict[str, Any] = {
    "users": 1_200,
    "items": 240,
    "days": START + DAYS,
    "events": 80_000,
    "staples": 3,
    "newcomers": 0.4,
}
SUNDAY = 6  # days of the shop begin on a Monday


class Plain(World):
    """An ordinary shop. `changes`: SQL on events, items and users that says what the laws cannot."""

    changes: ClassVar[tuple[str, ...]] = ()

    def busy(self, day: int) -> float:
        """How many times as many visits as usual."""
        return 1.0

    def wanted(self, day: int) -> Floats | float:
        """How many times as strongly as usual each item draws."""
        return 1.0

    def markup(self, day: int) -> Floats | float:
        """The price of each item in units of the usual one."""
        return 1.0

    def visits(self, users: Ints, day: int) -> Floats:
        return (super().visits(users, day) * self.busy(day)).clip(0, 0.95)

    def staple_chance(self, users: Ints, day: int) -> Floats:
        return (super().staple_chance(users, day) * self.busy(day)).clip(0, 1)

    def weight(self, day: int) -> Floats:
        return super().weight(day) * self.wanted(day)

    def price(self, day: int) -> Floats:
        return np.round(super().price(day) * self.markup(day), 2)

    def chosen(self, share: float, count: int) -> np.ndarray:
        """A share of so many users or items, at random."""
        return self.draw(50).random(count) < share


def during(first: int, days: int, day: int) -> bool:
    """Whether a day lies within so many days from the `first` after START."""
    return START + first <= day < START + first + days


class Christmas(Plain):
    """Five times the visits for three weeks."""

    def busy(self, day: int) -> float:
        return 5.0 if during(10, 21, day) else 1.0


class BlackFriday(Plain):
    """Four days with six times the visits and a third off 40% of the items."""

    def busy(self, day: int) -> float:
        return 6.0 if during(18, 4, day) else 1.0

    def markup(self, day: int) -> Floats | float:
        return np.where(self.chosen(0.4, self.items), 0.67, 1.0) if during(18, 4, day) else 1.0


class Sale(Plain):
    """One category costs 40% less for three weeks, and sells three times as much."""

    def wanted(self, day: int) -> Floats | float:
        return np.where(self.category == 1, 3.0, 1.0) if during(7, 21, day) else 1.0

    def markup(self, day: int) -> Floats | float:
        return np.where(self.category == 1, 0.6, 1.0) if during(7, 21, day) else 1.0


class ClosedSundays(Plain):
    """Nothing happens on Sundays."""

    def busy(self, day: int) -> float:
        return 0.0 if day % 7 == SUNDAY else 1.0


class ClosedDays(Plain):
    """Closed on four days in a row, as over Easter."""

    def busy(self, day: int) -> float:
        return 0.0 if during(15, 4, day) else 1.0


class NewCollection(Plain):
    """40% of the items arrive within a week."""

    @cached_property
    def arrives(self) -> Ints:
        days = START + 10 + self.draw(51).integers(7, size=self.items)
        return np.where(self.chosen(0.4, self.items), days, super().arrives)


class NewUsers(Plain):
    """43% more users at once."""

    @cached_property
    def joins(self) -> Ints:
        return np.where(self.chosen(0.3, self.users), START + 12, super().joins)


class Growth(Plain):
    """Ten times the visits within fifty days, a little more each day."""

    def busy(self, day: int) -> float:
        return float(10 ** np.clip((day - START) / 50, 0, 1))


class Summer(Plain):
    """Six quiet weeks with 40% of the visits."""

    def busy(self, day: int) -> float:
        return 0.4 if during(5, 42, day) else 1.0


class NewCategory(Plain):
    """A category that did not exist before."""

    @cached_property
    def arrives(self) -> Ints:
        return np.where(self.category == 2, START + 14, super().arrives)


class PriceRise(Plain):
    """Every price rises by 15%."""

    def markup(self, day: int) -> Floats | float:
        return 1.15 if day >= START + 20 else 1.0


class NewCountry(Plain):
    """A quarter of the users join within three weeks, in a segment of their own."""

    changes = (
        """update users set segment = 'abroad' where user_id in (
            select user_id from events group by all having min(event_at) >= timestamp '{start}' + interval 10 day)""",
    )

    @cached_property
    def joins(self) -> Ints:
        days = START + 10 + self.draw(51).integers(21, size=self.users)
        return np.where(self.chosen(0.25, self.users), days, super().joins)


class Campaign(Plain):
    """A third of all users come for one week of a campaign, and never again."""

    @cached_property
    def joins(self) -> Ints:
        days = START + 14 + self.draw(51).integers(7, size=self.users)
        return np.where(self.chosen(0.33, self.users), days, super().joins)

    @cached_property
    def leaves(self) -> Ints:
        return np.where(self.chosen(0.33, self.users), self.joins + 1, super().leaves)

    def visits(self, users: Ints, day: int) -> Floats:
        return np.where(self.chosen(0.33, self.users)[users] & (self.joins[users] == day), 0.9, super().visits(users, day))


class CleanUp(Plain):
    """The fifth of the items that draw least leaves the catalogue on one day."""

    @cached_property
    def withdrawn(self) -> Ints:
        usual = super().withdrawn
        gone = self._appeal < np.quantile(self._appeal, 0.2)
        return np.where(gone & (usual > START + 16), START + 16, usual)


class Hit(Plain):
    """A novelty makes a tenth of the sales from its first day on."""

    changes = (
        "insert into items select * replace ('hit' as item_id, 'The hit' as title, true as is_available, null as withdrawn_at,"
        " timestamp '{start}' + interval 9 day as available_from) from items where item_id = 'i0000017'",
        "update events set item_id = 'hit', price = 9.99 where event_at >= timestamp '{start}' + interval 9 day"
        " and md5(concat(user_id, event_at)) < '1999'",
    )


class Wholesale(Plain):
    """A new customer orders thirty items three times a week, a dozen of each: as much as thirty others."""

    changes = (
        "insert into users values ('wholesale', 'north')",
        """insert into events select concat('w', day, '-', item_id), 'wholesale', item_id, 'purchase',
            timestamp '{start}' + to_days(day::int) + interval 10 hour, 12, price, concat('wholesale-', day)
            from (from range(11, 1000) as days(day)) join (select item_id, any_value(price) as price from events group by item_id
                order by md5(item_id) limit 30) on timestamp '{start}' + to_days(day::int) < '{end}' and day % 7 in (0, 2, 4)""",
    )


class Weekend(Plain):
    """One weekend with three times the visits, as after a film or a storm."""

    def busy(self, day: int) -> float:
        return 3.0 if during(19, 2, day) else 1.0


LAWS: list[type[Plain]] = [Plain, *Plain.__subclasses__()]
SCENARIOS = {law.__name__: law for law in LAWS}


def write_stream(name: str, seed: int, folder: Path) -> None:
    """All events of a scenario, with its items and users, as Parquet files."""
    shop = Shop(**SOURCE_SETTINGS, first_day=FIRST_DAY.isoformat(), seed=seed)
    shop.world = world = SCENARIOS[name](**SOURCE_SETTINGS, seed=seed)
    folder.mkdir(parents=True)
    shop.land(folder)
    closed = [FIRST_DAY + timedelta(day) for day in range(world.days) if not world.busy(day)]
    days = {"start": FIRST_DAY + timedelta(START), "end": FIRST_DAY + timedelta(START + DAYS)}
    with duckdb.connect() as connection:
        for table, files in {"events": "events/*.parquet", "items": "items.parquet", "users": "users.parquet"}.items():
            connection.execute(f"create table {table} as from read_parquet('{folder}/{files}')")
        connection.execute("delete from events where event_at::date in (select unnest($1))", [closed or [date.min]])
        for change in world.changes:
            connection.execute(change.format(**days))
        for table in ("events", "items", "users"):
            connection.execute(f"copy (from {table} order by all) to '{folder}/{table}.parquet' (format parquet)")
    shutil.rmtree(folder / "events")
