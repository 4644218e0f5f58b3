"""Reads one release and answers from it. The service, the checks and publishing use it, so a release that it refuses is never
served."""

import json
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from heapq import merge
from itertools import chain, product
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from scipy import sparse

from recsys import RecsysError
from recsys.features import matrix_of_file
from recsys.recommenders import LIST_KINDS
from recsys.releases.files import HISTORY, SESSIONS, about, lists_file, served
from recsys.releases.list_files import connect, unpack
from recsys.store import Snapshot

SAMPLE_USERS = 20  # users whose lists are checked before a release is served
FUSION = 60  # constant of reciprocal rank fusion
ADVICE = "run the flow again, or roll back"
DECAY = 0.8  # weight of an item in a session, relative to the item seen after it


@dataclass(frozen=True)
class Answer:
    """A list of items, best first. items: rows of the release's items. scores: 0 for popular items that fill the list up. sources:
    where each item comes from. source: where the list as a whole comes from."""

    source: str
    items: list[int]
    scores: list[float]
    sources: list[str]


def _entries(answer: Answer) -> Iterator[tuple[int, float, str]]:
    return zip(answer.items, answer.scores, answer.sources, strict=True)


@dataclass(frozen=True)
class Filter:
    """Which items an answer may hold. excluded: rows of items that it may not hold. categories: those that its items may have;
    empty for all."""

    excluded: frozenset[int] = frozenset()
    categories: frozenset[str] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.excluded or self.categories)

    def without(self, items: Iterable[int]) -> "Filter":
        return Filter(self.excluded.union(items), self.categories)


NO_FILTER = Filter()


@dataclass(frozen=True)
class ReleaseUser:
    """A user's segment and last target events, newest first. seen: rows of items. days: days before the release's `as_of`."""

    segment: str
    seen: list[int]
    days: list[float]


class Reader:
    """The lists of one release, for look-ups in a few microseconds. blocked: ids of items that are hidden in addition to the
    release's rules. Has no state that requests change, so threads can share it. Raises RecsysError if a file cannot be read."""

    def __init__(self, release: Snapshot, blocked: Collection[str] = ()):
        path = release.path
        self.id = release.manifest.id
        self.about: dict[str, Any] = about(release)
        self.list_kind = served(self.about)
        self.as_of = date.fromisoformat(self.about["as_of"])
        items = pq.ParquetFile(path / "items.parquet").read().to_pydict()  # pq.read_table would import pandas
        self.item_ids: list[str] = items["item_id"]
        self.titles: list[str] = items["title"]
        self.categories: list[str] = items["category"]
        self.prices: list[float | None] = items.get("price", [None] * len(self.item_ids))  # releases of version 0 have none
        self.rows = {id: row for row, id in enumerate(self.item_ids)}
        self.listed = np.array(items["is_listed"], bool)
        self.hidden = frozenset(self.rows[id] for id in blocked if id in self.rows)
        self.listed[list(self.hidden)] = False
        self.ranks = items.get("popularity_rank", [None] * len(self.item_ids))  # older releases have none
        self._popular = self._by_category()
        self._category_codes = {category: code for code, category in enumerate(self._popular)}
        self._category_of = np.array([self._category_codes[category] for category in self.categories], np.int64)
        self.visible = np.ones(len(self.item_ids), bool)
        self.visible[list(self.hidden)] = False
        self.neighbours = self._neighbours(path / "neighbours.npz")
        self.session_neighbours = self._neighbours(path / SESSIONS) if (path / SESSIONS).exists() else self.neighbours
        self.fallback = self._fallback(json.loads((path / "fallback.json").read_text()))
        self.examples = self._examples(path / "examples.json")
        self._database = connect(lists_file(path))
        alternatives = {file.stem: connect(file) for file in sorted((path / "alternatives").glob("*.sqlite"))}
        self.models = alternatives | {self.about["recommender"]: self._database}
        head = {"release": self.id, "as_of": self.about["as_of"]}
        self._heads = {model: json.dumps(head | {"model": model}, ensure_ascii=False)[:-1] for model in self.models}
        self._select = {list_kind: f"select {list_kind} from lists where user_id = ?" for list_kind in LIST_KINDS}
        self._item_json = [json.dumps(self.item(id), ensure_ascii=False)[:-1] for id in self.item_ids]

    def _neighbours(self, file: Path) -> sparse.csr_matrix:
        with np.load(file, allow_pickle=False) as parts:
            try:
                return matrix_of_file(parts, (len(self.item_ids), len(self.item_ids)))
            except (ValueError, KeyError) as error:
                fault = f"{file.name} does not fit the {len(self.item_ids)} items of items.parquet: {error}"
                raise RecsysError(f"release {self.id}: {fault}; {ADVICE}") from None

    def _by_category(self) -> dict[str, list[int]]:
        """Rows of the items that may be listed, by category, most popular first. Has all categories of the release."""
        popular: dict[str, list[int]] = {category: [] for category in self.categories}
        for row in sorted(
            (row for row in np.flatnonzero(self.listed).tolist() if self.ranks[row] is not None), key=self.ranks.__getitem__
        ):
            popular[self.categories[row]].append(row)
        return popular

    def _fallback(self, written: dict[str, Any]) -> dict[tuple[str, str], list[int]]:
        """Rows of the fallback lists, by kind ("segment", "popular" or "static") and segment."""
        rungs = {
            **{("segment", name): ids for name, ids in written["segments"].items()},
            ("popular", ""): written["all"],
            ("static", ""): written.get("static", []),
        }
        rows = {rung: [self.rows[id] for id in ids if id in self.rows] for rung, ids in rungs.items()}
        return {rung: [row for row in found if self.listed[row]] for rung, found in rows.items()}

    def _examples(self, file: Path) -> list[dict[str, Any]]:
        """The example users, with those items of the oracle's lists that may be shown."""
        users = json.loads(file.read_text())["users"] if file.exists() else []  # releases of version 0 have none
        for user in users:
            for list_kind, ids in user["oracle"].items():
                user["oracle"][list_kind] = [self.item(id) for id in ids if id in self.rows and self.listed[self.rows[id]]]
        return users

    def item(self, item_id: str) -> dict[str, Any]:
        row = self.rows[item_id]
        texts = {"title": self.titles[row] or "", "category": self.categories[row] or ""}
        return {"item_id": item_id, **texts, "price": self.prices[row]}

    def ids(self, answer: Answer) -> list[str]:
        return [self.item_ids[item] for item in answer.items]

    def users(self, prefix: str, limit: int) -> list[str]:
        """Ids of users that start with `prefix`, in order."""
        query = "select user_id from lists where user_id >= ? and user_id < ? order by user_id limit ?"
        return [user for (user,) in self._database.execute(query, (prefix, prefix + chr(0x10FFFF), limit))]

    def filter(self, exclude: Collection[str] = (), categories: Collection[str] = ()) -> Filter:
        """A filter by ids of items and by categories. Ids that are not in the release have no effect."""
        return Filter(frozenset(self.rows[id] for id in exclude if id in self.rows), frozenset(categories))

    def unknown(self, categories: Collection[str]) -> list[str]:
        """Those of some categories that no item of the release has."""
        return [category for category in categories if category not in self._popular]

    def _allows(self, filter: Filter, item: int) -> bool:
        return item not in filter.excluded and (not filter.categories or self.categories[item] in filter.categories)

    def recommend(
        self,
        user_id: str,
        k: int,
        list_kind: str = "",
        segment: str = "",
        model: str = "",
        filter: Filter = NO_FILTER,
        seen: Sequence[int] = (),
    ) -> Answer:
        """The first k items of a user's list.

        A user without a list gets the popular items of the segment, then those of all users, then the static list. list_kind,
        model: the release's defaults if empty. filter: items of the list that it leaves out are replaced by those that follow, and
        then in the same fallback order; last come all other items that it allows, by popularity. seen: items of the user's events
        since the release, the newest last. The list is combined with the items similar to them, and a list of new items leaves
        them out. Raises RecsysError if the release has no lists of the model.
        """
        if model and model not in self.models:
            raise RecsysError(f"release {self.id} has no lists of {model}; it has those of {', '.join(self.models)}")
        list_kind = list_kind or self.list_kind
        if seen:
            filter = filter.without(seen) if LIST_KINDS[list_kind] else filter
            return self._combine(seen, k, user_id, list_kind, segment, model, filter)
        database = self.models[model] if model else self._database
        row = database.execute(self._select[list_kind], (user_id,)).fetchone()
        items, scores = self._unpack(row[0], len(self.item_ids) if filter else k) if row else ([], [])
        sources = ["personal" if score else "popular" for score in scores]
        if items and not filter:
            return Answer("personal", items, scores, sources)
        answer = self._first(zip(items, scores, sources, strict=True), k, filter)
        if len(answer.items) == k:
            return answer
        user = self.user(user_id) if row else None
        if user and LIST_KINDS[list_kind] and filter:
            filter = filter.without(user.seen)
        return self._fill(answer, k, filter, segment or (user.segment if user else ""))

    def _unpack(self, blob: bytes, k: int) -> tuple[list[int], list[float]]:
        items, scores = unpack(blob)
        if len(items) and items.view("<u4").max() >= len(self.item_ids):  # as unsigned, negative numbers are too large as well
            raise RecsysError(f"release {self.id} lists an item that is not in its items.parquet; {ADVICE}")
        if self.hidden:
            visible = self.visible[items]
            items, scores = items[visible], scores[visible]
        return items[:k].tolist(), scores[:k].tolist()

    def _fill(self, answer: Answer, k: int, filter: Filter, segment: str = "") -> Answer:
        """An answer filled up in the fallback order. With a filter, all other items that it allows follow, by popularity."""
        return self._first(chain(_entries(answer), self._others(filter, segment)), k, filter)

    def _others(self, filter: Filter, segment: str) -> Iterator[tuple[int, float, str]]:
        for rung in (("segment", segment), ("popular", ""), ("static", "")):
            yield from ((row, 0.0, rung[0]) for row in self.fallback.get(rung, []))
        if filter:
            categories = filter.categories & self._popular.keys() if filter.categories else self._popular
            rows = merge(*(self._popular[category] for category in categories), key=self.ranks.__getitem__)
            yield from ((row, 0.0, "popular") for row in rows)

    def _first(self, candidates: Iterable[tuple[int, float, str]], k: int, filter: Filter) -> Answer:
        """An answer of the first k different candidates (row, score and source of an item) that the filter allows."""
        best: dict[int, tuple[float, str]] = {}
        for item, score, source in candidates:
            if item not in best and self._allows(filter, item):
                best[item] = score, source
                if len(best) == k:
                    break
        scores, sources = zip(*best.values(), strict=True) if best else ((), ())
        return Answer(sources[0] if sources else "none", [*best], [*scores], [*sources])

    def user(self, user_id: str) -> ReleaseUser | None:
        """Segment and last target events of a user; None for an unknown user."""
        row = self._database.execute("select segment, bought from users where user_id = ?", (user_id,)).fetchone()
        return ReleaseUser(row[0], *self._unpack(row[1], HISTORY)) if row else None

    def similar(self, item: int, k: int, filter: Filter = NO_FILTER) -> Answer:
        """The k items that are most similar to an item, by target events of the same users. With a filter, the list is filled up as
        that of an unknown user is."""
        answer = self._best(*self._near(item), k, "similar", filter)
        return self._fill(answer, k, filter.without([item])) if filter else answer

    def session(self, seen: Sequence[int], k: int, user_id: str = "", filter: Filter = NO_FILTER) -> Answer:
        """The last items of a session but the very last, as many as the release's setting session_repeats says, then items that are
        similar to those of the session, in which the last item counts most, combined with the user's own list. Leaves out the last
        item and, if the release excludes seen items, those of the user's last target events."""
        answer = self._combine(seen, k, user_id, self.list_kind, "", "", filter, set(seen))
        earlier = [item for item in [*dict.fromkeys(reversed(seen))][1:] if self.listed[item]]
        repeats = self.about.get("session_repeats", 0)  # older releases have none
        if not repeats or not earlier:
            return answer
        if self.about["exclude_seen"] and (user := self.user(user_id)):
            filter = filter.without(user.seen)
        first = self._first(((item, 1 + DECAY**age, "session") for age, item in enumerate(earlier)), repeats, filter)
        return self._first(chain(_entries(first), _entries(answer)), k, filter)

    def _combine(
        self,
        seen: Sequence[int],
        k: int,
        user_id: str,
        list_kind: str,
        segment: str,
        model: str,
        filter: Filter,
        hidden: Collection[int] = (),
    ) -> Answer:
        """Items similar to the seen ones and the user's own list, combined by reciprocal rank fusion (Cormack et al. 2009,
        doi:10.1145/1571941.1572114). For a user without a list, items of the fallback order follow. Leaves out the hidden items
        and, in a list of new items, those of the user's last target events."""
        user = self.user(user_id) if LIST_KINDS[list_kind] else None
        hidden = {*hidden, *(user.seen if user else [])}
        filter, depth = filter.without(hidden) if filter else filter, k + len(hidden)
        near, own = self._of_session(seen, depth, filter), self.recommend(user_id, depth, list_kind, segment, model, filter)
        lists = [near, own] if "personal" in own.sources else [self._first(chain(*map(_entries, (near, own))), depth, filter)]
        fused: dict[int, float] = {}
        sources: dict[int, str] = {}
        for answer in lists:
            for rank, (item, source) in enumerate(zip(answer.items, answer.sources, strict=True)):
                fused[item] = fused.get(item, 0.0) + 1 / (FUSION + rank)
                sources.setdefault(item, source)
        best = sorted(fused.keys() - hidden, key=lambda item: (-fused[item], item))[:k]
        source = next((answer.source for answer in lists if answer.items), "none")
        return Answer(source, best, [fused[item] for item in best], [sources[item] for item in best])

    def _of_session(self, seen: Sequence[int], k: int, filter: Filter = NO_FILTER) -> Answer:
        """Items similar to those of a session. An item that was seen several times counts once, at its last place."""
        order = list(dict.fromkeys(reversed(seen)))
        near = [self._near(item, self.session_neighbours) for item in order]
        items, places = np.unique(np.concatenate([items for items, _ in near]), return_inverse=True)
        weighted = np.concatenate([DECAY**age * scores for age, (_, scores) in enumerate(near)])
        return self._best(items, np.bincount(places, weighted, len(items)), k, "session", filter)

    def near_session(self, item: int, k: int) -> Answer:
        """The k items that are most similar to an item, by the sessions with both."""
        return self._best(*self._near(item, self.session_neighbours), k, "session", NO_FILTER)

    def _near(self, item: int, neighbours: sparse.csr_matrix | None = None) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        neighbours = self.neighbours if neighbours is None else neighbours
        row = slice(neighbours.indptr[item], neighbours.indptr[item + 1])
        return neighbours.indices[row], neighbours.data[row]

    def _best(self, items: NDArray, scores: NDArray, k: int, source: str, filter: Filter) -> Answer:
        shown = self.listed[items]
        if filter.categories:
            wanted = [self._category_codes[category] for category in filter.categories if category in self._category_codes]
            shown &= np.isin(self._category_of[items], wanted)
        if filter.excluded:
            shown &= ~np.isin(items, [*filter.excluded])
        items, scores = items[shown], scores[shown]
        if len(items) > k:
            is_best = ~(scores < np.partition(scores, -k)[-k])  # so that few are sorted; equal scores all stay
            items, scores = items[is_best], scores[is_best]
        best = np.lexsort((items, -scores))[:k]
        return Answer(source, items[best].tolist(), scores[best].tolist(), [source] * len(best))

    def reason(self, item: int, answer: Answer, seen: Sequence[int]) -> tuple[str, int]:
        """Why an item is in an answer: the kind of reason, and the seen item that it is based on, or -1 if there is none."""
        if item in seen:
            return "seen_before", item
        similar, scores = self._near(item)
        was_seen = np.isin(similar, seen)
        if was_seen.any():
            return "goes_with", int(similar[was_seen][scores[was_seen].argmax()])
        return answer.sources[answer.items.index(item)], -1

    def write(
        self,
        answer: Answer,
        today: date,
        reasons: Sequence[tuple[str, int]] = (),
        model: str = "",
        unknown_categories: Sequence[str] = (),
    ) -> bytes:
        """An answer as JSON. today: for its age. reasons: results of `reason`, one for each item, if they are wanted. model: the
        recommender that made the list, if it is not the winner. unknown_categories: see `unknown`; told if there are some."""
        items = [
            f'{self._item_json[item]}, "score": {score:.6g}, "source": "{source}"'
            for item, score, source in zip(answer.items, answer.scores, answer.sources, strict=True)
        ]
        for place, (kind, item) in enumerate(reasons):
            reason = {"kind": kind, "item_id": self.item_ids[item] if item >= 0 else None}
            items[place] += f', "reason": {json.dumps(reason, ensure_ascii=False)}'
        age = (today - self.as_of).days
        head = self._heads.get(model) or self._heads[self.about["recommender"]]
        unknown = f', "unknown_categories": {json.dumps(unknown_categories, ensure_ascii=False)}' if unknown_categories else ""
        head = f'{head}, "age_days": {age}, "source": "{answer.source}"{unknown}, "items": ['
        return f"{head}{', '.join(item + '}' for item in items)}]}}".encode()

    def check(self) -> None:
        """Asks for sample answers of all kinds. Raises RecsysError if one cannot be made or may not be shown."""
        try:
            self._check_samples()
        except (sqlite3.Error, IndexError, ValueError) as error:
            raise RecsysError(f"release {self.id} cannot be read: {error}; {ADVICE}") from None

    def _check_samples(self) -> None:
        query = "select user_id from lists order by user_id"
        users = [user for (user,) in self._database.execute(f"{query} limit {SAMPLE_USERS // 2}")]
        users += [user for (user,) in self._database.execute(f"{query} desc limit {SAMPLE_USERS // 2}")]
        if not users or not all(self.user(user) for user in users):
            raise RecsysError(f"release {self.id} has no users, or users with a list but without a history; {ADVICE}")
        length = self.about["length"]
        for user, list_kind, model in product((*users, ""), LIST_KINDS, self.models):
            self._check_answer(f"the {list_kind} list of user {user!r}", self.recommend(user, length, list_kind, model=model))
        shown = self.recommend(users[0], length).items
        for item in shown:
            self._check_answer(f"the list of items similar to {self.item_ids[item]}", self.similar(item, 10), may_be_empty=True)
        session = self.session(shown[:3], 10, users[0])
        self._check_answer("the list for a session", session, may_be_empty=self.listed.sum() <= len(shown[:3]))
        filter = Filter(frozenset(shown[:1]), frozenset(self.categories[item] for item in shown))
        self._check_answer("a list with a filter", self.recommend(users[0], length, filter=filter), may_be_empty=True)

    def _check_answer(self, what: str, answer: Answer, may_be_empty: bool = False) -> None:
        items = answer.items
        fault = (
            "is empty" if not items and not may_be_empty
            else "holds an item twice" if len(set(items)) < len(items)
            else "holds an item that is not in items.parquet" if any(not 0 <= item < len(self.item_ids) for item in items)
            else "holds an item that may not be shown" if not all(self.listed[items])
            else "has a score that is not finite" if not all(np.isfinite(answer.scores))
            else ""
        )  # fmt: skip
        if fault:
            raise RecsysError(f"release {self.id}: {what} {fault}; {ADVICE}")
