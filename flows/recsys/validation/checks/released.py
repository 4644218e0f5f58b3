"""Is the release what its model, state and data say? Everything that the service answers from is read by the service's own code
and compared with the same made again."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from itertools import pairwise

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from recsys import RecsysError
from recsys.evaluation import holdout_table
from recsys.features import State
from recsys.recommenders import CHUNK, FILL_DAYS, ItemToItem, Lists, Recommender, position
from recsys.releases import HISTORY, prices
from recsys.settings import Count, Share, section
from recsys.validation import own_user
from recsys.validation.check_input import CheckInput
from recsys.validation.permuted import Permuted
from recsys.validation_report import CheckResult

TIE = 1e-6  # relative difference below which scores tie, so that their items may swap
COUNTED = 1e-3  # relative difference below which counts and means of features are the same
SEGMENTS = 20  # whose fallback lists are made again
AT_A_TIME = 64  # users ranked together: a number that divides no chunk of the writer's

Ranked = Sequence[tuple[str, float]]  # ids with their scores, or days, in the order of the list


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
    yield _similar_items(inputs, limits.items)
    yield _fallback(inputs)
    yield _users(inputs, rows)
    yield _items(inputs)
    yield _features(inputs)
    yield _dates(inputs)
    yield _facts(inputs)
    yield _holdout(inputs)
    yield from own_user.check(inputs, limits.users_of_part, limits.min_users, limits.min_own)


def sample(state: State, size: int, seed: int) -> NDArray[np.int64]:
    """Rows of about `size` users in any order: the first and the last, both sides of the borders of chunks, those with the newest
    target events, and of each segment and third of activity about as many."""
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
    """Of one recommender: the lists of some users by the saved model, together, alone, and with users and items in other rows."""
    user_ids, reader = inputs.state.user_ids[rows], inputs.reader
    together = inputs.rank(model, user_ids, AT_A_TIME)
    alone = inputs.rank(model, user_ids[: limits.alone], 1)
    moved = permuted.rank(model, rows)
    for list_kind, made in together.items():
        prefix = list_kind if name == inputs.winner else f"{name}_{list_kind}"
        what = f"{name} makes other {list_kind} lists for these users than the release holds"
        found: dict[str, str] = {}
        for place, user in enumerate(user_ids.tolist()):
            expected = [_ranked(inputs.state, lists, place) for lists in (made, alone[list_kind]) if place < len(lists.items)]
            try:
                answer = reader.recommend(user, inputs.rules.length, list_kind, model=name)
            except RecsysError as error:
                found[f"user {user}"] = f"cannot be answered: {error}"
                continue
            read = list(zip(reader.ids(answer), answer.scores, strict=True)) if answer.source == "personal" else []
            if wrong := next(filter(None, (difference(one, read) for one in expected)), ""):
                found[f"user {user}"] = wrong
        yield _result(f"{prefix}_lists_remade", len(rows), found, what, "lists")
        kept = _overlap(made.items, moved[list_kind].items, inputs.settings.evaluation.k)
        words = (
            f"{kept:.1%} of the first items of {name}'s {list_kind} lists stay where users and items stand in other rows;"
            f" at least {limits.min_permuted:.0%} must. If fewer do, it confuses rows with ids: look for rows of the fitted items"
            " that are used as rows of the state"
        )
        yield CheckResult(f"{prefix}_lists_permuted", kept, limits.min_permuted, "block", kept >= limits.min_permuted, words)


def _ranked(state: State, lists: Lists, row: int) -> Ranked:
    listed = lists.items[row] >= 0
    return list(zip(state.item_ids[lists.items[row][listed]].tolist(), lists.scores[row][listed].tolist(), strict=True))


def _overlap(a: NDArray, b: NDArray, k: int) -> float:
    """Mean share of the first k items of the lists of `a` that are among the first k of `b`; 1 where no list has any."""
    listed = a[:, :k] >= 0
    kept = ((a[:, :k, None] == b[:, None, :k]).any(2) & listed).sum(1)[listed.any(1)] / listed.sum(1)[listed.any(1)]
    return float(kept.mean()) if len(kept) else 1.0


def difference(made: Ranked, read: Ranked) -> str:
    """The first difference between a list made again and the one that was read, in words; "" if there is none. Items whose scores
    tie may swap."""
    if len(made) != len(read):
        return f"has {len(read)} items, not {len(made)}"
    ours, theirs = (np.array([score for _, score in ranked], float) for ranked in (made, read))
    for start, end in pairwise([0, *(np.flatnonzero(~_close(ours[1:], ours[:-1])) + 1).tolist(), len(made)]):
        mine, other = ([id for id, _ in ranked[start:end]] for ranked in (made, read))
        if sorted(mine) != sorted(other):
            place = next(place for place, (one, two) in enumerate(zip(mine, other, strict=True)) if one != two)
            return f"has {other[place]} at rank {start + place + 1}, not {mine[place]}"
    if wrong := np.flatnonzero(~_close(ours, theirs)).tolist():
        return f"has {theirs[wrong[0]]:g} for {read[wrong[0]][0]}, not {ours[wrong[0]]:g}"
    return ""


def _close(a: NDArray, b: NDArray) -> NDArray[np.bool_]:
    return np.isclose(a, b, rtol=TIE, atol=0)


def _result(name: str, checked: int, found: Mapping[str, str], what: str, where: str) -> CheckResult:
    """`found`: what is wrong, by what it is wrong of."""
    words = f"{checked:,} {where} of the release were made again, all the same"
    if found:
        first, wrong = next(iter(found.items()))
        words = (
            f"{len(found):,} of {checked:,} {where} of the release are not what they should be: {what}; {first} {wrong}."
            " Compare the code that writes releases with the last one that passed, then run again"
        )
    return CheckResult(name, len(found), 0, "block", not found, words)


def _similar_items(inputs: CheckInput, size: int) -> CheckResult:
    """Similarities of some items, from the users who had them (see ItemToItem, whose parameters they have). Of items that tie with
    the first that was cut off, any may be there."""
    state, reader, listed = inputs.state, inputs.reader, inputs.rules.listed
    count, kind, length = state.shape[1], ItemToItem(), inputs.settings.lists.length
    had = state.bought()
    buyers, users_of = np.asarray(had.sum(0)).ravel(), had.tocsc()
    weights = np.maximum(np.diff(had.indptr), 1) ** -kind.user_damping
    items, found = np.random.default_rng(inputs.settings.seed).permutation(count)[:size].tolist(), {}
    for item in items:
        users = users_of.indices[users_of.indptr[item] : users_of.indptr[item + 1]]
        scores = (weights[users] @ had[users]) / ((buyers[item] * buyers) ** kind.damping + kind.shrinkage)
        scores[item] = 0
        best = np.lexsort((np.arange(count), -scores))
        least = scores[best[length]] if length < count else 0.0
        sure = [row for row in best[:length] if listed[row] and scores[row] > least * (1 + TIE)]
        tied = {str(state.item_ids[row]) for row in np.flatnonzero(listed & (scores > 0) & _close(scores, np.full(count, least)))}
        answer = reader.similar(reader.rows.get(str(state.item_ids[item]), 0), length)
        read = list(zip(reader.ids(answer), answer.scores, strict=True))
        rest = [id for id, _ in read[len(sure) :] if id not in tied]
        made = [(str(state.item_ids[row]), float(scores[row])) for row in sure]
        if wrong := difference(made, read[: len(sure)]) or (f"has {rest[0]}, which is not similar enough" if rest else ""):
            found[f"item {state.item_ids[item]}"] = wrong
    return _result("similar_items_remade", len(items), found, "other items go with these", "rows of similar items")


def _fallback(inputs: CheckInput) -> CheckResult:
    """What strangers get: counted anew, for some of the segments."""
    state, rules, reader = inputs.state, inputs.rules, inputs.reader
    users, items = (state.history[name][state.history["days"] <= FILL_DAYS] for name in ("user_index", "item_index"))
    month, ever = (np.nan_to_num(state.items[name]) for name in (f"target_events_{FILL_DAYS}d", "target_events"))
    segments = np.unique(state.users["segment"])

    def popular(sales: NDArray) -> list[str]:
        order = np.lexsort((np.arange(len(sales)), -ever, -month, -sales))
        return rules.shorten(order[state.items["is_available"][order]])

    expected = {("popular", ""): popular(np.zeros(state.shape[1]))}
    for segment in np.random.default_rng(inputs.settings.seed).permutation(segments)[:SEGMENTS]:
        own = state.users["segment"][users] == segment
        expected["segment", str(segment)] = popular(np.bincount(items[own], minlength=state.shape[1]))
    shown = set(state.item_ids[rules.listed].tolist())
    expected["static", ""] = [id for id in inputs.settings.rules.static if id in shown]
    read = {rung: [reader.item_ids[row] for row in rows] for rung, rows in reader.fallback.items()}
    wrong = {" ".join(rung).strip(): difference(_placed(ids), _placed(read.get(rung, []))) for rung, ids in expected.items()}
    found = {f"the list {name}": said for name, said in wrong.items() if said}
    if strange := {name for kind, name in read if kind == "segment"} ^ set(segments.tolist()):
        found["segments"] = f"differ: {', '.join(sorted(strange)[:5])}"
    return _result("fallback_remade", len(expected), found, "other items are popular", "fallback lists")


def _placed(ids: Sequence[str]) -> Ranked:
    """As `difference` takes them, each at its own place."""
    return [(id, float(place)) for place, id in enumerate(ids)]


def _users(inputs: CheckInput, rows: NDArray[np.int64]) -> CheckResult:
    """What the release knows of some users, against the events themselves: the newest events must be there."""
    reader, found = inputs.reader, {}
    for user, (segment, events) in inputs.features.last_targets(rows.tolist()).items():
        try:
            known = reader.user(user)
        except RecsysError as error:
            found[f"user {user}"] = f"cannot be read: {error}"
            continue
        newest = dict(reversed(events))  # event of each item: the newest comes last
        expected = sorted(newest.items(), key=lambda event: (event[1], event[0]))[:HISTORY]
        if known is None:
            found[f"user {user}"] = "is not there"
        elif known.segment != segment:
            found[f"user {user}"] = f"is of segment {known.segment}, not {segment}"
        elif wrong := difference(expected, list(zip((reader.item_ids[row] for row in known.seen), known.days, strict=True))):
            found[f"user {user}"] = wrong
    what = f"segment or last target events before {inputs.features.as_of} are others"
    return _result("users_remade", len(rows), found, what, "users")


def _items(inputs: CheckInput) -> CheckResult:
    state, reader, found = inputs.state, inputs.reader, {}
    available = pq.read_table(inputs.release.path / "items.parquet", columns=["is_available"])["is_available"].to_pylist()
    columns = zip(reader.titles, reader.categories, reader.prices, available, reader.listed.tolist(), strict=True)
    read = dict(zip(reader.item_ids, columns, strict=True))
    made = [state.items[name].tolist() for name in ("title", "category", "is_available")]
    made.insert(2, [None if np.isnan(price) else price for price in prices(state).tolist()])
    known = dict(zip(state.item_ids.tolist(), zip(*made, inputs.rules.listed.tolist(), strict=True), strict=True))
    for id in sorted({*known, *read}):
        if known.get(id) != read.get(id):
            found[f"item {id}"] = f"is {read.get(id, 'not there')}, not {known.get(id, 'there')}"
    if not found and reader.item_ids != list(known):
        found["the items"] = "stand in another order than in the state, so that the rows in lists mean other items"
    return _result("items_remade", len(known), found, "title, category, price, is_available or is_listed are others", "items")


def _features(inputs: CheckInput) -> CheckResult:
    """Counts among the features that lists are made from, against the events themselves."""
    state, found = inputs.state, {}
    for table, columns in inputs.features.count_targets().items():
        ids = state.user_ids if table == "users" else state.item_ids
        for name, counted in columns.items():
            known, counts = (np.nan_to_num(column.astype(float)) for column in (getattr(state, table)[name], counted))
            for row in np.flatnonzero(~np.isclose(known, counts, rtol=COUNTED)).tolist():
                found[f"{table.removesuffix('s')} {ids[row]}"] = f"has {known[row]:g} {name}, not {counts[row]:g}"
    return _result("features_remade", sum(state.shape), found, "the features do not count these events", "users and items")


def _dates(inputs: CheckInput) -> CheckResult:
    """Release, features, raw snapshot and model must speak of the same day."""
    about, day, parents = inputs.reader.about, inputs.features.as_of.isoformat(), inputs.release.manifest.parents
    features, model = (inputs.store.find(kind, parents[kind]) for kind in ("features", "model"))
    raw = inputs.store.find("raw", features.parents["raw"]) if features else None
    found = {}
    if about["as_of"] != day:
        found["release.json"] = f"is as of {about['as_of']}, the features as of {day}"
    if parents["features"] != inputs.features.id:
        found["the manifest"] = f"names features {parents['features']}, but lists were checked against {inputs.features.id}"
    if inputs.state.cutoff != inputs.features.as_of:
        found["the state"] = f"is of {inputs.state.cutoff}, the features as of {day}"
    if features and (asked := features.made_from.get("as_of")) and asked != day:
        found["the features"] = f"were asked for as of {asked}, and are as of {day}"
    if model and model.made_from["as_of"] != about["trained_as_of"]:
        found["the model"] = f"has learned up to {model.made_from['as_of']}, but release.json says {about['trained_as_of']}"
    if about["trained_as_of"] > day:
        found["release.json"] = f"has a model of {about['trained_as_of']}, which is after {day}"
    if raw is None or model is None:
        found["the manifest"] = f"names a {'model' if raw else 'raw snapshot'} that is not in the store"
    elif (landed := raw.made_from.get("landed_on", day)) < (inputs.features.as_of - timedelta(days=2)).isoformat():
        found["the raw snapshot"] = f"was landed on {landed}, before the features' day {day}"
    if (last := inputs.features.counts()["last_day"]) >= day:
        found["the events"] = f"reach up to {last}, and {day} is not before it"
    words = f"release, state, features, raw snapshot and model are all as of {day}"
    if found:
        words = (
            "; ".join(f"{name} {wrong}" for name, wrong in found.items())
            + ". Lists of one day must come of the data of that day: run again"
        )
    return CheckResult("as_of", about["as_of"], day, "block", not found, words)


def _facts(inputs: CheckInput) -> CheckResult:
    """What the release tells of itself: the service goes by it."""
    about, settings = inputs.reader.about, inputs.settings
    facts = {
        "recommender": inputs.winner,
        "target": settings.dataset.target,
        "horizon_days": settings.dataset.horizon_days,
        "exclude_seen": settings.dataset.exclude_seen,
        "length": settings.lists.length,
    }
    wrong = [f"{name} is {about.get(name)}, not {value}" for name, value in facts.items() if about.get(name) != value]
    words = "; ".join(wrong) or "it names the recommender and the settings of this run"
    return CheckResult("release_json", len(wrong), 0, "block", not wrong, f"release.json: {words}{'; run again' if wrong else ''}")


def _holdout(inputs: CheckInput) -> CheckResult:
    """The metrics that the next release is compared with: the winner's on the holdout, or those of the live release's file where
    only lists are new."""
    read = pq.read_table(inputs.release.path / "holdout.parquet")
    if windows := inputs.evaluations.get(inputs.winner):
        made = holdout_table({list_kind: found[0] for list_kind, found in windows.items()})
    elif inputs.champion:
        made = pq.read_table(inputs.champion.path / "holdout.parquet")
    else:
        made = read
    words = f"holdout.parquet holds the metrics of {inputs.winner}"
    words += (
        "" if made.equals(read) else f", but not those of this model: it has {read.num_rows:,} rows of {made.num_rows:,}; run again"
    )
    return CheckResult("holdout_kept", read.num_rows, made.num_rows, "block", made.equals(read), words)
