"""Checks that lists fit their own user.

Each list is compared with the history of its user, and with the history of another user of the same segment with similar activity.
A list that was made for somebody else fits both equally well. The check looks at groups of users, so that it finds such lists even
if they are in one part of the release only.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from recsys.features import State, matrix
from recsys.recommenders import CHUNK, LIST_KINDS, position
from recsys.releases import read_lists_for
from recsys.validation.check_input import CheckInput
from recsys.validation_report import CheckResult

PARTS, MIN_PART = 16, 100  # number of ranges of user ids, and users in each; a range is at most as large as a chunk of the writer
DEVIATIONS = 3.0  # a mean may be off by so many standard deviations: about a hundred groups are compared
REMADE_GROUPS, REMADE_USERS = 5, 200  # suspicious groups, and users of each, whose lists are made again before the check blocks


@dataclass(frozen=True)
class UserFit:
    """How well the lists of some users fit them. signs: 1 if the list fits its own user better than the other user, -1 if it fits
    worse, 0 if equally well. rows: rows of the users in the state."""

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
        """Restricted to some users, given as a mask over all users of the state."""
        selected = members[self.rows]
        return UserFit(self.rows[selected], self.signs[selected])


def check(inputs: CheckInput, users_of_part: int, min_users: int, min_own: float) -> Iterator[CheckResult]:
    """`users_of_part`: users sampled from each range of user ids. `min_users`: size of the smallest group that is compared.
    `min_own`: share of the usual fit that every group must reach."""
    known, rows = UserHistory(inputs), _sample(inputs.state, users_of_part, inputs.settings.seed)
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
    """Compares the fit of groups of users with the usual fit.

    The users of the holdout must fit as well as on the holdout. Other groups may rightly fit less well, so such a group only counts
    as wrong if lists that are made again fit better.
    """
    name = f"{list_kind}_own_user"
    where = "on the holdout" if inputs.winner in inputs.evaluations else "in the live release"
    usual, users = _reference(inputs, known, list_kind)
    minimum = min_own * (usual.mean - usual.noise)
    if len(usual.rows) < min_users or minimum <= 0:
        message = f"{where}, lists fit their own user no better than a similar user ({usual}), so this cannot be checked"
        return CheckResult(name, fit.mean, 0.0, "block", True, message)
    same = fit.of(np.isin(inputs.state.user_ids, users))
    bad = {f"the users judged {where}": same} if len(same.rows) >= min_users and same.mean + same.noise < minimum else {}
    groups = {group: fit.of(members) for group, members in _groups(inputs.state, min_users).items()}
    low = [group for group in groups if len(groups[group].rows) >= min_users and groups[group].mean < minimum]
    for group in [] if bad else sorted(low, key=lambda group: groups[group].mean)[:REMADE_GROUPS]:
        if _fits_worse(inputs, known, list_kind, listed, groups[group].rows[:REMADE_USERS]):
            bad[group] = groups[group]
    scale = f"from -1 to 1, where 0 is chance; {usual.mean:.2f} {where}"
    if not bad:
        return CheckResult(name, fit.mean, minimum, "block", True, f"{list_kind} lists fit their own users by {fit} ({scale})")
    group, worst = next(iter(bad.items()))
    message = (
        f"{list_kind} lists do not fit their own users among {group}: {worst} ({scale}). Lists and users were probably mixed up:"
        " compare the code that makes and writes lists with the last version that passed"
    )
    return CheckResult(name, worst.mean, minimum, "block", False, message)


def _fits_worse(
    inputs: CheckInput, known: "UserHistory", list_kind: str, listed: NDArray[np.int32], rows: NDArray[np.int64]
) -> bool:
    """Whether lists that the model makes again fit these users better than the released lists, beyond noise."""
    users = inputs.state.user_ids[rows]
    remade = _listed(inputs, inputs.state, users, inputs.rank(inputs.model, users)[list_kind].items)
    now, again = (known.fit(lists, rows, LIST_KINDS[list_kind]) for lists in (listed, remade))
    gain = UserFit(now.rows, again.signs - now.signs)
    return gain.mean > gain.noise


def _listed(inputs: CheckInput, state: State, user_ids: NDArray[np.str_], items: NDArray[np.int32]) -> NDArray[np.int32]:
    """Lists by row of the state's users, with as many items as on the holdout; -1 for no item, or one that the state lacks."""
    listed = np.full((state.shape[0], max(inputs.settings.evaluation.ks)), -1, np.int32)
    rows, items = state.rows(user_ids), items[:, : listed.shape[1]]
    listed[rows[rows >= 0], : items.shape[1]] = np.where(items < state.shape[1], items, -1)[rows >= 0]
    return listed


def _groups(state: State, min_users: int) -> dict[str, NDArray[np.bool_]]:
    """Masks over all users: thirds by activity, segments, and ranges of user ids."""
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
    """Number of the range of ids that each user belongs to."""
    return np.arange(count) // min(max(-(-count // PARTS), MIN_PART), CHUNK)


def _sample(state: State, size: int, seed: int) -> NDArray[np.int64]:
    """Samples `size` users with a target event from each range of ids."""
    rows = np.random.default_rng(seed).permutation(np.flatnonzero(state.users["target_events"] > 0))
    parts = _parts(state.shape[0])
    rows = rows[np.argsort(parts[rows], kind="stable")]
    return rows[position(parts[rows]) < size]


def _reference(inputs: CheckInput, known: "UserHistory", list_kind: str) -> tuple[UserFit, NDArray[np.str_]]:
    """The usual fit of the same model's lists, and the ids of their users. Taken from the holdout; in a daily run, which evaluates
    nothing, from the live release."""
    exclude_seen = LIST_KINDS[list_kind]
    if inputs.winner in inputs.evaluations:
        window, state = inputs.holdout(inputs.winner, list_kind), inputs.holdout_state
        listed = _listed(inputs, state, window.users, window.lists)
        return UserHistory(inputs, state).fit(listed, state.rows(window.users), exclude_seen), window.users
    if inputs.live is None:
        return UserFit(np.zeros(0, np.int64), np.zeros(0)), np.zeros(0, str)
    users, items = read_lists_for(inputs.state, inputs.live, list_kind)
    rows = inputs.state.rows(users)
    return known.fit(_listed(inputs, inputs.state, users, items), rows[rows >= 0], exclude_seen), users[rows >= 0]


class UserHistory:
    """The items that users of a state had, and the similarity of items according to the release's similar items."""

    def __init__(self, inputs: CheckInput, state: State | None = None):
        self.had = (state.owned() if state else inputs.had).astype(bool).astype(np.float32)
        self.similar, state = inputs.reader.neighbours, state or inputs.state
        categories, codes = np.unique(state.items["category"], return_inverse=True)
        self.categories = matrix(np.ones(len(codes)), np.arange(len(codes)), codes, (len(codes), len(categories)))
        self.segments = np.unique(state.users["segment"], return_inverse=True)[1]

    def fit(self, lists: NDArray[np.int32], rows: NDArray[np.int64], exclude_seen: bool) -> UserFit:
        """Fit of the lists of the users `rows`; `lists` holds those of all users. A list that excludes seen items has none of the
        items that its user had, so only similar items and categories are compared there."""
        measures = [self._similarity, self._same_category] if exclude_seen else [self._had, self._similarity, self._same_category]
        rows, others = self._pairs(rows)
        signs = np.zeros(len(rows))
        for start in range(0, len(rows), CHUNK):
            part = slice(start, start + CHUNK)
            for measure in measures:
                own, other = (measure(users[part], lists[rows[part]]) for users in (rows, others))
                signs[part] = np.where(signs[part] == 0, np.sign(own - other), signs[part])
        return UserFit(rows, signs)

    def _pairs(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Pairs each user with another user of the same segment who had about as many items. Users who had nothing, and users who
        are alone in their segment, are left out."""
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

    def _similarity(self, users: NDArray[np.int64], lists: NDArray[np.int32]) -> NDArray[np.float64]:
        return _mean_at(_shares(self.had[users]) @ self.similar, lists)

    def _same_category(self, users: NDArray[np.int64], lists: NDArray[np.int32]) -> NDArray[np.float64]:
        shares = (_shares(self.had[users]) @ self.categories).tocsr()
        rows, ranks = np.nonzero(lists >= 0)
        codes = self.categories.indices[lists[rows, ranks]]
        found = np.bincount(rows, np.asarray(shares[rows, codes]).ravel(), len(lists))
        return np.round(found / np.maximum((lists >= 0).sum(1), 1), 6)  # rounded, so that float32 noise does not break ties


def _mean_at(values: sparse.csr_matrix, lists: NDArray[np.int32]) -> NDArray[np.float64]:
    """Mean of each row's values over the items of its list."""
    rows, ranks = np.nonzero(lists >= 0)
    found = np.bincount(rows, np.asarray(values.tocsr()[rows, lists[rows, ranks]]).ravel(), len(lists))
    return np.round(found / np.maximum((lists >= 0).sum(1), 1), 9)


def _shares(had: sparse.csr_matrix) -> sparse.csr_matrix:
    """Each row divided by its number of items."""
    return sparse.diags(1 / np.maximum(np.diff(had.indptr), 1)) @ had
