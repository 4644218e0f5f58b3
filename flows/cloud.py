"""Deployment: what [cloud] of config.toml must hold, and Metaflow's own commands run with it. Prints nothing."""

import json
import os
import re
import subprocess
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from recsys import RecsysError, config

# vCPU: the MB of memory that Fargate pairs with it (https://docs.aws.amazon.com/batch/latest/userguide/fargate.html)
FARGATE: dict[float, Sequence[int]] = {
    0.25: (512, 1024, 2048),
    0.5: range(1024, 4097, 1024),
    1: range(2048, 8193, 1024),
    2: range(4096, 16385, 1024),
    4: range(8192, 30721, 1024),
    8: range(16384, 61441, 4096),
    16: range(32768, 122881, 8192),
}
NEEDED_BY_ARGO = ("bucket", "image", "namespace", "service_account")


@dataclass(frozen=True)
class Cloud:
    bucket: str
    queue: str
    table: str
    task_role: str
    container_role: str
    workflow_role: str
    schedule_role: str
    image: str
    namespace: str
    service_account: str

    def environment(self) -> dict[str, str]:
        """The same as Metaflow's variables."""
        return {
            "METAFLOW_DEFAULT_DATASTORE": "s3",
            "METAFLOW_DATASTORE_SYSROOT_S3": f"s3://{self.bucket}/metaflow",
            "METAFLOW_BATCH_CONTAINER_IMAGE": self.image,
            "METAFLOW_BATCH_JOB_QUEUE": self.queue,
            "METAFLOW_ECS_S3_ACCESS_IAM_ROLE": self.task_role,
            "METAFLOW_ECS_FARGATE_EXECUTION_ROLE": self.container_role,
            "METAFLOW_SFN_IAM_ROLE": self.workflow_role,
            "METAFLOW_EVENTS_SFN_ACCESS_IAM_ROLE": self.schedule_role,
            "METAFLOW_SFN_DYNAMO_DB_TABLE": self.table,
            "METAFLOW_KUBERNETES_CONTAINER_IMAGE": self.image,
            "METAFLOW_KUBERNETES_NAMESPACE": self.namespace,
            "METAFLOW_KUBERNETES_SERVICE_ACCOUNT": self.service_account,
        }


def read(values: Mapping[str, Any], target: str) -> Cloud:
    """[cloud] of the config; raises if something that the target needs is still to be filled in."""
    cloud: Cloud = config.build(Cloud, values.get("cloud", {}), "cloud")
    needed = NEEDED_BY_ARGO if target == "argo-workflows" else [field.name for field in fields(Cloud)][:8]
    for name in needed:
        if getattr(cloud, name) in ("", "changethis"):
            raise RecsysError(
                f'config: cloud.{name} is "{getattr(cloud, name)}"; write what cloud/cloudformation.yml put out, or your own'
            )
    root = values["store"]["root"]
    if not root.startswith("s3://"):
        raise RecsysError(f'config: store.root is "{root}", which containers do not share; set it to "s3://{cloud.bucket}/store"')
    return cloud


@dataclass(frozen=True)
class Deployed:
    """A flow on its schedule."""

    name: str
    schedule: str
    steps: tuple[str, ...]


class Target:
    """Metaflow's commands for one place to deploy to: `step-functions` or `argo-workflows`."""

    def __init__(self, name: str, cloud: Cloud, branch: Sequence[str]):
        if name not in ("step-functions", "argo-workflows"):
            raise RecsysError(f'TO "{name}" is no place to deploy to; pass TO=step-functions or TO=argo-workflows')
        self.name, self.cloud, self.branch = name, cloud, branch

    def ask(self, flow: Sequence[str], *arguments: str) -> subprocess.CompletedProcess[str]:
        """One of Metaflow's commands for the target; raises with its words if it fails."""
        command = [*flow, "--datastore=s3", *self.branch, self.name, *arguments]
        environment = os.environ | self.cloud.environment()
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        if done.returncode:
            words = " ".join(line.strip() for line in (done.stderr or done.stdout).splitlines()[-3:])
            raise RecsysError(f"{self.name} {arguments[0]} was refused: {words}; mend it in [cloud] of config.toml or in AWS")
        return done

    def runs(self, flow: Sequence[str], command: str) -> list[str]:
        """The lines about runs in what `trigger` or `list-runs` says."""
        return [line.strip() for line in self.ask(flow, command).stderr.splitlines() if re.search(r"\b(sfn|argo)-", line)]

    def compile(self, flow: Sequence[str]) -> dict[str, Any]:
        """The specification that `deploy` hands over, deployed nowhere; its package is uploaded."""
        said = self.ask(flow, "create", "--only-json").stdout
        return json.loads(said[said.index("{") :])

    def deploy(self, flow: Sequence[str]) -> Deployed:
        """Hands a flow with its schedule over, once nothing in it is impossible."""
        import boto3

        require_bucket(self.cloud.bucket)
        compiled = self.compile(flow)
        if self.name == "argo-workflows":
            self.ask(flow, "create")
            templates = [one["name"] for one in compiled["spec"]["templates"] if "container" in one]
            cron = json.loads(compiled["metadata"]["annotations"].get("metaflow/cron", "{}")).get("schedule", "no schedule")
            return Deployed(compiled["metadata"]["name"], cron, tuple(templates))
        states = list(tasks(compiled))
        require_sizes(states)
        with tempfile.NamedTemporaryFile("r") as told:
            self.ask(flow, "create", "--deployer-attribute-file", told.name)
            name = json.loads(Path(told.name).read_text())["name"]
        rules = boto3.client("events").list_rules(NamePrefix=name)["Rules"]
        schedule = next((rule["ScheduleExpression"] for rule in rules if rule["State"] == "ENABLED"), "no schedule")
        return Deployed(name, schedule, tuple(step for step, _ in states))


def tasks(machine: Mapping[str, Any]) -> Iterable[tuple[str, dict[str, Any]]]:
    """Every step of a state machine, with the parameters of its Batch job."""
    for name, state in machine["States"].items():
        for inner in [*state.get("Branches", []), *([state["Iterator"]] if "Iterator" in state else [])]:
            yield from tasks(inner)
        if state.get("Resource", "").endswith("batch:submitJob.sync"):
            yield name, state["Parameters"]


def require_sizes(states: Iterable[tuple[str, dict[str, Any]]]) -> None:
    """Raises if a step asks for a pair of cpu and memory that Fargate does not have."""
    for step, job in states:
        asked = {one["Type"]: one["Value"] for one in job["ContainerOverrides"]["ResourceRequirements"]}
        cpu, memory = float(asked["VCPU"]), int(float(asked["MEMORY"]))
        if memory not in FARGATE.get(cpu, ()):
            allowed = FARGATE.get(cpu)
            mend = (
                f"with {cpu:g} it has {allowed[0]} to {allowed[-1]} MB"
                if allowed
                else f"cpu is one of {', '.join(map(str, FARGATE))}"
            )
            raise RecsysError(f"step {step} asks for cpu {cpu:g} with memory {memory}, which Fargate does not pair; {mend}")


def require_bucket(bucket: str) -> None:
    import boto3
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        boto3.client("s3").head_bucket(Bucket=bucket)
    except (BotoCoreError, ClientError) as error:
        raise RecsysError(
            f"config: cloud.bucket {bucket} cannot be reached ({error}); create it by cloud/cloudformation.yml, or sign in to AWS"
        ) from None
