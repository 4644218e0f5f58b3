"""`make run ON=batch`: steps go from a laptop to a queue."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import boto3
import pytest
from account import account
from test_step_functions import Cloud

from conftest import wait

pytestmark = pytest.mark.slow


def test_the_first_step_is_submitted_with_its_size_image_and_role(tmp_path: Path) -> None:
    with account() as (proxy, outputs):
        cloud = Cloud(tmp_path, proxy, outputs)
        fork = cloud.fork("laptop")
        fork.set("resources", "default", {"cpu": 2, "memory": 5120})  # not Metaflow's own
        command = [sys.executable, str(fork.root / "flows" / "cli"), "run", "ON=batch"]
        environment = os.environ | {"METAFLOW_USER": "tester"}
        run = subprocess.Popen(command, env=environment, cwd=fork.root, start_new_session=True)
        try:
            batch = boto3.client("batch")
            (job,) = wait(lambda: submitted(batch, cloud.values["queue"]), 120)
        finally:
            os.killpg(run.pid, signal.SIGKILL)
            run.wait()
        (defined,) = batch.describe_job_definitions(jobDefinitions=[job["jobDefinition"]])["jobDefinitions"]
        assert "TrainFlow" in job["jobName"]
        sizes = json.loads(proxy.jobs[0])["containerOverrides"]["resourceRequirements"]
        assert {one["type"]: float(one["value"]) for one in sizes} == {"VCPU": 2, "MEMORY": 5120}
        assert defined["containerProperties"]["image"] == "recs@sha256:0"
        assert defined["containerProperties"]["jobRoleArn"] == cloud.values["task_role"]
        assert "train_flow.py" in " ".join(job["container"]["command"])


def submitted(batch, queue: str) -> list:  # type: ignore[no-untyped-def]
    states = ("SUBMITTED", "PENDING", "RUNNABLE", "STARTING", "RUNNING", "SUCCEEDED", "FAILED")
    found = [one["jobId"] for state in states for one in batch.list_jobs(jobQueue=queue, jobStatus=state)["jobSummaryList"]]
    return batch.describe_jobs(jobs=found)["jobs"] if found else []
