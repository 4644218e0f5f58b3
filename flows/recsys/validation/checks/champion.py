"""Compares the new model (challenger) with the live release (champion) on days that neither has seen.

If both have the same holdout, the scores of each user are compared. Otherwise the challenger's recommender is fitted as of the
champion's day, and both lists are scored on the events since then. A first release is compared with the best simple recommender.
"""

from collections.abc import Iterator
from dataclasses import replace
from datetime import date, timedelta

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from recsys.evaluation import ScoredWindow, compare, judge, rank_by
from recsys.features import State, places
from recsys.recommenders import LIST_KINDS, RankFunction, TooLittleData, create
from recsys.releases import about, as_of, read_lists_for, trained_as_of
from recsys.settings import Count, section
from recsys.store import Snapshot
from recsys.validation.check_input import CheckInput
from recsys.validation_report import CheckResult, Severity

BLOCK_ERROR = 0.01  # a block needs a 99% interval below 0, or chance would refuse one of forty equally good models


@section
class ChampionLimits:
    min_users: Count


SETTINGS: dict[str, str | tuple[str, str]] = {}


def check(inputs: CheckInput, limits: ChampionLimits) -> Iterator[CheckResult]:
    champion = inputs.rival or inputs.live
    if champion is None:
        yield from _first(inputs, limits)
        return
    live, same = as_of(champion), trained_as_of(champion) == inputs.features.as_of
    if live > inputs.features.as_of or (live == inputs.features.as_of and not same):
        message = f"the live release has seen days up to {live} and was scored on another holdout, so the two cannot be compared"
        yield CheckResult("champion", live.isoformat(), inputs.features.as_of.isoformat(), "warn", False, message)
        return
    horizon, columns = about(champion)["horizon_days"], pq.read_schema(champion.path / "holdout.parquet").names
    if same and (horizon != inputs.settings.dataset.horizon_days or inputs.metric not in columns):
        message = f"the live release was scored with another metric or horizon ({horizon} days), so the two cannot be compared"
        yield CheckResult("champion", horizon, inputs.settings.dataset.horizon_days, "warn", False, message)
        return
    try:
        pairs = _on_holdout(inputs, champion) if same else _since(inputs, champion, live)
    except TooLittleData as reason:
        message = f"cannot compare with the live release: as of its day, {live}, {inputs.winner} cannot be trained ({reason})"
        yield CheckResult("champion", "none", "none", "warn", False, message)
        return
    for list_kind, (challenger, theirs) in pairs.items():
        where = "in the holdout" if same else f"since {live}"
        yield _result(inputs, limits, list_kind, challenger, theirs, where, "the live release")


def _first(inputs: CheckInput, limits: ChampionLimits) -> Iterator[CheckResult]:
    """At a first release, compares with the best simple recommender."""
    for list_kind in LIST_KINDS:
        best = inputs.best_simple(list_kind)
        rival = f"{best} (the best simple recommender, because nothing is live yet)"
        ours, theirs = (inputs.holdout(name, list_kind) for name in (inputs.winner, best))
        yield _result(inputs, limits, list_kind, ours, theirs, "in the holdout", rival)


def _result(
    inputs: CheckInput, limits: ChampionLimits, list_kind: str, ours: ScoredWindow, theirs: ScoredWindow, where: str, rival: str
) -> CheckResult:
    name, users = f"{list_kind}_not_worse_than_champion", len(ours.users)
    if users < limits.min_users:
        message = (
            f"{users} users of {rival} have {inputs.settings.dataset.a_target} {where}, and a comparison needs"
            f" {limits.min_users}; wait for more days, or check the ids if users or items may have been renamed"
        )
        return CheckResult(name, users, limits.min_users, "warn", False, message, setting="min_users")
    gain = compare([ours], [theirs], inputs.metric, inputs.settings)
    is_served = list_kind == inputs.served_kind
    surely = compare([ours], [theirs], inputs.metric, inputs.settings, BLOCK_ERROR).high < 0
    severity: Severity = "block" if surely and is_served else "warn"
    outcome = "worse beyond noise" if gain.high < 0 else "better beyond noise" if gain.low > 0 else "within noise"
    message = f"{inputs.winner} minus {rival}, {list_kind}, {users:,} users {where}: {inputs.metric} {gain}: {outcome}"
    message += f"; a block needs a {1 - BLOCK_ERROR:.0%} interval below 0" if gain.high < 0 and is_served and not surely else ""
    return CheckResult(name, gain.mean, 0.0, severity, gain.high >= 0, message, interval=gain[1:])


def _on_holdout(inputs: CheckInput, champion: Snapshot) -> dict[str, tuple[ScoredWindow, ScoredWindow]]:
    """Scores of challenger and champion on the holdout, for the users of both; the champion's are read from its release."""
    table = pq.read_table(champion.path / "holdout.parquet").to_pandas()
    windows = {}
    for list_kind in LIST_KINDS:
        window, theirs = inputs.holdout(inputs.winner, list_kind), table[table["list_kind"] == list_kind]
        users, rows, their_rows = np.intersect1d(window.users, theirs["user_id"].to_numpy().astype(str), return_indices=True)
        ours = replace(window, users=users, scores={inputs.metric: window.scores[inputs.metric][rows]})
        windows[list_kind] = ours, replace(ours, scores={inputs.metric: theirs[inputs.metric].to_numpy()[their_rows]})
    return windows


def _since(inputs: CheckInput, champion: Snapshot, live: date) -> dict[str, tuple[ScoredWindow, ScoredWindow]]:
    """Scores of both on the target events since the champion's day: the challenger is fitted again as of that day, and the
    champion's lists are those of its release."""
    assert inputs.past is not None
    state, settings = inputs.past.state(live), inputs.settings
    end = min(inputs.features.as_of, live + timedelta(days=settings.dataset.horizon_days))
    users, items = inputs.features.bought(live, end)
    rows, columns = state.rows(users), places(state.item_ids, items)
    known = (rows >= 0) & (columns >= 0)
    labels = rows[known], columns[known]
    challenger = create(inputs.model.name, inputs.model.parameters()).fit(state, inputs.past.windows(live))
    ours, theirs = (
        judge(rank, state, labels, settings) for rank in (rank_by(challenger, state, state, settings), released(champion, state))
    )
    return {list_kind: (ours[list_kind], theirs[list_kind]) for list_kind in LIST_KINDS}


def released(champion: Snapshot, state: State) -> RankFunction:
    """Ranks by the lists of the champion's release; items are rows of `state`."""
    lists = {exclude_seen: read_lists_for(state, champion, list_kind) for list_kind, exclude_seen in LIST_KINDS.items()}

    def rank(rows: NDArray, exclude_seen: bool) -> NDArray[np.int32]:
        users, items = lists[exclude_seen]
        listed = places(users, state.user_ids[rows])
        return np.where(listed[:, None] >= 0, items[listed], -1).astype(np.int32)

    return rank
