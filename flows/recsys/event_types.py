"""Event types of the data: which are the target, which are weaker signals, and what to write about those that are neither."""

import json
import re
from collections.abc import Mapping

import duckdb

from recsys import RecsysError
from recsys.settings import Dataset
from recsys.settings.run import KNOWN_TYPES

MOST_UNKNOWN = 0.001  # share of the events whose type may be unknown; they are quarantined
SHOWN = 12  # types that a message names
LIKE_PURCHASE = re.compile("purchase|order|buy|bought|transaction|sale|checkout|pay|paid|conversion")
LIKE_CART = re.compile("cart|basket|wish|favo|bookmark|save|like")
LIKE_RETURN = re.compile("return|refund")
NAKED_KEY = re.compile(r"[A-Za-z0-9_-]+")


def count_types(connection: duckdb.DuckDBPyConnection, relation: str) -> dict[str, int]:
    """Events by the data's own type, in small letters and without spaces around it, the most frequent first; "" for events
    without one, which are target events. `relation` need not have a column event_type."""
    own = "coalesce(lower(trim(event_type::varchar)), '')" if _has(connection, relation, "event_type") else "''"
    query = f"select {own} as own_type, count(*) as events from {relation} group by all order by events desc, own_type"
    return dict(connection.execute(query).fetchall())


def repeat_share(connection: duckdb.DuckDBPyConnection, relation: str) -> float:
    """Share of target events on an item that the user had a target event with on an earlier day. An item counts once a day.
    `relation` has the columns user_id, item_id and event_at (a timestamp) of target events."""
    query = f"""select sum(days - 1)::double / sum(days)::double
        from (select count(distinct event_at::date) as days from {relation} group by user_id, item_id)"""
    return float(connection.execute(query).fetchall()[0][0] or 0.0)


def check_types(counts: Mapping[str, int], dataset: Dataset, section: str) -> None:
    """Raises where the target is missing, or unknown types make up too much. The message holds the lines to write in the section
    of config.toml."""
    unknown = [own for own in counts if own and _mapped(own, dataset) not in (*KNOWN_TYPES, dataset.target)]
    missing = not any(_mapped(own, dataset) == dataset.target for own in counts)
    events = max(sum(counts.values()), 1)
    if not counts or not (missing or sum(counts[own] for own in unknown) > MOST_UNKNOWN * events):
        return
    wrong = f'no event is of the target "{dataset.target}"'
    if not missing:
        wrong = f"the event types {_named(unknown, counts)} are not known"
    raise RecsysError(
        f"{wrong}; the data have {_named(list(counts), counts)}. Write under [{section}] in config.toml:"
        f" {' and '.join(propose_types(counts, dataset))} (a type can be view, cart, return, ignore or the target)"
    )


def propose_types(counts: Mapping[str, int], dataset: Dataset) -> list[str]:
    """Lines of the dataset's section under which all of these types are known, and one is the target."""
    mapped = {own: _mapped(own, dataset) for own in counts if own}
    target, lines = dataset.target, []
    if "" not in counts and target not in {*mapped.values(), *(_guess(own, target) for own in mapped)}:
        best = max(mapped, key=lambda own: (_strength(own), counts[own], own))
        target = re.sub(r"\s+", "_", best)
        lines.append(f"target = {_quote(target)}")
        mapped[best] = target
    known = (*KNOWN_TYPES, target)
    types = {own: to if to in known else _guess(own, target) for own, to in mapped.items()}
    kept = {own: to if to in known else _guess(own, target) for own, to in dataset.own_types.items()}
    pairs = kept | {own: to for own, to in types.items() if own != to or own in kept}
    if pairs != dataset.own_types:
        lines.append(f"event_types = {{{', '.join(f'{_key(own)} = {_quote(to)}' for own, to in pairs.items())}}}")
    return lines


def check_ratings(connection: duckdb.DuckDBPyConnection, relation: str, dataset: Dataset) -> None:
    """Raises where `min_rating` leaves no target event."""
    if dataset.min_rating is None:
        return
    rating = "try_cast(rating as double)" if _has(connection, relation, "rating") else "null::double"
    best = connection.execute(f"select max({rating}) filter (where not isnan({rating})) from {relation}").fetchall()[0][0]
    if best is None:
        raise RecsysError(
            f"min_rating is {dataset.min_rating:g}, but no event has a rating; add the column rating, or take min_rating out"
        )
    if best < dataset.min_rating:
        raise RecsysError(f"min_rating is {dataset.min_rating:g}, but the highest rating is {best:g}; lower min_rating")


def _has(connection: duckdb.DuckDBPyConnection, relation: str, column: str) -> bool:
    return column in {name for name, *_ in connection.execute(f"describe select * from {relation}").fetchall()}


def _mapped(own: str, dataset: Dataset) -> str:
    return dataset.own_types.get(own, own) if own else dataset.target


def _guess(own: str, target: str) -> str:
    """What a type of this name most likely is. A purchase that is not the target is a stronger signal than a view."""
    if own in (*KNOWN_TYPES, target):
        return own
    if LIKE_PURCHASE.search(own):
        return target if target == "purchase" else "cart" if target != "cart" else "view"
    if LIKE_CART.search(own):
        return "cart"
    return "return" if LIKE_RETURN.search(own) else "view"


def _strength(own: str) -> int:
    """How much a type looks like what a list should lead to: a purchase most, then types of the data's own, carts, views."""
    if LIKE_PURCHASE.search(own):
        return 4
    return {"return": -2, "ignore": -2, "view": 1, "cart": 2}.get(own, 3)


def _named(types: list[str], counts: Mapping[str, int]) -> str:
    events = max(sum(counts.values()), 1)
    shown = [f"{_quote(own[:60]) if own else 'none'} {counts[own]:,} ({counts[own] / events:.2%})" for own in types[:SHOWN]]
    return ", ".join(shown) + (f" and {len(types) - SHOWN:,} more" if len(types) > SHOWN else "")


def _key(own: str) -> str:
    return own if NAKED_KEY.fullmatch(own) else _quote(own)


def _quote(text: str) -> str:
    """A text as TOML writes it."""
    return json.dumps(text, ensure_ascii=False)
