"""Holdout by time: fit before a cutoff, rank at it, score against the horizon after it."""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from recsys import RecsysError
from recsys.config import Settings
from recsys.features import Features
from recsys.metrics import Interval, Scores, bootstrap, bootstrap_coverage, score
from recsys.recommenders import Recommender, load
from recsys.state import State

PROTOCOLS = {"allow": False, "novel": True}  # what `lists.repeat` may be, and whether bought items are left out


@dataclass(frozen=True)
class Window:
    """Scores at one cutoff under one protocol, row by row for `users`, who were seen before it and bought after it, and the
    first k items of their lists."""

    cutoff: date
    users: NDArray[np.str_]
    scores: Scores
    lists: NDArray[np.int32]
    available: int  # items that could have been listed


def evaluate(recommender: Recommender, features: Features, settings: Settings, cutoffs: Sequence[date]) -> dict[str, list[Window]]:
    """Per protocol, a window for each cutoff. Fitted anew at each; lists are made by the saved and loaded model, as in
    production. Nothing is read that was bought after the last cutoff's horizon."""
    windows: dict[str, list[Window]] = {protocol: [] for protocol in PROTOCOLS}
    for cutoff in cutoffs:
        state = features.state(cutoff)
        users, items = features.labels(cutoff)
        with tempfile.TemporaryDirectory() as folder:
            recommender.fit(state, features.windows(cutoff)).save(Path(folder))
            loaded = load(Path(folder))
        for protocol, novel in PROTOCOLS.items():
            asked, bought_by, bought = truth(users, items, state, novel)
            if len(asked) == 0:
                raise RecsysError(
                    f"nobody seen before {cutoff} bought anything in the {settings.dataset.horizon_days} days after it;"
                    " lower horizon_days or evaluation.selection_windows, or bring more days of data"
                )
            lists = loaded.recommend(state.user_ids[asked], max(settings.evaluation.k, 12), state, novel).items
            scores = score(lists, bought_by, bought, state.shape[1], settings.evaluation.k)
            available = int(state.items["is_available"].sum())
            windows[protocol].append(Window(cutoff, state.user_ids[asked], scores, lists[:, : settings.evaluation.k], available))
    return windows


def truth(users: NDArray[np.int32], items: NDArray[np.int32], state: State, novel: bool) -> tuple[NDArray, NDArray, NDArray]:
    """Who is asked, and the pairs (row among the asked, item) that they bought; `novel` counts only what is new to them."""
    if novel:
        owned = state.owned()
        fresh = np.asarray(owned[users, items]).ravel() == 0 if len(users) else np.zeros(0, bool)
        users, items = users[fresh], items[fresh]
    asked, rows = np.unique(users, return_inverse=True)
    return asked, rows.astype(np.int32), items


def per_user(windows: Sequence[Window], metric: str) -> dict[str, float]:
    """A user's metric, averaged over the windows in which the user counts: users are what the bootstrap draws."""
    users = np.concatenate([window.users for window in windows])
    values = np.concatenate([window.scores[metric] for window in windows])
    names, rows = np.unique(users, return_inverse=True)
    means = np.bincount(rows, values) / np.bincount(rows)
    return dict(zip(names.tolist(), means.tolist(), strict=True))


def compare(a: Sequence[Window], b: Sequence[Window], metric: str, settings: Settings) -> Interval:
    """Paired difference a - b over the users of both, which are the same."""
    left, right = per_user(a, metric), per_user(b, metric)
    difference = np.array([left[user] - right[user] for user in left])
    return bootstrap(difference, settings.evaluation.bootstraps, settings.seed)


def caption(protocol: str, window: Window, settings: Settings) -> str:
    """`all items, served: 536 users who bought in the 28 days from 2025-01-07`."""
    items = "only items new to the user" if PROTOCOLS[protocol] else "all items"
    served = ", served" if protocol == settings.lists.repeat else ""
    return (
        f"{items}{served}: {len(window.users):,} users who bought in the {settings.dataset.horizon_days} days from {window.cutoff}"
    )


def summarise(window: Window, settings: Settings) -> dict[str, Interval]:
    """Every metric of a window with its interval."""
    how = (settings.evaluation.bootstraps, settings.seed)
    intervals = {metric: bootstrap(values, *how) for metric, values in window.scores.items()}
    return intervals | {f"coverage@{settings.evaluation.k}": bootstrap_coverage(window.lists, window.available, *how)}


def select(evaluations: Mapping[str, dict[str, list[Window]]], settings: Settings) -> str:
    """The simplest recommender, in the order of config.toml, that no other beats beyond noise on the selection windows under
    the configured protocol."""
    metric = f"ndcg@{settings.evaluation.k}"
    windows = {name: evaluations[name][settings.lists.repeat][1:] for name in settings.recommenders}
    beaten = {
        name: any(compare(other, mine, metric, settings).low > 0 for rival, other in windows.items() if rival != name)
        for name, mine in windows.items()
    }
    return next(name for name in windows if not beaten[name])  # the one with the highest mean is never beaten
