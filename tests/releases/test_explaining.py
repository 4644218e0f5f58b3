"""A list is explained by what made it: the parts add up to the scores, and the list is the released one."""

import io
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from rich.console import Console

from cli import explanation as page
from cli.explanation import show
from recsys import RecsysError, pipeline
from recsys.features.state import State
from recsys.recommenders.two_stage import CANDIDATE_SOURCES
from recsys.releases.explanation import Explanation, UnknownUser, explain
from recsys.validation.check_input import CheckInput


def found(inputs: CheckInput, user: int = 0, list_kind: str = "all_items") -> Any:
    return explain(inputs.store, inputs.release.manifest.id, str(inputs.state.user_ids[user]), list_kind)


@pytest.mark.parametrize("list_kind", ["all_items", "new_items"])
@pytest.mark.parametrize("user", [0, 7, 100])
def test_the_list_is_the_one_that_the_release_holds(inputs: CheckInput, user: int, list_kind: str) -> None:
    users, lists = inputs.lists[list_kind]
    one = found(inputs, user, list_kind)
    assert users[user] == one.user_id
    assert one.items == one.released == lists.items[user][lists.items[user] >= 0].tolist()
    assert one.scores == lists.scores[user][: len(one.items)].tolist()


def test_candidates_have_the_scores_of_the_list_and_were_proposed_by_somebody(inputs: CheckInput) -> None:
    one = found(inputs)
    scores = {candidate.item: candidate.score for candidate in one.candidates}
    assert all(scores[item] == score for item, score in zip(one.items, one.scores, strict=True) if score)
    for candidate in one.candidates:
        assert candidate.proposed_by
        log_odds = one.base + sum(candidate.added.values())
        assert 1 / (1 + np.exp(-log_odds)) == pytest.approx(candidate.score, abs=1e-6)
    for name, (_, _, count) in CANDIDATE_SOURCES.items():
        assert sum(name in candidate.proposed_by for candidate in one.candidates) <= count


def test_history_is_newest_first_and_what_was_bought_is_kept_out_of_new_items_lists(inputs: CheckInput) -> None:
    one = found(inputs, int(np.bincount(inputs.state.history["user_index"]).argmax()), "new_items")
    days = [days for days, _ in one.baskets]
    assert days == sorted(days)
    bought = {item for _, items in one.baskets for item in items}
    out = {item for item, rule in one.removed if rule == "seen"}
    assert out
    assert out <= bought
    assert not bought & set(one.items)


def printed(one: Explanation | UnknownUser, item: str = "") -> str:
    console = Console(width=200, file=io.StringIO(), record=True)
    show(one, item, 10, console)
    return console.export_text()


def test_it_is_printed_for_people(inputs: CheckInput) -> None:
    one = found(inputs)
    told, first = printed(one), one.state.item_ids[one.items[0]]
    for words in ("history", "candidates", "the list", str(first), "every item's"):
        assert words in told
    assert "this differs from the list in the release" not in told
    assert "is at place 1" in printed(one, str(first))
    with pytest.raises(RecsysError, match='ITEM "nothing" is not in this release'):
        printed(one, "nothing")


def test_scores_that_are_no_probabilities_are_told_without_log_odds(inputs: CheckInput) -> None:
    one = found(inputs)
    assert " is log-odds " in printed(one)
    assert " is log-odds " not in printed(replace(one, is_probability=False))


def test_of_an_item_that_a_rule_hides_the_rule_is_named(inputs: CheckInput) -> None:
    hidden = np.flatnonzero(~inputs.state.items["is_available"])[0]
    assert "may not be listed because of the rule withdrawn" in printed(found(inputs), str(inputs.state.item_ids[hidden]))


def test_a_stranger_is_told_the_ladder(inputs: CheckInput) -> None:
    one = explain(inputs.store, inputs.release.manifest.id, "nobody", "all_items")
    assert isinstance(one, UnknownUser)
    assert list(one.rungs)[-2:] == ["recently popular", "static"]
    assert "is not in this release" in printed(one)


def test_a_recommender_of_one_stage_has_history_and_list_but_no_candidates(inputs: CheckInput) -> None:
    recipe = pipeline.Recipe("popularity", {"days": 7})
    trained = pipeline.train(inputs.store, recipe, inputs.features.id, {}, inputs.settings)
    selection = pipeline.Selection("popularity", trained.model_id, {"popularity": trained.windows}, {}, [])
    release = pipeline.recommend(inputs.store, selection, inputs.features.id, inputs.settings, {})
    one = explain(inputs.store, release, str(inputs.state.user_ids[0]), "all_items")
    assert isinstance(one, Explanation)
    assert one.candidates == []
    assert one.items == one.released
    assert "the list" in printed(one)


def test_what_is_gone_is_named(inputs: CheckInput) -> None:
    with inputs.store.draft() as folder:
        (folder / "file").write_text("")
        parents = {"model": "gone", "features": inputs.features.id}
        inputs.store.commit(folder, "release", {}, parents, "orphan")
    with pytest.raises(RecsysError, match="orphan cannot be explained: its model snapshot was deleted"):
        explain(inputs.store, "orphan", "u1", "all_items")


def test_an_item_without_a_title_is_named_once() -> None:
    state = cast(State, SimpleNamespace(item_ids=np.array(["i1", "i2"]), items={"title": np.array(["i1", "Two"])}))
    assert [page.name(state, item) for item in (0, 1)] == ["i1", "i2 Two"]
