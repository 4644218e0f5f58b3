"""Event types of the data: which are the target, which are weaker signals, and what to write about those that are neither."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

import duckdb

from recsys import RecsysError
from recsys.settings.run import KNOWN_TYPES, Dataset
from recsys.settings.toml import write_line, write_text

MOST_UNKNOWN = 0.001  # share of the events whose type may be unknown; they are quarantined
SHOWN = 12  # types that a message names
# Event types by the names that people give them, in small letters and without anything between words.
MEANINGS = {
    "purchase": (
        "purchase", "purchased", "buy", "bought", "order", "ordered", "orderplaced", "placeorder", "ordercompleted", "transaction",
        "sale", "sold", "checkoutcompleted", "completedcheckout", "completepurchase", "productpurchased", "paid", "payment",
    ),
    "cart": (
        "cart", "addtocart", "addcart", "addedtocart", "cartadd", "basket", "addtobasket", "addtobag", "productadded", "atc",
    ),
    "view": (
        "view", "viewed", "pageview", "page", "viewitem", "viewproduct", "productview", "productviewed", "itemview", "viewcontent",
        "detail", "details", "detailview", "productdetail", "click", "clicked", "selectitem", "productclicked", "pv", "visit",
    ),
    "return": ("return", "returned", "refund", "refunded", "productreturned", "orderrefunded"),
}  # fmt: skip
# What lists may lead to where nothing is bought.
TARGETS = {
    "play": ("played",), "watch": ("watched",), "listen": ("listened",), "stream": ("streamed",), "apply": ("applied",), "lead": (),
    "subscribe": ("subscribed",), "rent": ("rented",), "borrow": ("borrowed",), "book": ("booked",), "enroll": ("enrolled",),
    "download": ("downloaded",), "read": (), "like": ("liked",), "rate": ("rated", "rating"), "share": ("shared",),
}  # fmt: skip


@dataclass(frozen=True)
class Types:
    """What each of the data's own event types counts as.

    meanings: the data's own, and ours; "" for one that a person must decide. is_sure: whether more than frequency speaks for the
    target.
    """

    target: str
    why: str
    meanings: dict[str, str]
    is_sure: bool = True

    @property
    def event_types(self) -> dict[str, str]:
        """The setting, without what needs no entry. What is undecided is ignored until a person decides."""
        return {own: ours or "ignore" for own, ours in self.meanings.items() if own and own != ours}

    @property
    def undecided(self) -> list[str]:
        return [own for own, ours in self.meanings.items() if not ours]

    @property
    def has_target(self) -> bool:
        return self.target in self.meanings.values()


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


def advise_exclude_seen(share: float, few: float, many: float) -> bool | None:
    """What `exclude_seen` should be at this share of repeats: true below `few`, false above `many`; None if either is fine."""
    return True if share < few else False if share > many else None


def check_types(counts: Mapping[str, int], dataset: Dataset, section: str) -> None:
    """Raises where the target is missing, or unknown types make up too much."""
    if problem := explain_types(counts, dataset, section):
        raise RecsysError(problem)


def explain_types(counts: Mapping[str, int], dataset: Dataset, section: str) -> str:
    """That the target is missing, or that unknown types make up too much, with the lines to write in the section of config.toml; ""
    where neither is so."""
    types = read_types(counts, dataset)
    if types.has_target and sum(counts[own] for own in types.undecided) <= MOST_UNKNOWN * sum(counts.values()):
        return ""
    wrong = f"the event types {_named(types.undecided, counts)} are not known"
    if not types.has_target:
        wrong = f'no event is of the target "{dataset.target}"'
    return (
        f"{wrong}; the data have {_named(list(counts), counts)}. Write under [{section}] in config.toml:"
        f" {' and '.join(propose_lines(counts, dataset))} (a type can be view, cart, return, ignore or the target)"
    )


def read_types(counts: Mapping[str, int], dataset: Dataset) -> Types:
    """What the settings make of the data's own types."""
    mapped = {own: dataset.own_types.get(own, own) if own else dataset.target for own in counts}
    known = (*KNOWN_TYPES, dataset.target)
    return Types(dataset.target, "by the settings", {own: ours if ours in known else "" for own, ours in mapped.items()})


def propose_types(counts: Mapping[str, int], rated: bool = False) -> Types:
    """The target, and what the types count as by their names. counts: events by the data's own type, "" for those without one,
    which are of the target. rated: whether events carry ratings."""
    named = {own: events for own, events in counts.items() if own}
    usual = {own: _usual(own) for own in named}
    totals = {name: sum(events for own, events in named.items() if usual[own] == name) for name in TARGETS}
    strongest = max(totals, key=lambda name: (totals[name], name))
    most = max(named, key=lambda own: named[own], default="")
    is_sure = True
    if not named:
        target, why = "like" if rated else "purchase", "the events have no type, so each is of the target; any name will do"
    elif "purchase" in usual.values():
        target, why = "purchase", "there are purchases"
    elif totals[strongest]:
        target, why = strongest, "nothing is bought, and no other strong signal is as frequent"
    elif "" in counts:
        target, why = "purchase", "events without a type are of the target; any name will do"
    elif "cart" in usual.values():
        target, why = "cart", "nothing is bought, and carts are the strongest signal"
    elif "view" in usual.values():
        target, why = "view", "views are the only signal"
    elif len(named) == 1:
        target, why = _as_target(most), "it is the only event type"
    else:
        target, why, is_sure = _as_target(most), "no event type has a usual name, and this is the most frequent", False
    meanings = {own: target if not own or _as_target(own) == target else _meaning(own, target) for own in counts}
    return Types(target, why, meanings, is_sure)


def propose_lines(counts: Mapping[str, int], dataset: Dataset) -> list[str]:
    """Lines of the dataset's section under which all of these types are known, and one is the target."""
    types = read_types(counts, dataset)
    if not types.has_target:
        types = propose_types(counts)
    meanings = {own: ours or _meaning(own, types.target) for own, ours in types.meanings.items()}
    known = (*KNOWN_TYPES, types.target)
    kept = {own: ours if ours in known else "ignore" for own, ours in dataset.own_types.items() if own != types.target}
    changed = {own: ours or "ignore" for own, ours in meanings.items() if own and own != ours}
    lines = [write_line("target", types.target)] * (types.target != dataset.target)
    if (pairs := kept | changed) != dataset.own_types:
        lines.append(write_line("event_types", pairs))
    return lines


def _usual(own: str) -> str:
    """What a type of this name usually is; "" where the name does not say."""
    key = re.sub(r"[^a-z0-9]", "", own.lower())
    names = MEANINGS | {target: (target, *others) for target, others in TARGETS.items()}
    return next((ours for ours, usual in names.items() if key in usual), "")


def _meaning(own: str, target: str) -> str:
    """What it counts as beside this target; "" where a person must decide. A purchase is a strong signal of another target."""
    usual = own if own in KNOWN_TYPES else _usual(own)
    if usual == "purchase" != target:
        return "view" if target == "cart" else "cart"
    return usual if usual in (*KNOWN_TYPES, target) else ""


def _as_target(own: str) -> str:
    return re.sub(r"\s+", "_", own)


def check_ratings(connection: duckdb.DuckDBPyConnection, relation: str, dataset: Dataset) -> None:
    """Raises where `min_rating` leaves no target event."""
    if dataset.min_rating is None:
        return
    rating = "try_cast(rating as double)" if _has(connection, relation, "rating") else "null::double"
    best = connection.execute(f"select max({rating}) filter (where not isnan({rating})) from {relation}").fetchall()[0][0]
    if best is None:
        raise RecsysError(
            f"min_rating is {dataset.min_rating:g}, but no event has a rating: they have no rating column, or no number in it;"
            ' name it in columns, as in columns = {rating = "stars"}, or take min_rating out'
        )
    if best < dataset.min_rating:
        raise RecsysError(f"min_rating is {dataset.min_rating:g}, but the highest rating is {best:g}; lower min_rating")


def _has(connection: duckdb.DuckDBPyConnection, relation: str, column: str) -> bool:
    return column in {name for name, *_ in connection.execute(f"describe select * from {relation}").fetchall()}


def _named(types: list[str], counts: Mapping[str, int]) -> str:
    events = max(sum(counts.values()), 1)
    shown = [f"{write_text(own[:60]) if own else 'none'} {counts[own]:,} ({counts[own] / events:.2%})" for own in types[:SHOWN]]
    return ", ".join(shown) + (f" and {len(types) - SHOWN:,} more" if len(types) > SHOWN else "")
