"""A feature snapshot, handed over to NumPy: states, labels and training windows at its cutoffs."""

from datetime import date, timedelta
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys.config import Settings
from recsys.state import State, Table, Window
from recsys.store import Snapshot
from recsys.warehouse import connect


class Features:
    """A feature snapshot, read table by table."""

    def __init__(self, snapshot: Snapshot, settings: Settings):
        self.path, self.settings, self.id = snapshot.path, settings, snapshot.manifest.id
        found = self._table("select cutoff from '{}/int_cutoffs.parquet' order by 1 desc")["cutoff"]
        self.cutoffs: list[date] = found.astype("datetime64[D]").tolist()

    def _table(self, query: str) -> Table:
        with connect(None, self.settings) as connection:
            columns = connection.execute(query.format(self.path)).fetchnumpy()
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
                join (select user_index, purchases from '{{0}}/feat_users.parquet' where {at}) seen using (user_index)
                where event_at < timestamp '{cutoff}' and purchase_number > purchases - {self.settings.features.history_cap}
                order by user_index, purchase_number"""
        )
        user_items = self._table(
            f"select * exclude (cutoff) from '{{}}/feat_user_items.parquet' where {at} order by user_index, item_index"
        )
        user_ids, item_ids = users.pop("user_id"), items.pop("item_id")
        return State(cutoff, user_ids, item_ids, users, items, user_items, history)

    def windows(self, cutoff: date) -> list[Window]:
        """Earlier cutoffs whose horizons ended by this one, newest first."""
        horizon = timedelta(days=self.settings.dataset.horizon_days)
        return [
            Window((self.id, earlier), partial(self.state, earlier), partial(self.labels, earlier))
            for earlier in self.cutoffs
            if earlier + horizon <= cutoff
        ]

    def labels(self, cutoff: date) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Users and items of what the sampled users bought within the horizon, in their order."""
        rows = self._table(
            f"select user_index, item_index from '{{}}/labels.parquet' where cutoff = timestamp '{cutoff}' order by all"
        )
        return rows["user_index"], rows["item_index"]


def _dense(column: NDArray) -> NDArray:
    """Text as fixed-width text, missing numbers as NaN."""
    if column.dtype == object:
        return column.astype(str)
    if isinstance(column, np.ma.MaskedArray):
        return column.filled(np.nan) if column.dtype.kind == "f" else column.filled(0)
    return column
