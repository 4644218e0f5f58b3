"""Sabotages of features, of models, and of the code that makes lists of them."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow.parquet as pq
import pytest
from scipy import sparse

from recsys import daily_lists
from recsys.features import snapshot, state
from recsys.recommenders.base import Lists, Recommender
from recsys.releases import business_rules, files
from runs import Run
from sabotages.harness import TRAINING, sabotage


def change(folder: Path, table: str, query: str) -> None:
    """Puts a query's rows in the place of a table's, whose rows it reads as `old`."""
    file = folder / f"{table}.parquet"
    with duckdb.connect() as connection:
        connection.execute(f"create table old as from read_parquet('{file}')")
        for other in folder.glob("*.parquet"):
            connection.execute(f"create view {other.stem} as from read_parquet('{folder}/{other.name}')") if other != file else None
        connection.execute(f"create table new as {query}")
        either = "(select * from new except all from old) union all (select * from old except all from new)"
        if connection.execute(f"select count(*) from ({either})").fetchall() != [(0,)]:
            connection.execute(f"copy new to '{file}' (format parquet)")


def change_last(folder: Path, run: Run, table: str, **columns: str) -> None:
    """Puts expressions in the place of columns, in the rows of the last cutoff alone."""
    last = f"cutoff = timestamp '{run.today}'"
    written = ", ".join(f"(case when {last} then {value} else old.{name} end) as {name}" for name, value in columns.items())
    change(folder, table, f"select old.* replace ({written}) from old order by all")


NEXT_USER = "((user_index + 1) % (select count(*) from dim_users))::int"


@sabotage("features", "block", "users|list_stability|agree", places=("later", "daily"))
def users_of_features_shifted(folder: Path, run: Run) -> None:
    """Every user has the index of the next one."""
    shifted = "lead(user_id, 1, 'u') over (order by user_index) as user_id"
    change(folder, "dim_users", f"select old.* replace ({shifted}) from old order by user_index")


@sabotage("features", "block", "known_items|prices|catalogue|agree", places=("later", "daily"))
def items_of_features_shifted(folder: Path, run: Run) -> None:
    """Every item has the index of the next one."""
    shifted = "lead(item_id, 1, 'zz') over (order by item_index) as item_id"
    change(folder, "dim_items", f"select old.* replace ({shifted}) from old order by item_index")


@sabotage("features", "warn", "volume|freshness|daily_events|features")
def features_without_yesterday(folder: Path, run: Run) -> None:
    """The features lack the events of the last day, though the raw data have them."""
    change(folder, "fct_events", f"from old where event_at < timestamp '{run.today}' - interval 1 day")


@sabotage("features", "warn", "feature")
def sales_of_items_zero(folder: Path, run: Run) -> None:
    """Recent sales of all items are 0 at the last cutoff."""
    change_last(folder, run, "feat_items", target_events_28d="0", target_events_7d="0")


@sabotage("features", "warn", "feature|price")
def mean_prices_times_a_hundred(folder: Path, run: Run) -> None:
    """The mean price of items is a hundred times too high at the last cutoff."""
    change_last(folder, run, "feat_items", mean_price="(100 * old.mean_price)::float")


@sabotage("features", "warn", "feature|own")
def features_of_other_users(folder: Path, run: Run) -> None:
    """At the last cutoff every user has the features of the next one."""
    change_last(folder, run, "feat_users", user_index=NEXT_USER)


@sabotage("features", "warn", "feature|own|items_new")
def pairs_of_other_users(folder: Path, run: Run) -> None:
    """At the last cutoff every user has the pairs of the next one."""
    change_last(folder, run, "feat_user_items", user_index=NEXT_USER)


@sabotage("features", "block", "catalogue|available|feature")
def availability_inverted(folder: Path, run: Run) -> None:
    """What is for sale is called gone at the last cutoff, and what is gone for sale."""
    change_last(folder, run, "feat_items", is_available="not old.is_available")


@sabotage("features", "warn", "volume|users|feature|own|daily_events")
def half_the_users_without_events(folder: Path, run: Run) -> None:
    """Half the users are without the events of the last month."""
    change(folder, "fct_events", f"from old where user_index % 2 = 0 or event_at < timestamp '{run.today}' - interval 28 day")


@sabotage("features", "block", "popular|own|simplest|release|label|worse", places=TRAINING)
def labels_shuffled(folder: Path, run: Run) -> None:
    """The labels that a ranker learns from are those of other users; the holdout's are right."""
    holdout = run.today - timedelta(days=run.settings.dataset.horizon_days)
    change(folder, "labels", f"""select distinct cutoff, (case when cutoff < timestamp '{holdout}' then
        (user_index * 7 + 3) % (select count(*) from dim_users) else user_index end)::int as user_index,
        * exclude (cutoff, user_index) from old order by all""")  # fmt: skip


@sabotage("model", "block", "constant_scores|remade|own|final_model", TRAINING)
def trees_are_zero(model: Any, run: Run) -> None:
    """Every leaf of the trees says 0."""
    model.fitted_ranker.nodes_["value"] = 0


@sabotage("model", "block", "own|remade|list_stability|popularity|worse|final_model", TRAINING)
def trees_are_negated(model: Any, run: Run) -> None:
    """Every leaf says the opposite, so that the worst items come first."""
    model.fitted_ranker.nodes_["value"] *= -1


@sabotage("model", "block", "own|remade|list_stability|worse|final_model", TRAINING)
def trees_are_noise(model: Any, run: Run) -> None:
    """The leaves say random numbers."""
    nodes = model.fitted_ranker.nodes_
    nodes["value"] = np.random.default_rng(1).normal(size=len(nodes))


@sabotage("model", "block", "own|remade|list_stability|worse|final_model", TRAINING)
def columns_of_the_model_swapped(model: Any, run: Run) -> None:
    """The names of the features that the model knows are in another order."""
    model.columns_ = model.columns_[::-1].copy()


@sabotage("model", "warn", "own|remade|list_stability|worse|empty|learned", TRAINING)
def a_candidate_source_is_empty(model: Any, run: Run) -> None:
    """A candidate source has forgotten all that it learned."""
    name = next(name for name, one in model.candidate_sources.items() if hasattr(one, "similarity_"))
    model.candidate_sources[name].similarity_ = sparse.csr_matrix(model.candidate_sources[name].similarity_.shape, dtype=np.float32)


@sabotage("model", "block", "learned|own|remade|list_stability|worse", TRAINING)
def a_candidate_source_is_off_by_one(model: Any, run: Run) -> None:
    """The items of a candidate source are off by one."""
    one = next(one for one in model.candidate_sources.values() if hasattr(one, "similarity_"))
    one.item_ids_ = np.roll(one.item_ids_, 1)


@sabotage("model", "block", "release_json|target|refused", TRAINING)
def model_of_another_target(model: Any, run: Run) -> dict[str, Any]:
    """The model says that it predicts another event type."""
    return {"target": "subscribe"}


@sabotage("model", "block", "as_of|model_age", TRAINING)
def model_of_another_day(model: Any, run: Run) -> dict[str, Any]:
    """The model says that it learned up to a day two weeks back."""
    return {"as_of": (run.today - timedelta(14)).isoformat()}


@sabotage("report", "block", "same_list|remade|worse|own", TRAINING)
def popularity_under_the_winners_name(run: Run) -> None:
    """Recent popularity is released under the winner's name."""
    assert run.selection
    run.selection = replace(run.selection, model_id=run.selection.models["popularity"])
    run.go("recommend", "validate")


@sabotage("report", "block", "refused|remade|worse", TRAINING)
def the_loser_under_the_winners_name(run: Run) -> None:
    """Another recommender's model is released under the winner's name."""
    assert run.selection
    loser = next(name for name in run.selection.models if name not in (run.selection.winner, "popularity"))
    run.selection = replace(run.selection, model_id=run.selection.models[loser])
    run.go("recommend", "validate")


def ranked(patch: pytest.MonkeyPatch, spoil: Callable[[Any, Lists, bool], Lists]) -> None:
    """Every recommender's lists go through `spoil`, with the state and whether they hold only new items."""
    rank = Recommender.rank

    def spoilt(self: Any, user_ids: Any, k: int, state: Any, exclusions: Any, *rest: Any, **named: Any) -> Any:
        for start, lists in rank(self, user_ids, k, state, exclusions, *rest, **named):
            yield start, [spoil(state, one, exclude_seen) for one, exclude_seen in zip(lists, exclusions, strict=True)]

    patch.setattr(Recommender, "rank", spoilt)


@sabotage("code", "block", "remade|own|worse|metric|scores|fall|final_model")
def ranking_is_upside_down(patch: pytest.MonkeyPatch, run: Run) -> None:
    """Lists are made with the worst item first."""
    ranked(patch, lambda state, lists, exclude_seen: Lists(lists.items[:, ::-1].copy(), lists.scores, lists.kept_out))


@sabotage("code", "block", "remade|own|worse|metric")
def ranking_is_off_by_one_user(patch: pytest.MonkeyPatch, run: Run) -> None:
    """Lists are made for the user before."""
    ranked(patch, lambda state, lists, exclude_seen: Lists(np.roll(lists.items, 1, 0), np.roll(lists.scores, 1, 0), lists.kept_out))


@sabotage("code", "block", "remade|own|worse|metric|random|same")
def ranking_is_random(patch: pytest.MonkeyPatch, run: Run) -> None:
    """The first ten items come in an order that is drawn anew each time."""
    dice = np.random.default_rng()
    ranked(patch, lambda state, lists, exclude_seen: Lists(
        np.column_stack([dice.permuted(lists.items[:, :10], axis=1), lists.items[:, 10:]]), lists.scores, lists.kept_out
    ))  # fmt: skip


@sabotage("code", "block", "remade|seen|new_items|new")
def new_items_are_not_new(patch: pytest.MonkeyPatch, run: Run) -> None:
    """What a user has had is forgotten where lists of new items are made."""
    owned = state.State.owned
    patch.setattr(state.State, "owned", lambda self: owned(self) * 0)
    patch.setattr(state.State, "owned", lambda self: sparse.csr_matrix(self.shape, dtype=np.float32))


@sabotage("code", "warn", "remade|own|worse|candidate|metric|list_stability")
def columns_swapped_at_ranking(patch: pytest.MonkeyPatch, run: Run) -> None:
    """The ranker is given its features in another order than it learned from."""
    from recsys.recommenders.two_stage import TwoStage

    select = TwoStage.select

    def swapped(self: Any, found: Any) -> Any:
        chosen = select(self, found)
        return replace(chosen, features=np.ascontiguousarray(chosen.features[:, ::-1]))

    patch.setattr(TwoStage, "select", swapped)


@sabotage("code", "block", "remade|own|worse|as_of|newest")
def lists_of_a_week_ago(patch: pytest.MonkeyPatch, run: Run) -> None:
    """Lists are made from what was known a week ago, and called today's."""
    known = snapshot.Features.state

    def stale(self: Any, cutoff: Any) -> Any:
        found = known(self, cutoff)
        if cutoff != run.today:
            return found
        old, pairs = found.history["days"] >= 7, found.user_items
        history = {name: column[old] for name, column in found.history.items()}
        return replace(
            found,
            history=history,
            user_items=pairs,
            views_and_carts={name: column[:0] for name, column in found.views_and_carts.items()},
        )

    patch.setattr(snapshot.Features, "state", stale)


@sabotage("code", "block", "remade|allowed|rule|listed|available")
def rules_are_not_applied(patch: pytest.MonkeyPatch, run: Run) -> None:
    """Items that the rules block are listed."""
    blocked = replace(run.settings, rules=replace(run.settings.rules, blocked=popular_items(run)))
    patch.setattr(run, "settings", blocked)
    for module in (daily_lists, files):
        hidden = replace(run.settings.rules, blocked=[])
        patch.setattr(
            module,
            "BusinessRules",
            lambda state, settings, hidden=hidden: business_rules.BusinessRules(state, replace(settings, rules=hidden)),
        )


def popular_items(run: Run) -> list[str]:
    """Ids of the items that most lists name."""
    release = run.store.load("release", run.release_id)
    counts = np.bincount(files.read_all(release, run.settings.list_kind)[1].items[:, :10].ravel().clip(0))
    ids = pq.read_table(release.path / "items.parquet")["item_id"].to_pylist()
    return [ids[place] for place in np.argsort(-counts)[:5]]
