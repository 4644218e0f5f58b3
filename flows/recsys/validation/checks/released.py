"""Checks that a release holds what its model, state and data give.

Everything that the service answers from is read with the service's code, made again, and compared.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from itertools import pairwise

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from scipy import sparse

from recsys import RecsysError
from recsys.evaluation import holdout_table
from recsys.features import State
from recsys.recommenders import CHUNK, FILL_DAYS, MAX_TOGETHER, SESSION_DAYS, ItemToItem, Lists, Recommender, position
from recsys.releases import HISTORY, SIMILARITIES, Answer, Reader, prices, read_items, similar_items
from recsys.settings import Count, Share, section
from recsys.validation import own_user
from recsys.validation.check_input import CheckInput
from recsys.validation.permuted import Permuted
from recsys.validation_report import CheckResult

TIE = 1e-6  # scores with a smaller relative difference are ties, whose items may be in any order
COUNT_TOLERANCE = 1e-3  # relative difference up to which counts and means of features are equal
SEGMENTS = 20  # number of segments whose fallback lists are made again
BATCH = 64  # users ranked together; no divisor of the writer's chunk size, so that chunk borders differ

Ranked = Sequence[tuple[str, float]]  # ids with their scores, or days, in the order of a list


@section
class ReleasedLimits:
    users: Count
    alone: Count
    items: Count
    min_permuted: Share
    users_of_part: Count
    min_users: Count
    min_own: Share


SETTINGS = {"*_lists_permuted": "min_permuted", "*_own_user": "min_own"}


def check(inputs: CheckInput, limits: ReleasedLimits) -> Iterator[CheckResult]:
    rows = sample(inputs.state, limits.users, inputs.settings.seed)
    permuted = Permuted(inputs.state, inputs.settings, inputs.settings.seed)
    for name, model in inputs.models.items():
        yield from _lists(inputs, limits, name, model, permuted, rows)
    similarity, categories = ItemToItem(neighbours=inputs.settings.lists.length), inputs.state.items["category"]
    by_users = Together(inputs.state.bought(), similarity, categories)
    yield _remade("similar_items_remade", inputs, limits.items, by_users, inputs.reader.similar)
    yield _session_items(inputs, limits.items)
    yield _fallback(inputs)
    yield _users(inputs, rows)
    yield _items(inputs)
    yield _features(inputs)
    yield _dates(inputs)
    yield _facts(inputs)
    yield _holdout(inputs)
    yield from own_user.check(inputs, limits.users_of_part, limits.min_users, limits.min_own)


def sample(state: State, size: int, seed: int) -> NDArray[np.int64]:
    """Rows of about `size` users in random order: the first and the last user, users on both sides of chunk borders, users with the
    newest target events, and about as many of each segment and third of activity."""
    count, draw = state.shape[0], np.random.default_rng(seed)
    borders = draw.permutation(np.arange(CHUNK, count, CHUNK))[: size // 4]
    newest = state.history["user_index"][np.argsort(state.history["days"], kind="stable")][: size // 4]
    segments = np.unique(state.users["segment"], return_inverse=True)[1]
    rows = draw.permutation(count)
    groups = (segments * 4 + own_user.activity(state.users["target_events"]))[rows]
    by_group = np.argsort(groups, kind="stable")
    nth = np.empty(count, np.int64)  # of its group
    nth[by_group] = position(groups[by_group])
    chosen = rows[np.argsort(nth, kind="stable")[:size]]
    return draw.permutation(np.unique(np.concatenate([[0, count - 1], borders - 1, borders, newest, chosen])))


def _lists(
    inputs: CheckInput, limits: ReleasedLimits, name: str, model: Recommender, permuted: Permuted, rows: NDArray[np.int64]
) -> Iterator[CheckResult]:
    """Makes the lists of some users again with one recommender's saved model: in batches, alone, and with users and items in other
    rows. All must equal the released lists."""
    user_ids, reader = inputs.state.user_ids[rows], inputs.reader
    in_batches = inputs.rank(model, user_ids, BATCH)
    alone = inputs.rank(model, user_ids[: limits.alone], 1)
    in_other_rows = permuted.rank(model, rows)
    for list_kind, remade in in_batches.items():
        prefix = list_kind if name == inputs.winner else f"{name}_{list_kind}"
        faults: dict[str, str] = {}
        for place, user in enumerate(user_ids.tolist()):
            expected = [_ranked(inputs.state, lists, place) for lists in (remade, alone[list_kind]) if place < len(lists.items)]
            try:
                answer = reader.recommend(user, inputs.rules.length, list_kind, model=name)
            except RecsysError as error:
                faults[f"user {user}"] = f"cannot be answered: {error}"
                continue
            read = _scored(reader, answer) if answer.source == "personal" else []
            if fault := next(filter(None, (difference(ranked, read) for ranked in expected)), ""):
                faults[f"user {user}"] = fault
        what = f"{name} makes other {list_kind} lists for these users"
        yield _result(f"{prefix}_lists_remade", len(rows), faults, what, "lists")
        share = _overlap(remade.items, in_other_rows[list_kind].items, inputs.settings.evaluation.k)
        message = (
            f"{share:.1%} of the first items of {name}'s {list_kind} lists stay if users and items are in other rows;"
            f" at least {limits.min_permuted:.0%} must. If fewer stay, the recommender confuses rows with ids: look for rows of the"
            " fitted items that are used as rows of the state"
        )
        yield CheckResult(f"{prefix}_lists_permuted", share, limits.min_permuted, "block", share >= limits.min_permuted, message)


def _scored(reader: Reader, answer: Answer) -> Ranked:
    return list(zip(reader.ids(answer), answer.scores, strict=True))


def _ranked(state: State, lists: Lists, row: int) -> Ranked:
    listed = lists.items[row] >= 0
    return list(zip(state.item_ids[lists.items[row][listed]].tolist(), lists.scores[row][listed].tolist(), strict=True))


def _overlap(a: NDArray, b: NDArray, k: int) -> float:
    """Mean share of the first k items of the lists of `a` that are among the first k of `b`; 1 if all lists are empty."""
    listed = a[:, :k] >= 0
    shares = ((a[:, :k, None] == b[:, None, :k]).any(2) & listed).sum(1)[listed.any(1)] / listed.sum(1)[listed.any(1)]
    return float(shares.mean()) if len(shares) else 1.0


def difference(expected: Ranked, read: Ranked) -> str:
    """Describes the first difference between an expected list and the one that was read; "" if there is none. Items with equal
    scores may be in any order."""
    if len(expected) != len(read):
        return f"has {len(read)} items, not {len(expected)}"
    scores, read_scores = (np.array([score for _, score in ranked], float) for ranked in (expected, read))
    for start, end in pairwise([0, *(np.flatnonzero(~_close(scores[1:], scores[:-1])) + 1).tolist(), len(expected)]):
        ids, read_ids = ([id for id, _ in ranked[start:end]] for ranked in (expected, read))
        if sorted(ids) != sorted(read_ids):
            place = next(place for place, (a, b) in enumerate(zip(ids, read_ids, strict=True)) if a != b)
            return f"has {read_ids[place]} at rank {start + place + 1}, not {ids[place]}"
    if wrong := np.flatnonzero(~_close(scores, read_scores)).tolist():
        return f"has {read_scores[wrong[0]]:g} for {read[wrong[0]][0]}, not {scores[wrong[0]]:g}"
    return ""


def _close(a: NDArray, b: NDArray) -> NDArray[np.bool_]:
    return np.isclose(a, b, rtol=TIE, atol=0)


def _result(name: str, count: int, faults: Mapping[str, str], what: str, unit: str) -> CheckResult:
    """A result on `count` parts of a release that were made again. faults: what is wrong, by the name of the part. what: the
    general fault. unit: what the parts are, such as "lists"."""
    message = f"{count:,} {unit} of the release were made again, and all are equal"
    if faults:
        part, fault = next(iter(faults.items()))
        message = (
            f"{len(faults):,} of {count:,} {unit} of the release differ when made again: {what}; {part} {fault}."
            " Compare the code that writes releases with the last version that passed, then run again"
        )
    return CheckResult(name, len(faults), 0, "block", not faults, message)


def _session_items(inputs: CheckInput, size: int) -> CheckResult:
    """Computes the similarities that answer sessions again, for some items, from the views, carts and target events of each user
    and day. Sessions that are answered by items of the same users need none."""
    name, state, reader = inputs.sessions.similarity, inputs.state, inputs.reader
    if name == SIMILARITIES[0]:
        is_one = reader.session_neighbours is reader.neighbours
        message = "sessions are answered by items of the same users, so the release needs no similarities over sessions"
        return CheckResult("session_items_remade", int(not is_one), 0, "block", is_one, message)
    views, targets, parameters = state.views_and_carts, state.history, similar_items(name, inputs.settings)
    recent = targets["days"] <= SESSION_DAYS
    users, items = (np.concatenate([views[column], targets[column][recent]]) for column in ("user_index", "item_index"))
    days = np.concatenate([views["days"], np.ceil(targets["days"][recent])]).astype(np.int64)
    sessions, number = np.unique(users.astype(np.int64) * 100_000 + days, return_inverse=True)
    had = sparse.csr_matrix((np.ones(len(number), np.float32), (number, items)), (len(sessions), state.shape[1]))
    had.data[:] = 1
    had = had[np.diff(had.indptr) <= MAX_TOGETHER]

    together = Together(had, parameters, state.items["category"])
    return _remade("session_items_remade", inputs, size, together, reader.near_session)


@dataclass(frozen=True)
class Together:
    """What items have in common. had: (groups, items), 1 for the items that occur together in a group. parameters: those of the
    similarity. categories: of items."""

    had: sparse.csr_matrix
    parameters: ItemToItem
    categories: NDArray[np.str_]

    @cached_property
    def groups_of(self) -> sparse.csc_matrix:
        return self.had.tocsc()

    @cached_property
    def counts(self) -> NDArray:
        return np.asarray(self.had.sum(0), np.float64).ravel()

    @cached_property
    def weights(self) -> NDArray[np.float64]:
        return np.maximum(np.diff(self.had.indptr), 1) ** -self.parameters.user_damping

    def similar(self, item: int) -> NDArray[np.float64]:
        """The similarity of an item with all others."""
        groups = self.groups_of.indices[self.groups_of.indptr[item] : self.groups_of.indptr[item + 1]]
        together = self.weights[groups] @ self.had[groups]
        prior = self.parameters.prior
        if prior:
            together = together + prior * self._of_category(item)
        others = np.maximum(self.counts, 1)
        scores = together / (((self.counts[item] + prior) * others) ** self.parameters.damping + self.parameters.shrinkage)
        scores[item] = 0
        return scores

    def _of_category(self, item: int) -> NDArray[np.float64]:
        """How often each item occurs together with others of an item's category, per occurrence of one of these."""
        names, together = self._categories
        members = names == names[item]
        others = together[names[item]].toarray().ravel() - members * (self.weights @ self.had)
        return others / max(self.counts[members].sum(), 1)

    @cached_property
    def _categories(self) -> tuple[NDArray[np.int64], sparse.csr_matrix]:
        """The number of each item's category, and how often each category and item occur together."""
        names = np.unique(self.categories, return_inverse=True)[1]
        items = np.arange(len(names))
        has = sparse.csr_matrix((np.ones(len(names)), (items, names)), (len(names), names.max() + 1))
        return names, ((sparse.diags(self.weights) @ (self.had @ has)).T @ self.had).tocsr()


def _remade(name: str, inputs: CheckInput, size: int, together: Together, read: Callable[[int, int], Answer]) -> CheckResult:
    """Compares the similar items of some items in the release with those computed again. Items that tie with the first one that was
    cut off may be in the release or not. read: returns an item's similar items in the release."""
    state, listed, count, length = inputs.state, inputs.rules.listed, inputs.state.shape[1], together.parameters.neighbours
    items, faults = np.random.default_rng(inputs.settings.seed).permutation(count)[:size].tolist(), {}
    for item in items:
        scores = together.similar(item)
        best = np.lexsort((np.arange(count), -scores))
        cut_off = scores[best[length]] if length < count else 0.0
        above = [row for row in best[:length] if listed[row] and scores[row] > cut_off * (1 + TIE)]
        tied = {str(state.item_ids[row]) for row in np.flatnonzero(listed & (scores > 0) & _close(scores, np.full(count, cut_off)))}
        found = _scored(inputs.reader, read(inputs.reader.rows.get(str(state.item_ids[item]), 0), length))
        wrong = [id for id, _ in found[len(above) :] if id not in tied]
        expected = [(str(state.item_ids[row]), float(scores[row])) for row in above]
        if fault := difference(expected, found[: len(above)]) or (f"has {wrong[0]}, which is not similar enough" if wrong else ""):
            faults[f"item {state.item_ids[item]}"] = fault
    return _result(name, len(items), faults, "other items are similar to these", "rows of similar items")


def _fallback(inputs: CheckInput) -> CheckResult:
    """Counts the fallback lists again, for everybody and for some segments."""
    state, rules, reader = inputs.state, inputs.rules, inputs.reader
    users, items = (state.history[name][state.history["days"] <= FILL_DAYS] for name in ("user_index", "item_index"))
    segments = np.unique(state.users["segment"])
    expected = {("popular", ""): rules.shorten(_popular(state))}
    for segment in np.random.default_rng(inputs.settings.seed).permutation(segments)[:SEGMENTS]:
        own = state.users["segment"][users] == segment
        expected["segment", str(segment)] = rules.shorten(_popular(state, np.bincount(items[own], minlength=state.shape[1])))
    shown = set(state.item_ids[rules.listed].tolist())
    expected["static", ""] = [id for id in inputs.settings.rules.static if id in shown]
    read = {rung: [reader.item_ids[row] for row in rows] for rung, rows in reader.fallback.items()}
    faults = {
        f"the list {' '.join(rung).strip()}": fault
        for rung, ids in expected.items()
        if (fault := difference(_by_place(ids), _by_place(read.get(rung, []))))
    }
    if other_segments := {name for kind, name in read if kind == "segment"} ^ set(segments.tolist()):
        faults["segments"] = f"differ: {', '.join(sorted(other_segments)[:5])}"
    return _result("fallback_remade", len(expected), faults, "other items are popular", "fallback lists")


def _popular(state: State, sales: NDArray | float = 0.0) -> NDArray[np.int64]:
    """Rows of the available items, by sales, then by their target events of the last weeks and of all days, most first."""
    month, ever = (np.nan_to_num(state.items[name]) for name in (f"target_events_{FILL_DAYS}d", "target_events"))
    order = np.lexsort((np.arange(len(ever)), -ever, -month, np.broadcast_to(-sales, ever.shape)))
    return order[state.items["is_available"][order]]


def _by_place(ids: Sequence[str]) -> Ranked:
    """Ids with their places as scores, which `difference` compares."""
    return [(id, float(place)) for place, id in enumerate(ids)]


def _users(inputs: CheckInput, rows: NDArray[np.int64]) -> CheckResult:
    """Compares segment and last target events of some users in the release with the events themselves."""
    reader, faults = inputs.reader, {}
    for user, (segment, events) in inputs.features.last_targets(rows.tolist()).items():
        try:
            known = reader.user(user)
        except RecsysError as error:
            faults[f"user {user}"] = f"cannot be read: {error}"
            continue
        newest = dict(reversed(events))  # by item; later keys replace earlier ones, and the newest event comes last
        expected = sorted(newest.items(), key=lambda event: (event[1], event[0]))[:HISTORY]
        if known is None:
            faults[f"user {user}"] = "is missing"
        elif known.segment != segment:
            faults[f"user {user}"] = f"is in segment {known.segment}, not {segment}"
        elif fault := difference(expected, list(zip((reader.item_ids[row] for row in known.seen), known.days, strict=True))):
            faults[f"user {user}"] = fault
    what = f"their segment or their last target events before {inputs.features.as_of} differ"
    return _result("users_remade", len(rows), faults, what, "users")


def _items(inputs: CheckInput) -> CheckResult:
    state, reader, faults = inputs.state, inputs.reader, {}
    (available,) = read_items(inputs.release, "is_available")
    columns = zip(
        reader.titles, reader.categories, reader.prices, available.tolist(), reader.listed.tolist(), reader.ranks, strict=True
    )
    read = dict(zip(reader.item_ids, columns, strict=True))
    remade = [state.items[name].tolist() for name in ("title", "category", "is_available")]
    remade.insert(2, [None if np.isnan(price) else price for price in prices(state).tolist()])
    ranks = {row: rank for rank, row in enumerate(_popular(state).tolist())}
    remade += [inputs.rules.listed.tolist(), [ranks.get(row) for row in range(state.shape[1])]]
    expected = dict(zip(state.item_ids.tolist(), zip(*remade, strict=True), strict=True))
    for id in sorted({*expected, *read}):
        if expected.get(id) != read.get(id):
            faults[f"item {id}"] = f"is {read.get(id, 'missing')}, not {expected.get(id, 'in the state')}"
    if not faults and reader.item_ids != list(expected):
        faults["the items"] = "are in another order than in the state, so that rows in lists mean other items"
    return _result(
        "items_remade", len(expected), faults, "title, category, price, is_available, is_listed or popularity_rank differ", "items"
    )


def _features(inputs: CheckInput) -> CheckResult:
    """Compares counts in the features with counts of the events themselves."""
    state, faults = inputs.state, {}
    for table, columns in inputs.features.count_targets().items():
        ids = state.user_ids if table == "users" else state.item_ids
        for name, counted in columns.items():
            known, counts = (np.nan_to_num(column.astype(float)) for column in (getattr(state, table)[name], counted))
            for row in np.flatnonzero(~np.isclose(known, counts, rtol=COUNT_TOLERANCE)).tolist():
                faults[f"{table.removesuffix('s')} {ids[row]}"] = f"has {known[row]:g} {name}, not {counts[row]:g}"
    return _result("features_remade", sum(state.shape), faults, "their features differ from their events", "users and items")


def _dates(inputs: CheckInput) -> CheckResult:
    """Release, features, raw snapshot and model must be of the same day."""
    about, day, parents = inputs.reader.about, inputs.features.as_of.isoformat(), inputs.release.manifest.parents
    features, model = (inputs.store.find(kind, parents[kind]) for kind in ("features", "model"))
    raw = inputs.store.find("raw", features.parents["raw"]) if features else None
    trained, last = about["trained_as_of"], inputs.features.counts()["last_day"]
    earliest = (inputs.features.as_of - timedelta(days=2)).isoformat()
    # Missing snapshots are a fault of the manifest alone.
    wanted = (features.made_from.get("as_of") if features else None) or day
    landed = raw.made_from.get("landed_on", day) if raw else day
    learned = model.made_from["as_of"] if model else trained
    is_new = model is not None and model.parents.get("features") == inputs.features.id
    claims = (
        (about["as_of"] == day, f"release.json is as of {about['as_of']}, the features as of {day}"),
        (
            parents["features"] == inputs.features.id,
            f"the manifest names features {parents['features']}, but lists were checked against {inputs.features.id}",
        ),
        (inputs.state.cutoff == inputs.features.as_of, f"the state is of {inputs.state.cutoff}, the features as of {day}"),
        (wanted == day, f"the features were requested as of {wanted}, but are as of {day}"),
        (learned == trained, f"the model was trained as of {learned}, but release.json says {trained}"),
        (
            not is_new or learned == day,
            f"the model says that it was trained as of {learned}, but it learned from features as of {day}",
        ),
        (trained <= day, f"release.json has a model of {trained}, which is after {day}"),
        (raw is not None, "the manifest names a raw snapshot that is not in the store"),
        (model is not None, "the manifest names a model that is not in the store"),
        (landed >= earliest, f"the raw snapshot landed on {landed}, before the features' day {day}"),
        (last < day, f"the events end on {last}, but all must be before {day}"),
    )
    faults = [fault for holds, fault in claims if not holds]
    advice = ". Lists of a day must be made from the data of that day: run again"
    message = "; ".join(faults) + advice if faults else f"release, state, features, raw snapshot and model are all as of {day}"
    return CheckResult("as_of", about["as_of"], day, "block", not faults, message)


def _facts(inputs: CheckInput) -> CheckResult:
    """release.json, which the service relies on, must state the settings of this run, and the model must predict its target."""
    about, settings = inputs.reader.about, inputs.settings
    facts = {
        "recommender": inputs.winner,
        "target": settings.dataset.target,
        "horizon_days": settings.dataset.horizon_days,
        "exclude_seen": settings.dataset.exclude_seen,
        "length": settings.lists.length,
        "session_similarity": inputs.sessions.similarity,
        "session_repeats": inputs.sessions.repeats,
    }
    wrong = [f"{name} is {about.get(name)}, not {value}" for name, value in facts.items() if about.get(name) != value]
    model = inputs.store.find("model", inputs.release.manifest.parents["model"])
    predicted = model.made_from.get("target", settings.dataset.target) if model else settings.dataset.target
    if predicted != settings.dataset.target:
        wrong.append(f"the model predicts {predicted}, not {settings.dataset.target}")
    message = "; ".join(wrong) or "it names the recommender and the settings of this run"
    return CheckResult(
        "release_json", len(wrong), 0, "block", not wrong, f"release.json: {message}{'; run again' if wrong else ''}"
    )


def _holdout(inputs: CheckInput) -> CheckResult:
    """holdout.parquet, which the next release is compared with, must hold the winner's scores on the holdout. In a daily run, which
    evaluates nothing, it must be the live release's file."""
    read = expected = pq.read_table(inputs.release.path / "holdout.parquet")
    if windows := inputs.evaluations.get(inputs.winner):
        expected = holdout_table({list_kind: scored[0] for list_kind, scored in windows.items()})
    elif inputs.live:
        expected = pq.read_table(inputs.live.path / "holdout.parquet")
    message = f"holdout.parquet holds the holdout's scores of {inputs.winner}"
    if not expected.equals(read):
        message = (
            f"holdout.parquet ({read.num_rows:,} rows) is not the holdout's scores of {inputs.winner} ({expected.num_rows:,}"
            " rows); run again"
        )
    return CheckResult("holdout_kept", read.num_rows, expected.num_rows, "block", expected.equals(read), message)
