"""Maps the event types of the data to the target, to weaker signals, or to nothing, and proposes that mapping for new data."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

import duckdb

from recsys import RecsysError
from recsys.settings.loading import write_line, write_text
from recsys.settings.run import KNOWN_TYPES, Dataset

MAX_UNKNOWN_SHARE = 0.001  # of the events; those of an unknown type are quarantined
TYPES_SHOWN = 12  # in a message
# Usual names of our event types, in small letters and without separators.
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
# Usual targets of data without purchases, with other names for them.
TARGETS = {
    "play": ("played",), "watch": ("watched",), "listen": ("listened",), "stream": ("streamed",), "apply": ("applied",), "lead": (),
    "subscribe": ("subscribed",), "rent": ("rented",), "borrow": ("borrowed",), "book": ("booked",), "enroll": ("enrolled",),
    "download": ("downloaded",), "read": (), "like": ("liked",), "rate": ("rated", "rating"), "share": ("shared",),
}  # fmt: skip


@dataclass(frozen=True)
class TypeMapping:
    """How the event types of the data are read.

    reason: why this target was chosen. meanings: our event type for each type of the data; "" where a person must decide.
    is_sure: false if the target was chosen only because it is the most frequent type.
    """

    target: str
    reason: str
    meanings: dict[str, str]
    is_sure: bool = True

    @property
    def event_types(self) -> dict[str, str]:
        """The setting `event_types`. It omits types that have our name already, and ignores undecided ones."""
        return {own: ours or "ignore" for own, ours in self.meanings.items() if own and own != ours}

    @property
    def undecided(self) -> list[str]:
        return [own for own, ours in self.meanings.items() if not ours]

    @property
    def has_target(self) -> bool:
        return self.target in self.meanings.values()


def count_types(connection: duckdb.DuckDBPyConnection, relation: str) -> dict[str, int]:
    """Returns the number of events of each type of the data, the most frequent first.

    Types are lower-cased and stripped. The key "" counts events without a type, which are target events. `relation` need not have a
    column event_type.
    """
    own = "coalesce(lower(trim(event_type::varchar)), '')" if _has(connection, relation, "event_type") else "''"
    query = f"select {own} as own_type, count(*) as events from {relation} group by all order by events desc, own_type"
    return dict(connection.execute(query).fetchall())


def repeat_share(connection: duckdb.DuckDBPyConnection, relation: str) -> float:
    """Returns the share of target events that repeat one of the same user and item on an earlier day. A pair counts once a day.

    relation: target events with the columns user_id, item_id and event_at (a timestamp).
    """
    query = f"""select sum(days - 1)::double / sum(days)::double
        from (select count(distinct event_at::date) as days from {relation} group by user_id, item_id)"""
    return float(connection.execute(query).fetchall()[0][0] or 0.0)


def advise_exclude_seen(share: float, few: float, many: float) -> bool | None:
    """Advises a value of `exclude_seen` for a share of repeats: true below `few`, false above `many`, else None (both are fine)."""
    return True if share < few else False if share > many else None


def check_types(counts: Mapping[str, int], dataset: Dataset, section: str) -> None:
    """Raises RecsysError if no event is of the target, or too many events have an unknown type."""
    if problem := explain_types(counts, dataset, section):
        raise RecsysError(problem)


def explain_types(counts: Mapping[str, int], dataset: Dataset, section: str) -> str:
    """Says that no event is of the target, or that too many events have an unknown type, and what to write in `section` of
    config.toml; "" if all is well."""
    types = read_types(counts, dataset)
    if types.has_target and sum(counts[own] for own in types.undecided) <= MAX_UNKNOWN_SHARE * sum(counts.values()):
        return ""
    problem = f"the event types {_describe(types.undecided, counts)} are not known"
    if not types.has_target:
        problem = f'no event is of the target "{dataset.target}"'
    return (
        f"{problem}; the data have {_describe(list(counts), counts)}. Write under [{section}] in config.toml:"
        f" {' and '.join(propose_lines(counts, dataset))} (a type can be view, cart, return, ignore or the target)"
    )


def read_types(counts: Mapping[str, int], dataset: Dataset) -> TypeMapping:
    """Returns how the settings read the types of the data. `counts` as `count_types` returns them."""
    mapped = {own: dataset.own_types.get(own, own) if own else dataset.target for own in counts}
    known = (*KNOWN_TYPES, dataset.target)
    return TypeMapping(dataset.target, "by the settings", {own: ours if ours in known else "" for own, ours in mapped.items()})


def propose_types(counts: Mapping[str, int], rated: bool = False) -> TypeMapping:
    """Proposes a target and a mapping by the names of the types.

    counts: as `count_types` returns them. rated: whether events carry ratings.
    """
    named = {own: events for own, events in counts.items() if own}
    usual = {own: _usual(own) for own in named}
    totals = {name: sum(events for own, events in named.items() if usual[own] == name) for name in TARGETS}
    strongest = max(totals, key=lambda name: (totals[name], name))
    most_frequent = max(named, key=lambda own: named[own], default="")
    unnamed_target = "like" if rated else "purchase"
    choices = (  # the first that applies is proposed
        (not named, unnamed_target, "the events have no type, so each is of the target; any name will do"),
        ("purchase" in usual.values(), "purchase", "there are purchases"),
        (totals[strongest] > 0, strongest, "there are no purchases, and this is the most frequent strong signal"),
        ("" in counts, "purchase", "events without a type are of the target; any name will do"),
        ("cart" in usual.values(), "cart", "there are no purchases, and carts are the strongest signal"),
        ("view" in usual.values(), "view", "views are the only signal"),
        (len(named) == 1, _as_target(most_frequent), "it is the only event type"),
    )
    unusual = (False, _as_target(most_frequent), "no event type has a usual name, and this is the most frequent")
    is_sure, target, reason = next((choice for choice in choices if choice[0]), unusual)
    meanings = {own: target if not own or _as_target(own) == target else _meaning(own, target) for own in counts}
    return TypeMapping(target, reason, meanings, is_sure)


def propose_lines(counts: Mapping[str, int], dataset: Dataset) -> list[str]:
    """Returns the lines to write in the dataset's section, so that all of these types are known and one is the target."""
    types = read_types(counts, dataset)
    if not types.has_target:
        types = propose_types(counts)
    meanings = {own: ours or _meaning(own, types.target) for own, ours in types.meanings.items()}
    known = (*KNOWN_TYPES, types.target)
    present = {own: ours if ours in known else "ignore" for own, ours in dataset.own_types.items() if own != types.target}
    proposed = present | {own: ours or "ignore" for own, ours in meanings.items() if own and own != ours}
    lines = [write_line("target", types.target)] * (types.target != dataset.target)
    return lines + [write_line("event_types", proposed)] * (proposed != dataset.own_types)


def _usual(own: str) -> str:
    """Our event type that a type of this name usually is; "" if the name is not a usual one."""
    key = re.sub(r"[^a-z0-9]", "", own.lower())
    names = MEANINGS | {target: (target, *others) for target, others in TARGETS.items()}
    return next((ours for ours, usual in names.items() if key in usual), "")


def _meaning(own: str, target: str) -> str:
    """Our event type for a type of the data that is not the target; "" where a person must decide."""
    usual = own if own in KNOWN_TYPES else _usual(own)
    if usual == "purchase" != target:  # a strong signal of any other target
        return "view" if target == "cart" else "cart"
    return usual if usual in (*KNOWN_TYPES, target) else ""


def _as_target(own: str) -> str:
    return re.sub(r"\s+", "_", own)


def check_ratings(connection: duckdb.DuckDBPyConnection, relation: str, dataset: Dataset) -> None:
    """Raises RecsysError if `min_rating` leaves no target event."""
    if dataset.min_rating is None:
        return
    rating = "try_cast(rating as double)" if _has(connection, relation, "rating") else "null::double"
    best = connection.execute(f"select max({rating}) filter (where not isnan({rating})) from {relation}").fetchall()[0][0]
    if best is None:
        raise RecsysError(
            f"min_rating is {dataset.min_rating:g}, but no event has a rating: there is no rating column, or no number in it;"
            ' name the column, as in columns = {rating = "stars"}, or remove min_rating'
        )
    if best < dataset.min_rating:
        raise RecsysError(f"min_rating is {dataset.min_rating:g}, but the highest rating is {best:g}; lower min_rating")


def _has(connection: duckdb.DuckDBPyConnection, relation: str, column: str) -> bool:
    return column in {name for name, *_ in connection.execute(f"describe select * from {relation}").fetchall()}


def _describe(types: list[str], counts: Mapping[str, int]) -> str:
    events, shown = max(sum(counts.values()), 1), types[:TYPES_SHOWN]
    texts = [f"{write_text(own[:60]) if own else 'none'} {counts[own]:,} ({counts[own] / events:.2%})" for own in shown]
    return ", ".join(texts) + (f" and {len(types) - TYPES_SHOWN:,} more" if len(types) > TYPES_SHOWN else "")
