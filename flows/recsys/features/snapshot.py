"""Reads a feature snapshot as NumPy arrays: states, labels and training windows at its cutoffs."""

from collections.abc import Sequence
from datetime import date, timedelta
from functools import cached_property, partial
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from recsys import RecsysError
from recsys.features import daily_profile
from recsys.features.attributes import MIN_VALUES, partial_association, partial_correlation
from recsys.features.daily_profile import DailyProfile
from recsys.features.state import Attribute, State, Table, TrainingWindow, matrix, places
from recsys.features.warehouse import connect, escaped, literal
from recsys.settings import Settings, event_types
from recsys.store import Snapshot

VIEW_DAYS = 91  # older views and carts carry little information, and are most of the data
BUILT_IN = ("feat_users", "feat_items", "feat_user_items", "feat_attributes")  # any other feat_* is a fork's own

# Attributes with ids in the place of indexes, which differ from one snapshot to the next.
ATTRIBUTES_BY_ID = """select features.*, user_id, item_id from '{0}/feat_attributes.parquet' features
    left join '{0}/dim_users.parquet' on entity = 'item' and subject_index = user_index
    left join '{0}/dim_items.parquet' on entity = 'user' and subject_index = item_index"""


class Features:
    """A feature snapshot. Each method reads the tables it needs."""

    def __init__(self, snapshot: Snapshot, settings: Settings):
        self.path, self.settings, self.id = snapshot.path, settings, snapshot.manifest.id
        self.made_from = snapshot.manifest.made_from
        cutoffs = self._table("select cutoff from '{}/int_cutoffs.parquet' order by 1 desc")["cutoff"]
        self.cutoffs: list[date] = cutoffs.astype("datetime64[D]").tolist()

    def _table(self, query: str, missing: float = 0) -> Table:
        return self._tables(query, missing=missing)[0]

    def _tables(self, *queries: str, missing: float = 0) -> list[Table]:
        """Columns of the results of the queries. missing: value of a missing whole number or flag, 0 or NaN. In our own models a
        count is missing where a user or item has no row at a cutoff, since nothing happened before it, so it is 0."""
        with connect(None, self.settings) as connection:  # one for all, since opening it costs as much as a small query
            tables = [connection.execute(query.format(escaped(self.path))).fetchnumpy() for query in queries]
        return [{name: _dense(column, missing) for name, column in table.items()} for table in tables]

    @property
    def as_of(self) -> date:
        return self.cutoffs[0]

    @property
    def evaluated(self) -> list[date]:
        """Cutoff of the holdout, followed by those of selection, newest first. The last ones are for selection where the others
        have few users: horizons further back that have half the training windows."""
        horizon, enough = timedelta(self.settings.dataset.horizon_days), self.settings.features.training_windows / 2
        cutoffs = [self.as_of - timedelta(days) for days in self.settings.evaluated_days]
        while (earlier := cutoffs[-1] - horizon) in self.cutoffs and len(self.windows(earlier)) >= enough:
            cutoffs.append(earlier)
        return cutoffs

    def counts(self) -> dict[str, Any]:
        """Returns the numbers of events, users and items before `as_of`, and the days of the first and last event."""
        return {
            name: column[0].item() if hasattr(column[0], "item") else column[0]
            for name, column in self._table(
                """select count(*) as events, (select count(*) from '{0}/dim_users.parquet') as users,
                   (select count(*) from '{0}/dim_items.parquet') as items,
                   coalesce(min(event_at)::date::varchar, '') as first_day, coalesce(max(event_at)::date::varchar, '') as last_day
                   from '{0}/fct_events.parquet'"""
            ).items()
        }

    @cached_property
    def daily_profile(self) -> DailyProfile:
        """Counts of every day before `as_of`."""
        tables = ("fct_events", "dim_items", "dim_users", "int_events_rejected")
        events, items, users, rejected = (f"'{escaped(self.path)}/{name}.parquet'" for name in tables)
        with connect(None, self.settings) as connection:
            return daily_profile.read(connection, events, items, users, rejected, self.as_of)

    def state(self, cutoff: date) -> State:
        """Returns what is known at one of the snapshot's cutoffs."""
        at = f"cutoff = timestamp '{cutoff}'"
        users, items, history, views_and_carts, user_items = self._tables(
            "select user_id, segment, is_sampled, features.* exclude (cutoff, user_index) from '{0}/dim_users.parquet' users"
            f" left join (select * from '{{0}}/feat_users.parquet' where {at}) features using (user_index) order by user_index",
            "select item_id, title, category, features.* exclude (cutoff, item_index, is_available),"
            " coalesce(features.is_available, false) as is_available from '{0}/dim_items.parquet' items"
            f" left join (select * from '{{0}}/feat_items.parquet' where {at}) features using (item_index) order by item_index",
            f"""select events.user_index, item_index, basket_number,
                (epoch(timestamp '{cutoff}' - event_at) / 86400)::float as days
                from '{{0}}/fct_events.parquet' events
                join (select user_index, max(target_number) as last_number from '{{0}}/fct_events.parquet'
                      where event_at < timestamp '{cutoff}' group by all) seen using (user_index)
                where event_at < timestamp '{cutoff}' and target_number > last_number - {self.settings.features.history_cap}
                order by user_index, target_number""",
            f"""select distinct user_index, item_index, datediff('day', event_at::date, date '{cutoff}') as days
                from '{{}}/fct_events.parquet' where event_type in ('view', 'cart') and not is_target
                and event_at >= timestamp '{cutoff}' - interval {VIEW_DAYS} day and event_at < timestamp '{cutoff}'
                order by all""",
            f"select * exclude (cutoff) from '{{}}/feat_user_items.parquet' where {at} order by user_index, item_index",
        )
        self._add_own(cutoff, {("user",): users, ("item",): items, ("user", "item"): user_items})
        user_ids, item_ids = users.pop("user_id"), items.pop("item_id")
        sizes = {"item": len(item_ids), "user": len(user_ids)}
        for entity, name in self._listed(is_number=True):
            if (entity, name) not in self.leaking:
                table = items if entity == "item" else users
                table[f"attribute_{name}"] = self._numbers(entity, name, cutoff, sizes[entity])
        attributes = tuple(self._attribute(entity, name, cutoff, sizes) for entity, name in self._listed(is_number=False))
        return State(cutoff, user_ids, item_ids, users, items, user_items, history, views_and_carts, attributes)

    @cached_property
    def feature_tables(self) -> dict[str, tuple[str, ...]]:
        """The models feat_*, but for feat_attributes, and what names a row besides the cutoff: user, item or both."""
        found = {}
        for file in sorted(self.path.glob("feat_*.parquet")):
            columns = pq.read_schema(file).names
            found[file.stem] = tuple(entity for entity in ("user", "item") if f"{entity}_index" in columns)
            if file.stem not in BUILT_IN and not ("cutoff" in columns and found[file.stem]):
                raise RecsysError(
                    f"{file.stem} has the columns {', '.join(columns)}; a model of features has cutoff, and user_index, item_index"
                    " or both: add them, or give the model a name that does not begin with feat_"
                )
        return {name: entities for name, entities in found.items() if name != "feat_attributes"}

    def _add_own(self, cutoff: date, tables: dict[tuple[str, ...], Table]) -> None:
        """Adds the columns of a fork's own feature models to users, items and pairs; NaN where a model has no row or no value."""
        width = len(tables["item",]["item_id"])
        for name in sorted(self.feature_tables.keys() - set(BUILT_IN)):
            table, entities = tables[self.feature_tables[name]], self.feature_tables[name]
            rows = self._table(f"select * exclude (cutoff) from '{{}}/{name}.parquet' where cutoff = timestamp '{cutoff}'", np.nan)
            if len(entities) == 2:
                known, wanted = (width * pairs["user_index"].astype(np.int64) + pairs["item_index"] for pairs in (table, rows))
            else:
                known, wanted = np.arange(len(table[f"{entities[0]}_id"])), rows[f"{entities[0]}_index"]
            place = places(known, wanted)
            for column in rows.keys() - {"user_index", "item_index"}:
                values = rows[column]
                if values.dtype.kind not in "iufb":
                    raise RecsysError(f"{name}.{column} is no number, which features must be; cast it, or leave it out")
                if column in table:
                    raise RecsysError(f"{name}.{column} has the name of a feature that exists; give it another name")
                table[column] = np.full(len(known), np.nan, np.float32)
                table[column][place[place >= 0]] = values[place >= 0]

    @cached_property
    def attributes(self) -> Table:
        """The columns of dim_attributes, in the order of the settings."""
        return self._table("select * from '{}/dim_attributes.parquet' order by position")

    @cached_property
    def leaks(self) -> dict[tuple[str, str], float]:
        """For each attribute without valid_from, by entity and name: the correlation (0 to 1) of its values with the target events
        since the earliest cutoff, given the earlier ones. Attributes with few values are left out, and all if that cutoff is
        `as_of`."""
        cutoff, found = self.cutoffs[-1], {}
        if cutoff == self.as_of:
            return {}
        sizes = {"item": self.counts()["items"], "user": self.counts()["users"]}
        for entity, recent in (("item", "target_events_28d"), ("user", "baskets_28d")):
            counts = self._table(
                f"""select {entity}_index as index, target_events as earlier, {recent} as recent, coalesce(later, 0) as later
                    from '{{0}}/feat_{entity}s.parquet' left join (
                        select {entity}_index, count(target_number) as later from '{{0}}/fct_events.parquet'
                        where event_at >= timestamp '{cutoff}' group by all
                    ) using ({entity}_index) where cutoff = timestamp '{cutoff}' order by index"""
            )
            undated = (self.attributes["entity"] == entity) & ~self.attributes["is_dated"]
            names, kinds = (self.attributes[column][undated].tolist() for column in ("attribute", "is_number"))
            for name, is_number in zip(names, kinds, strict=True):
                if is_number:
                    values = self._numbers(entity, name, cutoff, sizes[entity])[counts["index"]]
                    known = ~np.isnan(values)
                else:
                    values = self._attribute(entity, name, cutoff, sizes).value_index[counts["index"]]
                    known = values >= 0
                if known.sum() >= MIN_VALUES:
                    measure = partial_correlation if is_number else partial_association
                    earlier = [counts["earlier"][known], counts["recent"][known]]
                    found[entity, name] = abs(measure(values[known], counts["later"][known], earlier))
        return found

    @property
    def leaking(self) -> dict[tuple[str, str], float]:
        """The leaks of the numeric attributes that are kept from recommenders because they leak too much."""
        limit = self.settings.features.max_attribute_leak
        return {key: self.leaks[key] for key in self._listed(is_number=True) if self.leaks.get(key, 0.0) > limit}

    def _listed(self, is_number: bool) -> list[tuple[str, str]]:
        """Entity and name of the numeric attributes, or of the text attributes."""
        columns = (self.attributes[name].tolist() for name in ("entity", "attribute", "is_number"))
        return [(entity, name) for entity, name, kind in zip(*columns, strict=True) if kind == is_number]

    def _numbers(self, entity: str, name: str, cutoff: date, size: int) -> NDArray[np.float32]:
        """Values of a numeric attribute for all items or users; NaN where unknown at the cutoff."""
        rows = self._table(f"select entity_index, number from ({_valid(entity, name, cutoff)}) valid where number is not null")
        numbers = np.full(size, np.nan, np.float32)
        numbers[rows["entity_index"]] = rows["number"]
        return numbers

    def _attribute(self, entity: str, name: str, cutoff: date, sizes: dict[str, int]) -> Attribute:
        counts = f"""(select * from '{{0}}/feat_attributes.parquet'
            where cutoff = timestamp '{cutoff}' and entity = '{entity}' and attribute = {_quoted(name)})"""
        everybody = f"(select *, row_number() over (order by value) - 1 as value_index from {counts} where subject_index = -1)"
        found, valid, met = self._tables(
            f"select value, target_pairs_28d as recent from {everybody} order by value_index",
            f"""select entity_index, coalesce(everybody.value_index, other.value_index)::int as value_index
                from ({_valid(entity, name, cutoff)}) valid left join {everybody} everybody using (value)
                left join (from {everybody} where value = 'other') other on true
                where valid.value is not null and coalesce(everybody.value_index, other.value_index) is not null""",
            f"""select counts.subject_index, value_index, counts.target_pairs
                from {counts} counts join {everybody} everybody using (value)
                where counts.subject_index >= 0""",
        )
        value_index = np.full(sizes[entity], -1, np.int32)
        value_index[valid["entity_index"]] = valid["value_index"]
        shape = (sizes["user" if entity == "item" else "item"], len(found["value"]))
        pairs = matrix(met["target_pairs"], met["subject_index"], met["value_index"], shape)
        return Attribute(entity, name, found["value"], value_index, found["recent"], pairs)

    def windows(self, cutoff: date) -> list[TrainingWindow]:
        """Returns the earlier cutoffs whose horizons ended by this one, newest first."""
        horizon = timedelta(days=self.settings.dataset.horizon_days)
        return [
            TrainingWindow((self.id, earlier), partial(self.state, earlier), partial(self.labels, earlier))
            for earlier in self.cutoffs
            if earlier + horizon <= cutoff
        ]

    def labels(self, cutoff: date, last_days: int = 0) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Returns the users and items (two arrays of indexes) of the sampled users' target events within the horizon, in order.

        last_days: only events of so many days at the end of the horizon; 0 for all.
        """
        end = cutoff + timedelta(days=self.settings.dataset.horizon_days)
        late = f"""semi join (from '{{0}}/fct_events.parquet' where is_target and event_at < timestamp '{end}'
            and event_at >= timestamp '{end}' - interval {last_days} day) events using (user_index, item_index)"""
        rows = self._table(
            f"select user_index, item_index from '{{0}}/labels.parquet' labels {late if last_days else ''}"
            f" where cutoff = timestamp '{cutoff}' order by all"
        )
        return rows["user_index"], rows["item_index"]

    def users_around(self, cutoff: date) -> tuple[int, int, int]:
        """Returns three numbers of sampled users: with an event before the cutoff, with a target event in the horizon after it, and
        with a target event after the day of their first event."""
        end = cutoff + timedelta(days=self.settings.dataset.horizon_days)
        rows = self._table(
            f"""select count(distinct user_index) filter (where event_at < timestamp '{cutoff}') as before,
                count(distinct user_index) filter (
                    where is_target and event_at >= timestamp '{cutoff}' and event_at < timestamp '{end}'
                ) as after,
                count(distinct user_index) filter (where is_target and event_at::date > first_at::date) as returning
                from (select *, min(event_at) over (partition by user_index) as first_at from '{{0}}/fct_events.parquet')
                join (from '{{0}}/dim_users.parquet' where is_sampled) using (user_index)"""
        )
        return int(rows["before"][0]), int(rows["after"][0]), int(rows["returning"][0])

    def bought(self, start: date, end: date) -> tuple[NDArray[np.str_], NDArray[np.str_]]:
        """Returns the ids of the sampled users and of the items of their target events from `start` to the day before `end`."""
        rows = self._table(
            f"""select distinct user_id, item_id from '{{0}}/fct_events.parquet'
                join (from '{{0}}/dim_users.parquet' where is_sampled) using (user_index)
                join (select item_id, item_index from '{{0}}/dim_items.parquet') using (item_index)
                where is_target and event_at >= timestamp '{start}' and event_at < timestamp '{end}' order by all"""
        )
        return rows["user_id"], rows["item_id"]

    def sessions(self, start: date, end: date) -> Table:
        """Events of sessions from a day to another, in order: session (numbers by time, from 0), user_index, item_index, second. A
        session is the views, carts and target events of a user on one day."""
        return self._table(
            f"""select dense_rank() over (order by event_at::date, user_index) - 1 as session, user_index, item_index,
                epoch(event_at)::bigint as second
                from '{{}}/fct_events.parquet' where (is_target or event_type in ('view', 'cart'))
                and event_at >= timestamp '{start}' and event_at < timestamp '{end}'
                order by session, event_at, item_index, event_type"""
        )

    def target_pairs(self) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Returns the user and item indexes of all pairs with a target event before `as_of`, each pair once, in order."""
        rows = self._table("select distinct user_index, item_index from '{}/fct_events.parquet' where is_target order by all")
        return rows["user_index"], rows["item_index"]

    def last_targets(self, rows: Sequence[int]) -> dict[str, tuple[str, list[tuple[str, float]]]]:
        """Returns, by user id, the segment and the last target events of the users in these rows.

        An event is an item id and the days before `as_of`; newest first, at most `history_cap` of a user.
        """
        is_wanted = f"user_index in ({', '.join(map(str, [*rows, -1]))})"
        users, events = self._tables(
            f"select user_id, segment from '{{0}}/dim_users.parquet' where {is_wanted}",
            f"""select user_id, item_id, (epoch(timestamp '{self.as_of}' - event_at) / 86400)::float as days
                from '{{0}}/fct_events.parquet' join (from '{{0}}/dim_users.parquet' where {is_wanted}) using (user_index)
                join (select item_index, item_id from '{{0}}/dim_items.parquet') using (item_index)
                where target_number is not null
                qualify row_number() over (partition by user_index order by target_number desc)
                    <= {self.settings.features.history_cap}
                order by user_id, target_number desc""",
        )
        histories: dict[str, tuple[str, list[tuple[str, float]]]] = {
            user: (segment, []) for user, segment in zip(users["user_id"].tolist(), users["segment"].tolist(), strict=True)
        }
        for user, item, days in zip(*(events[name].tolist() for name in ("user_id", "item_id", "days")), strict=True):
            histories[user][1].append((item, days))
        return histories

    def count_targets(self) -> dict[str, Table]:
        """Recomputes features of `users` and `items` that count target events, from the events."""
        recent = f"count(target_number) filter (where event_at >= timestamp '{self.as_of}' - interval 28 day)"
        counted = {
            "user": {"target_events": "count(target_number)"},
            "item": {
                "target_events": "count(target_number)",
                "target_events_28d": recent,
                "mean_price": "avg(events.price::double) filter (where target_number is not null)",
            },
        }
        queries = (
            f"""select {", ".join(f"{count}::float as {name}" for name, count in columns.items())}
                from '{{0}}/dim_{entity}s.parquet' known left join '{{0}}/fct_events.parquet' events
                using ({entity}_index) group by {entity}_index order by {entity}_index"""
            for entity, columns in counted.items()
        )
        return dict(zip(("users", "items"), self._tables(*queries), strict=True))

    def repeat_share(self) -> float:
        """Returns the share of target events on an item that the user had one with on an earlier day."""
        with connect(None, self.settings) as connection:
            connection.read_parquet(f"{self.path}/fct_events.parquet").create_view("events")
            targets = "(select user_index as user_id, item_index as item_id, event_at from events where is_target)"
            return event_types.repeat_share(connection, targets)

    def label_faults(self) -> dict[str, int]:
        """Counts wrong labels. `unfounded`: the pair has no target event within the horizon. `unfinished`: the horizon ends after
        `as_of`. `all`: all labels."""
        rows = self._table(
            f"""with ended as (
                    select *, cutoff + interval {self.settings.dataset.horizon_days} day as horizon_end from '{{0}}/labels.parquet'
                )
                select count(*) as "all", count(*) filter (where horizon_end > timestamp '{self.as_of}') as unfinished,
                    count(*) filter (where not exists (
                        from '{{0}}/fct_events.parquet' events
                        where events.user_index = ended.user_index and events.item_index = ended.item_index
                        and is_target and event_at >= cutoff and event_at < horizon_end
                    )) as unfounded
                from ended"""
        )
        return {name: int(column[0]) for name, column in rows.items()}

    def differences(self, earlier: "Features") -> dict[str, int]:
        """Compares the features at the last cutoff of a snapshot that was built `earlier`. A difference means that an event after
        the cutoff leaked into a feature.

        Returns the number of rows that differ, by `table.column`; `table.rows` counts rows that the earlier snapshot lacks.
        `is_available` is not compared, since the catalogue's flag is that of today.
        """
        counted: dict[str, int] = {}
        by_id: dict[str, tuple[str, tuple[str, ...]]] = {
            "feat_attributes": (ATTRIBUTES_BY_ID, ("entity", "attribute", "value", "user_id", "item_id"))
        }
        for table, entities in self.feature_tables.items():
            keys = tuple(f"{entity}_id" for entity in entities)
            dims = "".join(f" join '{{0}}/dim_{entity}s.parquet' using ({entity}_index)" for entity in entities)
            by_id[table] = f"select features.*, {', '.join(keys)} from '{{0}}/{table}.parquet' features{dims}", keys
        for table, (query, keys) in by_id.items():
            rows = f"({query} where cutoff = timestamp '{earlier.as_of}')"
            same = " and ".join(f"late.{key} is not distinct from early.{key}" for key in keys)
            with connect(None, self.settings) as connection:
                names = [
                    name for name, *_ in connection.execute(f"describe from '{escaped(self.path)}/{table}.parquet'").fetchall()
                ]
                ignored = ("cutoff", "is_available", *keys)
                names = [name for name in names if name not in ignored and not name.endswith("_index")]
                differ = ", ".join(f"count(*) filter (where there and late.{name} is distinct from early.{name})" for name in names)
                missing, *counts = connection.execute(
                    f"""select count(*) filter (where there is null), {differ} from {rows.format(escaped(self.path))} late
                        left join (select *, true as there from {rows.format(escaped(earlier.path))}) early on {same}"""
                ).fetchall()[0]
            counted |= {f"{table}.{name}": count for name, count in zip(["rows", *names], [missing, *counts], strict=True) if count}
        return counted


def _quoted(name: str) -> str:
    """A text literal for a query that `_tables` formats."""
    return literal(name).replace("{", "{{").replace("}", "}}")


def _valid(entity: str, name: str, cutoff: date) -> str:
    """Query of an attribute's values that are valid at a cutoff."""
    return f"""select * from '{{0}}/dim_attribute_values.parquet' where entity = '{entity}' and attribute = {_quoted(name)}
        and coalesce(valid_from < timestamp '{cutoff}', true) and coalesce(valid_to >= timestamp '{cutoff}', true)"""


def _dense(column: NDArray | np.ma.MaskedArray, missing: float) -> NDArray:
    """Converts text to fixed-width text, missing text to "", missing floats to NaN, and missing whole numbers and flags to
    `missing`, which is 0 or NaN; NaN makes floats of them."""
    if column.dtype == object:
        return np.ma.filled(column, "").astype(str)
    if isinstance(column, np.ma.MaskedArray):
        if column.dtype.kind in "iub" and np.isnan(missing):
            return np.ma.filled(column.astype(np.float64), np.nan)
        return column.filled(np.nan if column.dtype.kind == "f" else 0)
    return column
