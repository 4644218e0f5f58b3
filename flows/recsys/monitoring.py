"""Monitoring: how did what was live do against what then happened? Judges by target events that came after, and moves nothing."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from datetime import date, timedelta
from fnmatch import fnmatch

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recsys import RecsysError, releases, validation
from recsys.evaluation import Interval, ScoredWindow, bootstrap, compare, judge, per_user, rank_by
from recsys.features import Features, State, places
from recsys.recommenders import create
from recsys.settings import MonitorSettings, Settings
from recsys.store import Snapshot, Store
from recsys.validation import movements, released
from recsys.validation_report import CheckResult, grade

SHOWN = ("hit_rate", "ndcg")
SETTINGS = {  # of each check; that of a check that is not here has a fixed threshold
    "enough_users": "monitor.min_users",
    "*_kept": "monitor.min_kept",
    "release_age": "monitor.max_release_age_days",
    "feature_drift": "checks.drift.warn_psi",
    "users_without_list": "monitor.max_without_list",
    "event_age": "datasets.{dataset}.max_age_days",
}


@dataclass(frozen=True)
class LivePeriod:
    """Days on which a release was live, from `start` to the day before `end`."""

    release: str
    start: date
    end: date


@dataclass(frozen=True)
class MonitoredDay:
    """What sampled users with a target event on a day had been shown. metrics: hit_rate@k and ndcg@k of those who had a list;
    none if nobody did."""

    day: str
    release: str
    users: int
    listed: int
    metrics: dict[str, float]


@dataclass(frozen=True)
class MonitoringReport:
    """realised and promised: hit_rate@k and ndcg@k over all days, and on the live release's holdout."""

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
        """What it is kept under in the store."""
        return f"monitor/{self.as_of}.json"


def report(store: Store, features: Features, today: date, limits: MonitorSettings, settings: Settings) -> MonitoringReport:
    """Everything on what is live, and was; kept in the store. Raises if nothing is live. Reads one release at a time: of an object
    store, no more than one release and its features are on the local disk besides `features`."""
    live = store.current()
    if live is None:
        raise RecsysError(f"nothing is live in {store.backend}, so there is nothing to monitor; `make run` first")
    windows, days = [], []
    for stay in stays(store, features.as_of, limits.days, settings):
        for day, ours, popular in _judged(store, stay, features, settings):
            days.append(day)
            windows += [(ours, popular)] if len(ours.users) else []
    realised = _realised(windows, settings)
    with store.borrow("release", live) as release:
        promised = _promised(release, settings)
        results = [*_kept(windows, realised, promised, limits, settings), *_state(store, release, features, limits, settings)]
    results.append(_events(features, today, settings))
    results = [replace(result, setting=_setting(result.name, settings)) for result in results]
    made = MonitoringReport(features.as_of.isoformat(), live, days, realised, promised, results)
    store.update(made.name, lambda known: made.to_json())
    return made


def stays(store: Store, as_of: date, days: int, settings: Settings) -> list[LivePeriod]:
    """Releases that were live in the last days before `as_of`, by the history of `CURRENT`.

    A release is live from the day it was published (`at` of the move), or from its own `as_of` if that is later: it has seen the
    days before. In a closed history (`max_age_days = 0`) the clock says nothing about the days of the data, so only `as_of` counts
    there, as it does for a move without a time. The days of a release that is gone or damaged are left out.
    """
    is_closed = not settings.dataset.max_age_days
    moves: list[tuple[str, date, bool]] = []  # release, first day, whether it can be read
    for move in store.history():
        release, made_from = move["release"], _as_of(store, move["release"])
        known = [] if is_closed or "at" not in move else [date.fromisoformat(move["at"][:10])]
        known += [made_from] if made_from else []
        known += [day for _, day, _ in moves[-1:]]
        moves.append((release, max(known, default=date.min), made_from is not None))
    ends, first = [*(day for _, day, _ in moves[1:]), as_of], as_of - timedelta(days=days)
    found = [
        LivePeriod(release, max(start, first), min(end, as_of))
        for (release, start, is_kept), end in zip(moves, ends, strict=False)
        if is_kept
    ]
    return [stay for stay in found if stay.start < stay.end]


def _as_of(store: Store, release: str) -> date | None:
    """None if the release is gone or damaged."""
    try:
        facts = store.read("release", release, "release.json")
    except RecsysError:
        return None
    return date.fromisoformat(json.loads(facts)["as_of"]) if facts else None


def _judged(
    store: Store, stay: LivePeriod, features: Features, settings: Settings
) -> Iterator[tuple[MonitoredDay, ScoredWindow, ScoredWindow]]:
    """Per day, the target events against the release's lists, and against recent popularity as of the release's day."""
    with store.borrow("release", stay.release) as release:
        state = _then(store, release, settings)
        lists = released(release, state)
    popularity = create("popularity", settings.recommenders["popularity"]).fit(state)
    rankers = lists, rank_by(popularity, state, state, settings)
    for offset in range((stay.end - stay.start).days):
        day = stay.start + timedelta(days=offset)
        users, items = features.bought(day, day + timedelta(days=1))
        rows, columns = state.rows(users), places(state.item_ids, items)
        known = (rows >= 0) & (columns >= 0)
        ours, popular = (judge(rank, state, (rows[known], columns[known]), settings)[settings.list_kind] for rank in rankers)
        means = {name: float(ours.scores[name].mean()) for name in _names(settings)} if len(ours.users) else {}
        yield MonitoredDay(day.isoformat(), stay.release, len(set(users.tolist())), len(ours.users), means), ours, popular


def _names(settings: Settings) -> list[str]:
    return [f"{metric}@{settings.evaluation.k}" for metric in SHOWN]


def _realised(windows: list[tuple[ScoredWindow, ScoredWindow]], settings: Settings) -> dict[str, Interval]:
    """Over all days, each user's mean counting once; empty if there was no target event."""
    if not windows:
        return {}
    scores = {name: np.array([*per_user([ours for ours, _ in windows], name).values()]) for name in _names(settings)}
    return bootstrap(scores, settings.evaluation.bootstraps, settings.seed)


def _promised(release: Snapshot, settings: Settings) -> dict[str, float]:
    table = pq.read_table(release.path / "holdout.parquet")
    table = table.filter(pc.equal(table["list_kind"], settings.list_kind))
    return {name: pc.mean(table[name]).as_py() for name in _names(settings) if name in table.column_names}


def _kept(
    windows: list[tuple[ScoredWindow, ScoredWindow]],
    realised: dict[str, Interval],
    promised: dict[str, float],
    limits: MonitorSettings,
    settings: Settings,
) -> Iterator[CheckResult]:
    """Whether it holds what was promised, and is still worth its trouble."""
    users = len({user for ours, _ in windows for user in ours.users.tolist()})
    if users < limits.min_users:
        who = f"{users} users with a list and {settings.dataset.a_target} since"
        words = f"too early: {who}, {limits.min_users} are needed to tell (monitor.min_users)"
        yield CheckResult("enough_users", users, limits.min_users, "warn", True, words)
        return
    for name, promise in promised.items():
        seen, least = realised[name], limits.min_kept * promise
        words = f"{name} is {seen} by the day over {users:,} users; the holdout promised {promise:.3f} over its horizon"
        yield CheckResult(
            f"{name}_kept", seen.mean, least, "warn", seen.high >= least, f"{words}, at least {least:.3f} is expected of a day"
        )
    metric = f"ndcg@{settings.evaluation.k}"
    gain = compare([ours for ours, _ in windows], [popular for _, popular in windows], metric, settings)
    words = f"{metric} is {gain} above that of recent popularity, over the same {settings.dataset.target} events"
    yield CheckResult("better_than_popularity", gain.mean, 0.0, "warn", gain.high >= 0, words)


def _state(
    store: Store, release: Snapshot, features: Features, limits: MonitorSettings, settings: Settings
) -> Iterator[CheckResult]:
    """Whether what the live lists were made from is still what there is."""
    made_from = releases.as_of(release)
    age, most = (features.as_of - made_from).days, limits.max_release_age_days
    words = (
        f"the live lists are of {made_from}, {age} days before {features.as_of}; {most} are normal, by `make recommend` every day"
    )
    yield CheckResult("release_age", age, most, "warn", age <= most, words)
    now, then = features.state(features.as_of), _then(store, release, settings)
    drift = validation.limits("drift", settings)
    moved = movements(then, now, drift.min_rows)
    worst = sorted(moved, key=lambda name: -moved[name])[:3]
    words = f"since {made_from} these features moved most: " + ", ".join(f"{name} (PSI {moved[name]:.2f})" for name in worst)
    yield grade("feature_drift", moved[worst[0]] if worst else 0.0, drift.warn_psi, float("inf"), words)
    missing = float((places(then.user_ids, now.user_ids) < 0).mean())
    words = f"{missing:.1%} of {len(now.user_ids):,} users came since the live release and have no list of their own"
    yield grade("users_without_list", missing, limits.max_without_list, float("inf"), words)


def _setting(check: str, settings: Settings) -> str:
    """Where config.toml sets the threshold of a check; empty if it is fixed."""
    found = next((setting for pattern, setting in SETTINGS.items() if fnmatch(check, pattern)), "")
    return f"{found.format(dataset=settings.dataset_name)} in config.toml" if found else ""


def _then(store: Store, release: Snapshot, settings: Settings) -> State:
    """What was known on a release's day."""
    with store.borrow("features", release.manifest.parents["features"]) as snapshot:
        return Features(snapshot, settings).state(releases.as_of(release))


def _events(features: Features, today: date, settings: Settings) -> CheckResult:
    last, normal = date.fromisoformat(features.counts()["last_day"]), settings.dataset.max_age_days
    age = (today - last).days
    words = f"the last event is of {last}, {age} days before {today}"
    if not normal:
        words += "; max_age_days = 0 says that this history is closed: it may be old, and releases are dated by their data"
        return CheckResult("event_age", age, "any", "warn", True, words)
    return CheckResult("event_age", age, normal, "warn", age <= normal, f"{words}; {normal} are normal (max_age_days)")
