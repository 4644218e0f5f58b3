"""The columns of the raw tables, and how they are found among the columns of an export."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from recsys import RecsysError
from recsys.settings import Dataset, write_line, write_text

TABLES = {
    "events": {
        "user_id": "text",
        "item_id": "text",
        "event_at": "time",
        "event_type": "text",
        "quantity": "number",
        "price": "number",
        "rating": "number",
        "session_id": "text",
        "event_id": "text",
    },
    "items": {
        "item_id": "text",
        "title": "text",
        "category": "text",
        "price": "number",
        "is_available": "flag",
        "available_from": "time",
        "withdrawn_at": "time",
        "valid_from": "time",
    },
    "users": {"user_id": "text", "segment": "text", "valid_from": "time"},
}
REQUIRED = {"events": ("user_id", "item_id", "event_at"), "items": ("item_id",), "users": ("user_id",)}

BLANK = "..."  # placeholder in proposed settings for a column that a person must name

# Names that exports often use, normalised by `_key`. `make check-data` proposes them; a run never assumes them.
ALIASES = {
    "user_id": (
        "user", "uid", "userref", "userkey", "customerid", "customer", "customerref", "custid", "clientid", "visitorid", "memberid",
        "accountid", "buyerid", "subscriberid", "companyid", "profileid", "personid", "reviewerid", "userpseudoid", "fullvisitorid",
    ),
    "item_id": (
        "item", "productid", "product", "productref", "sku", "stockcode", "articleid", "article", "movieid", "trackid", "songid",
        "bookid", "videoid", "showid", "contentid", "jobid", "courseid", "listingid", "offerid", "isbn", "asin", "ean", "gtin",
    ),
    "event_at": (
        "timestamp", "eventtimestamp", "eventtime", "datetime", "ts", "time", "occurredat", "createdat", "orderdate", "orderedat",
        "orderts", "purchasedat", "purchasedate", "invoicedate", "transactiondate", "viewedat", "playedat", "watchedat", "ratedat",
        "unixtime", "unixreviewtime", "timestampms", "eventdate", "date", "tdat",
    ),
    "event_type": ("event", "eventname", "action", "type", "behavior", "behaviour", "interaction", "interactiontype", "verb"),
    "quantity": ("qty", "units", "pieces"),
    "price": ("unitprice", "itemprice", "listprice", "saleprice"),
    "rating": ("stars", "score", "overall"),
    "session_id": ("session", "sid", "visitid", "usersession", "basketid", "basket", "orderid", "orderref", "invoiceno", "invoice"),
    "event_id": ("eventuuid", "transactionid", "lineid", "orderlineid", "messageid"),
    "title": ("name", "itemname", "itemtitle", "productname", "producttitle", "prodname", "label", "description"),
    "category": ("categoryname", "categorycode", "maincategory", "productcategory", "producttype", "genre", "genres", "department"),
    "is_available": ("available", "isactive", "active", "instock", "published"),
    "available_from": ("availablesince", "releasedate", "releasedat", "publishedat", "launchdate", "onlinesince"),
    "withdrawn_at": ("withdrawn", "discontinuedat", "removedat", "availableuntil", "expiresat"),
    "segment": ("usersegment", "customersegment", "usergroup", "group", "tier", "country", "region"),
    "valid_from": ("validsince", "effectivefrom", "effectivedate"),
}  # fmt: skip


@dataclass(frozen=True)
class Match:
    """The columns of an export, matched to ours.

    mapped: the export's column for each of ours that was found. ignored: the export's other columns. missing: our required columns
    that were not found.
    """

    mapped: dict[str, str]
    ignored: list[str]
    missing: list[str]


def match(
    names: Sequence[str], table: str, columns: Mapping[str, str] = {}, attributes: Sequence[str] = (), where: str = ""
) -> Match:
    """Finds a table's columns and attributes among the column names of an export.

    A column is looked for under its name in the setting `columns`, or else under our own name; first exactly, then without case,
    spaces, underscores and hyphens. It is not looked for if its name in the setting is "".
    where: name of the export in messages. Raises RecsysError if two of its columns match.
    """
    mapped = {}
    for ours in (*TABLES[table], *attributes):
        own, shared = columns.get(f"{table}.{ours}"), columns.get(ours)
        if (shared if own is None else own) == "":
            continue
        for name in [own] if own else [shared, ours] if shared else [ours]:
            if found := _find(name, ours, names, where or table.upper()):
                mapped[ours] = found
                break
    used = set(mapped.values())
    return Match(mapped, [name for name in names if name not in used], [name for name in REQUIRED[table] if name not in mapped])


def propose(names: Sequence[str], table: str, columns: Mapping[str, str] = {}) -> dict[str, str]:
    """Proposes the export's column for each of ours that `match` does not find, by its usual names."""
    found = match(names, table, columns)
    proposed: dict[str, str] = {}
    for ours in TABLES[table]:
        free = {_key(name): name for name in reversed(found.ignored) if name not in proposed.values()}
        usual = [free[alias] for alias in ALIASES[ours] if alias in free]
        if ours not in found.mapped and usual:
            proposed[ours] = usual[0]
    return proposed


def propose_line(names: Sequence[str], table: str, columns: Mapping[str, str]) -> str:
    """Returns the line `columns = {...}` for config.toml, with proposals for required columns that are missing."""
    found, proposed = match(names, table, columns), propose(names, table, columns)
    added = {}
    for ours in found.missing:
        theirs = columns.get(f"{table}.{ours}", columns.get(ours, ""))
        added[ours if table == "events" else f"{table}.{ours}"] = proposed.get(ours) or closest(theirs, found.ignored) or BLANK
    return line({key: name for key, name in columns.items() if key not in (f"{table}.{ours}" for ours in found.missing)} | added)


def explain_misnamed(columns: Mapping[str, str], table: str, missing: Sequence[str], names: Sequence[str]) -> str:
    """Says which missing columns the setting `columns` names otherwise than the export, to append to a message; "" if none.

    names: columns of the export that may be meant.
    """
    parts = []
    for ours in missing:
        key = f"{table}.{ours}" if f"{table}.{ours}" in columns else ours
        if columns.get(key) not in (None, "", BLANK):
            meant = closest(columns[key], names)
            advice = f": did you mean {write_text(meant)}?" if meant else ""
            parts.append(f", and columns names {write_text(columns[key])} for {key}, which it lacks{advice}")
    return "".join(parts)


def closest(theirs: str, names: Sequence[str]) -> str:
    """Returns the name most similar to a misspelt one; "" if none is similar."""
    keys = {_key(name): name for name in names}
    return next((keys[key] for key in get_close_matches(_key(theirs), keys, 1, 0.75)), "")


def line(columns: Mapping[str, str]) -> str:
    """Returns the setting `columns` as a line of config.toml."""
    return write_line("columns", dict(columns))


def attributes_of(table: str, dataset: Dataset) -> list[str]:
    """Returns the attributes that the settings add to a table's columns."""
    listed = {"items": dataset.item_attributes, "users": dataset.user_attributes}.get(table, [])
    return [name for name in listed if not any(is_same(name, ours) for ours in TABLES[table])]


def check_keys(dataset: Dataset) -> None:
    """Raises RecsysError if a key of the setting `columns` is not one of our columns, or leaves out a required one."""
    known = {table: [*TABLES[table], *attributes_of(table, dataset)] for table in TABLES}
    every = list(dict.fromkeys(column for table in known.values() for column in table))
    for key, theirs in dataset.columns.items():
        table, _, column = key.rpartition(".")
        if column not in (known.get(table, []) if table else every):
            raise RecsysError(
                f'config: columns has the key "{key}", which is not one of our columns; choose one of {", ".join(every)},'
                ' or add its table, as in "items.price"'
            )
        if not theirs and any(column in REQUIRED[name] for name in ([table] if table else TABLES)):
            raise RecsysError(f'config: columns has {key} = "", but {column} is required; write the name of its column')


def is_same(one: str, other: str) -> bool:
    """Whether two names are equal but for case, spaces, underscores and hyphens."""
    return _key(one) == _key(other)


def _key(name: str) -> str:
    return re.sub(r"[\s_\-\ufeff]", "", name).casefold()


def _find(theirs: str, ours: str, names: Sequence[str], where: str) -> str | None:
    found = [name for name in names if name == theirs] or [name for name in names if is_same(name, theirs)]
    if len(found) > 1:
        if len(set(found)) == 1:
            raise RecsysError(f"{where} has {len(found)} columns {found[0]}; rename all but one")
        seen = " and ".join(write_text(name) for name in found)
        raise RecsysError(
            f"{where} has the columns {seen}, which both match {ours}; write in config.toml: {line({ours: found[0]})}"
        )
    return found[0] if found else None
