"""What a scheduler gets to see of the flows: compiled for AWS Step Functions, with no account."""

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from cli.cloud import tasks
from conftest import Fork, assert_refused
from recsys.settings.deployment import read_operations
from recsys.settings.loading import parse


@pytest.fixture(scope="module")
def fork(tmp_path_factory: pytest.TempPathFactory) -> Fork:
    return Fork(tmp_path_factory.mktemp("fork"))


@pytest.fixture(scope="module")
def queue(s3: str) -> str:
    """A job queue of the moto server's Batch."""
    import boto3

    role = boto3.client("iam").create_role(RoleName="batch", AssumeRolePolicyDocument="{}")["Role"]["Arn"]
    batch = boto3.client("batch")
    network = boto3.client("ec2")
    subnets = [subnet["SubnetId"] for subnet in network.describe_subnets()["Subnets"]]
    groups = [group["GroupId"] for group in network.describe_security_groups()["SecurityGroups"]]
    resources = {"type": "FARGATE", "maxvCpus": 4, "subnets": subnets[:1], "securityGroupIds": groups[:1]}
    place = batch.create_compute_environment(
        computeEnvironmentName="place", type="MANAGED", serviceRole=role, computeResources=resources
    )
    order = [{"order": 1, "computeEnvironment": place["computeEnvironmentArn"]}]
    return batch.create_job_queue(jobQueueName="queue", state="ENABLED", priority=1, computeEnvironmentOrder=order)["jobQueueName"]


def compiled(fork: Fork, s3: str, flow: str, *options: str) -> dict[str, Any]:
    """The state machine that `step-functions create` makes."""
    settings = {
        "METAFLOW_USER": "tester",
        "METAFLOW_DEFAULT_DATASTORE": "s3",
        "METAFLOW_DEFAULT_METADATA": "local",
        "METAFLOW_DATASTORE_SYSROOT_S3": f"{s3}/metaflow",
        "METAFLOW_DATASTORE_SYSROOT_LOCAL": str(fork.root / "data" / "metaflow"),
        "METAFLOW_S3_ENDPOINT_URL": os.environ["AWS_ENDPOINT_URL"],
        "METAFLOW_SFN_IAM_ROLE": "arn:aws:iam::123456789012:role/states",
        "METAFLOW_EVENTS_SFN_ACCESS_IAM_ROLE": "arn:aws:iam::123456789012:role/events",
        "METAFLOW_ECS_S3_ACCESS_IAM_ROLE": "arn:aws:iam::123456789012:role/job",
        "METAFLOW_ECS_FARGATE_EXECUTION_ROLE": "arn:aws:iam::123456789012:role/pull",
        "METAFLOW_BATCH_JOB_QUEUE": "queue",
        "METAFLOW_SFN_DYNAMO_DB_TABLE": "table",
    }
    command = [sys.executable, str(fork.root / "flows" / f"{flow}_flow.py"), "--no-pylint", "--quiet", *options]
    command += ["step-functions", "create", "--only-json"]
    made = subprocess.run(command, env=os.environ | settings, capture_output=True, text=True, cwd=fork.root)
    assert made.returncode == 0, made.stdout + made.stderr
    return json.loads(made.stdout[made.stdout.index("{") :])


@pytest.mark.slow
@pytest.mark.parametrize("flow", ["train", "recommend", "monitor"])
def test_each_step_has_its_retries_time_and_resources(fork: Fork, s3: str, queue: str, flow: str) -> None:
    machine = compiled(fork, s3, flow)
    text = json.dumps(machine)
    known = read_operations(parse((fork.root / "config.toml").read_text()))
    limits = known.unattended
    assert text.count(f'"Attempts": {limits.retries + 1}') == text.count('"JobName"')
    assert text.count(f'"AttemptDurationSeconds": {limits.timeout_minutes * 60}') == text.count('"JobName"')
    assert f"--max-user-code-retries {limits.retries}" in text
    for name, job in tasks(machine):
        size = known.resources_of(name)
        asked = {one["Type"]: one["Value"] for one in job["ContainerOverrides"]["ResourceRequirements"]}
        assert (asked["VCPU"], asked["MEMORY"]) == (f"{size.cpu:g}", str(size.memory)), name


@pytest.mark.parametrize(("place", "words"), [("batch", 'cloud.bucket is "changethis"'), ("moon", 'ON is "moon"; pass')])
def test_a_run_elsewhere_wants_a_place_that_is_there(fork: Fork, place: str, words: str) -> None:
    assert_refused(fork.run("run", ON=place), words)
