"""The verbs of the life cycle as people call them."""

import shutil
from dataclasses import replace
from datetime import date, datetime
from pathlib import Path
from typing import Any

import pytest

from conftest import Fork, assert_refused, make_release
from recsys.publishing.publication import ValidatedRelease, publish
from recsys.store.snapshots import Canary, Store, open_store
from recsys.validation.registry import required


@pytest.fixture(scope="module")
def fork(tmp_path_factory: pytest.TempPathFactory) -> Fork:
    """A fork in whose store a, then b went live; c is not published."""
    fork = Fork(tmp_path_factory.mktemp("fork"))
    store = shelf(fork)
    for id in "abc":
        report = make_release(store, id, id)
        if id == "c":  # it has a result of every check that a release needs before users see it
            complete = replace(report, on_data=dict.fromkeys(required(audit=False), report.on_data["lists"]))
            store.attach_report(id, complete.to_json())
        else:
            publish(store, ValidatedRelease(id, report, store.current()), ["lists"])
    return fork


def shelf(fork: Fork) -> Store:
    return open_store(str(fork.root / "data" / "store"), "shop")


def slow(*values: object) -> Any:
    """A case for `make test-all`: each starts a process, and others of its kind are quick."""
    return pytest.param(*values, marks=pytest.mark.slow)


def said(fork: Fork, verb: str, **source_settings: str) -> str:
    done = fork.run(verb, **source_settings)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_release_is_verified_tried_pinned_and_listed(fork: Fork) -> None:
    assert "release b can be served" in said(fork, "verify")
    assert "release c is the canary of 0.4% of the users" in said(fork, "canary", RELEASE="c", SHARE="0.004")
    assert "release c is the canary of 5% of the users" in said(fork, "canary", RELEASE="c", SHARE="0.05")
    assert shelf(fork).canary() == Canary("c", 0.05, "b")
    assert "release a is pinned" in said(fork, "pin", RELEASE="a")
    told = said(fork, "releases").splitlines()
    listed = {line.split("2024")[0].strip() for line in told[1:]}
    day = date(2024, 2, 1)  # that its lists are of; midnight may pass meanwhile
    assert all(abs(int(line.split("2024-01-31")[1].split()[0]) - (date.today() - day).days) <= 1 for line in told[1:])
    assert {" ".join(line.split()) for line in listed} == {"live b", "canary c", "previous, pinned a"}
    assert "no longer pinned" in said(fork, "pin", RELEASE="a", OFF="1")
    assert "there is no canary" in said(fork, "canary", OFF="1")
    assert shelf(fork).canary() is None


def test_what_would_be_freed_is_told_first_and_freed_if_told_so(fork: Fork) -> None:
    make_release(shelf(fork), "d", "d")
    told = said(fork, "gc", KEEP="1")
    assert "would free 0.0 MB in 0 snapshots" in told
    assert "younger than 24 hours (GRACE_HOURS=)" in told
    told = said(fork, "gc", KEEP="1", GRACE_HOURS="0")
    assert "release   c " in told
    assert "pass YES=1" in told
    assert shelf(fork).find("release", "c")
    assert "freed 0." in said(fork, "gc", KEEP="1", GRACE_HOURS="0", YES="1")
    assert shelf(fork).ids("release") == ["a", "b", "d"]


def test_a_rollback_says_what_it_left(fork: Fork) -> None:
    assert "release a is live; rolled back from b" in said(fork, "rollback")
    assert_refused(fork.run("rollback"), "no earlier release than a was live", "pass RELEASE=")
    assert "release b is live" in said(fork, "rollback", RELEASE="b")
    assert all(datetime.fromisoformat(move["at"]).tzinfo for move in shelf(fork).history()[2:])


@pytest.mark.parametrize(
    ("verb", "source_settings", "words"),
    [
        ("verify", {"RELEASE": "x"}, "x is not in"),
        slow("report", {"RELEASE": "x"}, "release x is not in"),
        slow("rollback", {"RELEASE": "x"}, "release x is not in"),
        ("rollback", {"RELEASE": "../a"}, "is not a snapshot id"),
        ("pin", {}, "RELEASE is not given"),
        slow("canary", {"RELEASE": "a"}, "SHARE is not given"),
        slow("promote", {}, "no canary to promote"),
        ("canary", {"RELEASE": "a", "SHARE": "some"}, 'SHARE is "some"; it must be a number from 0 to 1'),
        ("gc", {"KEEP": "0"}, 'KEEP is "0"; it must be a whole number from 1 to'),
        slow("run", {"CANARY": "2"}, 'CANARY is "2"; it must be a number from 0 to 1'),
        ("run", {"DATASTE": "shop"}, "DATASTE is no variable of `make run`; did you mean DATASET?"),
    ],
)
def test_what_cannot_be_done_is_told_in_one_line(fork: Fork, verb: str, source_settings: dict[str, str], words: str) -> None:
    assert_refused(fork.run(verb, **source_settings), words)


IN_THE_STORE = {
    "releases": ({}, "live"),
    "verify": ({}, "release b can be served"),
    "pin": ({"RELEASE": "a"}, "release a is pinned"),
    "rollback": ({}, "release a is live"),
    "canary": ({"RELEASE": "b", "SHARE": "0"}, "release b is the canary"),
    "promote": ({}, "no check result of raw"),
    "gc": ({}, "would free 0.0 MB"),
    "report": ({"RELEASE": "x"}, "x is not in {}/given"),
    "export": ({"TO": "{}/lists.csv"}, "of release a (all_items) written"),
    "exposures": ({"TO": "{}/shown.parquet", "DAY": "2024-02-01"}, "0 items shown"),
    "explain": ({"USER": "u0"}, "release a cannot be explained: its model"),
    "add-case": ({"USER": "u0", "NOT": "i0", "WHY": "it is broken"}, "added to cases.jsonl"),
    "expect": ({"FROM": "2026-12-01", "TO": "2026-12-24", "KIND": "volume", "BECAUSE": "Christmas"}, "is expected"),
    "reproduce": ({"RELEASE": "x"}, "x is not in {}/given"),
    "diff": ({"A": "x", "B": "b"}, "x is not in {}/given"),
    "score": ({}, "validation report of release a"),
    "doctor": ({}, "live release a"),
}
DEPLOYED = {"deploy", "undeploy", "trigger", "cloud-status"}


@pytest.mark.slow
def test_every_verb_of_the_store_works_in_the_store_that_is_given(tmp_path: Path) -> None:
    fork = Fork(tmp_path / "fork")
    for id in "ab":
        given = open_store(str(tmp_path / "given"), "shop")
        publish(given, ValidatedRelease(id, make_release(given, id, id), given.current()), ["lists"])
    for verb, (arguments, words) in IN_THE_STORE.items():
        done = fork.run(verb, STORE=str(tmp_path / "given"), **{name: value.format(tmp_path) for name, value in arguments.items()})
        assert words.format(tmp_path) in done.stdout + done.stderr, verb
        assert "Traceback" not in done.stderr, verb
        assert not (fork.root / "data" / "store").exists(), verb


@pytest.mark.parametrize("verb", ["deploy", *map(slow, sorted(DEPLOYED - {"deploy"}))])
def test_what_is_deployed_has_the_store_of_the_config_alone(fork: Fork, verb: str) -> None:
    assert_refused(fork.run(verb, STORE="elsewhere", FLOW="TrainFlow"), "STORE", "store.root")


def test_a_schedule_keeps_the_store_that_is_given(fork: Fork) -> None:
    lines = [line for line in said(fork, "cron", STORE="elsewhere").splitlines() if "make --directory" in line]
    assert lines
    assert all("STORE=elsewhere" in line for line in lines)


def test_units_of_two_datasets_have_different_names(fork: Fork) -> None:
    events = fork.root / "events.csv"
    events.write_text("user_id,item_id,event_at\n")
    given: list[dict[str, str]] = [{}, {"DATASET": "shop"}, {"DATASET": "events", "EVENTS": str(events)}]
    told = [said(fork, "cron", SYSTEMD="1", **one).splitlines() for one in given]
    default, named, other = ({line for line in lines if line.startswith("# ~/")} for lines in told)
    assert default == named, "shop is the default"
    assert len(default) == len(other) == 6
    assert not default & other


ODD = """it's $HOME "$(shell id)"; a\\b"""


@pytest.mark.parametrize(
    ("verb", "environment", "words"),
    [
        ("explain", {"USER": "u0"}, "USER is not given"),
        slow("pin", {"RELEASE": "a"}, "RELEASE is not given"),
        slow("rollback", {"RELEASE": "nope"}, "rolled back from"),
        ("gc", {"YES": "1", "KEEP": "1", "GRACE_HOURS": "0"}, "would free 0.0 MB in 0 snapshots"),
        slow("export", {"TO": "lists.csv"}, "TO is not given"),
        ("verify", {"DATASET": "nope", "STORE": "nope", "BRANCH": "nope"}, "can be served"),
        ("serve", {"HOST": "0.0.0.0", "PORT": "http", "DATASET": "nope", "RECS_API_KEYS": "short"}, "API keys are shorter"),
    ],
)
def test_the_environment_names_no_argument_of_a_verb(fork: Fork, verb: str, environment: dict[str, str], words: str) -> None:
    done = fork.make(verb, environment)
    assert words in done.stdout + done.stderr


def test_an_argument_reaches_a_verb_as_it_was_written(fork: Fork) -> None:
    assert_refused(fork.make("pin", RELEASE=ODD), f'"{ODD}" is not a snapshot id')


def test_make_lock_says_that_it_needs_uv(fork: Fork, tmp_path: Path) -> None:
    for program in ("make", "id"):
        (tmp_path / program).symlink_to(str(shutil.which(program)))
    done = fork.make("lock", {"PATH": str(tmp_path)})
    assert done.returncode != 0
    (told,) = [line for line in done.stderr.splitlines() if not line.startswith("make: ")]
    assert "install uv" in told
