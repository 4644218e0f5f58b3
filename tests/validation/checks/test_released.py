"""Whatever is wrong in a release's files, a check that names it stops the release; healthy ones pass, whoever made them."""

import json
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from conftest import failures, sabotage
from recsys.evaluation.holdout import evaluate, holdout_table
from recsys.recommenders.registry import create
from recsys.releases import files
from recsys.releases.business_rules import BusinessRules
from recsys.releases.list_files import ListRow, read_rows, unpack, write_rows
from recsys.releases.session_index import SIMILARITIES, SessionAnswers
from recsys.store.snapshots import Snapshot
from recsys.validation.check_input import CheckInput
from recsys.validation.checks.released import difference
from recsys.validation.registry import examine


def changed(inputs: CheckInput, folder: Path, change: Callable[[Path], None]) -> CheckInput:
    """The subject with a copy of its release in which something is changed."""
    shutil.copytree(inputs.release.path, folder / "release")
    change(folder / "release")
    release = Snapshot(folder / "release", inputs.release.manifest)
    lists = {list_kind: files.read_all(release, list_kind) for list_kind in inputs.lists}
    return sabotage(inputs, release=release, lists=lists)


def blocked(inputs: CheckInput, *checks: str) -> dict[str, str]:
    """Messages of the checks that block, by name."""
    found: dict[str, str] = {}
    for check in checks or ("released", "lists"):
        found |= {name: result.message for name, result in failures(check, inputs).items() if result.blocks}
    return found


def rewritten(change: Callable[[list[ListRow]], list[ListRow]], name: str = "lists.sqlite") -> Callable[[Path], None]:
    """Changes the rows of lists in a release's folder."""

    def write(folder: Path) -> None:
        users = folder / "users.sqlite"
        shutil.copyfile(folder / name, users)
        rows = change(list(read_rows(users)))
        (folder / name).unlink()
        write_rows(folder / name, sorted(rows))
        with closing(sqlite3.connect(folder / name)) as connection, connection:
            connection.execute("attach ? as other", (str(users),))
            if connection.execute("select * from other.sqlite_master where name = 'users'").fetchall():
                connection.execute(
                    "create table users (user_id text primary key, segment text, bought blob not null) without rowid"
                )
                connection.execute("insert into users select * from other.users")
        users.unlink()

    return write


def shifted(rows: list[ListRow], all_items: bool = True, exclude_seen: bool = True, part: slice = slice(None)) -> list[ListRow]:
    """Each user's lists are those of the next user."""
    kept = rows[part]
    others = kept[1:] + kept[:1]
    rows[part] = [
        (user, other[1] if all_items else own_allow, other[2] if exclude_seen else own_new_items)
        for (user, own_allow, own_new_items), other in zip(kept, others, strict=True)
    ]
    return rows


def each_list(
    change: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]],
) -> Callable[[list[ListRow]], list[ListRow]]:
    """Changes items and scores of every list."""

    def pack(blob: bytes) -> bytes:
        items, scores = change(*unpack(blob))
        return items.astype("<i4").tobytes() + scores.astype("<f4").tobytes()

    return lambda rows: [(user, pack(all_items), pack(exclude_seen)) for user, all_items, exclude_seen in rows]


def test_a_healthy_release_passes(inputs: CheckInput) -> None:
    assert failures("released", inputs) == {}


def test_lists_of_the_next_user(inputs: CheckInput, tmp_path: Path) -> None:
    found = blocked(changed(inputs, tmp_path, rewritten(shifted)))
    assert {"all_items_lists_remade", "new_items_lists_remade", "all_items_own_user", "new_items_items_new"} <= found.keys()
    assert "do not fit their own users" in found["all_items_own_user"]


def test_lists_of_the_next_user_under_one_list_kind(inputs: CheckInput, tmp_path: Path) -> None:
    found = blocked(changed(inputs, tmp_path, rewritten(lambda rows: shifted(rows, all_items=False))), "released")
    assert "new_items_lists_remade" in found
    assert "all_items_lists_remade" not in found


def test_lists_of_the_next_user_in_a_part_of_the_users(inputs: CheckInput, tmp_path: Path) -> None:
    found = blocked(changed(inputs, tmp_path, rewritten(lambda rows: shifted(rows, part=slice(300, 400)))), "released")
    assert {"all_items_lists_remade", "all_items_own_user"} <= found.keys()


@pytest.mark.slow
def test_lists_of_the_next_user_in_one_segment(inputs: CheckInput, tmp_path: Path) -> None:
    state = inputs.state
    names, sizes = np.unique(state.users["segment"], return_counts=True)
    segment = str(names[sizes.argmax()])
    members = set(state.user_ids[state.users["segment"] == segment].tolist())

    def rotate(rows: list[ListRow]) -> list[ListRow]:
        return [row for row in rows if row[0] not in members] + shifted([row for row in rows if row[0] in members])

    found = blocked(changed(inputs, tmp_path, rewritten(rotate)), "released")
    assert "all_items_lists_remade" in found
    assert f"segment {segment}" in found["all_items_own_user"]


@pytest.mark.slow
@pytest.mark.parametrize("by", [1, -1])
def test_item_rows_off_by_one(inputs: CheckInput, tmp_path: Path, by: int) -> None:
    count = inputs.state.shape[1]
    change = each_list(lambda items, scores: ((items + by) % count, scores))
    assert {"all_items_lists_remade", "new_items_lists_remade"} <= blocked(changed(inputs, tmp_path, rewritten(change))).keys()


def test_item_rows_beyond_the_catalogue(inputs: CheckInput, tmp_path: Path) -> None:
    """The service would refuse to answer; checks that cannot count such items block, and the others still speak."""
    broken = changed(inputs, tmp_path, rewritten(each_list(lambda items, scores: (items + 1, scores))))
    found = {result.name: result for check in examine(broken, audit=False, on=("data",)).values() for result in check}
    assert found["all_items_lists_remade"].blocks
    assert found["diversity_ran"].blocks
    assert found["as_of"].passed


def test_new_item_lists_with_items_that_users_have_had(inputs: CheckInput, tmp_path: Path) -> None:
    found = blocked(
        changed(inputs, tmp_path, rewritten(lambda rows: [(user, all_items, all_items) for user, all_items, _ in rows]))
    )
    assert {"new_items_items_new", "new_items_lists_remade"} <= found.keys()
    assert "has had i" in found["new_items_items_new"]


def test_one_old_item_that_the_capped_history_forgot(inputs: CheckInput, tmp_path: Path) -> None:
    """Whatever a user had at any time is not new, for one user alone too."""
    users, items = inputs.features.target_pairs()
    user, item = str(inputs.state.user_ids[users[0]]), int(items[0])

    def put(rows: list[ListRow]) -> list[ListRow]:
        found = []
        for id, all_items, exclude_seen in rows:
            listed, scores = unpack(exclude_seen)
            if id == user:
                listed = listed.copy()
                listed[3] = item
            found.append((id, all_items, listed.astype("<i4").tobytes() + scores.tobytes()))
        return found

    found = blocked(changed(inputs, tmp_path, rewritten(put)), "lists")
    assert f"user {user} has had {inputs.state.item_ids[item]}" in found["new_items_items_new"]


def test_top_tens_in_any_order(inputs: CheckInput, tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    top = each_list(lambda items, scores: (np.concatenate([draw.permutation(items[:10]), items[10:]]), scores))
    assert {"all_items_lists_remade", "new_items_lists_remade"} <= blocked(changed(inputs, tmp_path, rewritten(top))).keys()
    whole = np.random.default_rng(0).permutation(10)
    both = each_list(lambda items, scores: (np.r_[items[:10][whole], items[10:]], np.r_[scores[:10][whole], scores[10:]]))
    assert "all_items_scores_fall" in blocked(changed(inputs, tmp_path / "both", rewritten(both)))


@pytest.mark.slow
@pytest.mark.parametrize(
    "change", [lambda scores: -scores, np.ones_like, lambda scores: scores * 2], ids=["negated", "constant", "doubled"]
)
def test_scores_that_are_not_the_models(inputs: CheckInput, tmp_path: Path, change: Callable[[np.ndarray], np.ndarray]) -> None:
    found = blocked(changed(inputs, tmp_path, rewritten(each_list(lambda items, scores: (items, change(scores))))))
    assert {"all_items_lists_remade", "new_items_lists_remade"} <= found.keys()


@pytest.mark.slow
def test_lists_that_are_cut_off(inputs: CheckInput, tmp_path: Path) -> None:
    found = blocked(changed(inputs, tmp_path, rewritten(each_list(lambda items, scores: (items[:20], scores[:20])))))
    assert "has 20 items, not 50" in found["all_items_lists_remade"]


def test_users_that_are_missing_or_strange(inputs: CheckInput, tmp_path: Path) -> None:
    last = str(inputs.state.user_ids[-1])
    found = blocked(changed(inputs, tmp_path / "missing", rewritten(lambda rows: rows[:-1])))
    assert last in found["all_items_users"]
    assert f"user {last}" in found["all_items_lists_remade"]
    found = blocked(changed(inputs, tmp_path / "strange", rewritten(lambda rows: [*rows, ("zz", *rows[0][1:])])))
    assert "such as zz" in found["new_items_users"]


def test_lists_of_another_day(inputs: CheckInput, tmp_path: Path) -> None:
    """The same model on the features of the holdout's day."""

    def write(folder: Path) -> None:
        (folder / "lists.sqlite").unlink()
        rules = BusinessRules(inputs.holdout_state, inputs.settings)
        files.write_ranked(folder, inputs.model, {}, rules, inputs.state.user_ids)
        files.write_others(folder, inputs.winner, {}, rules, inputs.settings, inputs.features.as_of, inputs.sessions)

    found = blocked(changed(inputs, tmp_path, write))
    assert {"all_items_lists_remade", "users_remade", "as_of", "fallback_remade", "similar_items_remade"} <= found.keys()


def test_users_table_of_another_day(inputs: CheckInput, tmp_path: Path) -> None:
    def write(folder: Path) -> None:
        with closing(sqlite3.connect(folder / "lists.sqlite")) as connection, connection:
            connection.execute("drop table users")
        files._write_users(folder / "lists.sqlite", inputs.holdout_state)

    assert list(blocked(changed(inputs, tmp_path, write))) == ["users_remade"]


@pytest.mark.slow
@pytest.mark.parametrize("column", ["segment", "bought"])
def test_users_table_shifted_by_one(inputs: CheckInput, tmp_path: Path, column: str) -> None:
    def write(folder: Path) -> None:
        with closing(sqlite3.connect(folder / "lists.sqlite")) as connection, connection:
            rows = connection.execute(f"select user_id, {column} from users order by user_id").fetchall()
            users, values = zip(*rows, strict=True)
            connection.executemany(
                f"update users set {column} = ? where user_id = ?", zip(values[1:] + values[:1], users, strict=True)
            )

    assert list(blocked(changed(inputs, tmp_path, write))) == ["users_remade"]


def neighbours(change: Callable[[np.ndarray], np.ndarray], file: str = "neighbours.npz") -> Callable[[Path], None]:
    """Changes the table of similar items, as a dense matrix."""
    from scipy import sparse

    def write(folder: Path) -> None:
        with np.load(folder / file) as parts:
            size = len(parts["indptr"]) - 1
            dense = sparse.csr_matrix((parts["data"], parts["indices"], parts["indptr"]), (size, size)).toarray()
        made = sparse.csr_matrix(change(dense))
        np.savez(folder / file, data=made.data, indices=made.indices, indptr=made.indptr)

    return write


@pytest.mark.slow
@pytest.mark.parametrize(
    "change",
    [
        lambda similar: similar.T,
        lambda similar: np.roll(similar, 1, 0),
        lambda similar: np.roll(similar, 1, 1),
        lambda similar: similar + np.eye(len(similar), dtype=np.float32),
        lambda similar: similar * (similar > np.median(similar[similar > 0])),
    ],
    ids=["transposed", "of the next item", "next items", "itself", "cut off"],
)
def test_similar_items_of_others(inputs: CheckInput, tmp_path: Path, change: Callable[[np.ndarray], np.ndarray]) -> None:
    assert "similar_items_remade" in blocked(changed(inputs, tmp_path, neighbours(change)))


def test_session_items_of_others_or_none(inputs: CheckInput, tmp_path: Path) -> None:
    others = neighbours(lambda similar: np.roll(similar, 1, 0), "session_neighbours.npz")
    assert "session_items_remade" in blocked(changed(inputs, tmp_path / "others", others), "released")
    without = changed(inputs, tmp_path / "none", lambda folder: (folder / "session_neighbours.npz").unlink())
    assert "session_items_remade" in blocked(without, "released")


@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_sessions_are_answered_as_was_chosen(inputs: CheckInput, tmp_path: Path, similarity: str) -> None:
    """Each way passes where it was chosen, and blocks where another one was."""

    def write(folder: Path) -> None:
        (folder / "session_neighbours.npz").unlink()
        with closing(sqlite3.connect(folder / "lists.sqlite")) as connection, connection:
            connection.execute("drop table users")
        files.write_others(folder, inputs.winner, rules, inputs.rules, inputs.settings, inputs.features.as_of, answers)

    answers, rules = SessionAnswers(similarity, 2), files.about(inputs.release)["rules"]
    made = changed(inputs, tmp_path, write)
    assert not blocked(sabotage(made, sessions=answers), "released")
    for other in SIMILARITIES:
        if other != similarity:
            found = blocked(sabotage(made, sessions=SessionAnswers(other, 2)), "released")
            assert found.keys() == {"session_items_remade", "release_json"}
    assert blocked(sabotage(made, sessions=SessionAnswers(similarity, 0)), "released").keys() == {"release_json"}


def test_fallback_of_another_segment_and_with_hidden_items(inputs: CheckInput, tmp_path: Path) -> None:
    def swap(folder: Path) -> None:
        kept = json.loads((folder / "fallback.json").read_text())
        one, other, *_ = kept["segments"]
        kept["segments"][one], kept["segments"][other] = kept["segments"][other], kept["segments"][one]
        (folder / "fallback.json").write_text(json.dumps(kept))

    def hide(folder: Path) -> None:
        kept = json.loads((folder / "fallback.json").read_text())
        kept["all"][0] = str(inputs.state.item_ids[~inputs.state.items["is_available"]][0])
        (folder / "fallback.json").write_text(json.dumps(kept))

    assert "the list segment" in blocked(changed(inputs, tmp_path / "swap", swap), "released")["fallback_remade"]
    assert {"fallback_items_allowed", "fallback_remade"} <= blocked(changed(inputs, tmp_path / "hide", hide)).keys()


@pytest.mark.slow
@pytest.mark.parametrize("column", ["title", "category", "price", "item_id", "is_listed", "is_available", "popularity_rank"])
def test_items_table_in_another_order(inputs: CheckInput, tmp_path: Path, column: str) -> None:
    def write(folder: Path) -> None:
        table = pq.read_table(folder / "items.parquet")
        values = table[column].to_pylist()
        table = table.set_column(table.column_names.index(column), column, pa.array(values[1:] + values[:1]))
        pq.write_table(table, folder / "items.parquet")

    assert "items_remade" in blocked(changed(inputs, tmp_path, write), "released")


@pytest.fixture(scope="module")
def with_popularity(inputs: CheckInput, tmp_path_factory: pytest.TempPathFactory) -> CheckInput:
    """The subject with popularity's lists beside the winner's."""
    model = create("popularity", {"days": 7}).fit(inputs.state)
    with inputs.store.draft() as folder:
        model.save(folder)
        id = inputs.store.commit(folder, "model", {"as_of": inputs.features.as_of.isoformat()}).id
    folder = tmp_path_factory.mktemp("alternatives")
    shutil.copytree(inputs.release.path, folder / "release")
    (folder / "made").mkdir()
    files.write_ranked(folder / "made", inputs.model, {"popularity": model}, inputs.rules, inputs.state.user_ids)
    shutil.copytree(folder / "made" / "alternatives", folder / "release" / "alternatives")
    manifest = replace(inputs.release.manifest, made_from=inputs.release.manifest.made_from | {"alternatives": {"popularity": id}})
    settings = replace(inputs.settings, lists=replace(inputs.settings.lists, alternatives=["popularity"]))
    return sabotage(inputs, release=Snapshot(folder / "release", manifest), settings=settings)


def test_lists_beside_the_winners_pass(with_popularity: CheckInput) -> None:
    assert blocked(with_popularity) == {}


@pytest.mark.slow
def test_lists_swapped_with_those_beside(with_popularity: CheckInput, tmp_path: Path) -> None:
    def swap(folder: Path) -> None:
        theirs = list(read_rows(folder / "alternatives" / "popularity.sqlite"))
        ours = list(read_rows(folder / "lists.sqlite"))
        rewritten(lambda _: theirs)(folder)
        rewritten(lambda _: ours, "alternatives/popularity.sqlite")(folder)

    found = blocked(changed(with_popularity, tmp_path, swap), "released")
    assert {
        "all_items_lists_remade",
        "new_items_lists_remade",
        "popularity_all_items_lists_remade",
        "popularity_new_items_lists_remade",
    } <= found.keys()


def test_a_recommender_that_takes_rows_for_ids(inputs: CheckInput) -> None:
    """Its lists are right as long as the items of model and state are the same."""

    class ByRow(type(inputs.model.candidate_sources["item_to_item"])):  # type: ignore[misc]
        def columns(self, state: object) -> np.ndarray:
            return np.arange(len(self.item_ids_))

    model = ByRow().fit(inputs.state)
    assert "all_items_lists_permuted" in blocked(sabotage(inputs, model=model), "released")


def test_the_other_list_kind_as_the_one_that_is_served(inputs: CheckInput, tmp_path: Path) -> None:
    def write(folder: Path) -> None:
        facts = json.loads((folder / "release.json").read_text())
        (folder / "release.json").write_text(json.dumps(facts | {"exclude_seen": True}))

    assert "exclude_seen is True, not False" in blocked(changed(inputs, tmp_path, write), "released")["release_json"]


@pytest.mark.parametrize(
    ("claim", "name", "words"),
    [
        ({"target": "subscribe"}, "release_json", "the model predicts subscribe, not purchase"),
        ({"as_of": "2024-01-01"}, "as_of", "says that it was trained as of 2024-01-01"),
    ],
)
def test_what_a_model_claims_must_be_true(inputs: CheckInput, claim: dict[str, str], name: str, words: str) -> None:
    find = inputs.store.find

    def claiming(kind: str, id: str) -> Any:
        found = find(kind, id)
        return replace(found, made_from=found.made_from | claim) if found and kind == "model" else found

    with patch.object(type(inputs.store), "find", lambda _, kind, id: claiming(kind, id)):
        assert words in failures("released", inputs)[name].message


def test_metrics_of_another_model(inputs: CheckInput, tmp_path: Path) -> None:
    other = {list_kind: windows[0] for list_kind, windows in inputs.evaluations["popularity"].items()}
    kept = changed(inputs, tmp_path, lambda folder: pq.write_table(holdout_table(other), folder / "holdout.parquet"))
    assert list(blocked(kept, "released")) == ["holdout_kept"]


def test_dates_that_differ(inputs: CheckInput, tmp_path: Path) -> None:
    def write(folder: Path) -> None:
        facts = json.loads((folder / "release.json").read_text())
        (folder / "release.json").write_text(json.dumps(facts | {"trained_as_of": "2024-01-01"}))

    assert "the model was trained as of" in blocked(changed(inputs, tmp_path, write))["as_of"]


def test_scores_that_tie_may_swap_their_items() -> None:
    made = [("a", 2.0), ("b", 1.0), ("c", 1.0), ("d", 0.0)]
    assert difference(made, [("a", 2.0), ("c", 1.0 + 1e-7), ("b", 1.0), ("d", 0.0)]) == ""
    assert difference(made, [("b", 2.0), ("a", 1.0), ("c", 1.0), ("d", 0.0)]) == "has b at rank 1, not a"
    assert difference(made, made[:3]) == "has 3 items, not 4"
    assert difference(made, [("a", 2.5), *made[1:]]) == "has 2.5 for a, not 2"
    assert difference([], []) == ""


@pytest.mark.slow
def test_a_category_takes_no_more_than_its_share(inputs: CheckInput, tmp_path: Path) -> None:
    capped = replace(inputs.settings, rules=replace(inputs.settings.rules, max_category_share=0.3))
    assert "all_items_category_share" in blocked(sabotage(inputs, settings=capped), "lists")
    rules = BusinessRules(inputs.state, capped)

    def write(folder: Path) -> None:
        (folder / "lists.sqlite").unlink()
        files.write_ranked(folder, inputs.model, {}, rules, inputs.state.user_ids)
        files.write_others(folder, inputs.winner, {}, rules, capped, inputs.features.as_of, inputs.sessions)

    assert blocked(replace(changed(inputs, tmp_path, write), settings=capped)) == {}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["popularity", "repeat_purchase", "item_to_item", "user_neighbours", "ease"])
def test_a_healthy_release_of_any_recommender_passes(inputs: CheckInput, tmp_path: Path, name: str) -> None:
    model = create(name, {}).fit(inputs.state)
    with inputs.store.draft() as folder:
        model.save(folder)
        made_from = {"as_of": inputs.features.as_of.isoformat()}
        id = inputs.store.commit(folder, "model", made_from, {"features": inputs.features.id}).id
    folder = tmp_path / "release"
    folder.mkdir()
    files.write_ranked(folder, model, {}, inputs.rules, inputs.state.user_ids)
    files.write_others(folder, name, {}, inputs.rules, inputs.settings, inputs.features.as_of, inputs.sessions)
    manifest = replace(inputs.release.manifest, parents=inputs.release.manifest.parents | {"model": id})
    made = Snapshot(folder, manifest)
    lists = {list_kind: files.read_all(made, list_kind) for list_kind in inputs.lists}
    windows = {name: evaluate(create(name, {}), inputs.features, inputs.settings, inputs.features.evaluated[:1])}
    pq.write_table(holdout_table({list_kind: found[0] for list_kind, found in windows[name].items()}), folder / "holdout.parquet")
    healthy = sabotage(inputs, release=made, winner=name, model=model, lists=lists, evaluations=windows)
    assert blocked(healthy) == {}
    assert blocked(replace(healthy, evaluations={}, live=made)) == {}


def test_one_row_of_each_table_that_is_wrong(inputs: CheckInput, tmp_path: Path) -> None:
    """Titles, segments and similar items of the next row, each named by its own check; the slow tests try every column."""

    def write(folder: Path) -> None:
        table = pq.read_table(folder / "items.parquet")
        titles = table["title"].to_pylist()
        pq.write_table(table.set_column(1, "title", pa.array(titles[1:] + titles[:1])), folder / "items.parquet")
        neighbours(lambda similar: np.roll(similar, 1, 0))(folder)
        with closing(sqlite3.connect(folder / "lists.sqlite")) as connection, connection:
            connection.execute("update users set segment = 'nowhere'")

    found = blocked(changed(inputs, tmp_path, write), "released")
    assert {"items_remade", "similar_items_remade", "users_remade"} == found.keys()
    assert "in segment nowhere, not" in found["users_remade"]


def test_features_of_other_users(inputs: CheckInput) -> None:
    others = {name: np.roll(column, 1) for name, column in inputs.state.users.items()}
    assert "features_remade" in blocked(sabotage(inputs, state=replace(inputs.state, users=others)), "released")
