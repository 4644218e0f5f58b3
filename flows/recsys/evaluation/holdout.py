"""Scores recommenders on events after a cutoff, compares them, and selects one."""

import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recsys import RecsysError
from recsys.evaluation.limits import measure_limits
from recsys.evaluation.metrics import Interval, Scores, beyond_accuracy, bootstrap, bootstrap_coverage, score
from recsys.features import Features, State, places
from recsys.recommenders import LIST_KINDS, RankFunction, Recommender, TooLittleData, load, rank_by_truth
from recsys.releases import BusinessRules, read_file, write_lists
from recsys.settings import Settings
from recsys.sources import Simulation
from recsys.store import writing
from recsys.validation_report import Limits

LATER_WEEK = "later_week"
Name = TypeVar("Name")
MIN_USERS = 10  # for fewer users, the bootstrap interval of a difference is too narrow to rely on


@dataclass(frozen=True)
class ScoredWindow:
    """Scores and lists of one kind at one cutoff. users: ids of the users with events before the cutoff and a target event after
    it. scores: one value per user and metric. lists: rows of items, as many as the largest k. limits: of the first selection
    window, if the recommender has candidates."""

    cutoff: date
    users: NDArray[np.str_]
    scores: Scores
    lists: NDArray[np.int32]
    available: int  # number of items that could have been listed
    limits: Limits | None = None


class Scored(Protocol):
    """Scores of some users: ids, and one value per user and metric."""

    @property
    def users(self) -> NDArray[np.str_]: ...

    @property
    def scores(self) -> Scores: ...


ScoredWindows = dict[
    str, list[ScoredWindow]
]  # by kind of list, newest first; a kind that is not served may have windows without users
Robustness = dict[str, dict[str, ScoredWindow]]  # the holdout by name of the perturbed data and kind of list


def evaluate(recommender: Recommender, features: Features, settings: Settings, cutoffs: Sequence[date]) -> ScoredWindows:
    """Scores a recommender at each cutoff, newest first, and returns the windows by kind of list.

    The recommender is fitted again at each cutoff, and lists are made by the saved and loaded model, as in production. Stops when
    `evaluation.selection_windows` windows before the holdout have `evaluation.selection_users` users together, or at the first
    older cutoff that has no users to score or too little data to learn from. Events after the horizon of the first cutoff are not
    read. Raises RecsysError if the first cutoff has no users to score, and TooLittleData if it has too little to learn from.
    """
    require_outcomes(features, settings, cutoffs[0])
    if recommender.only_seen and LIST_KINDS[settings.list_kind]:
        raise TooLittleData(
            f"{recommender.name}: it ranks only items that a user has had, and exclude_seen = true leaves these out"
        )
    windows = [_evaluate_at(cutoffs[0], recommender, features, settings)]
    with suppress(TooLittleData):
        for cutoff in cutoffs[1:]:
            selection = [scored for window in windows if (scored := window[settings.list_kind]).cutoff < features.evaluated[0]]
            if _are_enough(selection, settings) or not len(judged_users(features, settings, cutoff)):
                break
            windows.append(_evaluate_at(cutoff, recommender, features, settings))
    return {list_kind: [window[list_kind] for window in windows] for list_kind in LIST_KINDS}


def _are_enough(selection: Sequence[ScoredWindow], settings: Settings) -> bool:
    users = {user for window in selection for user in window.users.tolist()}
    return len(selection) >= settings.evaluation.selection_windows and len(users) >= settings.evaluation.selection_users


def _evaluate_at(cutoff: date, recommender: Recommender, features: Features, settings: Settings) -> dict[str, ScoredWindow]:
    state, labels = features.state(cutoff), features.labels(cutoff)
    with tempfile.TemporaryDirectory() as folder, writing(Path(folder)):
        recommender.fit(state, features.windows(cutoff)).save(Path(folder))
        rank = _released(Path(folder) / "lists.sqlite", load(Path(folder)), state, np.unique(labels[0]), settings)
        windows = judge(rank, state, labels, settings)
    found = measure_limits(recommender, state, labels, settings) if cutoff in features.evaluated[1:2] else {}
    return {list_kind: replace(window, limits=found.get(list_kind)) for list_kind, window in windows.items()}


def _released(file: Path, recommender: Recommender, state: State, rows: NDArray[np.int32], settings: Settings) -> RankFunction:
    """Ranks by lists that are written to a file and read again with the code of releases, without business rules."""
    depth = max(settings.evaluation.ks)
    write_lists(file, recommender, BusinessRules.unruled(state, settings, depth), state.user_ids[rows])

    def rank(rows: NDArray, exclude_seen: bool) -> NDArray[np.int32]:
        (list_kind,) = (name for name, is_new_items in LIST_KINDS.items() if is_new_items == exclude_seen)
        users, lists = read_file(file, list_kind, depth)
        listed = places(users, state.user_ids[rows])
        items = lists.items[listed]
        return np.where((listed[:, None] >= 0) & (items < state.shape[1]), items, -1)

    return rank


def judged_users(features: Features, settings: Settings, cutoff: date) -> NDArray[np.int32]:
    """Rows of the users that lists of a cutoff can be scored on: with events before it and a relevant target event after it."""
    if LIST_KINDS[settings.list_kind]:
        return relevant(*features.labels(cutoff), features.state(cutoff), True)[0]
    return np.unique(features.labels(cutoff)[0])


def require_outcomes(features: Features, settings: Settings, cutoff: date) -> None:
    """Raises RecsysError if there are no users to score lists on at a cutoff, with the likely cause and what to change."""
    if len(judged_users(features, settings, cutoff)):
        return
    horizon, windows, counts = settings.dataset.horizon_days, settings.evaluation.selection_windows, features.counts()
    days = (features.as_of - date.fromisoformat(counts["first_day"])).days
    before, after, returning = features.users_around(cutoff)
    target = f"{settings.dataset.a_target}{' with an item that is new to them' if LIST_KINDS[settings.list_kind] else ''}"
    message = (
        f"lists cannot be judged: none of the {before:,} users with events before {cutoff} has {target} in the {horizon} days after"
        f" it (horizon_days), in which {after:,} users have one. The data have {days} days, {counts['first_day']} to"
        f" {counts['last_day']}; horizon_days = {horizon} needs more than {horizon}, {horizon * (windows + 1)} to choose a"
        f" recommender (evaluation.selection_windows = {windows}), and {horizon * (windows + 2)} to train one"
        " (features.training_windows)."
    )
    if before and after:
        message += " If these are the same people or items as before, their ids have changed: compare the ids with earlier data."
    shorter = max(1, days // (windows + 3))
    if not returning:
        raise RecsysError(
            f"{message} No user has {settings.dataset.a_target} after the day of their first event; bring data where users return"
        )
    if shorter < horizon:
        raise RecsysError(f"{message} Set horizon_days and step_days to {shorter} in the dataset's section of config.toml")
    raise RecsysError(f"{message} Bring more events, or set exclude_seen = false if users come back for the same items")


def robustness(recommender: Recommender, features: Features, worlds: Mapping[str, Features], settings: Settings) -> Robustness:
    """Scores a recommender on the holdout's last week alone, and on the holdout with perturbed features (`worlds`, by name)."""
    cutoff = features.evaluated[0]
    state = features.state(cutoff)
    recommender.fit(state, features.windows(cutoff))
    found = {LATER_WEEK: judge(rank_by(recommender, state, state, settings), state, features.labels(cutoff, last_days=7), settings)}
    for name, world in worlds.items():
        perturbed = world.state(cutoff)
        found[name] = judge(rank_by(recommender, perturbed, state, settings), state, features.labels(cutoff), settings)
    return found


def rank_by(recommender: Recommender, known: State, state: State, settings: Settings) -> RankFunction:
    """Ranks users of `state` by the data in `known`, a state that may have fewer users and items. Rows and items of the result are
    those of `state`."""
    columns = np.append(places(state.item_ids, known.item_ids), -1).astype(np.int32)

    def rank(rows: NDArray, exclude_seen: bool) -> NDArray[np.int32]:
        return columns[recommender.recommend(state.user_ids[rows], max(settings.evaluation.ks), known, exclude_seen).items]

    return rank


def oracle(source: Simulation, features: Features, settings: Settings) -> dict[str, ScoredWindow]:
    """Scores the oracle, which knows the truth of a simulated source, on the holdout; by kind of list."""
    state = features.state(features.evaluated[0])
    rank = rank_by_truth(source, state, state.items["is_available"], settings)
    return judge(rank, state, features.labels(state.cutoff), settings)


def judge(rank: RankFunction, state: State, labels: tuple[NDArray, NDArray], settings: Settings) -> dict[str, ScoredWindow]:
    """Scores the lists that `rank` makes at a state's cutoff, by kind of list.

    rank: returns lists for rows of users, with or without seen items. labels: rows of users and items of the target events after
    the cutoff; without labels, the windows have no users.
    """
    windows, available = {}, int(state.items["is_available"].sum())
    for list_kind, exclude_seen in LIST_KINDS.items():
        rows, users, items = relevant(*labels, state, exclude_seen)
        lists, ks = rank(rows, exclude_seen), settings.evaluation.ks
        scores = score(lists, users, items, state.shape[1], ks) | beyond_accuracy(lists, users, items, target_share(state), ks)
        windows[list_kind] = ScoredWindow(state.cutoff, state.user_ids[rows], scores, lists, available)
    return windows


def relevant(
    users: NDArray[np.int32], items: NDArray[np.int32], state: State, exclude_seen: bool
) -> tuple[NDArray, NDArray, NDArray]:
    """The users with relevant labels, and the pairs (place among these users, item) of the labels. With `exclude_seen`, only items
    that are new to their user are relevant."""
    if exclude_seen:
        owned = state.owned()
        is_new = np.asarray(owned[users, items]).ravel() == 0 if len(users) else np.zeros(0, bool)
        users, items = users[is_new], items[is_new]
    rows, user_places = np.unique(users, return_inverse=True)
    return rows, user_places.astype(np.int32), items


def target_share(state: State) -> NDArray[np.float64]:
    """For each item, the share of users with target events who had one with it. An item without any counts as one user's, so that
    its self-information is finite."""
    return np.maximum(state.items["target_users"], 1) / max((state.users["target_events"] > 0).sum(), 1)


def holdout_table(windows: Mapping[str, ScoredWindow]) -> pa.Table:
    """The table of holdout.parquet: one row per kind of list and user, with the user's scores."""
    return pa.concat_tables(
        pa.table({"list_kind": pa.array([list_kind] * len(window.users), pa.string()), "user_id": window.users, **window.scores})
        for list_kind, window in windows.items()
    )


def per_user(windows: Sequence[Scored], metric: str) -> dict[str, float]:
    """The mean of a metric over the windows of each user. The bootstrap resamples users, so each user has one value."""
    users = np.concatenate([window.users for window in windows] or [np.zeros(0, str)])
    values = np.concatenate([window.scores[metric] for window in windows] or [np.zeros(0)])
    names, rows = np.unique(users, return_inverse=True)
    means = np.bincount(rows, values) / np.bincount(rows)
    return dict(zip(names.tolist(), means.tolist(), strict=True))


def compare(a: Sequence[Scored], b: Sequence[Scored], metric: str, settings: Settings, error: float = 0.05) -> Interval:
    """Mean paired difference a - b with its interval; both must have the same users. For fewer than MIN_USERS users the interval is
    infinite, so that nothing is decided. error: probability that the interval misses the true mean."""
    left, right = per_user(a, metric), per_user(b, metric)
    difference = np.array([left[user] - right[user] for user in left])
    if len(difference) < MIN_USERS:
        return Interval(float(difference.mean()) if len(difference) else 0.0, -np.inf, np.inf)
    return bootstrap({metric: difference}, settings.evaluation.bootstraps, settings.seed, error)[metric]


def summarise(window: ScoredWindow, ks: Sequence[int], settings: Settings) -> dict[str, Interval]:
    """All metrics of a window with their intervals, sorted by k."""
    options = (settings.evaluation.bootstraps, settings.seed)
    coverages = {f"coverage@{k}": bootstrap_coverage(window.lists[:, :k], window.available, *options) for k in ks}
    intervals = bootstrap(window.scores, *options) | coverages
    return {metric: interval for k in ks for metric, interval in intervals.items() if metric.endswith(f"@{k}")}


def select(evaluations: Mapping[str, ScoredWindows], settings: Settings) -> str:
    """Selects the simplest recommender, by the order of config.toml, that no other one beats beyond noise on the selection windows.
    Without selection windows, the first recommender is selected."""
    windows = _selection_windows({name: evaluations[name] for name in settings.recommenders if name in evaluations}, settings)
    return unbeaten(windows, settings.evaluation.metric, settings)[0]


def steadiest(refits: Mapping[str, tuple[ScoredWindows, Robustness]], settings: Settings) -> str:
    """Selects among fits of one recommender with several seeds: of those that no other one beats beyond noise, the one with the
    highest score on its worst perturbed holdout (D'Amour et al. 2022, jmlr.org/papers/v23/20-1335.html)."""
    metric, served = settings.evaluation.metric, settings.list_kind
    best = unbeaten(_selection_windows({name: scored for name, (scored, _) in refits.items()}, settings), metric, settings)
    scores = {
        name: [window[served].scores[metric].mean() for window in refits[name][1].values() if len(window[served].users)]
        for name in best
    }
    return max(best, key=lambda name: min(scores[name], default=0.0))


def _selection_windows(evaluations: Mapping[str, ScoredWindows], settings: Settings) -> dict[str, list[ScoredWindow]]:
    """The selection windows that all have, of the kind of list that is served."""
    shared = min(len(scored[settings.list_kind]) for scored in evaluations.values())
    return {name: scored[settings.list_kind][1:shared] for name, scored in evaluations.items()}


def unbeaten(windows: Mapping[Name, Sequence[Scored]], metric: str, settings: Settings) -> list[Name]:
    """Names of those that no other one beats beyond noise. The one with the highest mean is always among them. windows: of each
    one, all with the same users."""
    return [
        name
        for name, mine in windows.items()
        if not any(compare(other, mine, metric, settings).low > 0 for rival, other in windows.items() if rival != name)
    ]
