"""A feature snapshot, handed over to NumPy: states, labels and training windows at its cutoffs."""

from datetime import date, timedelta
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys.config import Settings
from recsys.state import State, Table, Window
from recsys.store import Snapshot
from recsys.warehouse import connect, escaped

LOOK_DAYS = 91  # what was looked at longer ago says little, and is most of the data

WIDE = {"feat_users": ("user",), "feat_items": ("item",), "feat_user_items": ("user", "item")}  # and what a row is of


class Features:
    """A feature snapshot, read table by table."""

    def __init__(self, snapshot: Snapshot, settings: Settings):
        self.path, self.settings, self.id = snapshot.path, settings, snapshot.manifest.id
        self.made_from = snapshot.manifest.made_from
        found = self._table("select cutoff from '{}/int_cutoffs.parquet' order by 1 desc")["cutoff"]
        self.cutoffs: list[date] = found.astype("datetime64[D]").tolist()

    def _table(self, query: str) -> Table:
        with connect(None, self.settings) as connection:
            columns = connection.execute(query.format(escaped(self.path))).fetchnumpy()
        return {name: _dense(column) for name, column in columns.items()}

    @property
    def as_of(self) -> date:
        return self.cutoffs[0]

    @property
    def evaluated(self) -> list[date]:
        """The holdout's cutoff, then those of selection, newest first."""
        return [self.as_of - timedelta(days=days) for days in self.settings.evaluated_days]

    def counts(self) -> dict[str, Any]:
        """Events, users and items before `as_of`, and the first and last event's day."""
        return {
            name: column[0].item() if hasattr(column[0], "item") else column[0]
            for name, column in self._table(
                """select count(*) as events, (select count(*) from '{0}/dim_users.parquet') as users,
                   (select count(*) from '{0}/dim_items.parquet') as items,
                   coalesce(min(event_at)::date::varchar, '') as first_day, coalesce(max(event_at)::date::varchar, '') as last_day
                   from '{0}/fct_events.parquet'"""
            ).items()
        }

    def daily(self, days: int) -> Table:
        """Events and purchases of each of the last days before `as_of`, the last being day 0, by the items' category."""
        return self._table(
            f"""select datediff('day', event_at::date, date '{self.as_of}') - 1 as day, category,
                count(*) as events, count(purchase_number) as purchases
                from '{{0}}/fct_events.parquet' join '{{0}}/dim_items.parquet' using (item_index)
                where event_at >= timestamp '{self.as_of}' - interval {days} day group by all order by all"""
        )

    def median_prices(self, days: int) -> tuple[float, float]:
        """Median price of the purchases of the last days before `as_of`, and of as many before; NaN where none has a price."""
        middle = f"timestamp '{self.as_of}' - interval {days} day"
        prices = self._table(
            f"""select median(price) filter (where event_at >= {middle})::float as now,
                median(price) filter (where event_at < {middle})::float as before from '{{0}}/fct_events.parquet'
                where purchase_number is not null and event_at >= {middle} - interval {days} day"""
        )
        return float(prices["now"][0]), float(prices["before"][0])

    def state(self, cutoff: date) -> State:
        """What is known at one of the snapshot's cutoffs."""
        at = f"cutoff = timestamp '{cutoff}'"
        users = self._table(
            "select user_id, segment, is_sampled, features.* exclude (cutoff, user_index) from '{0}/dim_users.parquet' users"
            f" left join (select * from '{{0}}/feat_users.parquet' where {at}) features using (user_index) order by user_index"
        )
        items = self._table(
            "select item_id, title, category, features.* exclude (cutoff, item_index, is_available),"
            " coalesce(features.is_available, false) as is_available from '{0}/dim_items.parquet' items"
            f" left join (select * from '{{0}}/feat_items.parquet' where {at}) features using (item_index) order by item_index"
        )
        history = self._table(
            f"""select events.user_index, item_index, basket_number,
                (epoch(timestamp '{cutoff}' - event_at) / 86400)::float as days
                from '{{0}}/fct_events.parquet' events
                join (select user_index, max(purchase_number) as purchases from '{{0}}/fct_events.parquet'
                      where event_at < timestamp '{cutoff}' group by all) seen using (user_index)
                where event_at < timestamp '{cutoff}' and purchase_number > purchases - {self.settings.features.history_cap}
                order by user_index, purchase_number"""
        )
        looks = self._table(
            f"""select distinct user_index, item_index, datediff('day', event_at::date, date '{cutoff}') as days
                from '{{}}/fct_events.parquet' where event_type in ('view', 'cart')
                and event_at >= timestamp '{cutoff}' - interval {LOOK_DAYS} day and event_at < timestamp '{cutoff}'
                order by all"""
        )
        user_items = self._table(
            f"select * exclude (cutoff) from '{{}}/feat_user_items.parquet' where {at} order by user_index, item_index"
        )
        user_ids, item_ids = users.pop("user_id"), items.pop("item_id")
        return State(cutoff, user_ids, item_ids, users, items, user_items, history, looks)

    def windows(self, cutoff: date) -> list[Window]:
        """Earlier cutoffs whose horizons ended by this one, newest first."""
        horizon = timedelta(days=self.settings.dataset.horizon_days)
        return [
            Window((self.id, earlier), partial(self.state, earlier), partial(self.labels, earlier))
            for earlier in self.cutoffs
            if earlier + horizon <= cutoff
        ]

    def labels(self, cutoff: date, last_days: int = 0) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Users and items of what the sampled users bought within the horizon, in their order; if `last_days` is given, only
        within so many days at its end."""
        end = cutoff + timedelta(days=self.settings.dataset.horizon_days)
        late = f"""semi join (from '{{0}}/fct_events.parquet' where event_type = 'purchase' and event_at < timestamp '{end}'
            and event_at >= timestamp '{end}' - interval {last_days} day) events using (user_index, item_index)"""
        rows = self._table(
            f"select user_index, item_index from '{{0}}/labels.parquet' labels {late if last_days else ''}"
            f" where cutoff = timestamp '{cutoff}' order by all"
        )
        return rows["user_index"], rows["item_index"]

    def bought(self, start: date, end: date) -> tuple[NDArray[np.str_], NDArray[np.str_]]:
        """Ids of the sampled users and of the items that they bought from one day to the day before another."""
        rows = self._table(
            f"""select distinct user_id, item_id from '{{0}}/fct_events.parquet'
                join (from '{{0}}/dim_users.parquet' where is_sampled) using (user_index)
                join (select item_id, item_index from '{{0}}/dim_items.parquet') using (item_index)
                where event_type = 'purchase' and event_at >= timestamp '{start}' and event_at < timestamp '{end}' order by all"""
        )
        return rows["user_id"], rows["item_id"]

    def label_faults(self) -> dict[str, int]:
        """Labels by what is wrong with them: `unbought`, no purchase of the pair at or after the cutoff and before the horizon's
        end; `unfinished`, a horizon that ends after `as_of`; `all` counts them all."""
        rows = self._table(
            f"""with ended as (
                    select *, cutoff + interval {self.settings.dataset.horizon_days} day as horizon_end from '{{0}}/labels.parquet'
                )
                select count(*) as "all", count(*) filter (where horizon_end > timestamp '{self.as_of}') as unfinished,
                    count(*) filter (where not exists (
                        from '{{0}}/fct_events.parquet' events
                        where events.user_index = ended.user_index and events.item_index = ended.item_index
                        and event_type = 'purchase' and event_at >= cutoff and event_at < horizon_end
                    )) as unbought
                from ended"""
        )
        return {name: int(column[0]) for name, column in rows.items()}

    def differences(self, earlier: "Features") -> dict[str, int]:
        """Columns of the wide features that differ at the cutoff that is the last of a snapshot built `earlier`, as
        `table.column`, with the rows that do; `table.rows` are those that the earlier one lacks. Whatever differs has seen
        an event after the cutoff. (Whether an item is for sale may: the catalogue's own flag is today's.)"""
        found: dict[str, int] = {}
        for table, ids in WIDE.items():
            keys = ", ".join(f"{name}_id" for name in ids)
            dims = " ".join(f"join '{{0}}/dim_{name}s.parquet' using ({name}_index)" for name in ids)
            rows = f"(from '{{0}}/{table}.parquet' {dims} where cutoff = timestamp '{earlier.as_of}')"
            with connect(None, self.settings) as connection:
                names = [
                    name for name, *_ in connection.execute(f"describe from '{escaped(self.path)}/{table}.parquet'").fetchall()
                ]
                names = [name for name in names if name not in ("cutoff", "is_available") and not name.endswith("_index")]
                differ = ", ".join(f"count(*) filter (where there and late.{name} is distinct from early.{name})" for name in names)
                missing, *counts = connection.execute(
                    f"""select count(*) filter (where there is null), {differ} from {rows.format(escaped(self.path))} late
                        left join (select *, true as there from {rows.format(escaped(earlier.path))}) early using ({keys})"""
                ).fetchall()[0]
            found |= {f"{table}.{name}": count for name, count in zip(["rows", *names], [missing, *counts], strict=True) if count}
        return found


def _dense(column: NDArray) -> NDArray:
    """Text as fixed-width text, missing numbers as NaN."""
    if column.dtype == object:
        return column.astype(str)
    if isinstance(column, np.ma.MaskedArray):
        return column.filled(np.nan) if column.dtype.kind == "f" else column.filled(0)
    return column
