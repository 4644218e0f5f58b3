"""Whose store is meant, and what production asks of the code that publishes to it."""

import subprocess
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from cli import production
from cli.production import store_branch
from cli.variables import Place
from conftest import ROOT, Fork, assert_refused, make_release, make_settings, write_release
from recsys import RecsysError
from recsys.publishing.publication import ValidatedRelease, publish
from recsys.settings.loading import parse
from recsys.store.snapshots import Canary, Store, open_store

SHARED, DIRECTORY = "s3://bucket/store", "data/store"


@pytest.mark.parametrize(
    ("root", "branch", "seen"),
    [
        (DIRECTORY, "user.alice", ""),
        (DIRECTORY, "prod", ""),
        (DIRECTORY, "test.x", "test.x"),
        (SHARED, "user.alice", "user.alice"),
        (SHARED, "prod", ""),
        (SHARED, "test.x", "test.x"),
        (SHARED, "prod.x", "prod.x"),
    ],
)
def test_a_run_works_in_its_own_store_unless_it_is_production_or_nobody_shares_the_store(root: str, branch: str, seen: str) -> None:
    assert store_branch(branch, root) == seen


def test_a_shared_store_wants_a_user() -> None:
    assert store_branch("user.", DIRECTORY) == ""
    with pytest.raises(RecsysError, match=r"METAFLOW_USER is not set.*PRODUCTION=1"):
        store_branch("user.", SHARED)


@pytest.mark.parametrize(
    ("given", "branch", "options"),
    [
        ({}, "user.alice", []),
        ({"production": True}, "prod", ["--production"]),
        ({"production": False}, "user.alice", []),
        ({"branch": "feature/x"}, "test.feature_x", []),
        ({"branch": "user.bob"}, "user.bob", []),
        ({"production": False, "branch": "x"}, "test.x", []),
    ],
)
def test_a_command_line_names_a_branch(
    given: dict[str, Any], branch: str, options: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("METAFLOW_USER", "alice")
    assert (Place(**given).branch_name, Place(**given).flow_options) == (branch, options)


def test_a_command_line_that_names_two_is_refused() -> None:
    with pytest.raises(RecsysError, match=r'PRODUCTION=1 and BRANCH "x"'):
        _ = Place(production=True, branch="x").branch_name


def git(folder: Path, *arguments: str) -> None:
    subprocess.run(["git", "-C", str(folder), "-c", "user.name=t", "-c", "user.email=t@example.com", *arguments], check=True)


def commit(folder: Path) -> None:
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "a commit")


def test_production_publishes_only_what_a_commit_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(production, "ROOT", tmp_path)
    with pytest.raises(RecsysError, match="git finds no commit"):
        production.require_committed(production.code_version())
    git(tmp_path, "init", "--quiet")
    (tmp_path / "flow.py").touch()
    commit(tmp_path)
    production.require_committed(production.code_version())
    (tmp_path / "flow.py").write_text("changed")
    for number in range(5):
        (tmp_path / f"new{number}.sql").touch()
    with pytest.raises(RecsysError, match=r"differ from commit \w+: flow.py, new0.sql, new1.sql, new2.sql, new3.sql, 1 more; "):
        production.require_committed(production.code_version())


def test_what_a_repository_holds_beside_the_project_is_not_its_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(production, "ROOT", tmp_path / "recs")
    git(tmp_path, "init", "--quiet")
    (tmp_path / "recs").mkdir()
    (tmp_path / "recs" / "flow.py").touch()
    commit(tmp_path)
    (tmp_path / "other.py").touch()
    production.require_committed(production.code_version())


def test_an_image_of_another_lock_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "run.lock").write_text("numpy==1\n")
    other = production.sha256(tmp_path / "run.lock")
    code = production.code_version()
    monkeypatch.delenv(production.IMAGE_LOCK, raising=False)
    production.require_image_of(code)
    monkeypatch.setenv(production.IMAGE_LOCK, str(ROOT / "requirements" / "run.lock"))
    production.require_image_of(code)
    monkeypatch.setenv(production.IMAGE_LOCK, str(tmp_path / "run.lock"))
    with pytest.raises(RecsysError, match=rf"{other[:12]}.*{code['lock'][:12]}.*docker build"):
        production.require_image_of(code)


@pytest.fixture(scope="module")
def shared(s3: str, tmp_path_factory: pytest.TempPathFactory) -> Fork:
    """A fork without a commit, whose store is shared. In production a, then b went live, and c, made by changed code, is tried."""
    fork = Fork(tmp_path_factory.mktemp("fork"))
    fork.set("store", "root", f"{s3}/shared")
    kept = live(fork)
    for id in "ab":
        publish(kept, ValidatedRelease(id, make_release(kept, id, id), kept.current()), ["lists"])
    made_from = {"recommender": "popularity", "code": {"commit": "0" * 40, "dirty": True}, "config": asdict(make_settings())}
    with kept.draft() as folder:
        write_release(folder, "c")
        kept.commit(folder, "release", made_from, {"model": "m1", "features": "f1"}, "c")
    kept.point_canary(Canary("c", 0.1), "b")
    return fork


def live(fork: Fork, branch: str = "") -> Store:
    return open_store(parse((fork.root / "config.toml").read_text())["store"]["root"], "shop", branch=branch)


def test_what_is_moved_on_a_shared_store_is_one_s_own_unless_production_is_meant(shared: Fork) -> None:
    own, production = live(shared, "user.tester"), live(shared)
    assert_refused(shared.run("releases"), "no release yet", "/shared/user.tester (yours; PRODUCTION=1 for production)")
    for id in "xy":
        publish(own, ValidatedRelease(id, make_release(own, id, id), own.current()), ["lists"])
    told = shared.run("rollback").stdout
    assert (own.current(), production.current()) == ("x", "b")
    assert "/shared/user.tester (yours; PRODUCTION=1 for production)" in told
    told = shared.run("rollback", PRODUCTION="1").stdout
    assert (own.current(), production.current()) == ("x", "a")
    assert "/shared (production)" in told


def test_code_that_no_commit_holds_goes_live_by_no_door(shared: Fork) -> None:
    assert_refused(shared.run("promote", PRODUCTION="1"), "release c was made by uncommitted code")
    assert_refused(shared.run("canary", PRODUCTION="1", RELEASE="c", SHARE="0.2"), "release c was made by uncommitted code")


def test_a_schedule_on_a_shared_store_is_production(shared: Fork) -> None:
    def lines(**given: str) -> list[str]:
        return [line for line in shared.run("cron", **given).stdout.splitlines() if "make --directory" in line]

    assert [" PRODUCTION=1" in line for line in lines()] == [True] * 3
    assert [" PRODUCTION=1" in line for line in lines(STORE="data/store")] == [False] * 3
