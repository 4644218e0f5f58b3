"""Monitoring: scores recently served lists against later target events. It publishes nothing."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from datetime import date, timedelta

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recsys import RecsysError, releases, validation
from recsys.evaluation import Interval, ScoredWindow, bootstrap, compare, judge, per_user, rank_by
from recsys.features import Features, State, places
from recsys.recommenders import create
from recsys.settings import MonitorSettings, Settings
from recsys.store import Snapshot, Store
from recsys.validation import SettingNames, event_age, feature_drift, released, setting_of
from recsys.validation_report import CheckResult, grade

SETTINGS: SettingNames = {  # threshold of each check; other checks have a fixed one
    "enough_users": "monitor.min_users",
    "*_kept": "monitor.min_kept",
    "release_age": "monitor.max_release_age_days",
    "feature_drift": "checks.drift.warn_psi",
    "users_without_list": "monitor.max_without_list",
    "event_age": "dataset.max_age_days",
}


@dataclass(frozen=True)
class LivePeriod:
    """The days on which a release was live: from `start` to the day before `end`."""

    release: str
    start: date
    end: date


@dataclass(frozen=True)
class MonitoredDay:
    """Scores of the lists that were live on a day. users: number of sampled users with a target event. listed: those of them with a
    list. metrics: their mean hit_rate@k and ndcg@k; empty if there are none."""

    day: str
    release: str
    users: int
    listed: int
    metrics: dict[str, float]


@dataclass(frozen=True)
class MonitoringReport:
    """realised: hit_rate@k and ndcg@k over all days. promised: the same on the live release's holdout."""

    as_of: str
    live: str
    days: list[MonitoredDay]
    realised: dict[str, Interval]
    promised: dict[str, float]
    results: list[CheckResult]

    @property
    def failed(self) -> list[CheckResult]:
        return [result for result in self.results if not result.passed]

    def to_json(self) -> bytes:
        return json.dumps(asdict(self), indent=1, ensure_ascii=False).encode()

    @property
    def name(self) -> str:
        """Name of its file in the store."""
        return f"monitor/{self.as_of}.json"


def report(store: Store, features: Features, today: date, limits: MonitorSettings, settings: Settings) -> MonitoringReport:
    """Scores recently live releases, checks the live one, and stores the report. Raises RecsysError if nothing is live.

    features: a feature snapshot of today's data. Releases are read one at a time, so the local disk holds copies of one release and
    its features at most.
    """
    live = store.current()
    if live is None:
        raise RecsysError(f"nothing is live in {store.backend}, so there is nothing to monitor; `make run` first")
    windows, days = [], []
    for period in live_periods(store, features.as_of, limits.days, settings):
        for day, ours, popular in _score_days(store, period, features, settings):
            days.append(day)
            windows += [(ours, popular)] if len(ours.users) else []
    realised = _realised(windows, settings)
    with store.borrow("release", live) as release:
        promised = _promised(release, settings)
        results = [
            *_check_scores(windows, realised, promised, limits, settings),
            *_check_data(store, release, features, limits, settings),
            event_age("event_age", features, today, settings),
        ]
    results = [replace(result, setting=setting_of(result, "monitor", SETTINGS, settings)) for result in results]
    written = MonitoringReport(features.as_of.isoformat(), live, days, realised, promised, results)
    store.update(written.name, lambda _: written.to_json())
    return written


def live_periods(store: Store, as_of: date, days: int, settings: Settings) -> list[LivePeriod]:
    """Returns when each release was live within the `days` days before `as_of`, by the history of `CURRENT`.

    A period starts on the day of publishing (`at` of the move), or on the release's `as_of` if that is later, since the release has
    seen the days before. In a closed history (`max_age_days = 0`), and for a move without a time, it starts on `as_of`. Periods of
    deleted or damaged releases are left out.
    """
    is_closed = not settings.dataset.max_age_days
    starts: list[tuple[str, date, bool]] = []  # release, first day, whether it can be read
    for move in store.history():
        release, data_day = move["release"], _as_of(store, move["release"])
        candidates = [
            *([] if is_closed or "at" not in move else [date.fromisoformat(move["at"][:10])]),
            *([data_day] if data_day else []),
            *(day for _, day, _ in starts[-1:]),
        ]
        starts.append((release, max(candidates, default=date.min), data_day is not None))
    ends, first = [*(day for _, day, _ in starts[1:]), as_of], as_of - timedelta(days=days)
    periods = [
        LivePeriod(release, max(start, first), min(end, as_of))
        for (release, start, is_readable), end in zip(starts, ends, strict=False)
        if is_readable
    ]
    return [period for period in periods if period.start < period.end]


def _as_of(store: Store, release: str) -> date | None:
    """A release's `as_of`; None if the release is deleted or damaged."""
    try:
        facts = store.read("release", release, "release.json")
    except RecsysError:
        return None
    return date.fromisoformat(json.loads(facts)["as_of"]) if facts else None


def _score_days(
    store: Store, period: LivePeriod, features: Features, settings: Settings
) -> Iterator[tuple[MonitoredDay, ScoredWindow, ScoredWindow]]:
    """For each day, the scores of the release's lists, and of recent popularity as of the release's day."""
    with store.borrow("release", period.release) as release:
        state = _state_of(store, release, settings)
        lists = released(release, state)
    popularity = create("popularity", settings.recommenders["popularity"]).fit(state)
    rankers = lists, rank_by(popularity, state, state, settings)
    for offset in range((period.end - period.start).days):
        day = period.start + timedelta(days=offset)
        users, items = features.bought(day, day + timedelta(days=1))
        rows, columns = state.rows(users), places(state.item_ids, items)
        known = (rows >= 0) & (columns >= 0)
        ours, popular = (judge(rank, state, (rows[known], columns[known]), settings)[settings.list_kind] for rank in rankers)
        means = {name: float(ours.scores[name].mean()) for name in _names(settings)} if len(ours.users) else {}
        yield MonitoredDay(day.isoformat(), period.release, len(set(users.tolist())), len(ours.users), means), ours, popular


def _names(settings: Settings) -> list[str]:
    return [f"{metric}@{settings.evaluation.k}" for metric in ("hit_rate", "ndcg")]


def _realised(windows: list[tuple[ScoredWindow, ScoredWindow]], settings: Settings) -> dict[str, Interval]:
    """Mean metrics over all days, in which each user counts once; empty without target events."""
    if not windows:
        return {}
    scores = {name: np.array([*per_user([ours for ours, _ in windows], name).values()]) for name in _names(settings)}
    return bootstrap(scores, settings.evaluation.bootstraps, settings.seed)


def _promised(release: Snapshot, settings: Settings) -> dict[str, float]:
    table = pq.read_table(release.path / "holdout.parquet")
    table = table.filter(pc.equal(table["list_kind"], settings.list_kind))
    return {name: pc.mean(table[name]).as_py() for name in _names(settings) if name in table.column_names}


def _check_scores(
    windows: list[tuple[ScoredWindow, ScoredWindow]],
    realised: dict[str, Interval],
    promised: dict[str, float],
    limits: MonitorSettings,
    settings: Settings,
) -> Iterator[CheckResult]:
    """Compares the served lists with the metrics of the holdout, and with recent popularity."""
    users = len({user for ours, _ in windows for user in ours.users.tolist()})
    if users < limits.min_users:
        who = f"{users} users with a list and {settings.dataset.a_target} since"
        message = f"too early: {who}, {limits.min_users} are needed (monitor.min_users)"
        yield CheckResult("enough_users", users, limits.min_users, "warn", True, message)
        return
    for name, promise in promised.items():
        seen, minimum = realised[name], limits.min_kept * promise
        message = (
            f"{name} is {seen} by the day over {users:,} users; it was {promise:.3f} over the horizon of the holdout, and at least"
            f" {minimum:.3f} is expected of a day"
        )
        yield CheckResult(f"{name}_kept", seen.mean, minimum, "warn", seen.high >= minimum, message)
    metric = settings.evaluation.metric
    gain = compare([ours for ours, _ in windows], [popular for _, popular in windows], metric, settings)
    message = f"{metric} is {gain} above that of recent popularity, over the same {settings.dataset.target} events"
    yield CheckResult("better_than_popularity", gain.mean, 0.0, "warn", gain.high >= 0, message)


def _check_data(
    store: Store, release: Snapshot, features: Features, limits: MonitorSettings, settings: Settings
) -> Iterator[CheckResult]:
    """Compares the data of the live release with today's: their age, features and users."""
    data_day = releases.as_of(release)
    age, limit = (features.as_of - data_day).days, limits.max_release_age_days
    message = (
        f"the live lists are of {data_day}, {age} days before {features.as_of}; {limit} are normal with `make recommend` every day"
    )
    yield CheckResult("release_age", age, limit, "warn", age <= limit, message)
    now, then = features.state(features.as_of), _state_of(store, release, settings)
    yield feature_drift(then, now, validation.limits("drift", settings))
    missing = float((places(then.user_ids, now.user_ids) < 0).mean())
    message = f"{missing:.1%} of {len(now.user_ids):,} users came since the live release and have no list of their own"
    yield grade("users_without_list", missing, limits.max_without_list, float("inf"), message)


def _state_of(store: Store, release: Snapshot, settings: Settings) -> State:
    """The state that a release was made from."""
    with store.borrow("features", release.manifest.parents["features"]) as snapshot:
        return Features(snapshot, settings).state(releases.as_of(release))
