"""Verbs that deploy the flows: what [cloud] of config.toml must hold, and Metaflow's own commands run with it."""

import json
import os
import re
import subprocess
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from cli.flows import FLOWS
from cli.production import PRODUCTION, branch_name, code_version, describe_store, require_committed
from cli.terminal import console, say
from cli.variables import Place, one_of, option, read_config, user
from recsys import RecsysError
from recsys.settings import Cloud, build
from recsys.settings import read as read_operations
from recsys.store import s3_client

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
ROLES = ("task_role", "container_role", "workflow_role", "schedule_role")
NEEDED = {
    "step-functions": ("bucket", "queue", "table", *ROLES, "image"),
    "argo-workflows": ("bucket", "image", "namespace", "service_account"),
}

To = Annotated[str, option("where; step-functions by default", read=one_of(NEEDED), shown="|".join(NEEDED))]
Token = Annotated[str, option("the token that `make deploy` printed, where another user deployed", shown="TOKEN")]
Flow = Annotated[str | None, option("one flow; by default, all that are deployed", read=one_of(FLOWS), shown="|".join(FLOWS))]
OneFlow = Annotated[str, option("the flow, such as TrainFlow", read=one_of(FLOWS), shown="|".join(FLOWS))]


def environment(cloud: Cloud) -> dict[str, str]:
    """Metaflow's environment variables for these places."""
    return {
        "METAFLOW_DEFAULT_DATASTORE": "s3",
        "METAFLOW_DATASTORE_SYSROOT_S3": f"s3://{cloud.bucket}/metaflow",
        "METAFLOW_BATCH_CONTAINER_IMAGE": cloud.image,
        "METAFLOW_BATCH_JOB_QUEUE": cloud.queue,
        "METAFLOW_ECS_S3_ACCESS_IAM_ROLE": cloud.task_role,
        "METAFLOW_ECS_FARGATE_EXECUTION_ROLE": cloud.container_role,
        "METAFLOW_SFN_IAM_ROLE": cloud.workflow_role,
        "METAFLOW_EVENTS_SFN_ACCESS_IAM_ROLE": cloud.schedule_role,
        "METAFLOW_SFN_DYNAMO_DB_TABLE": cloud.table,
        "METAFLOW_KUBERNETES_CONTAINER_IMAGE": cloud.image,
        "METAFLOW_KUBERNETES_NAMESPACE": cloud.namespace,
        "METAFLOW_KUBERNETES_SERVICE_ACCOUNT": cloud.service_account,
    }


def read(values: Mapping[str, Any], target: str) -> Cloud:
    """[cloud] of the config; raises if something that the target needs is still to be filled in."""
    cloud = build(Cloud, values.get("cloud", {}), "cloud")
    if target not in NEEDED:
        raise RecsysError(f'TO "{target}" is no place to deploy to; pass TO={" or TO=".join(NEEDED)}')
    for name in NEEDED[target]:
        if getattr(cloud, name) in ("", "changethis"):
            raise RecsysError(
                f'config: cloud.{name} is "{getattr(cloud, name)}"; write what deploy/cloudformation.yml put out, or your own'
            )
    root = values["store"]["root"]
    if not root.startswith("s3://"):
        raise RecsysError(f'config: store.root is "{root}", which containers do not share; set it to "s3://{cloud.bucket}/store"')
    if target == "step-functions":
        for step, asked in read_operations(values).resources.items():
            require_pair(f"config: resources.{step}", asked.cpu, asked.memory)
    return cloud


@dataclass(frozen=True)
class Deployed:
    """A flow on its schedule."""

    name: str
    schedule: str
    steps: tuple[str, ...]
    token: str  # who did not deploy it needs it to deploy over it, or to delete it


class Target:
    """Metaflow's commands for one place to deploy to: `step-functions` or `argo-workflows`."""

    def __init__(self, name: str, cloud: Cloud, branch: Sequence[str], token: str = ""):
        self.name, self.cloud, self.branch, self.token = name, cloud, branch, token

    def ask(self, flow: Sequence[str], *arguments: str) -> subprocess.CompletedProcess[str]:
        """One of Metaflow's commands for the target; raises with its words if it fails."""
        token = ["--authorize", self.token] if self.token and arguments[0] in ("create", "delete") else []
        command = [*flow, "--datastore=s3", *self.branch, self.name, *arguments, *token]
        variables = os.environ | environment(self.cloud)
        done = subprocess.run(command, env=variables, capture_output=True, text=True)
        if done.returncode:
            words = " ".join(line.strip() for line in (done.stderr or done.stdout).splitlines()[-3:])
            mend = "mend it in [cloud] of config.toml or in AWS"
            if "production token" in words:
                mend = "another user deployed it: pass AUTHORIZE=, the token that `make deploy` told then"
            raise RecsysError(f"{self.name} {arguments[0]} was refused: {words}; {mend}")
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
        require_bucket(self.cloud.bucket)
        compiled = self.compile(flow)
        if self.name == "argo-workflows":
            token = token_in(self.ask(flow, "create").stderr)
            templates = [one["name"] for one in compiled["spec"]["templates"] if "container" in one]
            cron = json.loads(compiled["metadata"]["annotations"].get("metaflow/cron", "{}")).get("schedule", "no schedule")
            return Deployed(compiled["metadata"]["name"], cron, tuple(templates), token)
        states = list(tasks(compiled))
        require_sizes(states)
        with tempfile.NamedTemporaryFile("r") as told:
            token = token_in(self.ask(flow, "create", "--deployer-attribute-file", told.name).stderr)
            name = json.loads(Path(told.name).read_text())["name"]
        return Deployed(name, schedule_of(name), tuple(step for step, _ in states), token)


def target(place: Place, to: str, authorize: str) -> Target:
    """Where flows are deployed: in production, in the branch BRANCH, or in the user's own."""
    if place.store:
        raise RecsysError(f'STORE "{place.store}" is for runs of this machine; what is deployed has store.root of config.toml')
    branch = place.flow_options or options_of(place.branch, user())
    return Target(to, read(read_config(), to), branch, authorize)


def deployed(flow: str | None) -> list[str]:
    """One flow, or all that run on a schedule."""
    return [flow] if flow else [name for name in FLOWS if name != "TuneFlow"]


def deploy(place: Place, flow: Flow = None, to: To = "step-functions", authorize: Token = "") -> None:
    """Deploys the scheduled flows to AWS Step Functions and Batch, by [cloud] of config.toml, or to Argo Workflows."""
    place.checked_settings()  # refuses a wrong value before anything is deployed
    chosen = target(place, to, authorize)
    if place.branch_name == PRODUCTION:
        require_committed(code_version())
    for name in deployed(flow):
        made = chosen.deploy(FLOWS[name])
        console.print(f"{name} is {made.name} on {chosen.name}, {made.schedule}: {len(made.steps)} steps, {', '.join(made.steps)}")
    where = describe_store(place.root, place.branch_name)
    console.print(f"image {chosen.cloud.image}\npackages in s3://{chosen.cloud.bucket}/metaflow, store {where}")
    console.print(f"whoever is not {user()} deploys over it, or undeploys it, by AUTHORIZE={made.token}")


def undeploy(place: Place, flow: Flow = None, to: To = "step-functions", authorize: Token = "") -> None:
    """Removes deployed flows and their schedules; releases stay."""
    chosen, refused = target(place, to, authorize), []
    for name in deployed(flow):
        try:
            chosen.ask(FLOWS[name], "delete")
            console.print(f"{name} runs by itself no more")
        except RecsysError as error:
            if "doesn't exist" in str(error):
                console.print(f"{name} is not deployed")
            else:
                refused.append(f"{name}: {error}")
    if refused:
        raise RecsysError("\n".join(refused))


def trigger(place: Place, flow: OneFlow, to: To = "step-functions", authorize: Token = "") -> None:
    """Starts a deployed flow now."""
    for line in target(place, to, authorize).runs(FLOWS[flow], "trigger"):
        say(line)


def cloud_status(place: Place, flow: Flow = None, to: To = "step-functions", authorize: Token = "") -> None:
    """Lists the executions of deployed flows, and how they ended."""
    chosen = target(place, to, authorize)
    if chosen.name == "argo-workflows":
        raise RecsysError(f"TO argo-workflows lists no executions; ask the cluster: argo list --namespace {chosen.cloud.namespace}")
    for name in deployed(flow):
        for line in chosen.runs(FLOWS[name], "list-runs") or ["no execution yet"]:
            say(f"{name}: {line}")


def options_of(branch: str, user: str) -> list[str]:
    """What makes Metaflow deploy to a branch; nothing for the user's own. Raises for another user's."""
    name = branch_name(branch)
    if name.startswith("user.") and name != f"user.{user}":
        raise RecsysError(f'BRANCH "{branch}" is another user\'s, and you are {user}; pass METAFLOW_USER={name[5:]} if it is yours')
    return [f"--branch={name.removeprefix('test.')}"] if name.startswith("test.") else []


def token_in(said: str) -> str:
    found = re.search(r"create --authorize (\S+)", said)
    return found[1] if found else ""


def schedule_of(machine: str) -> str:
    """The schedule on which EventBridge starts a state machine, whose rule Metaflow names after it in 64 letters."""
    import boto3
    from metaflow.plugins.aws.step_functions.event_bridge_client import format as rule_of

    events = boto3.client("events")
    try:
        rule = events.describe_rule(Name=rule_of(machine))
    except events.exceptions.ResourceNotFoundException:
        return "no schedule"
    return rule["ScheduleExpression"] if rule["State"] == "ENABLED" else "no schedule"


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
        require_pair(f"step {step}", float(asked["VCPU"]), int(float(asked["MEMORY"])))


def require_pair(what: str, cpu: float, memory: int) -> None:
    """Raises if Fargate has no container of so many cores and megabytes."""
    allowed = FARGATE.get(cpu, ())
    if memory not in allowed:
        mend = f"cpu is one of {', '.join(map(str, FARGATE))}"
        if allowed:
            between = f" in steps of {allowed.step}" if isinstance(allowed, range) else ""
            mend = f"with {cpu:g} it has {allowed[0]} to {allowed[-1]} MB{between}"
        raise RecsysError(f"{what} asks for cpu {cpu:g} with memory {memory}, which Fargate does not pair; {mend}")


def require_bucket(bucket: str) -> None:
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        s3_client().head_bucket(Bucket=bucket)
    except (BotoCoreError, ClientError) as error:
        raise RecsysError(
            f"config: cloud.bucket {bucket} cannot be reached ({error}); create it by deploy/cloudformation.yml, or sign in to AWS"
        ) from None
