"""The oracle and what is said of a window, in a world of three users whose purchases are known."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any, ClassVar, cast

import numpy as np
import pytest

from conftest import make_settings, make_state
from recsys import RecsysError
from recsys.evaluation import holdout
from recsys.evaluation.holdout import ScoredWindow, compare, oracle, summarise, target_share
from recsys.features.snapshot import Features
from recsys.recommenders import oracle as truth
from recsys.recommenders.base import LIST_KINDS, Lists, TooLittleData
from recsys.recommenders.registry import create
from recsys.releases import list_files
from recsys.sources.base import Simulation
from recsys.validation_report import CheckResult

SETTINGS = make_settings()
BASKETS = np.array([[2, 0, 1, 0], [1, 0, 0, 0], [0, 0, 0, 1]])
EXPECTED = np.array([[0.9, 0.5, 0.1, 0.8], [0.2, 0.6, 0.0, 0.0], [0.1, 0.2, 0.3, 0.4]])  # of u0, u1 and i0 to i3


class Dice(Simulation):
    """Knows the first two of the users, and the third no more."""

    max_null_share: ClassVar = {}

    def land(self, folder: Path, until: date | None = None) -> list[CheckResult]:
        return []

    def truth(self, user_ids: np.ndarray, item_ids: np.ndarray, cutoff: date, horizon_days: int) -> np.ndarray:
        assert (cutoff, horizon_days) == (date(2024, 2, 1), 28)
        rows, columns = ([int(id[1:]) for id in ids] for ids in (user_ids, item_ids))
        return np.where(np.array(rows)[:, None] < 2, EXPECTED[rows][:, columns], 0)


class Known:
    """Features at one cutoff: u0 buys i0 and i3, u1 buys i1, u2 buys i2; item i3 is not for sale."""

    state_ = make_state(BASKETS, available=[True, True, True, False])
    evaluated: ClassVar = [state_.cutoff]

    def state(self, cutoff: date) -> Any:
        return self.state_

    def windows(self, cutoff: date) -> list[Any]:
        return []

    def labels(self, cutoff: date) -> tuple[np.ndarray, np.ndarray]:
        return np.array([0, 0, 1, 2], np.int32), np.array([0, 3, 1, 2], np.int32)


FEATURES = cast(Features, Known())


def listed(window: ScoredWindow) -> dict[str, list[int]]:
    return {user: row[row >= 0].tolist() for user, row in zip(window.users.tolist(), window.lists, strict=True)}


@pytest.mark.parametrize("cells", [4, 2_000_000], ids=["a user at a time", "all at once"])
def test_the_oracle_ranks_what_is_available_by_what_is_expected(monkeypatch: pytest.MonkeyPatch, cells: int) -> None:
    monkeypatch.setattr(truth, "CELLS", cells)
    windows = oracle(Dice(), FEATURES, SETTINGS)
    assert listed(windows["all_items"]) == {"u0": [0, 1, 2], "u1": [1, 0], "u2": []}
    assert listed(windows["new_items"]) == {"u0": [1], "u1": [1], "u2": []}
    assert windows["all_items"].scores["hit_rate@10"].tolist() == [1, 1, 0]


def test_a_recommender_is_judged_on_the_same_users_as_the_oracle() -> None:
    """Popularity lists i0 first, which u0 buys; i1 comes to u1 third, after i2."""
    best = oracle(Dice(), FEATURES, SETTINGS)["all_items"]
    window = holdout.evaluate(create("popularity", {"days": 7}), FEATURES, SETTINGS, FEATURES.evaluated)["all_items"][0]
    assert listed(window)["u1"] == [0, 2, 1]
    first = 1 / (1 + 1 / np.log2(3))  # of u0: one of two bought, at the top
    assert best.scores["ndcg@10"] == pytest.approx([first, 1, 0])
    assert window.scores["ndcg@10"] == pytest.approx([first, 0.5, 1 / np.log2(3)])


def test_a_summary_has_every_metric_at_the_depths_asked() -> None:
    window = oracle(Dice(), FEATURES, SETTINGS)["all_items"]
    metrics = ("ndcg", "recall", "hit_rate", "map", "novelty", "popularity_bias", "coverage")
    for ks in ([10], [5, 10, 20]):
        assert set(summarise(window, ks, SETTINGS)) == {f"{metric}@{k}" for metric in metrics for k in ks}
    assert summarise(window, [10], SETTINGS)["coverage@10"].mean == 1


def test_an_item_nobody_bought_counts_as_bought_by_one() -> None:
    assert target_share(Known.state_).tolist() == pytest.approx([2 / 3, 1 / 3, 1 / 3, 1 / 3])


@pytest.mark.parametrize(("users", "decides"), [(9, False), (10, True)])
def test_a_difference_over_few_users_decides_nothing(users: int, decides: bool) -> None:
    names, lists = np.array([f"u{row:02}" for row in range(users)]), np.zeros((users, 1), np.int32)
    better, worse = (ScoredWindow(date(2024, 2, 1), names, {"ndcg@10": np.full(users, score)}, lists, 1) for score in (0.9, 0.1))
    found = compare([better], [worse], "ndcg@10", SETTINGS)
    assert found.mean == pytest.approx(0.8)
    assert (found.low > 0) == decides


class FourHorizons(Known):
    """The same three users in the holdout and in three horizons before it."""

    evaluated: ClassVar = [date(2024, 2, 1) - timedelta(28 * window) for window in range(4)]

    def state(self, cutoff: date) -> Any:
        return replace(self.state_, cutoff=cutoff)


@pytest.mark.parametrize(("users", "windows"), [(3, 2), (4, 4)])
def test_selection_uses_more_horizons_while_it_has_few_users(users: int, windows: int) -> None:
    settings = make_settings(evaluation={"selection_windows": 1, "selection_users": users})
    features = cast(Features, FourHorizons())
    found = holdout.evaluate(create("popularity", {"days": 7}), features, settings, features.evaluated)
    assert {list_kind: len(scored) for list_kind, scored in found.items()} == dict.fromkeys(LIST_KINDS, windows)


class Short(Known):
    """A week of data: the only user who was seen before the cutoff is gone."""

    as_of = date(2024, 1, 8)

    def __init__(self, returning: int):
        self.returning = returning

    def labels(self, cutoff: date) -> tuple[np.ndarray, np.ndarray]:
        return np.zeros(0, np.int32), np.zeros(0, np.int32)

    def counts(self) -> dict[str, Any]:
        return {"first_day": "2024-01-01", "last_day": "2024-01-07"}

    def users_around(self, cutoff: date) -> tuple[int, int, int]:
        return 1, 5, self.returning


@pytest.mark.parametrize(
    ("returning", "advice"), [(3, "Set horizon_days and step_days to 1 "), (0, "bring data where users return")]
)
def test_what_cannot_be_judged_is_refused_in_numbers(returning: int, advice: str) -> None:
    features = cast(Features, Short(returning))
    with pytest.raises(RecsysError) as refusal:
        holdout.evaluate(create("popularity", {"days": 7}), features, SETTINGS, features.evaluated)
    for words in ("7 days", "horizon_days = 28", "selection_windows = 2", advice):
        assert words in str(refusal.value)


def test_only_items_new_to_a_user_cannot_be_ranked_by_what_the_user_had() -> None:
    settings = make_settings(dataset={"exclude_seen": True})
    with pytest.raises(TooLittleData, match="exclude_seen"):
        holdout.evaluate(create("repeat_purchase", {}), FEATURES, settings, FEATURES.evaluated)


def test_metrics_are_of_lists_as_releases_are_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each user's list is that of the next one, as a fault of the writer: nobody gets what they bought before."""
    recommender = create("repeat_purchase", {})
    right = holdout.evaluate(recommender, FEATURES, SETTINGS, FEATURES.evaluated)["all_items"][0]
    pack = list_files.pack

    def pack_shifted(lists: Lists) -> Iterator[bytes]:
        first, *others = pack(lists)
        yield from (*others, first)

    monkeypatch.setattr(list_files, "pack", pack_shifted)
    wrong = holdout.evaluate(recommender, FEATURES, SETTINGS, FEATURES.evaluated)["all_items"][0]
    assert listed(wrong) == {"u0": listed(right)["u1"], "u1": listed(right)["u2"], "u2": listed(right)["u0"]}


def test_lists_that_are_scored_obey_no_rule_but_that_of_availability() -> None:
    ruled = make_settings(rules={"blocked": ["i0"], "max_category_share": 0.1}, lists={"length": 1}, evaluation={"k": 1})
    recommender = create("popularity", {"days": 7})
    windows = [holdout.evaluate(recommender, FEATURES, chosen, FEATURES.evaluated)["all_items"][0] for chosen in (SETTINGS, ruled)]
    assert listed(windows[0]) == listed(windows[1])
