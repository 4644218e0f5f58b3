"""Counts of every day of a history: events, users and items, by category, segment, event type and more."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta

import duckdb
import numpy as np
from numpy.typing import NDArray

LARGEST = 30  # number of values of a dimension that are counted separately; the others are "other"
ESTABLISHED = 28  # days since the first event after which users, items and pairs of them count as established
PRICES = 28  # number of earlier days with a price of an item, whose median is its usual price
OTHER_USER = 17  # distance between the indexes of a user and of an unrelated user
STEP = 0.05  # unit of price_step, in natural logarithms of the price
MAX_STEPS = 140  # a factor of about a thousand


@dataclass(frozen=True)
class DailyProfile:
    """Counts of every day from `first` on, including days without events.

    values: the values of each dimension, in order. counts: a (values, days) array for each dimension. Dimensions without a row are
    missing in both. The dimensions:

    events, users, items   `all`: number of that day; users and items count once a day. `established`: users and items first seen
                           at least 28 days before, and events by such users on such items. `again`: established events on a
                           user-item pair first seen at least 28 days before. `chance`: the same if each user is replaced by
                           an unrelated one
    category, segment, event_type, price_band, quantity_band, hour
                           events by value. A band is the exponent of the largest power of two up to the price or quantity; `none`
                           is a missing one, `zero` one of 0 or less
    established_items      `all`: events on established items
    price_step             events by how far their price is from the item's usual price, in steps of 0.05 of the logarithm. The
                           usual price is the median of up to 28 earlier days with a price
    copies                 `all`: events on new items with the title and category of an older item
    repeated               `all`: events with the same user, item, type and time of day as an earlier event
    largest_user, largest_item
                           number of events of the user or item with the most events of that day, by its id
    rejected               rejected events by reason
    """

    first: date
    values: Mapping[str, list[str]]
    counts: Mapping[str, NDArray[np.int64]]

    @property
    def days(self) -> int:
        return next((counts.shape[1] for counts in self.counts.values()), 0)

    def before(self, day: date) -> "DailyProfile":
        """Returns the profile of the days before `day`. Days after the last event are added with zeros."""
        days = max((day - self.first).days, 0)
        missing = max(days - self.days, 0)
        cut = {name: np.pad(counts, ((0, 0), (0, missing)))[:, :days] for name, counts in self.counts.items()}
        return DailyProfile(self.first, self.values, cut)

    def of(self, dimension: str, value: str = "all") -> NDArray[np.int64]:
        """Returns the (days,) counts of one value; zeros if it does not occur."""
        names = self.values.get(dimension, [])
        return self.counts[dimension][names.index(value)] if value in names else np.zeros(self.days, np.int64)


def read(
    connection: duckdb.DuckDBPyConnection, events: str, items: str, users: str, rejected: str = "", until: date | None = None
) -> DailyProfile:
    """Computes the profile of relations with the columns of fct_events, dim_items, dim_users and int_events_rejected.

    Each relation is a table, a view or a quoted path of a Parquet file. until: the day after the last day; by default the day after
    the last event.
    """
    for name, query in _steps(events, items, users).items():
        connection.execute(f"create or replace temp table profile_{name} as {query}")
    query = " union all ".join(_counts(rejected))
    rows = connection.execute(f"select * from ({query}) counts where day is not null order by 1, 2, 3").fetchnumpy()
    return pivot(rows["day"], rows["dimension"], rows["value"], rows["number"], until)


def pivot(
    days: NDArray, dimensions: NDArray, values: NDArray, numbers: NDArray[np.int64], until: date | None = None
) -> DailyProfile:
    """Builds a profile from rows of day, dimension, value and number, given as one (n,) array each."""
    if not len(days):
        return DailyProfile(until or date.min, {}, {})
    days, dimensions, values = days.astype("datetime64[D]").astype(np.int64), dimensions.astype(str), values.astype(str)
    accepted = dimensions != "rejected"
    first = int(days[accepted].min() if accepted.any() else days.min())
    size = (int(days[accepted].max()) + 1 if accepted.any() else first) - first
    start = date(1970, 1, 1) + timedelta(first)
    names, counts = {}, {}
    for dimension in np.unique(dimensions):
        rows = (dimensions == dimension) & (days >= first) & (days < first + size)
        found, places = np.unique(values[rows], return_inverse=True)
        counts[str(dimension)] = np.zeros((len(found), size), np.int64)
        np.add.at(counts[str(dimension)], (places, days[rows] - first), numbers[rows])
        names[str(dimension)] = found.tolist()
    profile = DailyProfile(start, names, counts)
    return profile.before(until) if until else profile


def _steps(events: str, items: str, users: str) -> dict[str, str]:
    """Queries of the temporary tables that the counts read, in order."""
    return {
        "pairs": f"""select user_index, item_index, min(event_at)::date as first_day from {events} group by 1, 2""",
        "users": f"""
            with firsts as (select user_index, min(first_day) as first_day from profile_pairs group by 1),
            sizes as (
                select segment, count(*) as events from {events} join {users} users using (user_index) group by 1
            ),
            largest as (select segment from sizes order by events desc, segment limit {LARGEST})
            select user_index, user_id, first_day, coalesce(largest.segment, 'other') as segment,
                (user_index + {OTHER_USER}) % count(*) over () as other_index
            from firsts join {users} users using (user_index) left join largest on users.segment = largest.segment""",
        "items": f"""
            with firsts as (select item_index, min(first_day) as first_day from profile_pairs group by 1),
            known as (
                select item_index, item_id, category, first_day, min(first_day) over (
                    partition by category, regexp_replace(lower(title), '[^\\pL\\pN]', '', 'g')
                ) as title_day
                from firsts join {items} items using (item_index)
            ),
            sizes as (select category, count(*) as events from {events} join known using (item_index) group by 1),
            largest as (select category from sizes order by events desc, category limit {LARGEST})
            select item_index, item_id, first_day, title_day < first_day as is_copy, coalesce(largest.category, 'other') as category
            from known left join largest on known.category = largest.category""",
        "events": f"""
            with dated as (select *, event_at::date as day from {events})
            select day, dated.user_index, dated.item_index, event_type, hour(event_at) as hour, price::double as price,
                quantity::double as quantity, segment, category, users.first_day + {ESTABLISHED} <= day as by_established,
                items.first_day + {ESTABLISHED} <= day as on_established, pairs.first_day + {ESTABLISHED} <= day as again,
                coalesce(others.first_day + {ESTABLISHED} <= day, false) as chance,
                is_copy and items.first_day + {ESTABLISHED} > day as on_copy, event_at::time as time
            from dated
            join profile_pairs pairs on dated.user_index = pairs.user_index and dated.item_index = pairs.item_index
            join profile_users users on dated.user_index = users.user_index
            join profile_items items on dated.item_index = items.item_index
            left join profile_pairs others on users.other_index = others.user_index and dated.item_index = others.item_index""",
        "prices": f"""
            with daily as (
                select day, item_index, median(price) as price from profile_events where price > 0 group by 1, 2
            )
            select day, item_index, median(price) over (
                partition by item_index order by day rows between {PRICES} preceding and 1 preceding
            ) as usual
            from daily""",
        # Sorts repeated events only, since sorting all events would cost more than everything else.
        "repeated": """
            with doubled as (
                select user_index, item_index, event_type, time from profile_events group by all having count(*) > 1
            )
            select day, row_number() over (partition by user_index, item_index, event_type, time order by day) > 1 as is_repeated
            from profile_events join doubled using (user_index, item_index, event_type, time)""",
        "largest": """
            select day, kind, number, id from (
                select day, 'largest_user' as kind, count(*) as number, user_index as id from profile_events group by 1, 4
                union all
                select day, 'largest_item', count(*), item_index from profile_events group by 1, 4
            ) sizes
            qualify row_number() over (partition by day, kind order by number desc, id) = 1""",
    }


def _counts(rejected: str) -> list[str]:
    """Queries that return rows of day, dimension, value and number."""

    def count(dimension: str, value: str, where: str = "true", number: str = "count(*)") -> str:
        return f"""select day::date as day, '{dimension}' as dimension, ({value})::varchar as value, ({number})::bigint as number
            from profile_events where {where} group by 1, 2, 3"""

    band = "case when {0} is null then 'none' when {0} <= 0 then 'zero' else floor(log2({0}))::int::varchar end"
    step = f"greatest(-{MAX_STEPS}, least({MAX_STEPS}, round(ln(price / usual) / {STEP})))::int"
    queries = [
        count("events", "'all'"),
        count("events", "'established'", "by_established and on_established"),
        count("events", "'again'", "by_established and on_established and again"),
        count("events", "'chance'", "by_established and on_established and chance"),
        count("users", "'all'", number="count(distinct user_index)"),
        count("users", "'established'", "by_established", "count(distinct user_index)"),
        count("items", "'all'", number="count(distinct item_index)"),
        count("established_items", "'all'", "on_established"),
        count("copies", "'all'", "on_copy"),
        *(count(name, name) for name in ("category", "segment", "event_type", "hour")),
        *(count(f"{name}_band", band.format(name)) for name in ("price", "quantity")),
        "select day::date, 'repeated', 'all', count(*)::bigint from profile_repeated where is_repeated group by 1",
        f"""select day::date, 'price_step', ({step})::varchar, count(*)::bigint
            from profile_events join profile_prices using (day, item_index) where price > 0 and usual > 0 group by 1, 2, 3""",
        """select day::date, kind, user_id, number::bigint
            from profile_largest join profile_users on user_index = id where kind = 'largest_user'""",
        """select day::date, kind, item_id, number::bigint
            from profile_largest join profile_items on item_index = id where kind = 'largest_item'""",
    ]
    if rejected:
        queries.append(
            f"""select event_at::date, 'rejected', reason, count(*)::bigint from {rejected} rejected
                where event_at is not null group by 1, 2, 3"""
        )
    return queries
