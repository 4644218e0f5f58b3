"""Do lists fit their own user? What a list holds is compared with what its user had, and with what another user of the same segment
and similar activity had. Lists of other people fit no better than by chance, in whatever part of the users they are."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from scipy import sparse

from recsys.features import State, matrix, places
from recsys.recommenders import CHUNK, LIST_KINDS, position
from recsys.releases import read_all
from recsys.validation.check_input import CheckInput
from recsys.validation_report import CheckResult

PARTS, SMALLEST = 16, 100  # of the range of users, and users of one; more where parts would be larger than the writer's chunks
DEVIATIONS = 3.0  # standard deviations of a mean within which it is noise: some hundred groups are looked at
SECOND_LOOKS, SECOND_LOOK = 5, 200  # groups, and users of each, whose lists are made again before they are called wrong


@dataclass(frozen=True)
class UserFit:
    """Of some users: 1 where the own list fits the own history better than the other user's, -1 where worse, 0 where alike."""

    rows: NDArray[np.int64]
    signs: NDArray[np.float64]

    def __str__(self) -> str:
        return f"{self.mean:.2f} +- {self.noise:.2f} of {len(self.rows):,} users"

    @property
    def mean(self) -> float:
        return float(self.signs.mean()) if len(self.signs) else 0.0

    @property
    def noise(self) -> float:
        return DEVIATIONS * float(self.signs.std()) / max(len(self.signs), 1) ** 0.5 if len(self.signs) else 0.0

    def of(self, members: NDArray[np.bool_]) -> "UserFit":
        """The same of those in a mask over all users."""
        kept = members[self.rows]
        return UserFit(self.rows[kept], self.signs[kept])


def check(inputs: CheckInput, users_of_part: int, min_users: int, min_own: float) -> Iterator[CheckResult]:
    """`users_of_part`: users looked at in each part of their range. `min_users`: the smallest group that says anything. `min_own`:
    share of the usual fit that must be left."""
    known, rows = UserHistory(inputs), _drawn(inputs.state, users_of_part, inputs.settings.seed)
    for list_kind, (user_ids, lists) in inputs.lists.items():
        listed = _listed(inputs, inputs.state, user_ids, lists.items)
        yield _judge(inputs, known, list_kind, listed, known.fit(listed, rows, LIST_KINDS[list_kind]), min_users, min_own)


def _judge(
    inputs: CheckInput,
    known: "UserHistory",
    list_kind: str,
    listed: NDArray[np.int32],
    fit: UserFit,
    min_users: int,
    min_own: float,
) -> CheckResult:
    """The users of the holdout must be met as well as there. Others may be far from it: a group of them is wrong where lists made
    again fit better."""
    name, where, (usual, users) = f"{list_kind}_own_user", _where(inputs), _reference(inputs, known, list_kind)
    least = min_own * (usual.mean - usual.noise)
    if len(usual.rows) < min_users or least <= 0:
        words = (
            f"{where}, lists fit their own user no better than a similar one beyond noise ({usual}), so nothing is asked of these"
        )
        return CheckResult(name, fit.mean, 0.0, "block", True, words)
    same = fit.of(np.isin(inputs.state.user_ids, users))
    bad = {f"the users judged {where}": same} if len(same.rows) >= min_users and same.mean + same.noise < least else {}
    groups = {group: fit.of(members) for group, members in _groups(inputs.state, min_users).items()}
    low = [group for group in groups if len(groups[group].rows) >= min_users and groups[group].mean < least]
    for group in [] if bad else sorted(low, key=lambda group: groups[group].mean)[:SECOND_LOOKS]:
        if _fits_worse(inputs, known, list_kind, listed, groups[group].rows[:SECOND_LOOK]):
            bad[group] = groups[group]
    said = f"from -1 to 1, where 0 is chance; {usual.mean:.2f} {where}"
    if not bad:
        return CheckResult(name, fit.mean, least, "block", True, f"{list_kind} lists fit their own users by {fit} ({said})")
    group, worst = next(iter(bad.items()))
    words = (
        f"{list_kind} lists do not fit their own users among {group}: {worst} ({said}). Lists and users were probably mixed up:"
        " compare the code that makes and writes lists with the last that passed"
    )
    return CheckResult(name, worst.mean, least, "block", False, words)


def _fits_worse(
    inputs: CheckInput, known: "UserHistory", list_kind: str, listed: NDArray[np.int32], rows: NDArray[np.int64]
) -> bool:
    """Whether the lists of these users fit worse than those that the model makes again."""
    users = inputs.state.user_ids[rows]
    made = _listed(inputs, inputs.state, users, inputs.rank(inputs.model, users)[list_kind].items)
    now, again = (known.fit(lists, rows, LIST_KINDS[list_kind]) for lists in (listed, made))
    gained = UserFit(now.rows, again.signs - now.signs)
    return gained.mean > gained.noise


def _listed(inputs: CheckInput, state: State, user_ids: NDArray[np.str_], items: NDArray[np.int32]) -> NDArray[np.int32]:
    """Lists as deep as the holdout's, of all users of a state; -1 where there is no item, or one that the state does not know."""
    listed = np.full((state.shape[0], max(inputs.settings.evaluation.ks)), -1, np.int32)
    rows, items = state.rows(user_ids), items[:, : listed.shape[1]]
    listed[rows[rows >= 0], : items.shape[1]] = np.where(items < state.shape[1], items, -1)[rows >= 0]
    return listed


def _groups(state: State, min_users: int) -> dict[str, NDArray[np.bool_]]:
    """Masks over all users: thirds by activity, segments, and parts of the range of users."""
    third, parts, segments = activity(state.users["target_events"]), _parts(state.shape[0]), state.users["segment"]
    names, sizes = np.unique(segments, return_counts=True)
    groups = {
        f"the {name} third of the users": third == place for place, name in enumerate(("least active", "middle", "most active"), 1)
    }
    groups |= {f"users of segment {name}": segments == name for name in names[sizes >= min_users].tolist()}
    for part in range(int(parts.max(initial=-1)) + 1):
        rows = np.flatnonzero(parts == part)
        groups[f"users {state.user_ids[rows[0]]} to {state.user_ids[rows[-1]]}"] = parts == part
    return groups


def activity(events: NDArray) -> NDArray[np.int64]:
    """Third of the users by their number of target events, from 1 to 3; 0 for those without one."""
    third = np.zeros(len(events), np.int64)
    some = np.flatnonzero(events > 0)
    third[some[np.argsort(events[some], kind="stable")]] = 1 + np.arange(len(some)) * 3 // max(len(some), 1)
    return third


def _parts(count: int) -> NDArray[np.int64]:
    """Part of the range of users that each user is in."""
    return np.arange(count) // min(max(-(-count // PARTS), SMALLEST), CHUNK)


def _drawn(state: State, size: int, seed: int) -> NDArray[np.int64]:
    """So many users of each part, drawn from those with a target event."""
    rows = np.random.default_rng(seed).permutation(np.flatnonzero(state.users["target_events"] > 0))
    parts = _parts(state.shape[0])
    rows = rows[np.argsort(parts[rows], kind="stable")]
    return rows[position(parts[rows]) < size]


def _where(inputs: CheckInput) -> str:
    return "on the holdout" if inputs.winner in inputs.evaluations else "in the live release"


def _reference(inputs: CheckInput, known: "UserHistory", list_kind: str) -> tuple[UserFit, NDArray[np.str_]]:
    """How other lists of the same model fit, and the ids of their users: those of the holdout; where only lists are new, which is
    where nothing was evaluated, those that are live."""
    exclude_seen = LIST_KINDS[list_kind]
    if inputs.winner in inputs.evaluations:
        window, state = inputs.holdout(inputs.winner, list_kind), inputs.holdout_state
        listed = _listed(inputs, state, window.users, window.lists)
        return UserHistory(inputs, state).fit(listed, state.rows(window.users), exclude_seen), window.users
    if inputs.champion is None:
        return UserFit(np.zeros(0, np.int64), np.zeros(0)), np.zeros(0, str)
    users, lists = read_all(inputs.champion, list_kind)
    item_ids = pq.read_table(inputs.champion.path / "items.parquet", columns=["item_id"])["item_id"].to_numpy(zero_copy_only=False)
    columns = np.append(places(inputs.state.item_ids, item_ids.astype(str)), -1).astype(np.int32)
    rows = inputs.state.rows(users)
    return known.fit(_listed(inputs, inputs.state, users, columns[lists.items]), rows[rows >= 0], exclude_seen), users[rows >= 0]


class UserHistory:
    """What users of a state had, and how alike items are, by the release's similar items."""

    def __init__(self, inputs: CheckInput, state: State | None = None):
        self.had = (state.owned() if state else inputs.had).astype(bool).astype(np.float32)
        self.similar, state = inputs.reader.neighbours, state or inputs.state
        categories, codes = np.unique(state.items["category"], return_inverse=True)
        self.categories = matrix(np.ones(len(codes)), np.arange(len(codes)), codes, (len(codes), len(categories)))
        self.segments = np.unique(state.users["segment"], return_inverse=True)[1]

    def fit(self, lists: NDArray[np.int32], rows: NDArray[np.int64], exclude_seen: bool) -> UserFit:
        """`lists` are of all users; those of `rows` are judged. Lists of new items hold nothing that the user had, so only what is
        like it counts there."""
        rows, others = self._pairs(rows)
        signs = np.zeros(len(rows))
        for start in range(0, len(rows), CHUNK):
            part = slice(start, start + CHUNK)
            for measure in (self._alike, self._same_category) if exclude_seen else (self._had, self._alike, self._same_category):
                own, other = (measure(users[part], lists[rows[part]]) for users in (rows, others))
                signs[part] = np.where(signs[part] == 0, np.sign(own - other), signs[part])
        return UserFit(rows, signs)

    def _pairs(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Users with another one of the same segment who had about as many items. Who had nothing, or is alone, is left out."""
        sizes = np.diff(self.had.indptr)
        rows = rows[sizes[rows] > 0]
        rows = rows[np.lexsort((sizes[rows], self.segments[rows]))]
        if not len(rows):
            return rows, rows
        others = np.where(self.segments[np.roll(rows, -1)] == self.segments[rows], np.roll(rows, -1), np.roll(rows, 1))
        paired = (self.segments[others] == self.segments[rows]) & (others != rows)
        return rows[paired], others[paired]

    def _had(self, users: NDArray[np.int64], lists: NDArray[np.int32]) -> NDArray[np.float64]:
        return _mean_at(self.had[users], lists)

    def _alike(self, users: NDArray[np.int64], lists: NDArray[np.int32]) -> NDArray[np.float64]:
        return _mean_at(_shares(self.had[users]) @ self.similar, lists)

    def _same_category(self, users: NDArray[np.int64], lists: NDArray[np.int32]) -> NDArray[np.float64]:
        shares = (_shares(self.had[users]) @ self.categories).tocsr()
        rows, ranks = np.nonzero(lists >= 0)
        codes = self.categories.indices[lists[rows, ranks]]
        found = np.bincount(rows, np.asarray(shares[rows, codes]).ravel(), len(lists))
        return np.round(found / np.maximum((lists >= 0).sum(1), 1), 6)  # shares of float32: what is alike is equal


def _mean_at(values: sparse.csr_matrix, lists: NDArray[np.int32]) -> NDArray[np.float64]:
    """Mean of each row's values at the items of its list."""
    rows, ranks = np.nonzero(lists >= 0)
    found = np.bincount(rows, np.asarray(values.tocsr()[rows, lists[rows, ranks]]).ravel(), len(lists))
    return np.round(found / np.maximum((lists >= 0).sum(1), 1), 9)


def _shares(had: sparse.csr_matrix) -> sparse.csr_matrix:
    """Each row divided by its number of items."""
    return sparse.diags(1 / np.maximum(np.diff(had.indptr), 1)) @ had
