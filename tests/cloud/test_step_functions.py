"""What `make deploy` hands over, run from the compiled specification after the repository is gone."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from account import Proxy, account
from machine import Execution

from conftest import Fork

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
NAMES = ("task_role", "container_role", "workflow_role", "schedule_role")


class Cloud:
    """An account, and forks that deploy to it."""

    def __init__(self, folder: Path, proxy: Proxy, outputs: dict[str, str]):
        self.folder, self.proxy = folder, proxy
        self.outputs = {
            next((name for name in NAMES if name.replace("_", "") == key), key): value for key, value in outputs.items()
        }

    def fork(self, name: str) -> Fork:
        """With a store and a schedule of its own, three recommenders and two evaluated windows."""
        fork = Fork(self.folder / name)
        for key, value in (self.outputs | {"image": "recs@sha256:0"}).items():
            fork.change(f'{key} = "changethis"', f'{key} = "{value}"')
        fork.change('root = "data/store"', f'root = "s3://{self.outputs["bucket"]}/{name}"')
        return fork

    def fire(self, flow: str, **how: object) -> Execution:
        """Starts what the schedule starts, as the schedule does."""
        (target,) = boto3.client("events").list_targets_by_rule(Rule=flow)["Targets"]
        machine = boto3.client("stepfunctions").describe_state_machine(stateMachineArn=target["Arn"])
        return Execution(json.loads(machine["definition"]), **how).run(target["Input"])


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    with account() as (proxy, outputs):
        yield Cloud(tmp_path_factory.mktemp("forks"), proxy, outputs)


def test_it(cloud: Cloud) -> None:
    fork = cloud.fork("one")
    done = fork.run("deploy")
    assert done.returncode == 0, done.stdout + done.stderr
    shutil.rmtree(fork.root)
    m = boto3.client("stepfunctions").list_state_machines()["stateMachines"][0]
    machine = boto3.client("stepfunctions").describe_state_machine(stateMachineArn=m["stateMachineArn"])
    Execution(json.loads(machine["definition"])).run(json.dumps({"Parameters": "{}"}))
