"""`make run ON=batch`: steps go from a laptop to a queue."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import boto3
import pytest
from account import account

from conftest import Fork
from serving_shop import wait

pytestmark = pytest.mark.slow


def test_the_first_step_is_submitted_with_its_size_image_and_role(tmp_path: Path) -> None:
    fork = Fork(tmp_path)
    with account() as (_, outputs):
        fork.change('root = "data/store"', f'root = "s3://{outputs["bucket"]}/laptop"')
        for key, value in {"queue": outputs["queue"], "image": "recs@sha256:0", "task_role": outputs["taskrole"]}.items():
            fork.change(f'\n{key} = "changethis"', f'\n{key} = "{value}"')
        metaflow = {"METAFLOW_DEFAULT_DATASTORE": "s3", "METAFLOW_DATASTORE_SYSROOT_S3": f"s3://{outputs['bucket']}/metaflow"}
        command = [sys.executable, str(fork.root / "flows" / "commands.py"), "run"]
        environment = os.environ | metaflow | {"METAFLOW_USER": "tester", "ON": "batch"}
        run = subprocess.Popen(command, env=environment, cwd=fork.root, start_new_session=True)
        try:
            batch = boto3.client("batch")
            (job,) = wait(lambda: submitted(batch, outputs["queue"]), 120)
        finally:
            os.killpg(run.pid, signal.SIGKILL)
            run.wait()
        assert "TrainFlow" in job["jobName"]
        assert job["container"]["image"] == "recs@sha256:0"
        assert job["container"]["jobRoleArn"] == outputs["taskrole"]
        assert "train_flow.py" in " ".join(job["container"]["command"])


def submitted(batch, queue: str) -> list:  # type: ignore[no-untyped-def]
    states = ("SUBMITTED", "PENDING", "RUNNABLE", "STARTING", "RUNNING", "SUCCEEDED", "FAILED")
    found = [one["jobId"] for state in states for one in batch.list_jobs(jobQueue=queue, jobStatus=state)["jobSummaryList"]]
    return batch.describe_jobs(jobs=found)["jobs"] if found else []
