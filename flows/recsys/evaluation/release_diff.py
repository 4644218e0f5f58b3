"""Two releases side by side: data, SQL, code, config, metrics and lists. Rows for a table; what is the same is left out."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from recsys.evaluation.metrics import bootstrap
from recsys.features import Features
from recsys.recommenders import LIST_KINDS
from recsys.releases import changes, read_lists, trace
from recsys.settings import Settings
from recsys.store import Manifest, Snapshot, Store

ABSENT = "-"  # no such setting or version, or a manifest written before they were told, or a snapshot that is gone

DiffRow = tuple[str, str, str, str]  # what is compared, in a, in b, and what the two make of each other


@dataclass(frozen=True)
class ListChange:
    """Of the users that both have: those whose first k items differ, and the mean share of items that both name."""

    users: int
    changed: int
    overlap: float
    came: int
    went: int


def diff(store: Store, a: str, b: str, settings: Settings) -> dict[str, list[DiffRow]]:
    """Section by section what changed from release a to release b. `settings` are the reader's: they set k and the bootstrap."""
    old, new = trace(store, a), trace(store, b)
    before, after = old["release"].made_from, new["release"].made_from
    releases = store.load("release", a), store.load("release", b)
    paired = _holdout(old) == _holdout(new)
    return {
        "data": _data(store, old, new, settings),
        "SQL": _sql(before.get("dbt"), after.get("dbt")),
        "code": _changed(_made_by(before), _made_by(after)),
        "config": _changed(before["config"], after["config"]),
        "metrics": [_metric(*releases, list_kind, paired, settings) for list_kind in LIST_KINDS],
        "lists": [_lists(*releases, list_kind, settings.evaluation.k) for list_kind in LIST_KINDS],
    }


def _made_by(made_from: Mapping[str, Any]) -> dict[str, Any]:
    return made_from["code"] | {name: made_from.get(name) for name in ("recommender", "seeds", "audited", "versions")}


def _holdout(made: Mapping[str, Manifest]) -> Any:
    """Equal where the same users are asked about the same days of the same data. Never equal where the data is gone."""
    features = made.get("features")
    days = {name: features.made_from[name] for name in ("as_of", "horizon_days", "sample_users")} if features else object()
    return days, features and features.parents["raw"]


def _data(store: Store, old: Mapping[str, Manifest], new: Mapping[str, Manifest], settings: Settings) -> list[DiffRow]:
    was, now = (_facts(store, made, settings) for made in (old, new))
    same = {name: "same" if was[name] is not None and was[name] == now[name] else "" for name in was}
    return [(name, _told(was[name]), _told(now[name]), same[name]) for name in was]


def _facts(store: Store, made: Mapping[str, Manifest], settings: Settings) -> dict[str, Any]:
    raw, features = made.get("raw"), made.get("features")
    rows = sum(file.rows or 0 for file in raw.files.values()) if raw else None
    facts = {"raw snapshot": raw and raw.id, "raw rows": rows, "feature snapshot": features and features.id}
    counts = Features(store.load("features", features.id), settings).counts() if features else {}
    return facts | {name.replace("_", " "): counts.get(name) for name in ("events", "users", "items", "first_day", "last_day")}


def _sql(old: Mapping[str, Any] | None, new: Mapping[str, Any] | None) -> list[DiffRow]:
    """The project's hash, then the files that differ."""
    if not old or not new:
        return [("dbt project", _told(old and old["project"]), _told(new and new["project"]), "")]
    if old["project"] == new["project"]:
        return []
    files = changes(old["files"], new["files"])
    words = {(False, True): "added", (True, False): "removed", (True, True): "changed"}
    rows = [(name, "", "", words[old["files"].get(name) is not None, name in new["files"]]) for name in sorted(files)]
    return [("dbt project", old["project"], new["project"], f"{len(files)} files"), *rows]


def _changed(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[DiffRow]:
    return [(name, _told(was), _told(now), "") for name, (was, now) in changes(old, new).items()]


def _told(value: Any) -> str:
    if value is None:
        return ABSENT
    if isinstance(value, str) and len(value) >= 40:  # a hash: its first letters tell it from others
        return value[:12]
    return f"{value:,}" if type(value) is int else str(value)


def _metric(a: Snapshot, b: Snapshot, list_kind: str, paired: bool, settings: Settings) -> DiffRow:
    """Means of NDCG@k, and the paired difference b - a over the users of both where the holdout is the same."""
    metric = f"ndcg@{settings.evaluation.k}"
    old, new = (_scores(release, list_kind, metric) for release in (a, b))
    users = [user for user in old if user in new]
    told = "not paired: another holdout"
    if paired and users:
        values = {metric: np.array([new[user] - old[user] for user in users])}
        found = bootstrap(values, settings.evaluation.bootstraps, settings.seed)[metric]
        told = f"{found.mean:+.4f} [{found.low:+.4f}, {found.high:+.4f}] over {len(users):,} users"
    was, now = (f"{np.mean(list(scores.values())):.4f}" for scores in (old, new))
    return f"{metric} {list_kind}", was, now, told


def _scores(release: Snapshot, list_kind: str, metric: str) -> dict[str, float]:
    columns = pq.read_table(release.path / "holdout.parquet", filters=[("list_kind", "=", list_kind)]).to_pydict()
    return dict(zip(columns["user_id"], columns[metric], strict=True))


def _lists(a: Snapshot, b: Snapshot, list_kind: str, k: int) -> DiffRow:
    found = compare_lists(a, b, list_kind, k)
    told = f"{found.changed / max(found.users, 1):.1%} of {found.users:,} users changed, overlap {found.overlap:.3f}"
    moved = f"; {found.came:,} users came, {found.went:,} went" if found.came or found.went else ""
    return f"top {k} {list_kind}", f"{found.users + found.went:,}", f"{found.users + found.came:,}", told + moved


def compare_lists(a: Snapshot, b: Snapshot, list_kind: str, k: int) -> ListChange:
    """The first k items of every user that both releases serve, in their order; items are told apart by their ids."""
    (old_users, old_items, old), (new_users, new_items, new) = (top(release, list_kind, k) for release in (a, b))
    places = {id: place for place, id in enumerate(new_items)}
    rows = np.array([places.get(id, -2 - place) for place, id in enumerate(old_items)] + [-1], np.int64)  # the last for none, -1
    _, left, right = np.intersect1d(old_users, new_users, return_indices=True)
    was, now = rows[old[left]], new[right]
    both = np.sum([(was[:, [rank]] == now).any(1) & (was[:, rank] != -1) for rank in range(k)], axis=0)
    named = np.maximum(np.maximum((was != -1).sum(1), (now != -1).sum(1)), 1)
    overlap = float(np.mean(both / named)) if len(left) else 0.0
    changed = int((was != now).any(1).sum())
    return ListChange(len(left), changed, overlap, len(new_users) - len(left), len(old_users) - len(left))


def top(release: Snapshot, list_kind: str, k: int) -> tuple[NDArray[np.str_], NDArray[np.str_], NDArray[np.int32]]:
    """Every user, every item, and each user's first k items by their rows, -1 where a list is shorter, as all of a release may
    be."""
    users, items = zip(*((users, lists.items[:, :k]) for users, lists in read_lists(release, list_kind)), strict=True)
    first = np.concatenate(items)
    item_ids = pq.read_table(release.path / "items.parquet", columns=["item_id"])["item_id"].to_numpy(zero_copy_only=False)
    padded = np.pad(first, ((0, 0), (0, k - first.shape[1])), constant_values=-1)
    return np.concatenate(users), item_ids.astype(str), padded
