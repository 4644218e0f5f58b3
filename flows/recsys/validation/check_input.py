"""The input of checks: a release that is not yet published, with its model, data and evaluations."""

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
from recsys.releases import SIMPLEST, BusinessRules, Reader, SessionAnswers, concatenate
from recsys.settings import Settings
from recsys.store import Snapshot, Store


@dataclass(frozen=True)
class CheckInput:
    """A release that is not yet published, with everything that it was made from.

    features: the features that the lists were made from. winner: name of the recommender that was selected. evaluations: the scored
    windows of each recommender, the holdout first. live: the live release, None at a first run. rival: the release of the run that
    trained the live model; the live release may be a daily update of its lists. past: features as of the rival's day, None if that
    is not earlier than this run's. judged: the features that the winner was trained and evaluated on, None if
    those are `features`. sessions: how the release was to answer live sessions.

    Filled by audits only. refits: the winner's evaluations under other seeds and on resampled users. robustness: the holdout of
    each recommender on perturbed data. bad_days: the perturbed features by name, at the holdout's cutoff; those of
    perturbations.WORLD are at the last cutoff.
    """

    store: Store
    settings: Settings
    project: Path
    release: Snapshot
    features: Features
    winner: str
    evaluations: Mapping[str, ScoredWindows]
    today: date = date.min
    live: Snapshot | None = None
    past: Features | None = None
    refits: Sequence[ScoredWindows] = ()
    robustness: Mapping[str, Robustness] = field(default_factory=dict)
    bad_days: Mapping[str, Features] = field(default_factory=dict)
    judged: Features | None = None
    rival: Snapshot | None = None
    sessions: SessionAnswers = SIMPLEST

    @property
    def metric(self) -> str:
        """The metric that recommenders are compared by."""
        return self.settings.evaluation.metric

    @property
    def served_kind(self) -> str:
        """The kind of list that is served by default and that recommenders are selected on."""
        return self.settings.list_kind

    def holdout(self, name: str, list_kind: str = "") -> ScoredWindow:
        return self.evaluations[name][list_kind or self.served_kind][0]

    def gain(self, other: str, list_kind: str) -> Interval:
        """Difference of the metric between the winner and another recommender on the holdout, paired by user."""
        return compare([self.holdout(self.winner, list_kind)], [self.holdout(other, list_kind)], self.metric, self.settings)

    def best_simple(self, list_kind: str) -> str:
        """The simple recommender that is best on the holdout."""
        simple = {name: self.holdout(name, list_kind) for name in SIMPLE if name in self.evaluations}
        return max(simple, key=lambda name: simple[name].scores[self.metric].mean() if len(simple[name].users) else 0.0)

    @cached_property
    def state(self) -> State:
        """The state that the lists were made from."""
        return self.features.state(self.features.as_of)

    @cached_property
    def holdout_state(self) -> State:
        """The state at the holdout's cutoff. If `judged` is given, its rows of users and items differ from those of `state`."""
        features = self.judged or self.features
        return features.state(features.evaluated[0])

    @property
    def trained_as_of(self) -> date:
        """The cutoff that the winner was trained at."""
        return releases.trained_as_of(self.release)

    @cached_property
    def model(self) -> Recommender:
        """The winner, fitted on everything before the last cutoff."""
        return load(self.store.load("model", self.release.manifest.parents["model"]).path)

    @cached_property
    def models(self) -> dict[str, Recommender]:
        """All models that made lists of the release: the recommenders of `lists.alternatives`, and the winner last."""
        alternatives = self.release.manifest.made_from.get("alternatives", {})
        return {name: load(self.store.load("model", id).path) for name, id in alternatives.items()} | {self.winner: self.model}

    def rank(self, model: Recommender, user_ids: NDArray[np.str_], at_a_time: int = 0) -> dict[str, Lists]:
        """Makes the lists of some users again, as they should be in the release, by kind of list. `at_a_time`: users ranked
        together, see `BusinessRules.rank`."""
        parts = [ruled for _, ruled in self.rules.rank(model, user_ids, at_a_time)]
        return {list_kind: concatenate([part[list_kind].lists for part in parts]) for list_kind in LIST_KINDS}

    @cached_property
    def reader(self) -> Reader:
        """The release, opened with the code of the service."""
        return Reader(self.release)

    @cached_property
    def lists(self) -> dict[str, tuple[NDArray[np.str_], Lists]]:
        """User ids and lists of the release by kind of list, read with the code of the service."""
        return {list_kind: releases.read_all(self.release, list_kind) for list_kind in LIST_KINDS}

    @cached_property
    def had(self) -> sparse.csr_matrix:
        """Matrix (users, items) of `state` with a 1 for each pair that ever had a target event."""
        users, items = self.features.target_pairs()
        return matrix(np.ones(len(users)), users, items, self.state.shape)

    @cached_property
    def rules(self) -> BusinessRules:
        """The business rules that the lists must follow."""
        return BusinessRules(self.state, self.settings)
