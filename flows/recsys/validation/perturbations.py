"""Perturbations: turns the events of a feature snapshot into raw data again, changed, to run the dbt project on them.

BAD_DAYS show what the pipeline would do on a bad day. QUERIES change groups of users, each group in one way, all in one copy of the
data, so that a single run of dbt is enough to test them.
"""

import hashlib
from collections.abc import Iterator
from datetime import date
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from recsys.features import Features, State, connect, escaped, identifier, literal
from recsys.recommenders import ItemToItem, popularity_order
from recsys.settings import Settings
from recsys.store import Store

if TYPE_CHECKING:
    from pandas import DataFrame

AS_IT_WAS: dict[str, str] = {"events": "from events", "items": "from items", "users": "from users"}
BAD_DAYS: dict[str, dict[str, str]] = {
    "as_it_was": {},
    "lost_events": {"events": "from events where md5(event_id) >= '1999'"},  # one in ten
    "lost_day": {"events": "from events where event_at::date <> (select max(event_at)::date - 1 from events)"},
}
SENT = "event_id, user_id, item_id, event_at, event_type, quantity, price, session_id, null::varchar as rating"
VIEWS = """
    create view events as
        select
            lpad(row_number() over (
                order by event_at, user_id, item_id, event_type, session_id, quantity, price
            )::varchar, 12, '0') as event_id, *
        from (
            select user_id, item_id, event_at, event_type, is_target, quantity, price,
                lpad(basket_number::varchar, 9, '0') as session_id
            from '{0}/fct_events.parquet' join '{0}/dim_users.parquet' using (user_index)
            join (select item_id, item_index from '{0}/dim_items.parquet') using (item_index)
            where event_at < timestamp '{1}'
        );
    create view items as
        select item_id, title, price, is_available, available_from, withdrawn_at, described.* exclude (item_index)
        from '{0}/dim_items.parquet' left join ({item}) described using (item_index);
    create view users as
        select user_id, is_sampled, described.* exclude (user_index)
        from '{0}/dim_users.parquet' left join ({user}) described using (user_index)
"""
GROUPS = ("repeated_basket", "shuffled_day", "swapped_item", "dropped_basket", "new_category", "untouched")
USERS = 60  # of each group, at most
GIANT_EVENTS = 20_000
WORLD = "perturbed"

EVENTS = f"""
    with planned as (
        select events.*, perturbation, plan.item_id as planned_item, other_item, event_at::date as day,
            dense_rank() over (partition by user_id, event_type order by session_id desc) = 1 and is_target as is_last
        from events join plan using (user_id)
    ),
    shuffled as (
        select * replace (case when perturbation = 'shuffled_day' then times[place] else event_at end as event_at)
        from (
            select *, list(event_at order by event_at desc) over (partition by user_id, day, event_type) as times,
                row_number() over (partition by user_id, day, event_type order by event_at, event_id) as place
            from planned
        )
        where not (perturbation = 'dropped_basket' and is_last)
    ),
    catalogue as (
        select item_id, max(price) as price, row_number() over (order by item_id) - 1 as place, count(*) over () as items
        from items group by item_id
    ),
    span as (
        select max(event_at) as last_event_at, date_diff('day', min(event_at), max(event_at)) + 1 as days,
            max(event_type) filter (where is_target) as target
        from events
    ),
    giant as (
        select *, row_number() over (order by copy, event_id) as number
        from (select *, unnest(range({GIANT_EVENTS} // count(*) over () + 1)) as copy from planned where perturbation = 'giant')
        qualify number <= {GIANT_EVENTS}
    ),
    final as (
        from events anti join plan using (user_id)
        union all by name
        select event_id, user_id, event_at, event_type, quantity, price, session_id,
            case when perturbation = 'swapped_item' and item_id = planned_item then other_item else item_id end as item_id
        from shuffled
        union all by name
        select event_id || '-again' as event_id, user_id, item_id, event_at, event_type, quantity, price, session_id
        from planned where perturbation = 'repeated_basket' and is_last
        union all by name
        select 'new-' || user_id as event_id, user_id, item_id, last_event_at as event_at, target as event_type, 1 as quantity,
            price, 'new' as session_id
        from plan join catalogue using (item_id), span where perturbation = 'new_category'
        union all by name
        select 'giant-' || number as event_id, user_id, catalogue.item_id, event_type, quantity, giant.price,
            last_event_at - interval (number % days) day as event_at, 'giant-' || number as session_id
        from giant join catalogue on catalogue.place = number % items, span
    )
    from final"""
ITEMS = """
    select items.* replace (
        is_available and perturbation is null as is_available, case when perturbation is null then withdrawn_at end as withdrawn_at
    )
    from items left join (select item_id, perturbation from plan where perturbation = 'withdrawn') using (item_id)"""
QUERIES = {"events": EVENTS, "items": ITEMS}


def replay(
    store: Store, features: Features, settings: Settings, until: date, perturbed: dict[str, str] = {}, plan: Any = None
) -> str:
    """Writes events, items and users of a feature snapshot as raw data of the `events` source; returns the id of the raw snapshot.

    until: events before this day are written. perturbed: queries by table name that replace its rows; they read the tables events,
    items, users and, if given, `plan`.
    """
    raw = store.find("raw", store.load("features", features.id).manifest.parents["raw"])
    assert raw is not None
    with store.draft() as folder:
        with connect(None, settings) as connection:
            described = {entity: _described(features, entity) for entity in ("item", "user")}
            connection.execute(VIEWS.format(escaped(features.path), until, **described))
            if plan is not None:
                connection.register("plan", plan)
            for table, query in (AS_IT_WAS | perturbed).items():
                query = f"select {SENT} from ({query})" if table == "events" else query
                connection.execute(f"copy (from ({query}) order by all) to '{escaped(folder)}/{table}.parquet' (format parquet)")
        return store.commit(folder, "raw", {"source": "events", "landed_on": raw.made_from["landed_on"]}, {"raw": raw.id}).id


def _described(features: Features, entity: str) -> str:
    """A query for the attributes of items or users as the source sent them: one row per entity and valid_from, one column per
    attribute."""
    own = ("title", "price", "is_available", "available_from", "withdrawn_at")  # columns of dim_items, which VIEWS names
    columns = [
        f"max({'number' if is_number else 'value'}) filter (where attribute = {literal(name)}) as {identifier(name)}"
        for kind, name, is_number in zip(*(features.attributes[part] for part in ("entity", "attribute", "is_number")), strict=True)
        if kind == entity and name not in own
    ]
    return f"""select entity_index as {entity}_index, valid_from, {", ".join(columns)}
        from '{escaped(features.path)}/dim_attribute_values.parquet' where entity = '{entity}' group by all"""


def groups(state: State) -> dict[str, NDArray[np.int64]]:
    """Rows of the users of each group, chosen by the md5 of their ids. `giant` is one user, who gets very many events. Only sampled
    users with at least three baskets, one in the last three months, so that each is still known without the last basket."""
    users = state.users
    active = np.flatnonzero(users["is_sampled"] & (users["baskets"] >= 3) & (users["baskets_91d"] >= 1))
    order = np.array(sorted(active, key=lambda row: hashlib.md5(str(state.user_ids[row]).encode()).digest()), np.int64)
    size = min(USERS, max(len(order) - 1, 0) // len(GROUPS))
    return {name: order[1 + n * size :][:size] for n, name in enumerate(GROUPS)} | {"giant": order[:1]}


def plan(state: State) -> "DataFrame":
    """The table of all perturbations: user_id, perturbation, item_id and other_item, which replaces it. The row of the withdrawn
    item, the most popular one, has no user. Users for whom no suitable item is found have no row and are not changed."""
    from pandas import DataFrame

    found = groups(state)
    without_item = ("repeated_basket", "shuffled_day", "dropped_basket", "giant")
    rows: list[tuple] = [
        *((state.user_ids[user], name, None, None) for name in without_item for user in found[name]),
        *((state.user_ids[user], "swapped_item", *pair) for user, pair in _swaps(state, found["swapped_item"])),
        *((state.user_ids[user], "new_category", item, None) for user, item in _newcomers(state, found["new_category"])),
        *((None, "withdrawn", state.item_ids[item], None) for item in popularity_order(state)[:1]),
    ]
    return DataFrame(rows, columns=["user_id", "perturbation", "item_id", "other_item"], dtype="string")


def _swaps(state: State, users: NDArray) -> Iterator[tuple[int, tuple[str, str]]]:
    """The item of each user's last target event and the most similar item."""
    similar = ItemToItem(neighbours=1).learn(state).similarity_
    for user in users:
        last = state.history["item_index"][state.history["user_index"] == user][-1]
        for nearest in similar[last].indices:
            yield user, (state.item_ids[last], state.item_ids[nearest])


def _newcomers(state: State, users: NDArray) -> Iterator[tuple[int, str]]:
    """For each user, the most popular item in a category that is new to the user."""
    owned, category = state.owned(), state.items["category"]
    for user in users:
        known = np.unique(category[owned[user].indices])
        for item in [item for item in popularity_order(state) if category[item] not in known][:1]:
            yield user, state.item_ids[item]
