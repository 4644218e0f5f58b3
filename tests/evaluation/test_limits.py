"""What limits two_stage, on candidates whose recall and ranking are known by construction."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from conftest import make_settings, make_state
from recsys.evaluation import limits
from recsys.evaluation.limits import measure_limits
from recsys.features.state import State
from recsys.recommenders.popularity import Popularity
from recsys.recommenders.two_stage import Candidates, TwoStage
from recsys.validation_report import Limits, ValidationReport

USERS, ITEMS = 30, 6
OWNED, FIRST, SECOND, POPULAR, MISSED, LAST = range(ITEMS)  # the items
RANKED_SECOND = 1 / np.log2(3)


class Signal(TwoStage):
    """Ranks candidates by their feature `signal`."""

    def __init__(self) -> None:
        super().__init__()
        self.columns_ = np.array(["noise", "signal"])
        self.candidate_sources: dict[str, Any] = {}

    def score(self, found: Candidates) -> np.ndarray:
        return found.features[:, found.columns.index("signal")].copy()


def propose(sources: dict[str, list[int]], signal: dict[int, float]) -> Any:
    """A function in the place of `candidates`: each source proposes the same items to everybody."""

    def propose(_: Any, state: State, rows: np.ndarray) -> Iterator[tuple[np.ndarray, Candidates]]:
        items = np.unique(np.concatenate(list(sources.values())))
        users, width = np.arange(len(rows)), state.shape[1]
        features = np.array([[item * 0.1, signal[item]] for item in items], np.float32)
        proposed = {name: (users[:, None] * width + own).ravel() for name, own in sources.items()}
        pairs = users.repeat(len(items)), np.tile(items, len(rows)), np.tile(features, (len(rows), 1))
        yield rows, Candidates(*pairs, ["noise", "signal"], proposed)

    return propose


@pytest.fixture
def state() -> State:
    """Everybody had the item OWNED, and nothing else."""
    return make_state(np.tile(np.arange(ITEMS) == OWNED, (USERS, 1)).astype(int))


def examine(monkeypatch: pytest.MonkeyPatch, state: State, bought: list[int], **options: Any) -> dict[str, Limits]:
    """Everybody buys these items, `own` proposes OWNED and FIRST, and `other` proposes FIRST, SECOND and POPULAR."""
    signal = {OWNED: 4.0, FIRST: 1.0, SECOND: 2.0, POPULAR: 3.0}
    monkeypatch.setattr(limits, "candidates", propose({"own": [OWNED, FIRST], "other": [FIRST, SECOND, POPULAR]}, signal))
    users, items = (index.ravel().astype(np.int32) for index in np.meshgrid(np.arange(USERS), bought))
    return measure_limits(Signal(), state, (users, items), make_settings(), **options)


def test_recall_counts_what_each_source_finds_alone(monkeypatch: pytest.MonkeyPatch, state: State) -> None:
    found = examine(monkeypatch, state, [OWNED, FIRST, SECOND, MISSED])["all_items"]
    assert found.users == USERS
    assert found.recall[0] == pytest.approx(3 / 4)
    assert {name: (part.recall, part.only) for name, part in found.sources.items()} == {"own": (0.5, 0.25), "other": (0.5, 0.25)}


def test_ndcg_is_compared_with_a_perfect_ranking_and_with_one_source_less(monkeypatch: pytest.MonkeyPatch, state: State) -> None:
    found = examine(monkeypatch, state, [OWNED])["all_items"]
    assert (found.ranked[0], found.perfect[0]) == (1, 1)
    assert (found.sources["own"].gain[0], found.sources["other"].gain[0]) == (1, 0)
    later = examine(monkeypatch, state, [SECOND])["all_items"]
    assert (later.ranked[0], later.perfect[0]) == pytest.approx((1 / np.log2(4), 1))
    assert later.sources["own"].gain[0] == pytest.approx(1 / np.log2(4) - RANKED_SECOND)  # without OWNED, it moves up


def test_new_items_neither_list_nor_count_what_a_user_had(monkeypatch: pytest.MonkeyPatch, state: State) -> None:
    found = examine(monkeypatch, state, [OWNED, SECOND])["new_items"]
    assert found.recall[0] == 1
    assert found.sources["own"].recall == 0
    assert found.ranked[0] == pytest.approx(RANKED_SECOND)  # after POPULAR
    assert set(examine(monkeypatch, state, [OWNED])) == {"all_items"}


def test_only_a_feature_that_ranks_has_importance(monkeypatch: pytest.MonkeyPatch, state: State) -> None:
    found = examine(monkeypatch, state, [OWNED])["all_items"]
    assert list(found.importance) == ["signal", "noise"]
    assert found.importance["signal"][1] > 0.1
    assert found.importance["noise"] == (0, 0, 0)
    assert found == examine(monkeypatch, state, [OWNED])["all_items"]


@pytest.mark.parametrize(("predictions", "scored"), [(1, 4), (41, 24), (10**6, 3 * 4 * USERS)])
def test_the_cost_of_importance_is_bounded(monkeypatch: pytest.MonkeyPatch, state: State, predictions: int, scored: int) -> None:
    """By whole users of four candidates each, and by three permutations."""
    counted: list[int] = []
    score = Signal.score

    def count(self: Signal, found: Candidates) -> np.ndarray:
        counted.append(len(found.rows))
        return score(self, found)

    monkeypatch.setattr(Signal, "score", count)
    examine(monkeypatch, state, [OWNED], predictions=predictions)
    assert sum(counted[1:]) == 2 * scored  # the first call ranks all candidates; then two features are permuted


def test_without_candidates_there_is_nothing_to_examine(state: State) -> None:
    labels = np.array([0], np.int32), np.array([1], np.int32)
    assert measure_limits(Popularity().fit(state), state, labels, make_settings()) == {}


def test_a_report_with_limits_is_read_as_it_was_written(monkeypatch: pytest.MonkeyPatch, state: State) -> None:
    report = ValidationReport("m", "f", "c", {}, {}, limits=examine(monkeypatch, state, [FIRST, MISSED]))
    read = ValidationReport.read(report.to_json())
    assert read
    assert read.to_json() == report.to_json()
    assert read.limits["all_items"].sources["own"].recall == 0.5
