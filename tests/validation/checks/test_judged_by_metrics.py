"""Checks that judge by metrics alone: simpler, champion on the same holdout, seeds, stress. Users and scores are made up."""

import json
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from conftest import make_settings, make_state
from recsys.evaluation.holdout import ScoredWindow
from recsys.recommenders.base import LIST_KINDS
from recsys.validation.check_input import CheckInput
from recsys.validation.checks import baseline, champion, freshness, robustness, seeds
from recsys.validation.registry import limits
from recsys.validation_report import CheckResult

SETTINGS = make_settings(evaluation={"bootstraps": 200})
USERS = np.array([f"u{row:03}" for row in range(200)])
DAY = date(2024, 1, 4)


def window(mean: float, spread: float = 0.05, seed: int = 0, first: int = 0) -> ScoredWindow:
    """Scores around a mean; lists of the ten items from `first` on."""
    scores = np.random.default_rng(seed).normal(mean, spread, len(USERS))
    lists = np.tile(np.arange(first, first + 10, dtype=np.int32), (len(USERS), 1))
    return ScoredWindow(DAY, USERS, {"ndcg@10": scores}, lists, 40)


def windows(mean: float, **how: Any) -> dict[str, list[ScoredWindow]]:
    return {list_kind: [window(mean, **how)] for list_kind in LIST_KINDS}


def inputs(winner: float, popularity: float = 0.1, **parts: Any) -> CheckInput:
    """two_stage wins with a mean score over popularity's; nothing is live."""
    evaluations = {name: windows(mean) for name, mean in {"popularity": popularity, "two_stage": winner}.items()}
    nothing = cast(Any, None)
    made = CheckInput(nothing, SETTINGS, Path(), nothing, nothing, "two_stage", evaluations)
    return replace(made, **parts)


def results(check: Any, judged: CheckInput) -> dict[str, CheckResult]:
    found = list(check.check(judged, limits(check.__name__.rpartition(".")[2], SETTINGS)))
    return {result.name: result for result in found}


def failed(check: Any, judged: CheckInput) -> dict[str, str]:
    return {name: result.severity for name, result in results(check, judged).items() if not result.passed}


def test_a_winner_above_popularity_passes() -> None:
    assert failed(baseline, inputs(0.3)) == {}


def test_a_winner_below_popularity_blocks_under_the_served_list_kind_and_warns_under_the_other() -> None:
    assert failed(baseline, inputs(0.05)) == {
        "all_items_not_worse_than_popularity": "block",
        "new_items_not_worse_than_popularity": "warn",
        "better_than_simplest": "warn",
    }


def test_a_winner_below_any_other_on_one_kind_of_list_warns() -> None:
    judged = inputs(0.3)
    rival = {"all_items": [window(0.2)], "new_items": [window(0.4)]}
    beaten = replace(judged, evaluations={**judged.evaluations, "item_to_item": rival})
    assert failed(baseline, beaten) == {"new_items_not_worse_than_others": "warn"}
    assert "two_stage minus item_to_item" in results(baseline, beaten)["new_items_not_worse_than_others"].message


def test_a_winner_as_good_as_the_simplest_warns() -> None:
    assert failed(baseline, inputs(0.1)) == {"better_than_simplest": "warn"}


def live(folder: Path, mean: float, as_of: str = "2024-02-01", users: int = 200, horizon: int = 28, trained: str = "") -> Any:
    """A live release whose holdout had this mean, over the last of the users."""
    tables = [
        pa.table(
            {
                "list_kind": [list_kind] * users,
                "user_id": USERS[-users:],
                "ndcg@10": window(mean, seed=1).scores["ndcg@10"][-users:],
            }
        )
        for list_kind in LIST_KINDS
    ]
    pq.write_table(pa.concat_tables(tables), folder / "holdout.parquet")
    facts = {"as_of": as_of, "horizon_days": horizon} | ({"trained_as_of": trained} if trained else {})
    (folder / "release.json").write_text(json.dumps(facts))
    return SimpleNamespace(path=folder)


def challenger(mean: float, champion: Any) -> CheckInput:
    return inputs(mean, features=cast(Any, SimpleNamespace(as_of=date(2024, 2, 1))), live=champion)


def test_a_first_release_meets_the_best_simple_recommender() -> None:
    repeats = {"repeat_purchase": windows(0.4)}
    first = inputs(0.3)
    assert failed(champion, first) == {}
    beaten = replace(first, evaluations={**first.evaluations, **repeats})
    assert failed(champion, beaten) == {"all_items_not_worse_than_champion": "block", "new_items_not_worse_than_champion": "warn"}
    assert "repeat_purchase (the best simple recommender" in results(champion, beaten)["all_items_not_worse_than_champion"].message
    assert failed(champion, replace(beaten, winner="repeat_purchase")) == {}


@pytest.mark.parametrize(("mean", "said"), [(0.4, "better beyond noise"), (0.3, "within noise"), (0.2, "worse beyond noise")])
def test_a_challenger_is_held_against_what_the_live_release_kept(mean: float, said: str, tmp_path: Path) -> None:
    result = results(champion, challenger(mean, live(tmp_path, 0.3)))["all_items_not_worse_than_champion"]
    assert said in result.message
    assert result.blocks == (said == "worse beyond noise")


@pytest.mark.parametrize(("z", "severity"), [(1.5, None), (2.2, "warn"), (3.2, "block")])
def test_a_challenger_that_may_be_worse_by_chance_only_warns(z: float, severity: str | None, tmp_path: Path) -> None:
    """z: how many standard errors it is below the live release."""
    noise = np.random.default_rng(5).normal(size=len(USERS))
    noise = (noise - noise.mean()) / noise.std()
    scores = {"ndcg@10": window(0.3, seed=1).scores["ndcg@10"] + 0.01 * (noise - z / np.sqrt(len(USERS)))}
    judged = challenger(0.3, live(tmp_path, 0.3))
    ours = {list_kind: [replace(window(0.3), scores=scores)] for list_kind in LIST_KINDS}
    judged = replace(judged, evaluations={**judged.evaluations, "two_stage": ours})
    assert failed(champion, judged).get("all_items_not_worse_than_champion") == severity


def test_few_users_of_both_are_too_early_to_tell(tmp_path: Path) -> None:
    found = results(champion, challenger(0.1, live(tmp_path, 0.3, users=9)))
    assert "9 users of the live release have" in found["all_items_not_worse_than_champion"].message
    assert not any(result.blocks for result in found.values())


def test_a_champion_that_saw_later_days_is_not_compared(tmp_path: Path) -> None:
    assert failed(champion, challenger(0.3, live(tmp_path, 0.3, as_of="2024-03-01"))) == {"champion": "warn"}


def test_a_champion_that_was_judged_on_another_horizon_is_not_compared(tmp_path: Path) -> None:
    assert failed(champion, challenger(0.1, live(tmp_path, 0.3, horizon=14))) == {"champion": "warn"}


def audited(*refits: dict[str, list[ScoredWindow]]) -> CheckInput:
    state = make_state(np.ones((len(USERS), 2), int))
    state = replace(state, user_ids=USERS, users=state.users | {"baskets": np.arange(len(USERS))})
    made = inputs(0.3, refits=refits)
    made.__dict__["holdout_state"] = state  # read once, then kept
    return made


def test_fits_that_agree_pass_and_a_recommender_that_draws_nothing_too() -> None:
    assert failed(seeds, audited(windows(0.3, seed=1), windows(0.303, seed=2))) == {}
    assert failed(seeds, inputs(0.3)) == {}


def test_fits_that_differ_in_score_warn_and_block_far_out() -> None:
    assert failed(seeds, audited(windows(0.25))) == {"seeds_spread": "warn"}
    assert failed(seeds, audited(windows(0.1)))["seeds_spread"] == "block"


def test_an_even_mean_that_hides_groups_warns() -> None:
    refit = windows(0.3)
    for found in refit.values():
        scores = found[0].scores["ndcg@10"].copy()
        scores[:60] += 0.15
        scores[-60:] -= 0.15
        found[0] = replace(found[0], scores={"ndcg@10": scores})
    assert failed(seeds, audited(refit)) == {"seeds_spread_in_groups": "warn"}


def test_equal_scores_by_other_lists_warn() -> None:
    assert failed(seeds, audited(windows(0.3, first=7))) == {"seeds_overlap": "warn"}


def perturbed(two_stage: float, popularity: float = 0.1) -> CheckInput:
    worlds = {
        name: {"lost_day": {list_kind: window(mean) for list_kind in LIST_KINDS}}
        for name, mean in {"popularity": popularity, "two_stage": two_stage}.items()
    }
    return inputs(0.3, robustness=worlds)


def test_a_winner_that_stands_a_lost_day_passes() -> None:
    assert failed(robustness, perturbed(0.28)) == {}


def test_losing_much_warns_and_falling_behind_popularity_blocks() -> None:
    assert failed(robustness, perturbed(0.15)) == {"robustness_lost_day_loss": "warn"}
    assert failed(robustness, perturbed(0.05))["robustness_lost_day_not_worse_than_popularity"] == "block"


@pytest.mark.parametrize(("days", "severity"), [(2, None), (5, "warn"), (30, "block")])
def test_old_events_warn_and_block_where_a_dataset_says_how_old_is_normal(days: int, severity: str | None, tmp_path: Path) -> None:
    features = SimpleNamespace(counts=lambda: {"last_day": "2024-01-01"}, as_of=date(2024, 1, 2))
    settings = make_settings(dataset={"max_age_days": 3})
    release = live(tmp_path, 0.3, as_of="2024-01-02")
    judged = replace(inputs(0.3, features=cast(Any, features), release=release), settings=settings)
    judged = replace(judged, today=date(2024, 1, 1) + timedelta(days))
    assert failed(freshness, judged) == ({"freshness": severity} if severity else {})
    assert failed(freshness, replace(judged, settings=SETTINGS)) == {}


@pytest.mark.parametrize(
    ("trained", "severity"),
    [("2024-01-02", None), ("2023-12-03", None), ("2023-12-02", "warn"), ("2023-09-04", "warn"), ("2023-09-03", "block")],
)
def test_lists_by_an_old_model_warn_and_by_a_far_too_old_one_are_blocked(
    trained: str, severity: str | None, tmp_path: Path
) -> None:
    release = live(tmp_path, 0.3, as_of="2024-01-02", trained=trained)
    features = SimpleNamespace(counts=lambda: {"last_day": "2024-01-01"}, as_of=date(2024, 1, 2))
    judged = inputs(0.3, features=cast(Any, features), release=release)
    assert failed(freshness, judged) == ({"model_age": severity} if severity else {})
    assert ("`make run`" in results(freshness, judged)["model_age"].message) == bool(severity)


def test_live_lists_as_new_as_the_challenger_by_an_older_model_are_not_compared(tmp_path: Path) -> None:
    assert failed(champion, challenger(0.1, live(tmp_path, 0.3, trained="2024-01-25"))) == {"champion": "warn"}


def test_the_challenger_meets_the_release_of_the_live_models_training(tmp_path: Path) -> None:
    (tmp_path / "later").mkdir()
    judged = challenger(0.2, live(tmp_path / "later", 0.3, as_of="2024-02-01", trained="2024-01-25"))
    result = results(champion, replace(judged, rival=live(tmp_path, 0.3)))["all_items_not_worse_than_champion"]
    assert result.blocks
