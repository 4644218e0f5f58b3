"""Compares two releases: data, SQL, code, config, metrics and lists. Returns rows of tables; equal settings are left out."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from recsys.evaluation.metrics import bootstrap
from recsys.features import Features
from recsys.recommenders import LIST_KINDS
from recsys.releases import changes, read_items, read_lists, trace
from recsys.settings import Settings
from recsys.store import Manifest, Snapshot, Store

ABSENT = "-"  # stands for a setting or version that a manifest lacks, and for a deleted snapshot

DiffRow = tuple[str, str, str, str]  # name, value in release a, value in release b, comparison of the two


@dataclass(frozen=True)
class ListChange:
    """Changes between the lists of two releases. users: users of both. changed: users whose first k items differ. overlap: mean
    share of the first k items that are in both lists. came, went: users of the second or of the first release only."""

    users: int
    changed: int
    overlap: float
    came: int
    went: int


def diff(store: Store, a: str, b: str, settings: Settings) -> dict[str, list[DiffRow]]:
    """The changes from release a to release b, by section. Raises RecsysError if a release is not in the store.

    settings: the present settings, whose k and bootstrap are used for both releases.
    """
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
    """Identifies a holdout: two are equal if their users, days and raw data are. Equal to nothing if the features were deleted."""
    features = made.get("features")
    days = {name: features.made_from[name] for name in ("as_of", "horizon_days", "sample_users")} if features else object()
    return days, features and features.parents["raw"]


def _data(store: Store, old: Mapping[str, Manifest], new: Mapping[str, Manifest], settings: Settings) -> list[DiffRow]:
    was, now = (_facts(store, made, settings) for made in (old, new))
    same = {name: "same" if was[name] is not None and was[name] == now[name] else "" for name in was}
    return [(name, _text(was[name]), _text(now[name]), same[name]) for name in was]


def _facts(store: Store, made: Mapping[str, Manifest], settings: Settings) -> dict[str, Any]:
    raw, features = made.get("raw"), made.get("features")
    rows = sum(file.rows or 0 for file in raw.files.values()) if raw else None
    facts = {"raw snapshot": raw and raw.id, "raw rows": rows, "feature snapshot": features and features.id}
    counts = Features(store.load("features", features.id), settings).counts() if features else {}
    return facts | {name.replace("_", " "): counts.get(name) for name in ("events", "users", "items", "first_day", "last_day")}


def _sql(old: Mapping[str, Any] | None, new: Mapping[str, Any] | None) -> list[DiffRow]:
    """The project's hash, then the files that differ."""
    if not old or not new:
        return [("dbt project", _text(old and old["project"]), _text(new and new["project"]), "")]
    if old["project"] == new["project"]:
        return []
    files = changes(old["files"], new["files"])
    texts = {(False, True): "added", (True, False): "removed", (True, True): "changed"}
    rows = [(name, "", "", texts[name in old["files"], name in new["files"]]) for name in sorted(files)]
    return [("dbt project", old["project"], new["project"], f"{len(files)} files"), *rows]


def _changed(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[DiffRow]:
    return [(name, _text(was), _text(now), "") for name, (was, now) in changes(old, new).items()]


def _text(value: Any) -> str:
    if value is None:
        return ABSENT
    if isinstance(value, str) and len(value) >= 40:  # a hash, which is shortened
        return value[:12]
    return f"{value:,}" if type(value) is int else str(value)


def _metric(a: Snapshot, b: Snapshot, list_kind: str, paired: bool, settings: Settings) -> DiffRow:
    """Means of NDCG@k and, if both have the same holdout, the paired difference b - a over the users of both."""
    metric = settings.evaluation.metric
    old, new = (_scores(release, list_kind, metric) for release in (a, b))
    users = [user for user in old if user in new]
    comparison = "cannot be paired: another holdout"
    if paired and users:
        values = {metric: np.array([new[user] - old[user] for user in users])}
        difference = bootstrap(values, settings.evaluation.bootstraps, settings.seed)[metric]
        comparison = f"{difference.mean:+.4f} [{difference.low:+.4f}, {difference.high:+.4f}] over {len(users):,} users"
    was, now = (f"{np.mean(list(scores.values())):.4f}" for scores in (old, new))
    return f"{metric} {list_kind}", was, now, comparison


def _scores(release: Snapshot, list_kind: str, metric: str) -> dict[str, float]:
    columns = pq.read_table(release.path / "holdout.parquet", filters=[("list_kind", "=", list_kind)]).to_pydict()
    return dict(zip(columns["user_id"], columns[metric], strict=True))


def _lists(a: Snapshot, b: Snapshot, list_kind: str, k: int) -> DiffRow:
    change = compare_lists(a, b, list_kind, k)
    text = f"{change.changed / max(change.users, 1):.1%} of {change.users:,} users changed, overlap {change.overlap:.3f}"
    if change.came or change.went:
        text += f"; {change.came:,} users came, {change.went:,} went"
    return f"top {k} {list_kind}", f"{change.users + change.went:,}", f"{change.users + change.came:,}", text


def compare_lists(a: Snapshot, b: Snapshot, list_kind: str, k: int) -> ListChange:
    """Compares the first k items of all users of both releases. Items are matched by id, because rows may differ."""
    (old_users, old_items, old), (new_users, new_items, new) = (top(release, list_kind, k) for release in (a, b))
    places = {id: place for place, id in enumerate(new_items)}
    rows = np.array([places.get(id, -2 - place) for place, id in enumerate(old_items)] + [-1], np.int64)  # rows[-1] is -1: no item
    _, left, right = np.intersect1d(old_users, new_users, return_indices=True)
    was, now = rows[old[left]], new[right]
    both = np.sum([(was[:, [rank]] == now).any(1) & (was[:, rank] != -1) for rank in range(k)], axis=0)
    named = np.maximum(np.maximum((was != -1).sum(1), (now != -1).sum(1)), 1)
    overlap = float(np.mean(both / named)) if len(left) else 0.0
    changed = int((was != now).any(1).sum())
    return ListChange(len(left), changed, overlap, len(new_users) - len(left), len(old_users) - len(left))


def top(release: Snapshot, list_kind: str, k: int) -> tuple[NDArray[np.str_], NDArray[np.str_], NDArray[np.int32]]:
    """User ids, item ids, and each user's first k items as rows of the item ids; -1 for no item."""
    users, items = zip(*((users, lists.items[:, :k]) for users, lists in read_lists(release, list_kind)), strict=True)
    first = np.concatenate(items)
    (item_ids,) = read_items(release, "item_id")
    padded = np.pad(first, ((0, 0), (0, k - first.shape[1])), constant_values=-1)
    return np.concatenate(users), item_ids, padded
