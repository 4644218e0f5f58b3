"""Settings proposed for an export: what its event types, ratings, days and columns suggest, as a section of config.toml."""

import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import count
from typing import Any

from recsys.settings import Dataset, Settings
from recsys.settings.run import KNOWN_TYPES

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
SCALES = (1, 5, 10, 100)  # of ratings
GRIDS = ((28, 14), (14, 7), (7, 7), (1, 1))  # horizon_days and step_days, best first


@dataclass(frozen=True)
class Types:
    """What each of the data's own event types counts as.

    target: "" where none of them has a usual name. meanings: the data's own, and ours; "" for one that a person must decide.
    """

    target: str
    why: str
    meanings: dict[str, str]

    @property
    def event_types(self) -> dict[str, str]:
        """The setting, without what needs no entry. What is undecided is ignored until a person decides."""
        return {own: ours or "ignore" for own, ours in self.meanings.items() if own != ours}

    @property
    def undecided(self) -> list[str]:
        return [own for own, ours in self.meanings.items() if not ours]


def propose_types(counts: Mapping[str, int], rated: bool = False) -> Types:
    """The target and the map of event types. counts: events by the data's own type, "" for those without one, which are of the
    target. rated: whether events carry ratings."""
    named = {own: events for own, events in counts.items() if own}
    if not named:
        return Types("like" if rated else "purchase", "the events have no type, so each is of the target; any name will do", {})
    known = {own: _meaning(own) for own in named}
    totals = {name: sum(events for own, events in named.items() if known[own] == name) for name in TARGETS}
    strongest = max(totals, key=lambda name: (totals[name], name))
    if "purchase" in known.values():
        target, why = "purchase", "there are purchases"
    elif totals[strongest]:
        target, why = strongest, "nothing is bought, and no other strong signal is as frequent"
    elif counts.get(""):
        target, why = "purchase", "events without a type are of the target; any name will do"
    elif "cart" in known.values():
        target, why = "cart", "nothing is bought, and carts are the strongest signal"
    elif "view" in known.values():
        target, why = "view", "views are the only signal"
    elif len(named) == 1:
        target, why = re.sub(r"\s+", "_", next(iter(named))), "it is the only event type"
        known = dict.fromkeys(named, target)
    else:
        target, why = "", "no event type has a usual name"
    return Types(target, why, {own: ours if ours in (*MEANINGS, target) else "" for own, ours in known.items()})


def read_types(own_types: Sequence[str], dataset: Dataset) -> Types:
    """What the settings make of the data's own types."""
    mapped = {own: dataset.own_types.get(own, own) for own in own_types}
    known = (*KNOWN_TYPES, dataset.target)
    return Types(dataset.target, "by the settings", {own: ours if ours in known else "" for own, ours in mapped.items()})


def _meaning(own: str) -> str:
    key = re.sub(r"[^a-z0-9]", "", own.lower())
    names = MEANINGS | {target: (target, *others) for target, others in TARGETS.items()}
    return next((ours for ours, usual in names.items() if key in usual), "")


def propose_min_rating(counts: Mapping[float, int]) -> float | None:
    """The least rating of a target event, from how often each rating comes: four fifths of the scale, or the median rating if
    fewer than a fifth of the events reach that. None where all ratings are one."""
    total, ratings = sum(counts.values()), sorted(counts)
    if len(ratings) < 2:
        return None
    scale = next((top for top in SCALES if ratings[-1] <= top), ratings[-1])
    least = 0.8 * scale if scale > 1 else 1.0
    if share_rated(counts, least) < 0.2:
        seen = 0
        for least in ratings:
            seen += counts[least]
            if 2 * seen >= total:
                break
    return least if share_rated(counts, least) < 1 else None


def share_rated(counts: Mapping[float, int], least: float) -> float:
    """Share of the ratings that are not below `least`."""
    return sum(count for rating, count in counts.items() if rating >= least) / max(sum(counts.values()), 1)


@dataclass(frozen=True)
class Horizon:
    """A horizon, and what the data have for it.

    needed_days: from the oldest cutoff to the last day, with all training windows. windows: training windows of them that the data
    reach back to. users: of the holdout, then of each selection window, those who were seen before it and had a target event in it.
    fits: whether every evaluated cutoff has users, and a whole horizon of data before it to learn from.
    """

    horizon_days: int
    step_days: int
    needed_days: int
    windows: int
    users: list[int]
    fits: bool


def measure_horizon(settings: Settings, days: int, users: Sequence[int]) -> Horizon:
    """The horizon of these settings on data of so many days."""
    horizon, step = settings.dataset.horizon_days, settings.dataset.step_days
    oldest = settings.evaluated_days[-1]
    windows = max(0, min((days - oldest - horizon) // step + 1, settings.features.training_windows))
    return Horizon(horizon, step, settings.cutoff_days[-1], windows, list(users), windows > 0 and all(users))


def propose_name(path: str, taken: Collection[str]) -> str:
    """A name for a dataset, from where its events lie."""
    stem = re.sub(r"[^a-z0-9]+", "_", re.split(r"[/*?]", path.rstrip("/*"))[-1].split(".")[0].lower()).strip("_") or "export"
    return stem if stem not in taken else next(name for number in count(2) if (name := f"{stem}_{number}") not in taken)


def render(name: str, values: Mapping[str, Any], reasons: Mapping[str, str], spare: Mapping[str, Any] = {}) -> str:
    """The dataset's section of config.toml. reasons: a comment for each setting, and "event_types.<type>" for a type. Settings that
    say what the defaults say are left out if they have none. spare: settings that are written as comments."""
    defaults = {one.name: one.default for one in fields(Dataset)}
    said = {key: value for key, value in values.items() if key not in ("dials", "event_types")}
    said = {key: value for key, value in said.items() if reasons.get(key) or (value and value != defaults[key])}
    lines = [f"[datasets.{name}]", *(_line(key, value, reasons.get(key, "")) for key, value in said.items())]
    lines += [f"# {_line(key, value, reasons.get(key, ''))}" for key, value in spare.items()]
    if types := values.get("event_types"):
        lines += ["", f"[datasets.{name}.event_types]"]
        lines += [_line(own, ours, reasons.get(f"event_types.{own}", "")) for own, ours in types.items()]
    lines += ["", f"[datasets.{name}.dials]", *(_line(key, value, "") for key, value in values["dials"].items())]
    return "\n".join(lines)


def _line(key: str, value: Any, reason: str) -> str:
    key = key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else _quoted(key)
    return f"{key} = {_toml(value)}" + (f" # {reason}" if reason else "")


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(_line(key, inner, "") for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return _quoted(value) if isinstance(value, str) else json.dumps(value)


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
