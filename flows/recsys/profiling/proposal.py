"""Proposes settings for an export, and writes them as a section of config.toml."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import count
from typing import Any

from recsys.settings import Dataset, Settings, write_line

SCALES = (1, 5, 10, 100)  # usual largest ratings
GRIDS = ((28, 14), (14, 7), (7, 7), (1, 1))  # horizon_days and step_days to propose, best first


def propose_min_rating(counts: Mapping[float, int]) -> float | None:
    """Proposes the smallest rating of a target event: four fifths of the scale, or the median rating if less than a fifth of the
    events reach that. None if all ratings reach it. counts: events by rating."""
    total, ratings = sum(counts.values()), sorted(counts)
    if len(ratings) < 2:
        return None
    scale = next((top for top in SCALES if ratings[-1] <= top), ratings[-1])
    least = 0.8 * scale if scale > 1 else 1.0
    if share_rated(counts, least) < 0.2:
        least = next(rating for rating in ratings if 2 * sum(counts[other] for other in ratings if other <= rating) >= total)
    return least if share_rated(counts, least) < 1 else None


def share_rated(counts: Mapping[float, int], least: float) -> float:
    """Returns the share of the ratings that are `least` or more."""
    return sum(count for rating, count in counts.items() if rating >= least) / max(sum(counts.values()), 1)


@dataclass(frozen=True)
class Horizon:
    """A horizon, and how well it fits the data.

    least_days: days of data that the evaluated cutoffs and one training window need. needed_days: those that all training windows
    need. windows: number of training windows within the data. users: number of
    users with an event before and a target event in the holdout, then in each selection window. fits: whether every evaluated
    cutoff has users, and a training window before it.
    """

    horizon_days: int
    step_days: int
    least_days: int
    needed_days: int
    windows: int
    users: list[int]
    fits: bool


def measure_horizon(settings: Settings, days: int, users: Sequence[int]) -> Horizon:
    """Measures how well the horizon of the settings fits data of `days` days. users: as in Horizon."""
    horizon, step = settings.dataset.horizon_days, settings.dataset.step_days
    oldest = settings.evaluated_days[-1]
    least = oldest + horizon
    windows = max(0, min((days - least) // step + 1, settings.features.training_windows))
    return Horizon(horizon, step, least, settings.cutoff_days[-1], windows, list(users), windows > 0 and all(users))


def write_count(number: int, noun: str) -> str:
    """Returns `1 day` or `2 days`."""
    return f"{number:,} {noun}{'s' * (number != 1)}"


def propose_name(path: str, taken: Collection[str]) -> str:
    """Proposes a name for a dataset, from the last part of its path that is not a pattern. taken: names that exist already."""
    parts = [part for part in path.split("/") if part and not re.search(r"[*?\[=:]", part)]
    stem = (re.sub(r"[^a-z0-9]+", "_", parts[-1].split(".")[0].lower()).strip("_") if parts else "") or "export"
    return stem if stem not in taken else next(name for number in count(2) if (name := f"{stem}_{number}") not in taken)


def render(name: str, values: Mapping[str, Any], reasons: Mapping[str, str], spare: Mapping[str, Any] = {}) -> str:
    """Writes the dataset's section of config.toml.

    values: the settings; those that equal their default and have no comment are left out. reasons: comments by setting, and by
    "event_types.<type>". spare: settings to write as comments.
    """
    defaults = {one.name: one.default for one in fields(Dataset)}
    shown = {
        key: value
        for key, value in values.items()
        if key not in ("source_settings", "event_types") and (reasons.get(key) or (value and value != defaults[key]))
    }
    lines = [f"[datasets.{name}]", *(write_line(key, value, reasons.get(key, "")) for key, value in shown.items())]
    lines += [f"# {write_line(key, value, reasons.get(key, ''))}" for key, value in spare.items()]
    if types := values.get("event_types"):
        mapped = (write_line(own, ours, reasons.get(f"event_types.{own}", "")) for own, ours in types.items())
        lines += ["", f"[datasets.{name}.event_types]", *mapped]
    inputs = (write_line(key, value) for key, value in values["source_settings"].items())
    return "\n".join([*lines, "", f"[datasets.{name}.source_settings]", *inputs])
