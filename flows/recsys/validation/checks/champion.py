"""Challenger against champion, on days that neither has seen. Where the holdout is the same, what the champion's release kept of
each user is compared; otherwise the challenger's recipe is fitted on the day the champion was, and both lists meet what came.
At a first release the best simple recommender is the champion."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import date, timedelta

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from recsys.evaluation import ScoredWindow, compare, judge, rank_by
from recsys.features import State, places
from recsys.recommenders import LIST_KINDS, RankFunction, TooLittleData, create
from recsys.releases import about, as_of, read_all, trained_as_of
from recsys.settings import Count, section
from recsys.store import Snapshot
from recsys.validation.check_input import CheckInput
from recsys.validation_report import CheckResult, Severity


@section
class ChampionLimits:
    min_users: Count


SETTINGS: dict[str, str | tuple[str, str]] = {}


def check(inputs: CheckInput, limits: ChampionLimits) -> Iterator[CheckResult]:
    champion = inputs.rival or inputs.champion
    if champion is None:
        yield from _first(inputs, limits)
        return
    live, same = as_of(champion), trained_as_of(champion) == inputs.features.as_of
    if live > inputs.features.as_of or (live == inputs.features.as_of and not same):
        words = f"the live release has seen days up to {live}, its holdout is another one; nothing compares them fairly"
        yield CheckResult("champion", live.isoformat(), inputs.features.as_of.isoformat(), "warn", False, words)
        return
    horizon, kept = about(champion)["horizon_days"], pq.read_schema(champion.path / "holdout.parquet").names
    if same and (horizon != inputs.settings.dataset.horizon_days or inputs.metric not in kept):
        words = f"the live release was judged by another metric or horizon ({horizon} days); nothing compares them fairly"
        yield CheckResult("champion", horizon, inputs.settings.dataset.horizon_days, "warn", False, words)
        return
    try:
        pairs = _kept(inputs, champion) if same else _since(inputs, champion, live)
    except TooLittleData as reason:
        words = f"as of {live}, the day of the live release, {inputs.winner} could not be trained ({reason}); nothing compares them"
        yield CheckResult("champion", "none", "none", "warn", False, words)
        return
    for list_kind, (challenger, theirs) in pairs.items():
        where = "the holdout" if same else f"the days since {live}"
        yield _result(inputs, limits, list_kind, challenger, theirs, where, "the live release")


def _first(inputs: CheckInput, limits: ChampionLimits) -> Iterator[CheckResult]:
    """Where nothing is live yet, the best simple recommender is the champion."""
    for list_kind in LIST_KINDS:
        best = inputs.best_simple(list_kind)
        rival = f"{best} (nothing is live yet, so the best simple recommender stands in for it)"
        ours, theirs = (inputs.holdout(name, list_kind) for name in (inputs.winner, best))
        yield _result(inputs, limits, list_kind, ours, theirs, "the holdout", rival)


def _result(
    inputs: CheckInput, limits: ChampionLimits, list_kind: str, ours: ScoredWindow, theirs: ScoredWindow, where: str, rival: str
) -> CheckResult:
    severity: Severity = "block" if list_kind == inputs.repeat else "warn"
    name, users = f"{list_kind}_not_worse_than_champion", len(ours.users)
    if users < limits.min_users:
        who = f"{users} users with {inputs.settings.dataset.a_target}"
        words = f"too early: {who} in {where}, {limits.min_users} are needed to compare with {rival}"
        return CheckResult(name, users, limits.min_users, "warn", False, words, setting="min_users")
    gain = compare([ours], [theirs], inputs.metric, inputs.settings)
    said = "worse beyond noise" if gain.high < 0 else "better beyond noise" if gain.low > 0 else "within noise"
    words = f"against {rival}, {list_kind}, {users:,} users in {where}: {inputs.metric} differs by {gain}: {said}"
    return CheckResult(name, gain.mean, 0.0, severity, gain.high >= 0, words, interval=gain[1:])


def _kept(inputs: CheckInput, champion: Snapshot) -> dict[str, tuple[ScoredWindow, ScoredWindow]]:
    """Both on the holdout, over the users of both: the champion's metrics are those that its release kept."""
    table = pq.read_table(champion.path / "holdout.parquet")
    list_kinds, users = (
        table["list_kind"].to_numpy(zero_copy_only=False),
        table["user_id"].to_numpy(zero_copy_only=False).astype(str),
    )
    values = table[inputs.metric].to_numpy()
    found = {}
    for list_kind in LIST_KINDS:
        window, rows = inputs.holdout(inputs.winner, list_kind), list_kinds == list_kind
        both, mine, kept = np.intersect1d(window.users, users[rows], return_indices=True)
        ours = replace(window, users=both, scores={inputs.metric: window.scores[inputs.metric][mine]})
        found[list_kind] = ours, replace(ours, scores={inputs.metric: values[rows][kept]})
    return found


def _since(inputs: CheckInput, champion: Snapshot, live: date) -> dict[str, tuple[ScoredWindow, ScoredWindow]]:
    """Lists of the challenger's recipe as of the champion's day, and the champion's own, against the target events since."""
    assert inputs.past is not None
    state, settings = inputs.past.state(live), inputs.settings
    end = min(inputs.features.as_of, live + timedelta(days=settings.dataset.horizon_days))
    users, items = inputs.features.bought(live, end)
    rows, columns = state.rows(users), places(state.item_ids, items)
    known = (rows >= 0) & (columns >= 0)
    labels = rows[known], columns[known]
    recipe = create(inputs.model.name, inputs.model.parameters()).fit(state, inputs.past.windows(live))
    rankers = rank_by(recipe, state, state, settings), released(champion, state)
    ours, theirs = (judge(rank, state, labels, settings) for rank in rankers)
    return {list_kind: (ours[list_kind], theirs[list_kind]) for list_kind in LIST_KINDS}


def released(champion: Snapshot, state: State) -> RankFunction:
    """The champion's own lists, in the items of a state."""
    item_ids = pq.read_table(champion.path / "items.parquet", columns=["item_id"])["item_id"].to_numpy(zero_copy_only=False)
    columns = np.append(places(state.item_ids, item_ids.astype(str)), -1).astype(np.int32)
    released = {exclude_seen: read_all(champion, list_kind) for list_kind, exclude_seen in LIST_KINDS.items()}

    def rank(rows: NDArray, exclude_seen: bool) -> NDArray[np.int32]:
        users, lists = released[exclude_seen]
        listed = places(users, state.user_ids[rows])
        return np.where(listed[:, None] >= 0, columns[lists.items[listed]], -1).astype(np.int32)

    return rank
