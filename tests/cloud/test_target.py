"""What `make deploy` and its sisters ask of Metaflow, with Metaflow's answers written here."""

import subprocess
from datetime import date
from types import SimpleNamespace
from typing import Any

import pytest

from cli import cloud
from cli.flows import FLOWS, run
from cli.production import branch_name
from cli.variables import Place, read_config
from conftest import ROOT
from recsys import RecsysError
from recsys.settings.loading import parse

PLACES = cloud.Cloud(*["x"] * 10)


@pytest.mark.parametrize(
    ("branch", "name", "options"),
    [
        ("", "", []),
        ("x", "test.x", ["--branch=x"]),
        ("test.x", "test.x", ["--branch=x"]),
        ("feature/My-x", "test.feature_my_x", ["--branch=feature_my_x"]),
        ("release.1", "test.release_1", ["--branch=release_1"]),
        ("user.Alice", "user.Alice", []),
    ],
)
def test_a_branch_is_deployed_as_what_it_is_looked_for(branch: str, name: str, options: list[str]) -> None:
    assert branch_name(branch) == name
    assert cloud.options_of(branch, "Alice") == options


def test_metaflow_names_branches_like_that() -> None:
    from metaflow.plugins.project_decorator import format_name

    assert format_name("F", "p", False, "feature_my_x", "Alice")[1] == branch_name("feature/My-x")
    assert format_name("F", "p", False, None, "Alice")[1] == branch_name("user.Alice")


def test_another_user_s_branch_is_not_deployed_to_one_s_own() -> None:
    with pytest.raises(RecsysError, match=r"user.bob.*alice.*METAFLOW_USER=bob"):
        cloud.options_of("user.bob", "alice")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"dataset": "online_retail"}, 'DATASET "online_retail"'),
        ({"events": "mine.csv"}, 'EVENTS "mine.csv"'),
        ({"as_of": date(2024, 6, 1)}, 'AS_OF "2024-06-01"'),
        ({"sample": 0.1}, 'SAMPLE "0.1"'),
    ],
)
def test_a_deployed_flow_takes_no_other_data_than_config_names(given: dict[str, Any], words: str) -> None:
    with pytest.raises(RecsysError, match=f"{words} is for runs on this machine"):
        cloud.target(Place(**given), "step-functions", "")
    with pytest.raises(RecsysError, match="config: cloud"):  # the default dataset may be named
        cloud.target(Place(dataset=read_config()["dataset"]), "step-functions", "")


@pytest.mark.parametrize(("cpu", "memory"), [(1, 512), (2, 17_408), (4, 8_704), (3, 8_192), (192, 8_192)])
def test_a_pair_that_fargate_does_not_have_is_refused_before_anything_is_deployed(cpu: int, memory: int) -> None:
    config = parse((ROOT / "config.toml").read_text())
    config["store"]["root"] = "s3://bucket/store"
    config["cloud"] = vars(PLACES)
    assert cloud.read(config, "step-functions") == PLACES
    config["resources"]["train"] = {"cpu": cpu, "memory": memory}
    with pytest.raises(RecsysError, match=rf"resources\.train asks for cpu {cpu} with memory {memory}.*; (with|cpu)"):
        cloud.read(config, "step-functions")


@pytest.mark.parametrize("length", [3, 40, 70])
def test_a_schedule_is_found_however_long_the_branch_is(s3: str, length: int) -> None:
    from metaflow.plugins.aws.step_functions.event_bridge_client import EventBridgeClient

    machine = f"p.test.{'x' * length}.TrainFlow"
    assert cloud.schedule_of(machine) == "no schedule"
    rule = EventBridgeClient(machine).cron("0 2 ? * SUN *").role_arn("arn:aws:iam::123456789012:role/events")
    rule.state_machine_arn("arn:aws:states:us-east-1:123456789012:stateMachine:x").schedule()
    assert cloud.schedule_of(machine) == "cron(0 2 ? * SUN *)"
    EventBridgeClient(machine).cron("").schedule()
    assert cloud.schedule_of(machine) == "no schedule"


def test_who_lacks_the_token_is_told_the_source_setting_and_who_has_it_passes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []

    def answer(command: list[str], **how: Any) -> SimpleNamespace:
        asked.append(command)
        return SimpleNamespace(
            returncode=1, stdout="", stderr="Incorrect production token:\n    Try again with the correct production token.\n"
        )

    monkeypatch.setattr(subprocess, "run", answer)
    with pytest.raises(RecsysError, match=r"Incorrect production token.*AUTHORIZE="):
        cloud.Target("step-functions", PLACES, []).ask(["flow"], "create", "--only-json")
    for command in ("create", "delete", "trigger"):
        with pytest.raises(RecsysError):
            cloud.Target("step-functions", PLACES, [], "mfprj-0").ask(["flow"], command)
    assert [one[-2:] == ["--authorize", "mfprj-0"] for one in asked] == [False, True, True, False]
    assert cloud.token_in("call\n    step-functions create --authorize mfprj-a-0-bcde\nwhen") == "mfprj-a-0-bcde"


def refuse(monkeypatch: pytest.MonkeyPatch, name: str, answers: dict[str, str]) -> None:
    """A target that refuses flows in these words."""
    made = cloud.Target(name, PLACES, [])

    def ask(flow: list[str], *arguments: str) -> None:
        if words := next((words for flow_name, words in answers.items() if FLOWS[flow_name] == flow), ""):
            raise RecsysError(words)

    monkeypatch.setattr(made, "ask", ask)
    monkeypatch.setattr(cloud, "target", lambda *given: made)


def test_undeploying_goes_on_past_what_is_gone_and_past_what_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    refuse(monkeypatch, "step-functions", {"TrainFlow": "The workflow *x* doesn't exist on it", "RecommendFlow": "no rights"})
    with pytest.raises(RecsysError, match=r"^RecommendFlow: no rights$"):
        cloud.undeploy(Place())
    assert capsys.readouterr().out.splitlines() == ["TrainFlow is not deployed", "MonitorFlow is no longer deployed"]
    refuse(monkeypatch, "step-functions", dict.fromkeys(("TrainFlow", "RecommendFlow", "MonitorFlow"), "doesn't exist"))
    cloud.undeploy(Place())


def test_what_argo_does_not_list_is_refused_with_what_does(monkeypatch: pytest.MonkeyPatch) -> None:
    refuse(monkeypatch, "argo-workflows", {})
    with pytest.raises(RecsysError, match=r"argo-workflows.*argo list --namespace x"):
        cloud.cloud_status(Place())


def test_a_run_here_for_a_branch_there_is_refused() -> None:
    with pytest.raises(RecsysError, match=r'BRANCH "x".*make trigger'):
        run(Place(branch="x"))
