"""Holdout by time: fit before a cutoff, rank at it, score against the horizon after it."""

import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recsys import RecsysError
from recsys.evaluation.metrics import Interval, Scores, beyond_accuracy, bootstrap, bootstrap_coverage, score
from recsys.features import Features, State, places
from recsys.recommenders import LIST_KINDS, RankFunction, Recommender, TooLittleData, load, rank_by_truth
from recsys.releases import BusinessRules, read_file, write_lists
from recsys.settings import Settings
from recsys.sources import Simulation
from recsys.store import writing

LATER_WEEK = "later_week"
FEWEST = 10  # users, below which the bootstrap's interval of a difference is too narrow to decide anything


@dataclass(frozen=True)
class ScoredWindow:
    """Scores at one cutoff of one kind of list, row by row for `users`, seen before it and with a target event after it, and their
    lists, as long as the longest that is scored."""

    cutoff: date
    users: NDArray[np.str_]
    scores: Scores
    lists: NDArray[np.int32]
    available: int  # items that could have been listed


ScoredWindows = dict[
    str, list[ScoredWindow]
]  # per kind of list, newest first; under the one that is not served, windows may have no users
Robustness = dict[str, dict[str, ScoredWindow]]  # per perturbed world and kind of list, the holdout


def evaluate(recommender: Recommender, features: Features, settings: Settings, cutoffs: Sequence[date]) -> ScoredWindows:
    """Per kind of list, a window for each cutoff, newest first, as far back as users can be judged and the recommender can learn.

    The recommender is fitted anew at each; lists are made by the saved and loaded model, as in production. Nothing is read that
    happened after the last cutoff's horizon. Raises RecsysError if nobody can be judged at the first cutoff, and TooLittleData if
    this recommender has too little to learn from there.
    """
    require_outcomes(features, settings, cutoffs[0])
    if recommender.only_seen and LIST_KINDS[settings.list_kind]:
        raise TooLittleData(f"{recommender.name}: it ranks nothing but what a user has had, which exclude_seen = true leaves out")
    windows = [_evaluate_at(cutoffs[0], recommender, features, settings)]
    with suppress(TooLittleData):
        for cutoff in cutoffs[1:]:
            if not len(judged_users(features, settings, cutoff)):
                break
            windows.append(_evaluate_at(cutoff, recommender, features, settings))
    return {list_kind: [window[list_kind] for window in windows] for list_kind in LIST_KINDS}


def _evaluate_at(cutoff: date, recommender: Recommender, features: Features, settings: Settings) -> dict[str, ScoredWindow]:
    state, labels = features.state(cutoff), features.labels(cutoff)
    with tempfile.TemporaryDirectory() as folder, writing(Path(folder)):
        recommender.fit(state, features.windows(cutoff)).save(Path(folder))
        rank = _released(Path(folder) / "lists.sqlite", load(Path(folder)), state, np.unique(labels[0]), settings)
        return judge(rank, state, labels, settings)


def _released(file: Path, recommender: Recommender, state: State, rows: NDArray[np.int32], settings: Settings) -> RankFunction:
    """Ranks rows of users by lists that are written and read as a release's are: without business rules, as deep as is scored."""
    depth = max(settings.evaluation.ks)
    write_lists(file, recommender, BusinessRules.unruled(state, settings, depth), state.user_ids[rows])

    def rank(asked: NDArray, exclude_seen: bool) -> NDArray[np.int32]:
        (list_kind,) = (name for name, leaves_out in LIST_KINDS.items() if leaves_out == exclude_seen)
        users, lists = read_file(file, list_kind, depth)
        found = places(users, state.user_ids[asked])[:, None]
        items = lists.items[found[:, 0]]
        return np.where((found >= 0) & (items < state.shape[1]), items, -1)

    return rank


def judged_users(features: Features, settings: Settings, cutoff: date) -> NDArray[np.int32]:
    """Users by whom lists of a cutoff can be judged: seen before it, and with a target event after it that counts."""
    exclude_seen = LIST_KINDS[settings.list_kind]
    return (
        relevant(*features.labels(cutoff), features.state(cutoff), True)[0]
        if exclude_seen
        else np.unique(features.labels(cutoff)[0])
    )


def require_outcomes(features: Features, settings: Settings, cutoff: date) -> None:
    """Raises where lists of a cutoff cannot be judged at all, with what the data have and what they lack."""
    if len(judged_users(features, settings, cutoff)):
        return
    horizon, windows, counts = settings.dataset.horizon_days, settings.evaluation.selection_windows, features.counts()
    days = (features.as_of - date.fromisoformat(counts["first_day"])).days
    before, after, returning = features.users_around(cutoff)
    target = f"{settings.dataset.a_target}{' with an item that is new to them' if LIST_KINDS[settings.list_kind] else ''}"
    said = (
        f"lists cannot be judged: of the {before:,} users seen before {cutoff}, none has {target} in the {horizon} days from then"
        f" (horizon_days), when {after:,} users have one. The data have {days} days, {counts['first_day']} to {counts['last_day']};"
        f" horizon_days = {horizon} needs more than {horizon}, {horizon * (windows + 1)} to choose a recommender"
        f" (evaluation.selection_windows = {windows}), and {horizon * (windows + 2)} to train one (features.training_windows)."
    )
    shorter = max(1, days // (windows + 3))
    if not returning:
        raise RecsysError(
            f"{said} No user has {settings.dataset.a_target} after the day of the first event; bring data in which users come back"
        )
    if shorter < horizon:
        raise RecsysError(f"{said} Set horizon_days and step_days to {shorter} in the dataset's section of config.toml")
    raise RecsysError(f"{said} Bring more events, or set exclude_seen = false where users come back for the same items")


def robustness(recommender: Recommender, features: Features, worlds: Mapping[str, Features], settings: Settings) -> Robustness:
    """The holdout again: of its last week alone, and ranked in worlds whose features at the holdout's cutoff are perturbed."""
    cutoff = features.evaluated[0]
    state = features.state(cutoff)
    recommender.fit(state, features.windows(cutoff))
    found = {LATER_WEEK: judge(rank_by(recommender, state, state, settings), state, features.labels(cutoff, last_days=7), settings)}
    for name, world in worlds.items():
        perturbed = world.state(cutoff)
        found[name] = judge(rank_by(recommender, perturbed, state, settings), state, features.labels(cutoff), settings)
    return found


def rank_by(recommender: Recommender, known: State, state: State, settings: Settings) -> RankFunction:
    """Ranks rows of users of a state by what is known in another one, whose users and items may be fewer."""
    columns = np.append(places(state.item_ids, known.item_ids), -1).astype(np.int32)

    def rank(rows: NDArray, exclude_seen: bool) -> NDArray[np.int32]:
        return columns[recommender.recommend(state.user_ids[rows], max(settings.evaluation.ks), known, exclude_seen).items]

    return rank


def oracle(source: Simulation, features: Features, settings: Settings) -> dict[str, ScoredWindow]:
    """The holdout's window of the oracle's lists, per kind of list."""
    state = features.state(features.evaluated[0])
    rank = rank_by_truth(source, state, state.items["is_available"], settings)
    return judge(rank, state, features.labels(state.cutoff), settings)


def judge(rank: RankFunction, state: State, labels: tuple[NDArray, NDArray], settings: Settings) -> dict[str, ScoredWindow]:
    """Per kind of list, the window at the state's cutoff of the lists that `rank` makes of rows of users, with or without seen
    items. Labels are users and items of the state; where there are none, nobody is in the window."""
    windows = {}
    for list_kind, exclude_seen in LIST_KINDS.items():
        asked, users, items = relevant(*labels, state, exclude_seen)
        lists, ks = rank(asked, exclude_seen), settings.evaluation.ks
        scores = score(lists, users, items, state.shape[1], ks) | beyond_accuracy(lists, users, items, target_share(state), ks)
        windows[list_kind] = ScoredWindow(
            state.cutoff, state.user_ids[asked], scores, lists, int(state.items["is_available"].sum())
        )
    return windows


def relevant(
    users: NDArray[np.int32], items: NDArray[np.int32], state: State, exclude_seen: bool
) -> tuple[NDArray, NDArray, NDArray]:
    """Who is asked, and the pairs (row among the asked, item) of their target events; `exclude_seen` counts only what is new."""
    if exclude_seen:
        owned = state.owned()
        fresh = np.asarray(owned[users, items]).ravel() == 0 if len(users) else np.zeros(0, bool)
        users, items = users[fresh], items[fresh]
    asked, rows = np.unique(users, return_inverse=True)
    return asked, rows.astype(np.int32), items


def target_share(state: State) -> NDArray[np.float64]:
    """Of the users with a target event before the cutoff, those with one on each item; at least one, so that the
    self-information of an item without any is finite."""
    return np.maximum(state.items["target_users"], 1) / max((state.users["target_events"] > 0).sum(), 1)


def holdout_table(windows: Mapping[str, ScoredWindow]) -> pa.Table:
    """Users of the holdout with their scores, one kind of list after the other."""
    parts = [
        pa.table({"list_kind": pa.array([list_kind] * len(window.users), pa.string()), "user_id": window.users, **window.scores})
        for list_kind, window in windows.items()
    ]
    return pa.concat_tables(parts)


def per_user(windows: Sequence[ScoredWindow], metric: str) -> dict[str, float]:
    """A user's metric, averaged over the windows in which the user counts: users are what the bootstrap draws."""
    users = np.concatenate([window.users for window in windows] or [np.zeros(0, str)])
    values = np.concatenate([window.scores[metric] for window in windows] or [np.zeros(0)])
    names, rows = np.unique(users, return_inverse=True)
    means = np.bincount(rows, values) / np.bincount(rows)
    return dict(zip(names.tolist(), means.tolist(), strict=True))


def compare(a: Sequence[ScoredWindow], b: Sequence[ScoredWindow], metric: str, settings: Settings) -> Interval:
    """Paired difference a - b over the users of both, which are the same. Fewer than FEWEST users decide nothing."""
    left, right = per_user(a, metric), per_user(b, metric)
    difference = np.array([left[user] - right[user] for user in left])
    if len(difference) < FEWEST:
        return Interval(float(difference.mean()) if len(difference) else 0.0, -np.inf, np.inf)
    return bootstrap({metric: difference}, settings.evaluation.bootstraps, settings.seed)[metric]


def summarise(window: ScoredWindow, ks: Sequence[int], settings: Settings) -> dict[str, Interval]:
    """Every metric of a window with its interval, depth by depth."""
    how = (settings.evaluation.bootstraps, settings.seed)
    coverages = {f"coverage@{k}": bootstrap_coverage(window.lists[:, :k], window.available, *how) for k in ks}
    found = bootstrap(window.scores, *how) | coverages
    return {metric: interval for k in ks for metric, interval in found.items() if metric.endswith(f"@{k}")}


def select(evaluations: Mapping[str, ScoredWindows], settings: Settings) -> str:
    """The simplest recommender, in the order of config.toml, that no other beats beyond noise on the selection windows under
    the configured kind of list; the simplest of all where there are no such windows."""
    return unbeaten({name: evaluations[name] for name in settings.recommenders if name in evaluations}, settings)[0]


def steadiest(twins: Mapping[str, tuple[ScoredWindows, Robustness]], settings: Settings) -> str:
    """Of one recommender under several seeds, those that none beats beyond noise are as good as each other; this is the one of
    them whose worst stress, on the holdout, is best (D'Amour et al. 2022, jmlr.org/papers/v23/20-1335.html)."""
    metric, served = f"ndcg@{settings.evaluation.k}", settings.list_kind
    near = unbeaten({name: windows for name, (windows, _) in twins.items()}, settings)
    scores = {
        name: [world[served].scores[metric].mean() for world in twins[name][1].values() if len(world[served].users)]
        for name in near
    }
    return max(near, key=lambda name: min(scores[name], default=0.0))


def unbeaten(evaluations: Mapping[str, ScoredWindows], settings: Settings) -> list[str]:
    """Those that no other beats beyond noise on the selection windows that all have; the one with the highest mean is always among
    them."""
    metric = f"ndcg@{settings.evaluation.k}"
    shared = min(len(found[settings.list_kind]) for found in evaluations.values())
    windows = {name: found[settings.list_kind][1:shared] for name, found in evaluations.items()}
    return [
        name
        for name, mine in windows.items()
        if not any(compare(other, mine, metric, settings).low > 0 for rival, other in windows.items() if rival != name)
    ]
