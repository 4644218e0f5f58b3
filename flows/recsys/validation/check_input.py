"""What checks judge."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from recsys import releases
from recsys.evaluation import Interval, Robustness, ScoredWindow, ScoredWindows, compare
from recsys.features import Features, State, matrix
from recsys.recommenders import LIST_KINDS, SIMPLE, Lists, Recommender, load
from recsys.releases import BusinessRules, Reader
from recsys.settings import Settings
from recsys.store import Snapshot, Store


@dataclass(frozen=True)
class CheckInput:
    """A release that is not yet published, and all that led to it.

    evaluations: of every recommender, the holdout's window first. champion: the release that is live, if there is one,
    and rival the one that came of its model's training;
    past: the features as of its day, where that is an earlier one. judged: the features that the winner was trained and judged
    on, where those are not this run's.
    In an audit only, empty otherwise: twins, the winner's evaluations under other seeds and on resampled users; robustness,
    every recommender's holdout on bad days; bad_days, the features of those days at the holdout's cutoff, and of
    perturbations.WORLD at the last.
    """

    store: Store
    settings: Settings
    project: Path
    release: Snapshot
    features: Features
    winner: str
    evaluations: Mapping[str, ScoredWindows]
    today: date = date.min
    champion: Snapshot | None = None
    past: Features | None = None
    twins: Sequence[ScoredWindows] = ()
    robustness: Mapping[str, Robustness] = field(default_factory=dict)
    bad_days: Mapping[str, Features] = field(default_factory=dict)
    judged: Features | None = None
    rival: Snapshot | None = None

    @property
    def metric(self) -> str:
        """The one that decides."""
        return f"ndcg@{self.settings.evaluation.k}"

    @property
    def repeat(self) -> str:
        """The kind of list that decides and is served by default."""
        return self.settings.list_kind

    def holdout(self, name: str, list_kind: str = "") -> ScoredWindow:
        return self.evaluations[name][list_kind or self.repeat][0]

    def gain(self, other: str, list_kind: str) -> Interval:
        """By how much the winner is better than another recommender on the holdout, user by user."""
        return compare([self.holdout(self.winner, list_kind)], [self.holdout(other, list_kind)], self.metric, self.settings)

    def best_simple(self, list_kind: str) -> str:
        """The simple recommender that is best on the holdout."""
        simple = {name: self.holdout(name, list_kind) for name in SIMPLE if name in self.evaluations}
        return max(simple, key=lambda name: simple[name].scores[self.metric].mean() if len(simple[name].users) else 0.0)

    @cached_property
    def state(self) -> State:
        """What the lists were made from."""
        return self.features.state(self.features.as_of)

    @cached_property
    def holdout_state(self) -> State:
        """What the winner was judged on. Users and items have rows of their own where `judged` is given."""
        features = self.judged or self.features
        return features.state(features.evaluated[0])

    @property
    def trained_as_of(self) -> date:
        """The day up to which the winner has learned."""
        return releases.trained_as_of(self.release)

    @cached_property
    def model(self) -> Recommender:
        """The winner, fitted on everything before the last cutoff."""
        return load(self.store.load("model", self.release.manifest.parents["model"]).path)

    @cached_property
    def models(self) -> dict[str, Recommender]:
        """What made the lists of the release: the winner, and the recommenders of `lists.alternatives`."""
        alternatives = self.release.manifest.made_from.get("alternatives", {})
        return {name: load(self.store.load("model", id).path) for name, id in alternatives.items()} | {self.winner: self.model}

    def rank(self, model: Recommender, user_ids: NDArray[np.str_], at_a_time: int = 0) -> dict[str, Lists]:
        """By kind of list, the lists that a model makes for some users, as they should be in the release; `at_a_time` as in
        `BusinessRules`."""
        parts, found = [ruled for _, ruled in self.rules.rank(model, user_ids, at_a_time)], {}
        for list_kind in LIST_KINDS:
            lists = [part[list_kind].lists for part in parts]
            found[list_kind] = Lists(np.concatenate([one.items for one in lists]), np.concatenate([one.scores for one in lists]))
        return found

    @cached_property
    def reader(self) -> Reader:
        """Answers from the release as the service will."""
        return Reader(self.release)

    @cached_property
    def lists(self) -> dict[str, tuple[NDArray[np.str_], Lists]]:
        """Per kind of list, every user and list of the release, read back as the service will."""
        return {list_kind: releases.read_all(self.release, list_kind) for list_kind in LIST_KINDS}

    @cached_property
    def had(self) -> sparse.csr_matrix:
        """Ones where a user had a target event with an item at any time: (users, items)."""
        users, items = self.features.target_pairs()
        return matrix(np.ones(len(users)), users, items, self.state.shape)

    @cached_property
    def rules(self) -> BusinessRules:
        """What the lists must obey."""
        return BusinessRules(self.state, self.settings)
