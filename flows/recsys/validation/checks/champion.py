"""Challenger against champion, on days that neither has seen. Where the holdout is the same, what the champion's release kept of
each user is compared; otherwise the challenger's recipe is fitted on the day the champion was, and both lists meet what came.
At a first release the best simple recommender is the champion."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import date, timedelta

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from recsys.evaluation import Ranker, Window, compare, judge, rank_by
from recsys.features import State, places
from recsys.recommenders import PROTOCOLS, SIMPLE, TooLittleData, create
from recsys.releases import about, as_of, read_all, trained_as_of
from recsys.settings import Count, section
from recsys.store import Snapshot
from recsys.validation.check_input import Subject
from recsys.validation_report import Severity, Verdict


@section
class Limits:
    min_users: Count


SETTINGS: dict[str, str | tuple[str, str]] = {}


def check(subject: Subject, limits: Limits) -> Iterator[Verdict]:
    champion = subject.rival or subject.champion
    if champion is None:
        yield from _first(subject, limits)
        return
    live, same = as_of(champion), trained_as_of(champion) == subject.features.as_of
    if live > subject.features.as_of or (live == subject.features.as_of and not same):
        words = f"the live release has seen days up to {live}, its holdout is another one; nothing compares them fairly"
        yield Verdict("champion", live.isoformat(), subject.features.as_of.isoformat(), "warn", False, words)
        return
    horizon, kept = about(champion)["horizon_days"], pq.read_schema(champion.path / "holdout.parquet").names
    if same and (horizon != subject.settings.dataset.horizon_days or subject.metric not in kept):
        words = f"the live release was judged by another metric or horizon ({horizon} days); nothing compares them fairly"
        yield Verdict("champion", horizon, subject.settings.dataset.horizon_days, "warn", False, words)
        return
    try:
        pairs = _kept(subject, champion) if same else _since(subject, champion, live)
    except TooLittleData as reason:
        words = (
            f"as of {live}, the day of the live release, {subject.winner} could not be trained ({reason}); nothing compares them"
        )
        yield Verdict("champion", "none", "none", "warn", False, words)
        return
    for protocol, (challenger, theirs) in pairs.items():
        where = "the holdout" if same else f"the days since {live}"
        yield _verdict(subject, limits, protocol, challenger, theirs, where, "the live release")


def _first(subject: Subject, limits: Limits) -> Iterator[Verdict]:
    """Where nothing is live yet, the best simple recommender is the champion."""
    for protocol in PROTOCOLS:
        simple = {name: subject.holdout(name, protocol) for name in SIMPLE if name in subject.evaluations}
        best = max(simple, key=lambda name: simple[name].scores[subject.metric].mean() if len(simple[name].users) else 0.0)
        rival = f"{best} (nothing is live yet, so the best simple recommender stands in for it)"
        yield _verdict(subject, limits, protocol, subject.holdout(subject.winner, protocol), simple[best], "the holdout", rival)


def _verdict(subject: Subject, limits: Limits, protocol: str, ours: Window, theirs: Window, where: str, rival: str) -> Verdict:
    severity: Severity = "block" if protocol == subject.repeat else "warn"
    name, users = f"{protocol}_not_worse_than_champion", len(ours.users)
    if users < limits.min_users:
        who = f"{users} users with {subject.settings.dataset.a_target}"
        words = f"too early: {who} in {where}, {limits.min_users} are needed to compare with {rival}"
        return Verdict(name, users, limits.min_users, "warn", False, words, setting="min_users")
    gain = compare([ours], [theirs], subject.metric, subject.settings)
    said = "worse beyond noise" if gain.high < 0 else "better beyond noise" if gain.low > 0 else "within noise"
    words = f"against {rival}, {protocol} protocol, {users:,} users in {where}: {subject.metric} differs by {gain}: {said}"
    return Verdict(name, gain.mean, 0.0, severity, gain.high >= 0, words)


def _kept(subject: Subject, champion: Snapshot) -> dict[str, tuple[Window, Window]]:
    """Both on the holdout, over the users of both: the champion's metrics are those that its release kept."""
    table = pq.read_table(champion.path / "holdout.parquet")
    protocols, users = table["protocol"].to_numpy(zero_copy_only=False), table["user_id"].to_numpy(zero_copy_only=False).astype(str)
    values = table[subject.metric].to_numpy()
    found = {}
    for protocol in PROTOCOLS:
        window, rows = subject.holdout(subject.winner, protocol), protocols == protocol
        both, mine, kept = np.intersect1d(window.users, users[rows], return_indices=True)
        ours = replace(window, users=both, scores={subject.metric: window.scores[subject.metric][mine]})
        found[protocol] = ours, replace(ours, scores={subject.metric: values[rows][kept]})
    return found


def _since(subject: Subject, champion: Snapshot, live: date) -> dict[str, tuple[Window, Window]]:
    """Lists of the challenger's recipe as of the champion's day, and the champion's own, against the target events since."""
    assert subject.past is not None
    state, settings = subject.past.state(live), subject.settings
    end = min(subject.features.as_of, live + timedelta(days=settings.dataset.horizon_days))
    users, items = subject.features.bought(live, end)
    rows, columns = state.rows(users), places(state.item_ids, items)
    known = (rows >= 0) & (columns >= 0)
    labels = rows[known], columns[known]
    recipe = create(subject.model.name, subject.model.parameters()).fit(state, subject.past.windows(live))
    rankers = rank_by(recipe, state, state, settings), released(champion, state)
    ours, theirs = (judge(rank, state, labels, settings) for rank in rankers)
    return {protocol: (ours[protocol], theirs[protocol]) for protocol in PROTOCOLS}


def released(champion: Snapshot, state: State) -> Ranker:
    """The champion's own lists, in the items of a state."""
    item_ids = pq.read_table(champion.path / "items.parquet", columns=["item_id"])["item_id"].to_numpy(zero_copy_only=False)
    columns = np.append(places(state.item_ids, item_ids.astype(str)), -1).astype(np.int32)
    released = {novel: read_all(champion, protocol) for protocol, novel in PROTOCOLS.items()}

    def rank(rows: NDArray, novel: bool) -> NDArray[np.int32]:
        users, lists = released[novel]
        listed = places(users, state.user_ids[rows])
        return np.where(listed[:, None] >= 0, columns[lists.items[listed]], -1).astype(np.int32)

    return rank
