"""The flow as people run it: make's commands in a copy of the repository with a small shop."""

import base64
import json
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from conftest import Fork, assert_refused, make_settings
from recsys.validation_report import ValidationReport
from reporting import metrics


def leave_out(fork: Fork, recommender: str) -> None:
    """Trains one recommender less, for each costs seconds."""
    config = fork.root / "config.toml"
    sections = re.split(r"^(?=\[)", config.read_text(), flags=re.M)
    config.write_text("".join(section for section in sections if not section.startswith(f"[recommenders.{recommender}]")))


@pytest.fixture(scope="module")
def fork(tmp_path_factory: pytest.TempPathFactory) -> Fork:
    """A fork with one release."""
    fork = Fork(tmp_path_factory.mktemp("fork"))
    leave_out(fork, "item_to_item")
    first = fork.run("run")
    assert first.returncode == 0, first.stdout + first.stderr
    assert " built" in first.stdout
    fork.summary = first.stdout
    return fork


@pytest.mark.slow
def test_the_same_command_twice_gives_the_same_content_without_dbt(fork: Fork) -> None:
    before = fork.current()
    again = fork.run("run")
    assert " reused" in again.stdout, again.stdout + again.stderr
    after = fork.current()
    assert before
    assert after
    assert before != after
    assert fork.content(before) == fork.content(after)
    assert "against the last release" in again.stdout
    compared = fork.run("diff")
    assert compared.stderr == ""
    told = compared.stdout
    assert re.search(rf"{before} +{after}", told)
    for section in ("SQL", "code", "config"):
        assert re.search(rf"^{section} +same *$", told, re.M), told
    assert told.count("+0.0000 [+0.0000, +0.0000]") == told.count("0.0% of") == 2


@pytest.mark.slow
def test_the_live_release_is_made_again(fork: Fork) -> None:
    content = fork.content(str(fork.current()))
    again = fork.run("reproduce", RELEASE=str(fork.current()))
    assert again.stdout.splitlines() == [f"identical content {content}"], again.stdout + again.stderr


def test_the_live_release_is_scored_and_one_that_is_not_there_is_not_made_again(fork: Fork) -> None:
    assert "ML test score 0" in fork.run("score").stdout
    assert_refused(fork.run("reproduce", RELEASE="nope"), "nope", "make releases")


def test_the_events_that_the_last_run_rejected_are_written_to_a_file(fork: Fork, tmp_path: Path) -> None:
    rejected, target = re.findall(r"^quarantine +([\d,]+) of", fork.summary, re.M)[0], tmp_path / "it's.parquet"
    assert f"{rejected} rejected events" in fork.run("quarantine", TO=str(target)).stdout
    assert f"{pq.read_metadata(target).num_rows:,}" == rejected
    assert_refused(fork.run("quarantine", DATASET="events"), "no run of TrainFlow on events", "make run DATASET=events")


def test_the_report_measures_every_recommender_with_its_interval(fork: Fork) -> None:
    report = json.loads((fork.store() / "releases" / str(fork.current()) / "validation_report.json").read_text())
    for list_kind in ("all_items", "new_items"):
        ndcg = [
            one for one in report["measurements"] if (one["list_kind"], one["metric"], one["group"]) == (list_kind, "ndcg@10", "")
        ]
        values = {one["recommender"]: one["value"] for one in ndcg}
        assert set(values) == {"popularity", "repeat_purchase", "two_stage"}


def test_the_summary_tells_two_metrics(fork: Fork) -> None:
    (release,) = re.findall(r"^release +(\S+)", fork.summary, re.M)
    data = (fork.store() / "releases" / release / "validation_report.json").read_bytes()
    (winner,) = re.findall(r"^winner +(\w+),", fork.summary, re.M)
    expected = list(metrics.lines(ValidationReport.from_json(data), winner, make_settings()))
    assert [name for name, *_ in expected] == ["NDCG@10, all items", "NDCG@10, new items"]
    told = re.findall(r"^metric +(.+?)\s*$", fork.summary, re.M)
    assert [" ".join(line.split()) for line in told] == [" ".join(" ".join(parts).split()) for parts in expected]


def test_the_release_keeps_every_metric_of_every_user(fork: Fork) -> None:
    columns = pq.read_schema(fork.store() / "releases" / str(fork.current()) / "holdout.parquet").names
    metrics = ("ndcg", "recall", "hit_rate", "map", "novelty", "popularity_bias")
    assert sorted(columns) == sorted(["list_kind", "user_id", *(f"{metric}@{k}" for metric in metrics for k in (5, 10, 20))])


def test_releases_card_and_export_read_what_is_live(fork: Fork, tmp_path: Path) -> None:
    assert re.search(rf"^live +{fork.current()} +2024-01-01 to 2024-07-18 ", fork.run("releases").stdout, re.M)
    assert fork.run("card").returncode == 0
    told = re.search(r'__MF_DATA__.*= "([^"]+)"', (fork.root / "data" / "card.html").read_text())
    assert told
    for words in ("NDCG@10, all items", "NDCG@10, new items", "checks passed"):
        assert words in base64.b64decode(told[1]).decode()
    exported = {}
    for exclude_seen in ("", "1"):
        target = tmp_path / f"lists{exclude_seen}.parquet"
        assert fork.run("export", TO=str(target), NOVEL=exclude_seen).returncode == 0
        exported[exclude_seen] = pq.read_table(target).to_pydict()
    features = json.loads((fork.store() / "releases" / str(fork.current()) / "manifest.json").read_text())["parents"]["features"]
    users = pq.read_table(fork.store() / "features" / features / "dim_users.parquet")["user_id"].to_pylist()
    for columns in exported.values():
        assert sorted(set(columns["user_id"])) == users
        assert min(columns["rank"]) == 1
        assert max(columns["rank"]) == 50
    assert exported[""] != exported["1"]


@pytest.mark.slow
def test_a_case_is_added_if_its_ids_are_known_and_the_next_run_is_held_against_it(fork: Fork) -> None:
    release = fork.store() / "releases" / str(fork.current())
    features = json.loads((release / "manifest.json").read_text())["parents"]["features"]
    user = pq.read_table(fork.store() / "features" / features / "dim_users.parquet")["user_id"][0].as_py()
    hidden = next(row["item_id"] for row in pq.read_table(release / "items.parquet").to_pylist() if not row["is_available"])
    asked = {"USER": user, "EXPECT": hidden, "WHY": "Zoë wants it back", "SEVERITY": "block"}
    for change, word in (
        ({"USER": "nobody"}, "nobody"),
        ({"NOT": "nothing"}, "nothing"),
        ({"WHY": ""}, "WHY"),
        ({"EXPECT": ""}, "NOT"),
    ):
        assert_refused(fork.run("add-case", **asked | change), word)
    assert not (fork.root / "cases.jsonl").exists()
    assert fork.run("add-case", **asked).returncode == 0
    try:
        assert_refused(
            fork.run("run"), f"[case_1] first 10 items of user {user}: {hidden} is missing; the case says: Zoë wants it back"
        )
    finally:
        (fork.root / "cases.jsonl").unlink()


@pytest.mark.parametrize("step", [pytest.param("select", marks=pytest.mark.slow), "recommend"])
def test_a_step_can_be_run_again(fork: Fork, step: str) -> None:
    before = fork.current()
    again = fork.run("step", STEP=step)
    assert again.returncode == 0, again.stdout + again.stderr
    assert fork.current() == before


@pytest.mark.slow
def test_a_sample_of_a_past_day_is_released_apart_and_sees_no_later_day(fork: Fork, tmp_path: Path) -> None:
    before = fork.current()
    config = fork.root / "config.toml"
    usual = config.read_text()
    leave_out(fork, "two_stage")
    try:
        sampled = fork.run("run", SAMPLE="0.5", AS_OF="2024-06-01", STORE=str(tmp_path))
    finally:
        config.write_text(usual)
    assert sampled.returncode == 0, sampled.stdout + sampled.stderr
    assert "to 2024-05-31" in sampled.stdout
    assert (tmp_path / "shop-sample-0.5" / "CURRENT").read_text().startswith("20240601-")
    assert fork.current() == before
    assert not fork.store("shop-sample-0.5").exists()


@pytest.mark.slow
def test_of_two_runs_at_once_one_publishes_and_the_other_is_refused_at_its_start(fork: Fork) -> None:
    before = fork.current()
    fork.set("features", "training_windows", 2)  # another model than the live one's, which both are judged against
    try:
        with ThreadPoolExecutor(2) as pool:
            results = list(pool.map(lambda _: fork.run("run"), range(2)))
    finally:
        fork.set("features", "training_windows", 3)
    won, lost = sorted(results, key=lambda result: result.returncode)
    assert won.returncode == 0, won.stdout + won.stderr
    assert_refused(lost, "another run of TrainFlow", "wait for its end")
    assert "done" not in lost.stdout
    assert fork.current() != before
    assert str(fork.current()) in won.stdout


@pytest.mark.slow
def test_a_run_may_end_as_a_canary_which_is_promoted_and_rolled_back(fork: Fork) -> None:
    before = fork.current()
    tried = fork.run("run", CANARY="0.05")
    assert "is the canary of 5% of the users" in tried.stdout, tried.stdout + tried.stderr
    assert fork.current() == before
    canary = json.loads((fork.store() / "CANARY").read_text())
    assert canary["share"] == 0.05
    assert canary["release"] in fork.run("promote").stdout
    assert fork.current() == canary["release"]
    assert not (fork.store() / "CANARY").exists()
    assert f"rolled back from {canary['release']}" in fork.run("rollback").stdout
    assert fork.current() == before


def test_a_blocking_result_keeps_the_pointer_and_resume_takes_the_run_up_again(fork: Fork) -> None:
    before, usual = fork.current(), fork.setting("checks.lists", "min_length")
    fork.set("checks.lists", "min_length", 1_000)
    try:
        refused = fork.run("run")
        assert_refused(
            refused, "all_items_users_served", "checks.lists.min_length", "suspect: the lists", "`make report", "`make recommend"
        )
        assert_refused(fork.run("resume"), "all_items_users_served")
    finally:
        fork.set("checks.lists", "min_length", usual)
    assert fork.current() == before
    assert (refused.stdout + refused.stderr).count("[new_items_users_served]") == 1, "a block is told once"
    told = (r"^winner +\w+", r"^metric +NDCG@10", "^rules ", "^checks .* blocked", "^cost ")
    assert [part for part in told if not re.search(part, refused.stdout, re.M)] == []
    (release,) = re.findall(r"^release +(\S+) is not published", refused.stdout, re.M)
    assert fork.run("report", RELEASE=release).returncode == 0
    assert "checks.lists.min_length" in (fork.root / "data" / "report.html").read_text()


@pytest.mark.parametrize(
    ("source_settings", "words"),
    [
        ({"DATASET": "nope"}, "nope"),
        pytest.param({"AS_OF": "2031-01-01"}, "2031-01-01", marks=pytest.mark.slow),  # dbt must run first
        ({"AS_OF": "soon"}, "YYYY-MM-DD"),
        ({"SAMPLE": "2"}, "SAMPLE"),
        ({"DATASET": "events"}, "EVENTS"),
        ({"RAW": "x.csv"}, "takes no RAW="),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_wrong_source_setting_is_one_line(fork: Fork, source_settings: dict[str, str], words: str) -> None:
    before = fork.current()
    assert_refused(fork.run("run", **source_settings), words)
    assert fork.current() == before
