"""Settings proposed for an export: what its event types, ratings, days and columns suggest, as a section of config.toml."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import count
from typing import Any

from recsys.settings import Dataset, Settings, write_line

SCALES = (1, 5, 10, 100)  # of ratings
GRIDS = ((28, 14), (14, 7), (7, 7), (1, 1))  # horizon_days and step_days, best first


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
    """A name for a dataset, from the last part of its path that is no pattern."""
    parts = [part for part in path.split("/") if part and not re.search(r"[*?\[=:]", part)]
    stem = re.sub(r"[^a-z0-9]+", "_", parts[-1].split(".")[0].lower()).strip("_") if parts else ""
    stem = stem or "export"
    return stem if stem not in taken else next(name for number in count(2) if (name := f"{stem}_{number}") not in taken)


def render(name: str, values: Mapping[str, Any], reasons: Mapping[str, str], spare: Mapping[str, Any] = {}) -> str:
    """The dataset's section of config.toml. reasons: a comment for each setting, and "event_types.<type>" for a type. Settings that
    say what the defaults say are left out if they have none. spare: settings that are written as comments."""
    defaults = {one.name: one.default for one in fields(Dataset)}
    said = {key: value for key, value in values.items() if key not in ("source_settings", "event_types")}
    said = {key: value for key, value in said.items() if reasons.get(key) or (value and value != defaults[key])}
    lines = [f"[datasets.{name}]", *(write_line(key, value, reasons.get(key, "")) for key, value in said.items())]
    lines += [f"# {write_line(key, value, reasons.get(key, ''))}" for key, value in spare.items()]
    if types := values.get("event_types"):
        lines += ["", f"[datasets.{name}.event_types]"]
        lines += [write_line(own, ours, reasons.get(f"event_types.{own}", "")) for own, ours in types.items()]
    lines += [
        "",
        f"[datasets.{name}.source_settings]",
        *(write_line(key, value) for key, value in values["source_settings"].items()),
    ]
    return "\n".join(lines)
