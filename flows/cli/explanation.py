"""Prints why a user has a list, for `make explain`."""

from collections.abc import Iterator

import numpy as np
from rich.console import Console
from rich.table import Table

from cli.terminal import table
from recsys import RecsysError
from recsys.features import State, places
from recsys.releases import HIDING, ExplainedItem, Explanation, UnknownUser

BASKETS, LOOKS, CANDIDATES, ITEMS, FEATURES = 5, 10, 20, 3, 8  # how many of each are shown


def show(found: Explanation | UnknownUser, item_id: str, k: int, console: Console) -> None:
    """Prints an explanation. With an item id, shows all features of that item instead of those of the best items."""
    for part in _stranger(found, k) if isinstance(found, UnknownUser) else _parts(found, item_id, k):
        console.print(part, markup=False, soft_wrap=isinstance(part, str))


def _stranger(found: UnknownUser, k: int) -> Iterator[str]:
    yield f"user {found.user_id} is not in this release, so gets the first of these lists that fits and is not empty:"
    for name, items in found.rungs.items():
        yield f"  {name}: {', '.join(items[:k]) or 'empty'}"


def _parts(found: Explanation, item_id: str, k: int) -> Iterator[str | Table]:
    yield f"user {found.user_id}, by {found.recommender}"
    yield f"\nhistory: {len(found.baskets)} baskets, {len(found.looks)} views and carts; the last of each"
    yield _history(found)
    if found.candidates:
        yield f"\ncandidates: {len(found.candidates)}; the best of them"
        yield _candidates(found)
    asked = _row(found.state, item_id) if item_id else -1
    for candidate in [one for one in found.candidates if one.item == asked] if item_id else found.candidates[:ITEMS]:
        yield _sum(found, candidate)
        yield _contributions(candidate, 0 if item_id else FEATURES)
    if item_id:
        yield _fate(found, asked)
    yield f"\nremoved by a rule although they scored high enough, or moved down by a rule: {len(found.removed)} items"
    yield table(("rule", "item"), ((rule, name(found.state, item)) for item, rule in found.removed[:CANDIDATES]))
    yield f"\nthe list: {len(found.items)} items; the first {k}"
    yield _list(found, k)
    if found.items != found.released:
        yield "this differs from the list in the release, which was made by other code or versions; `make reproduce` shows which"


def name(state: State, item: int) -> str:
    """An item's id and title. Items without a title have their id as title, which is shown once."""
    id, title = str(state.item_ids[item]), str(state.items["title"][item])
    return id if title == id else f"{id} {title}"


def _history(found: Explanation) -> Table:
    rows = [
        (f"{days:.0f}", found.target, ", ".join(name(found.state, item) for item in items))
        for days, items in found.baskets[:BASKETS]
    ]
    rows += [(str(day), "view or cart", name(found.state, item)) for day, item in found.looks[:LOOKS]]
    return table(("days ago", "", "items"), rows)


def _candidates(found: Explanation) -> Table:
    rows = (
        (
            f"{one.score:.4f}",
            name(found.state, one.item),
            ", ".join(f"{candidate_source} {score:.3g}" for candidate_source, score in one.proposed_by.items()),
        )
        for one in found.candidates[:CANDIDATES]
    )
    return table(("score", "item", "proposed by, with its own score"), rows)


def _sum(found: Explanation, one: ExplainedItem) -> str:
    total = found.base + sum(one.added.values())
    score = f"score {one.score:.4f}" + (f" is log-odds {total:+.3f}" if found.is_probability else "")
    return f"\n{name(found.state, one.item)}: {score}, of which {found.base:+.3f} is every item's"


def _contributions(one: ExplainedItem, count: int) -> Table:
    """The features with the largest contributions; all of them if `count` is 0."""
    features = sorted(one.added, key=lambda feature: -abs(one.added[feature]))[: count or None]
    rows = ((f"{one.added[feature]:+.3f}", feature, f"{one.features[feature]:.4g}") for feature in features)
    return table(("added", "feature", "value"), rows)


def _row(state: State, item_id: str) -> int:
    if (row := int(places(state.item_ids, np.array([item_id]))[0])) < 0:
        raise RecsysError(f'ITEM "{item_id}" is not in this release; pass an id of its items.parquet')
    return row


def _fate(found: Explanation, item: int) -> str:
    """Why an item is in the list or not."""
    parts = [f"was removed or moved down by the rule {rule}" for row, rule in found.removed if row == item]
    if not found.rules.listed[item]:
        parts = [f"may not be listed because of the rule {HIDING[found.rules.reasons[item]]}"]
    elif found.candidates and item not in [candidate.item for candidate in found.candidates]:
        parts.append("was not proposed by any candidate source")
    parts.append(f"is at place {found.items.index(item) + 1}" if item in found.items else "is not in the list")
    return f"\n{name(found.state, item)} {', '.join(parts)}"


def _list(found: Explanation, k: int) -> Table:
    rows = (
        (
            str(place + 1),
            f"{score:.4f}" if score else "popular",
            name(found.state, item),
            str(found.state.items["category"][item]),
        )
        for place, (item, score) in enumerate(zip(found.items[:k], found.scores, strict=False))
    )
    return table(("", "score", "item", "category"), rows)
