"""Replays: turns the events of a feature snapshot into raw data again, unchanged or perturbed, to run the dbt project on them.
Shows what the pipeline would do on a bad day."""

from datetime import date
from typing import Any

from recsys.features import Features, connect, escaped, identifier, literal
from recsys.settings import Settings
from recsys.store import Store

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
