"""What `make deploy` hands over, run from the compiled specification after the repository is gone."""

import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import boto3
import pytest
from account import Proxy, account
from machine import LOCK, Execution, Failed

from conftest import Fork, assert_refused
from recsys.settings.deployment import Schedule
from recsys.store.snapshots import Manifest, Store, open_store

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
ROLES = ("task_role", "container_role", "workflow_role", "schedule_role")


def small(folder: Path) -> Fork:
    """Two recommenders are enough to see a foreach."""
    fork = Fork(folder)
    (folder / "requirements").mkdir()
    shutil.copy(LOCK, folder / "requirements")
    config = (folder / "config.toml").read_text()
    config = re.sub(r"\[recommenders\.(item_to_item|two_stage)\]\n(.+\n)+", "", config)
    (folder / "config.toml").write_text(config)
    return fork


def schedule(fork: Fork) -> str:
    """Of TrainFlow, as AWS writes it."""
    return Schedule(fork.setting("schedule", "train")["cron"]).eventbridge


class Cloud:
    """An account, and forks that deploy to it, each with a store and a schedule of its own."""

    def __init__(self, folder: Path, proxy: Proxy, outputs: dict[str, str]):
        self.folder, self.proxy = folder, proxy
        self.values = {name: outputs[name.replace("_", "")] for name in ("bucket", "queue", "table", *ROLES)}
        self.values["image"] = "recs@sha256:0"

    def fork(self, name: str) -> Fork:
        fork = small(self.folder / name)
        for key, value in self.values.items():
            fork.set("cloud", key, value)
        fork.set("store", "root", f"s3://{self.values['bucket']}/{name}")
        fork.set("unattended", "project", name)
        return fork

    def deploy(self, fork: Fork, flow: str = "") -> None:
        """And away with the repository."""
        done = fork.run("deploy", FLOW=flow)
        assert done.returncode == 0, done.stdout + done.stderr
        shutil.rmtree(fork.root)

    def fire(self, name: str, flow: str = "TrainFlow", **how: Any) -> Execution:
        """Starts what the schedule starts, with the schedule's own input."""
        (rule,) = boto3.client("events").list_rules(NamePrefix=f"{name}.user.tester.{flow}")["Rules"]
        assert rule["State"] == "ENABLED"
        (target,) = boto3.client("events").list_targets_by_rule(Rule=rule["Name"])["Targets"]
        machine = boto3.client("stepfunctions").describe_state_machine(stateMachineArn=target["Arn"])
        return Execution(json.loads(machine["definition"]), **how).run(target["Input"])

    def store(self, name: str) -> Store:
        return open_store(f"s3://{self.values['bucket']}/{name}", "shop", branch="user.tester")

    def live(self, name: str) -> Manifest:
        """Every byte of it read."""
        return self.store(name).load("release", str(self.store(name).current())).manifest


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    with account() as (proxy, outputs):
        yield Cloud(tmp_path_factory.mktemp("forks"), proxy, outputs)


@pytest.fixture(scope="module")
def live(cloud: Cloud) -> Manifest:
    """The release of a first, quiet execution."""
    cloud.deploy(cloud.fork("main"))
    steps = [attempt.step for attempt in cloud.fire("main").attempts]
    assert steps == [*("start", "land", "build_features", "train", "train"), *("select", "recommend", "validate", "publish", "end")]
    return cloud.live("main")


@pytest.fixture
def proxy(cloud: Cloud) -> Iterator[Proxy]:
    """Whatever a test does to it is over afterwards."""
    quiet = cloud.proxy.spoil
    yield cloud.proxy
    cloud.proxy.spoil = quiet


def alerts(failed: Failed) -> int:
    return sum(line.startswith("ALERT ") for one in failed.attempts for line in one.log.splitlines())


def on_a_laptop(fork: Fork, verb: str) -> Manifest:
    done = fork.run(verb)
    assert done.returncode == 0, done.stdout + done.stderr
    return open_store(str(fork.root / "data" / "store"), "shop").load("release", str(fork.current())).manifest


def test_the_schedules_make_what_a_laptop_makes(cloud: Cloud, live: Manifest, tmp_path: Path) -> None:
    fork = small(tmp_path / "laptop")
    assert on_a_laptop(fork, "run").files == live.files
    steps = [attempt.step for attempt in cloud.fire("main", "RecommendFlow").attempts]
    assert steps == ["start", "land", "build_features", "recommend", "gather", "validate", "publish", "end"]
    daily = cloud.live("main")
    assert daily.id != live.id
    assert daily.files == on_a_laptop(fork, "recommend").files
    steps = [attempt.step for attempt in cloud.fire("main", "MonitorFlow").attempts]
    assert steps == ["start", "land", "build_features", "judge", "end"]
    assert cloud.live("main") == daily


def test_a_kill_while_writing_and_a_store_that_stumbles_change_nothing(cloud: Cloud, live: Manifest, proxy: Proxy) -> None:
    running: list[subprocess.Popen[str]] = []
    asked: set[str] = set()

    def spoil(method: str, path: str) -> int | None:
        if method == "PUT" and "/releases/" in path and len(running) == 1 and "lists" in path:
            os.killpg(running[0].pid, signal.SIGKILL)
        elif f"/{cloud.values['bucket']}/main/" in path and path not in asked:
            asked.add(path)
            if len(asked) == 3:
                time.sleep(25)  # longer than the store waits
            return 500
        return None

    def meddle(step: str, attempt: int, process: subprocess.Popen[str]) -> None:
        if step == "recommend":
            running.append(process)

    proxy.spoil = spoil
    attempts = cloud.fire("main", meddle=meddle).attempts
    assert [(one.number, one.code) for one in attempts if one.step == "recommend"] == [(1, -signal.SIGKILL), (2, 0)]
    after = cloud.live("main")
    assert after.id != live.id
    assert after.files == live.files
    for kind in ("raw", "features", "model", "release"):
        for id in cloud.store("main").ids(kind):
            cloud.store("main").load(kind, id)


def test_a_container_that_always_dies_ends_the_execution(cloud: Cloud, live: Manifest) -> None:
    before = cloud.live("main")
    execution: list[int] = []

    def meddle(step: str, attempt: int, process: subprocess.Popen[str]) -> None:
        execution.append(attempt)
        process.kill()

    with pytest.raises(Failed, match="start"):
        cloud.fire("main", meddle=meddle)
    assert execution == [1, 2, 3]
    assert cloud.live("main") == before


def test_a_store_that_never_answers_is_a_clear_error(cloud: Cloud, live: Manifest, proxy: Proxy) -> None:
    before = cloud.live("main")
    proxy.spoil = lambda method, path: 503 if f"/{cloud.values['bucket']}/main/" in path else None
    with pytest.raises(Failed, match="the store cannot be reached") as failed:
        cloud.fire("main")
    assert alerts(failed.value) == 1
    proxy.spoil = lambda method, path: None
    assert cloud.live("main") == before


def test_of_two_executions_at_once_a_good_release_stays(cloud: Cloud, live: Manifest) -> None:
    def fire(_: int) -> str:
        try:
            cloud.fire("main")
        except Failed as failed:
            return str(failed)
        return ""

    before = cloud.store("main").current()
    with ThreadPoolExecutor(2) as pool:
        told = sorted(pool.map(fire, range(2)))
    assert told[0] == ""
    assert told[1] == "" or "another run published" in told[1]
    after = cloud.live("main")
    assert after.id != before
    assert after.files == live.files


@pytest.mark.parametrize(
    ("name", "file", "changes", "step"),
    [
        (
            "unpacked",
            "base_flow.py",
            [('@package_sources(ROOT / "dbt_project", suffixes=[".sql", ".yml"])\n', "")],
            "build_features",
        ),
        (
            "leaning",
            "train_flow.py",
            [
                ("        self.live_id = ", "        open('note', 'w').close()\n        self.live_id = "),
                ("        self.raw_id, ", "        open('note').close()\n        self.raw_id, "),
            ],
            "land",
        ),
    ],
    ids=["dbt_project is not in the package", "a step reads a file of an earlier one"],
)
def test_what_breaks_first_runs_elsewhere_breaks_here(
    cloud: Cloud, name: str, file: str, changes: list[tuple[str, str]], step: str
) -> None:
    fork = cloud.fork(name)
    fork.set("unattended", "retries", 1)
    text = (fork.root / "flows" / file).read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new, 1)
    (fork.root / "flows" / file).write_text(text)
    cloud.deploy(fork, "TrainFlow")
    with pytest.raises(Failed, match=f"^{step}") as failed:
        cloud.fire(name)
    assert [(one.step, one.number) for one in failed.value.attempts][-2:] == [(step, 1), (step, 2)]
    assert alerts(failed.value) == 1
    assert cloud.store(name).current() is None


def test_an_image_of_another_lock_is_refused_before_anything_runs(cloud: Cloud) -> None:
    fork = cloud.fork("relocked")
    fork.set("unattended", "retries", 0)
    with (fork.root / "requirements" / LOCK.name).open("a") as lock:
        lock.write("# another version\n")
    cloud.deploy(fork, "TrainFlow")
    with pytest.raises(Failed, match=r"built from another requirements/run\.lock") as failed:
        cloud.fire("relocked")
    assert [one.step for one in failed.value.attempts] == ["start"]
    assert not cloud.store("relocked").ids("raw")


def test_production_is_deployed_from_a_commit_only(cloud: Cloud) -> None:
    assert_refused(cloud.fork("uncommitted").run("deploy", PRODUCTION="1"), "committed code only")


def test_deploy_says_what_it_made_and_undeploy_takes_it_away(cloud: Cloud) -> None:
    fork = cloud.fork("told")
    told = fork.run("deploy", FLOW="TrainFlow").stdout
    for word in ("told.user.tester.TrainFlow", f"cron({schedule(fork)})", "9 steps", "recs@sha256:0", "/told"):
        assert word in told
    assert "sfn-" in fork.run("trigger", FLOW="TrainFlow").stdout
    assert "sfn-" in fork.run("cloud-status", FLOW="TrainFlow").stdout
    assert fork.run("undeploy", FLOW="TrainFlow").returncode == 0
    assert not boto3.client("events").list_rules(NamePrefix="told.")["Rules"]
    assert_refused(fork.run("trigger", FLOW="TrainFlow"), "doesn't exist")
    assert "TrainFlow is not deployed" in fork.run("undeploy", FLOW="TrainFlow").stdout


def test_a_long_branch_keeps_its_schedule_and_another_user_needs_the_token(
    cloud: Cloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fork = cloud.fork("long")
    how = {"FLOW": "TrainFlow", "BRANCH": f"feature/{'x' * 70}"}
    monkeypatch.setenv("METAFLOW_TOKEN_HOME", str(tmp_path / "tester"))
    told = fork.run("deploy", **how).stdout
    assert f"cron({schedule(fork)})" in told
    fork.user = "ci"
    monkeypatch.setenv("METAFLOW_TOKEN_HOME", str(tmp_path / "ci"))
    for verb in ("deploy", "undeploy"):
        assert_refused(fork.run(verb, **how), "Incorrect production token", "AUTHORIZE=")
    (token,) = re.findall(r"AUTHORIZE=(\S+)", told)
    for verb in ("deploy", "undeploy"):
        assert fork.run(verb, **how, AUTHORIZE=token).returncode == 0
    assert "TrainFlow is not deployed" in fork.run("undeploy", **how).stdout


@pytest.mark.parametrize(
    ("section", "key", "value", "words"),
    [
        ("cloud", "image", "changethis", ("cloud.image", "changethis", "cloudformation.yml")),
        ("cloud", "bucket", "no-bucket", ("cloud.bucket no-bucket", "create it")),
        ("resources", "default", {"cpu": 1, "memory": 9216}, ("cpu 1", "9216", "2048 to 8192 MB")),
        ("resources", "default", {"cpu": 3, "memory": 9216}, ("cpu 3", "0.25, 0.5, 1, 2")),
        ("store", "root", "data/store", ("store.root", "containers do not share")),
    ],
    ids=["to fill in", "no bucket", "too much memory", "no such cpu", "no shared store"],
)
def test_what_cannot_be_deployed_is_refused_in_a_line(
    cloud: Cloud, tmp_path: Path, section: str, key: str, value: Any, words: tuple[str, ...]
) -> None:
    cloud.folder = tmp_path
    fork = cloud.fork("refused")
    fork.set(section, key, value)
    assert_refused(fork.run("deploy", FLOW="TrainFlow"), *words)
