"""Behaviour: the perturbed world is what it is said to be, healthy lists pass, and each fault is found under its name."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import failed
from recsys.features.state import State
from recsys.recommenders.base import Lists
from recsys.store.snapshots import Snapshot
from recsys.validation import perturbations
from recsys.validation.check_input import CheckInput
from recsys.validation.checks.behaviour import Answers, _overlap
from recsys.validation.registry import CHECKS, limits

pytestmark = pytest.mark.slow


def test_healthy_lists_pass(audited: CheckInput) -> None:
    assert failed("behaviour", audited) == []


def test_every_group_undergoes_its_own_perturbation_and_nobody_else_any(audited: CheckInput) -> None:
    state, world = audited.state, audited.bad_days[perturbations.WORLD].state(audited.features.as_of)
    owned, perturbed, groups = state.owned(), world.owned(), perturbations.groups(state)
    assert world.user_ids.tolist() == state.user_ids.tolist()
    changed = np.unique((owned != perturbed).nonzero()[0])
    assert set(changed) <= set(
        np.concatenate([groups[name] for name in ("swapped_item", "dropped_basket", "new_category", "giant")])
    )
    baskets = world.users["baskets"] - state.users["baskets"]
    expected = {"repeated_basket": 0, "shuffled_day": 0, "swapped_item": 0, "dropped_basket": -1, "new_category": 1, "untouched": 0}
    for name, difference in expected.items():
        assert len(groups[name]) > 20
        plan = perturbations.plan(state)
        planned = np.isin(state.user_ids, plan["user_id"][plan["perturbation"] == name].dropna())
        assert (baskets[groups[name]] == np.where(planned[groups[name]], difference, 0)).all(), name
    quantity = (world.users["quantity_per_target"] != state.users["quantity_per_target"])[groups["repeated_basket"]]
    assert quantity.all()
    assert world.users["views"][groups["giant"]] + world.users["target_events"][groups["giant"]] > 10_000


def test_a_day_in_another_order_is_the_same_to_a_user(audited: CheckInput) -> None:
    state, world = audited.state, audited.bad_days[perturbations.WORLD].state(audited.features.as_of)
    shuffled = perturbations.groups(state)["shuffled_day"]
    for name, column in state.users.items():
        assert np.array_equal(column[shuffled], world.users[name][shuffled], equal_nan=column.dtype.kind == "f"), name
    was, now = (one.user_items["days_since_last_event"][np.isin(one.user_items["user_index"], shuffled)] for one in (state, world))
    assert not np.array_equal(was, now)


class Sabotaged:
    """Ranks by random, for everybody or those of one group; or lists what is not for sale; or has no fallback."""

    def __init__(self, inputs: CheckInput, fault: str):
        self.inputs, self.fault = inputs, fault

    def recommend(self, user_ids: Any, k: int, state: State, exclude_seen: bool = False) -> Lists:
        lists = self.inputs.model.recommend(user_ids, k, state, exclude_seen)
        draw = np.random.default_rng(len(state.history["days"]) + int(state.items["is_available"].sum()))
        if self.fault == "random":
            lists.items[:] = np.array([draw.permutation(state.shape[1])[:k] for _ in user_ids])
        if self.fault == "stale":
            lists.items[:] = self.inputs.model.recommend(user_ids, k, self.inputs.state, exclude_seen).items
        if self.fault == "rude" and len(user_ids) == 1:
            lists.items[:] = lists.items[:, ::-1]
        return lists


@pytest.mark.parametrize(
    ("fault", "names"),
    [
        (
            "random",
            ["repeated_basket", "shuffled_day", "swapped_item", "dropped_basket", "others_stay", "stranger_gets_fallback"],
        ),
        ("stale", ["new_category_rises", "withdrawn_item_vanishes"]),
        ("rude", ["stranger_gets_fallback"]),
    ],
)
def test_a_fault_is_found_under_its_name(audited: CheckInput, fault: str, names: list[str]) -> None:
    sick = replace(audited)
    vars(sick)["model"] = Sabotaged(audited, fault)
    assert set(names) <= set(failed("behaviour", sick))


def test_a_fallback_that_is_not_what_strangers_get_is_found(audited: CheckInput, tmp_path: Path) -> None:
    (tmp_path / "fallback.json").write_text(json.dumps({"all": audited.state.item_ids[:10].tolist()}))
    vars(sick := replace(audited, release=Snapshot(tmp_path, audited.release.manifest)))["model"] = audited.model
    assert failed("behaviour", sick) == ["stranger_gets_fallback"]


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (lambda answers: replace(answers, before=answers.after, after=answers.before), "dropped_items_fall"),
        (lambda answers: replace(answers, cost=9.0), "giant_cost"),
    ],
)
def test_answers_that_are_the_wrong_way_round_are_found(
    audited: CheckInput, monkeypatch: pytest.MonkeyPatch, change: Any, name: str
) -> None:
    changed = change(Answers.of(audited))
    monkeypatch.setattr(Answers, "of", lambda inputs: changed)
    assert name in failed("behaviour", audited)


def test_a_shop_without_categories_is_told_so(audited: CheckInput) -> None:
    items = audited.state.items | {"category": np.full(audited.state.shape[1], "unknown")}
    assert not len(perturbations.plan(replace(audited.state, items=items)).query("perturbation == 'new_category'"))


def test_what_there_is_nobody_to_try_on_passes_as_not_applicable(audited: CheckInput, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = Answers.of(audited)
    alone = replace(answers, group=np.full(len(answers.rows), "giant"))
    monkeypatch.setattr(Answers, "of", lambda inputs: alone)
    results = {result.name: result for result in CHECKS["behaviour"].module.check(audited, limits("behaviour", audited.settings))}
    for name in ("repeated_basket", "dropped_items_fall", "new_category_rises", "others_stay"):
        assert results[name].passed
        assert "not applicable" in results[name].message


def test_lists_of_a_shop_with_few_items_are_the_same_if_those_items_are() -> None:
    """One item for sale: a list of it keeps all of itself, and an empty one says nothing."""
    lists = np.array([[0, -1, -1], [0, -1, -1], [-1, -1, -1]])
    assert _overlap(lists, np.array([[0, -1, -1], [-1, -1, -1], [-1, -1, -1]]), 3) == [1, 0]
