"""Explains why a user has a list: makes it again with the release's own model, features and rules, and keeps the steps."""

import json
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsys import RecsysError
from recsys.features import Features, State
from recsys.recommenders import CANDIDATE_SOURCES, Candidates, Recommender, TwoStage, candidates, load
from recsys.releases.business_rules import RULES, BusinessRules
from recsys.releases.files import read_lists
from recsys.releases.lineage import made_under
from recsys.store import Snapshot, Store


@dataclass(frozen=True)
class ExplainedItem:
    """A candidate of two_stage. proposed_by: candidate sources that proposed it, with their scores. added: contribution of each
    feature to the score, or to its log-odds (see Explanation)."""

    item: int
    score: float
    proposed_by: dict[str, float]
    features: dict[str, float]
    added: dict[str, float]


@dataclass(frozen=True)
class Explanation:
    """How a user's list was made. Items are rows of the state.

    baskets: days ago and items, newest first. looks: days ago and item of views and carts. candidates: best first; empty for
    recommenders of one stage. base: the score that all candidates start from. is_probability: base and contributions add up to the
    log-odds of the score, not to the score. removed: items and the rule that removed each or moved it down. items, scores: the
    list, made again. released: the list in the release.
    """

    user_id: str
    recommender: str
    target: str
    state: State
    rules: BusinessRules
    baskets: list[tuple[float, list[int]]]
    looks: list[tuple[int, int]]
    candidates: list[ExplainedItem]
    base: float
    is_probability: bool
    removed: list[tuple[int, str]]
    items: list[int]
    scores: list[float]
    released: list[int]


@dataclass(frozen=True)
class UnknownUser:
    """A user whom the release does not contain. rungs: item ids of the fallback lists by name, in the order in which they are
    tried."""

    user_id: str
    rungs: dict[str, list[str]]


def explain(store: Store, release_id: str, user_id: str, list_kind: str) -> Explanation | UnknownUser:
    """Makes one user's list of a release again. Raises RecsysError if its model or features were deleted."""
    release, model, features = _open(store, release_id)
    state = features.state(features.as_of)
    row = int(state.rows(np.array([user_id]))[0])
    if row < 0:
        return _stranger(release, user_id)
    rules = BusinessRules(state, features.settings)
    ((_, ruled),) = rules.rank(model, state.user_ids[[row]])
    found, listed = ruled[list_kind], ruled[list_kind].lists.items[0]
    proposed, base = _candidates(model, state, row) if isinstance(model, TwoStage) else ([], 0.0)
    return Explanation(
        user_id,
        model.name,
        features.settings.dataset.target,
        state,
        rules,
        _baskets(state, row),
        _looks(state, row),
        proposed,
        base,
        isinstance(model, TwoStage) and model.fitted_ranker.is_probability,
        [(int(item), RULES[rule]) for item, rule in zip(found.items, found.rules, strict=True)],
        listed[listed >= 0].tolist(),
        found.lists.scores[0][listed >= 0].tolist(),
        [item for _, lists in read_lists(release, list_kind, user=user_id) for item in lists.items[0].tolist() if item >= 0],
    )


def _open(store: Store, id: str) -> tuple[Snapshot, Recommender, Features]:
    release = store.load("release", id)
    if gone := [kind for kind in ("model", "features") if store.find(kind, release.manifest.parents[kind]) is None]:
        raise RecsysError(
            f"release {id} cannot be explained: its {gone[0]} snapshot was deleted; restore it or pass another RELEASE"
        )
    model, features = (store.load(kind, release.manifest.parents[kind]) for kind in ("model", "features"))
    return release, load(model.path), Features(features, made_under(release.manifest))


def _stranger(release: Snapshot, user_id: str) -> UnknownUser:
    fallback = json.loads((release.path / "fallback.json").read_text())
    segments = {f"recently popular in segment {name}": items for name, items in fallback["segments"].items()}
    return UnknownUser(user_id, segments | {"recently popular": fallback["all"], "static": fallback["static"]})


def _baskets(state: State, row: int) -> list[tuple[float, list[int]]]:
    mine = {name: column[state.history["user_index"] == row] for name, column in state.history.items()}
    numbers = np.unique(mine["basket_number"])[::-1]
    lines = [mine["basket_number"] == number for number in numbers]
    return [(float(mine["days"][line].min()), mine["item_index"][line].tolist()) for line in lines]


def _looks(state: State, row: int) -> list[tuple[int, int]]:
    table = state.views_and_carts
    mine = table["user_index"] == row
    return sorted(zip(table["days"][mine].tolist(), table["item_index"][mine].tolist(), strict=True))


def _candidates(model: TwoStage, state: State, row: int) -> tuple[list[ExplainedItem], float]:
    """The candidates of a user, best first, and the score, or its log-odds, that all of them start from."""
    ((_, found),) = candidates(model.candidate_sources, state, np.array([row]))
    used = model.select(found)
    scores = model.score(used)
    added, base = model.fitted_ranker.contributions(used.features)
    proposed_by = dict(_proposed(found))
    made = [
        ExplainedItem(
            int(found.items[place]),
            float(scores[place]),
            {
                name: float(found.features[place, found.columns.index(name)])
                for name in CANDIDATE_SOURCES
                if proposed_by[name][place]
            },
            dict(zip(used.columns, used.features[place].tolist(), strict=True)),
            dict(zip(used.columns, added[place].tolist(), strict=True)),
        )
        for place in np.argsort(-scores, kind="stable")
    ]
    return made, base


def _proposed(found: Candidates) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """For each candidate source, flags of the candidates of one user that it proposed: those with its best scores, ties by item."""
    for name, (_, _, count) in CANDIDATE_SOURCES.items():
        scores = found.features[:, found.columns.index(name)]
        best = np.argsort(-scores, kind="stable")[:count]
        yield name, np.isin(np.arange(len(scores)), best) & (scores > 0)
