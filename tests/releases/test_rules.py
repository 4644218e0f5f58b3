"""Rules after the model, each by lists whose answer is known."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from scipy import sparse

from conftest import make_settings, make_state
from recsys import RecsysError
from recsys.evaluation.holdout import ScoredWindow, holdout_table
from recsys.features.state import State
from recsys.recommenders.base import LIST_KINDS, Recommender, Scorer
from recsys.releases import files
from recsys.releases.business_rules import HIDING, NO_RULES, RULES, BusinessRules, RuledLists
from recsys.settings.run import Settings
from recsys.store.snapshots import Manifest, Snapshot

ITEMS = 8


class Fixed(Recommender):
    """Scores that are given, for everybody the same: without any, i0 best, then i1, and so on."""

    name = "fixed"

    def __init__(self, scores: Any = ()):
        self.scores = scores

    def _fit(self, state: State) -> None:
        pass

    def scorer(self, state: State) -> Scorer:
        given = np.asarray(self.scores if len(self.scores) else np.arange(state.shape[1], 0, -1), np.float32)
        return lambda rows: sparse.csr_matrix(given[rows] if given.ndim == 2 else np.tile(given, (len(rows), 1)))


def shop(**items: Any) -> State:
    """u0 has bought i0, u1 nothing; i7 sells best and i0 least. Nobody knows how old i7 is."""
    baskets = np.zeros((2, ITEMS), int)
    baskets[0, 0] = 1
    state = make_state(baskets, recent=list(range(ITEMS)))
    ages = np.array([10, 20, 30, 40, 50, 60, 70, np.nan], np.float32)
    known = {"days_since_available": ages, "days_since_last_target": np.full(ITEMS, np.nan, np.float32)}
    return replace(state, items=state.items | known | items)


def settings(length: int = 4, k: int = 4, **rules: Any) -> Settings:
    return replace(make_settings(lists={"length": length}, evaluation={"k": k}), rules=replace(NO_RULES, **rules))


def ruled(state: State, chosen: Settings, model: Recommender | None = None) -> dict[str, RuledLists]:
    ((_, found),) = BusinessRules(state, chosen).rank(model or Fixed(), state.user_ids)
    return found


def listed(found: RuledLists) -> list[list[int]]:
    return [row[row >= 0].tolist() for row in found.lists.items]


def counted(found: RuledLists) -> dict[str, int]:
    return {name: count for name, count in zip(RULES, found.counts.tolist(), strict=True) if count}


CATEGORIES = np.array(["a", "a", "b", "b", "c", "c", "d", "d"])
SOLD = np.array([1, 9, 1, 9, np.nan, np.nan, 1, np.nan], np.float32)


@pytest.mark.parametrize(
    ("rule", "value", "items", "left", "out"),
    [
        ("blocked", ["i0", "i2", "nothing"], {}, [1, 3, 4, 5], 2),
        ("blocked_categories", ["a"], {"category": CATEGORIES}, [2, 3, 4, 5], 2),
        ("min_age_days", 30, {}, [2, 3, 4, 5], 2),
        ("max_age_days", 30, {}, [0, 1, 2, 7], 4),
        ("max_days_unsold", 5, {"days_since_last_target": SOLD}, [0, 2, 6, 7], 4),
        ("withdrawn", None, {"is_available": np.arange(ITEMS) != 1}, [0, 2, 3, 4], 1),
    ],
)
def test_a_rule_hides_items_and_counts_those_that_scored_above_the_last(
    rule: str, value: Any, items: dict[str, Any], left: list[int], out: int
) -> None:
    found = ruled(shop(**items), settings(**({rule: value} if value else {})))["all_items"]
    assert listed(found) == [left, left]
    assert counted(found) == {rule: 2 * out}


def test_what_was_seen_is_counted_as_that_and_the_first_rule_speaks_for_an_item() -> None:
    found = ruled(shop(), settings())
    assert [counted(found[list_kind]) for list_kind in LIST_KINDS] == [{}, {"seen": 1}]
    assert listed(found["new_items"]) == [[1, 2, 3, 4], [0, 1, 2, 3]]
    found = ruled(shop(), settings(blocked=["i0"], min_age_days=15))
    assert counted(found["new_items"]) == {"blocked": 2}


def test_what_scored_too_low_for_the_list_is_not_counted() -> None:
    assert counted(ruled(shop(), settings(blocked=["i6"]))["all_items"]) == {}


def test_a_category_has_its_share_of_the_first_k_and_all_else_keeps_its_order() -> None:
    state = shop(category=np.array(["a", "a", "a", "b", "a", "b", "c", "a"]))
    found = ruled(state, settings(length=8, max_category_share=0.5))["all_items"]
    assert listed(found)[1] == [0, 1, 3, 5, 2, 4, 6, 7]
    assert counted(found) == {"max_category_share": 2}
    assert found.lists.scores[1].tolist() == [8, 7, 5, 3, 6, 4, 2, 1]


def test_a_list_is_never_left_short_for_a_share() -> None:
    found = ruled(shop(), settings(max_category_share=0.25))["all_items"]
    assert listed(found)[1] == [0, 1, 2, 3]
    assert counted(found) == {}


def test_items_below_the_kept_length_take_the_places_that_a_share_leaves_free() -> None:
    found = ruled(shop(category=CATEGORIES), settings(max_category_share=0.25))["all_items"]
    assert listed(found)[1] == [0, 2, 4, 6]


@pytest.mark.parametrize("seed", range(20))
def test_whatever_the_rules_no_hidden_item_none_twice_and_otherwise_the_models_order(seed: int) -> None:
    draw = np.random.default_rng(seed)
    users, items = 30, 40
    state = make_state(draw.integers(0, 2, (users, items)), (draw.random(items) < 0.9).tolist())
    table = {
        "category": draw.choice(["a", "b", "c", "d"], items),
        "days_since_available": np.where(draw.random(items) < 0.1, np.nan, draw.integers(0, 100, items)),
        "days_since_last_target": np.where(draw.random(items) < 0.1, np.nan, draw.integers(0, 100, items)),
    }
    state = replace(state, items=state.items | table)
    share = float(draw.choice([0.1, 0.4, 1.0]))
    chosen = settings(
        length=12,
        k=5,
        blocked=sorted(set(draw.choice(state.item_ids, 3).tolist())),
        blocked_categories=["d"] if seed % 2 else [],
        min_age_days=int(draw.integers(0, 20)),
        max_age_days=int(draw.choice([0, 90])),
        max_days_unsold=int(draw.choice([0, 80])),
        max_category_share=share,
    )
    model = Fixed(draw.random((users, items)) * (draw.random((users, items)) < 0.5))
    rules, plain = BusinessRules(state, chosen), model.rank(state.user_ids, items, state, (False, True))
    ((_, before),) = plain
    for (list_kind, found), whole in zip(ruled(state, chosen, model).items(), before, strict=True):
        for user, best in enumerate(listed(found)):
            free = [item for item in whole.items[user].tolist() if item >= 0 and rules.listed[item]]
            assert len(set(best)) == len(best) == min(12, len(free)), list_kind
            assert set(best) <= set(free)
            categories = table["category"][best[:5]]
            if share == 1:
                assert best == free[:12]
            deep = table["category"][free[: rules.depth]]
            if sum(min(rules.most, (deep == name).sum()) for name in set(deep)) >= 5:  # there are enough others
                assert all((categories == name).sum() <= rules.most for name in categories) or share == 1
            for name in set(table["category"]):
                own = [item for item in best if table["category"][item] == name]
                assert own == [item for item in free if item in own]


def write(folder: Path, state: State, chosen: Settings, **alternatives: Recommender) -> Snapshot:
    window = ScoredWindow(state.cutoff, state.user_ids, {}, np.zeros((2, 4), np.int32), ITEMS)
    files.write(folder, Fixed(), alternatives, state, holdout_table({"all_items": window}), chosen)
    return Snapshot(folder, Manifest("release", "r", {}, {}, {}))


def test_a_release_obeys_the_rules_in_lists_fallback_and_items(tmp_path: Path) -> None:
    chosen = settings(length=3, k=3, blocked=["i7", "i1"], static=["i6", "i7", "i2", "gone"])
    release = write(tmp_path, shop(), chosen, fixed=Fixed(), other=Fixed(np.arange(1, ITEMS + 1)))
    assert files.read_all(release, "all_items")[1].items.tolist() == [[0, 2, 3]] * 2
    assert files.read_all(release, "all_items", "other")[1].items.tolist() == [[6, 5, 4]] * 2
    assert files.read_all(release, "all_items", "fixed")[1].items.tolist() == files.read_all(release, "all_items")[1].items.tolist()
    fallback = json.loads((tmp_path / "fallback.json").read_text())
    assert fallback["all"] == ["i6", "i5", "i4"]
    assert set(fallback["segments"]["north"]) & {"i7", "i1"} == set()
    assert fallback["static"] == ["i6", "i2"]
    assert pq.read_table(tmp_path / "items.parquet")["is_listed"].to_pylist() == [i not in (1, 7) for i in range(ITEMS)]
    rules = files.about(release)["rules"]
    assert rules["all_items"] == dict.fromkeys(RULES, 0) | {"blocked": 2}
    assert rules["new_items"] == dict.fromkeys(RULES, 0) | {"blocked": 2, "seen": 1}


def test_one_users_list_is_read_alone(tmp_path: Path) -> None:
    release = write(tmp_path, shop(), settings())
    ((users, lists),) = files.read_lists(release, "new_items", user="u0")
    assert (users.tolist(), lists.items.tolist()) == (["u0"], [[1, 2, 3, 4]])
    assert list(files.read_lists(release, "new_items", user="nobody")) == []


@pytest.mark.parametrize(
    ("rules", "words"),
    [
        ({"max_category_share": 0.0}, "above 0"),
        ({"max_days_unsold": -1}, "from 0 to 36,500"),
        ({"blocked": "i1"}, 'rules.blocked is "i1"'),
        ({"static": [1]}, "rules.static.0 is 1"),
        ({"min_age_days": 9, "max_age_days": 3}, "below min_age_days = 9"),
        ({"blokced": []}, "blokced"),
    ],
)
def test_a_rule_that_makes_no_sense_is_named(rules: dict[str, Any], words: str) -> None:
    with pytest.raises(RecsysError, match=words):
        make_settings(rules=rules)


def test_beside_names_a_recommender_of_the_config() -> None:
    assert make_settings(lists={"alternatives": ["repeat_purchase"]}).lists.alternatives == ["repeat_purchase"]
    with pytest.raises(RecsysError, match=r'"magic"; choose of .*repeat_purchase'):
        make_settings(lists={"alternatives": ["magic"]})


def test_every_hiding_rule_is_a_source_setting_but_the_catalogues_own() -> None:
    assert set(HIDING) - {"withdrawn"} <= set(vars(settings().rules))
