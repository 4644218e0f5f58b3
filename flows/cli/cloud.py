"""Verbs that deploy the flows to AWS or Argo: checks the section [cloud] of config.toml and runs Metaflow's commands with it."""

import json
import os
import re
import subprocess
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from cli.flows import FLOWS
from cli.production import PRODUCTION, branch_name, code_version, describe_store, require_committed
from cli.terminal import console, say
from cli.variables import Place, one_of, option, read_config, user
from recsys import RecsysError
from recsys.settings import Cloud, build, read_operations
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

To = Annotated[str, option("the scheduler; step-functions by default", read=one_of(NEEDED), shown="|".join(NEEDED))]
Token = Annotated[str, option("the token that `make deploy` printed, if another user deployed the flow", shown="TOKEN")]
Flow = Annotated[
    str | None, option("only this flow; by default, all that have a schedule", read=one_of(FLOWS), shown="|".join(FLOWS))
]
OneFlow = Annotated[str, option("the flow, such as TrainFlow", read=one_of(FLOWS), shown="|".join(FLOWS))]


def environment(cloud: Cloud) -> dict[str, str]:
    """Metaflow's environment variables for the settings of [cloud]."""
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
    """Reads [cloud] of the config. Raises RecsysError if a setting that the target needs is not filled in or not valid."""
    cloud = build(Cloud, values.get("cloud", {}), "cloud")
    if empty := [name for name in NEEDED[target] if getattr(cloud, name) in ("", "changethis")]:
        raise RecsysError(
            f'config: cloud.{empty[0]} is "{getattr(cloud, empty[0])}"; set it to an output of'
            " deploy/cloudformation.yml, or your own"
        )
    root = values["store"]["root"]
    if not root.startswith("s3://"):
        raise RecsysError(f'config: store.root is "{root}", which containers do not share; set it to "s3://{cloud.bucket}/store"')
    if target == "step-functions":
        for step, asked in read_operations(values).resources.items():
            require_pair(f"config: resources.{step}", asked.cpu, asked.memory)
    return cloud


class Target:
    """Metaflow's commands for one place to deploy to: `step-functions` or `argo-workflows`."""

    def __init__(self, name: str, cloud: Cloud, branch: Sequence[str], token: str = ""):
        self.name, self.cloud, self.branch, self.token = name, cloud, branch, token

    def ask(self, flow: Sequence[str], *arguments: str) -> subprocess.CompletedProcess[str]:
        """Runs one of Metaflow's commands for the target. Raises RecsysError with the end of its output if it fails."""
        token = ["--authorize", self.token] if self.token and arguments[0] in ("create", "delete") else []
        command = [*flow, "--datastore=s3", *self.branch, self.name, *arguments, *token]
        variables = os.environ | environment(self.cloud)
        done = subprocess.run(command, env=variables, capture_output=True, text=True)
        if done.returncode:
            output = " ".join(line.strip() for line in (done.stderr or done.stdout).splitlines()[-3:])
            advice = "correct [cloud] of config.toml or the resources in AWS"
            if "production token" in output:
                advice = "another user deployed it: pass AUTHORIZE=, the token that `make deploy` printed for that user"
            raise RecsysError(f"{self.name} {arguments[0]} was refused: {output}; {advice}")
        return done

    def runs(self, flow: Sequence[str], command: str) -> list[str]:
        """The lines about runs in the output of `trigger` or `list-runs`."""
        return [line.strip() for line in self.ask(flow, command).stderr.splitlines() if re.search(r"\b(sfn|argo)-", line)]

    def compile(self, flow: Sequence[str]) -> dict[str, Any]:
        """The specification that `deploy` would create. Uploads the code package but deploys nothing."""
        output = self.ask(flow, "create", "--only-json").stdout
        return json.loads(output[output.index("{") :])

    def deploy(self, flow: Sequence[str]) -> tuple[str, str, list[str], str]:
        """Deploys a flow with its schedule, after checking that the bucket exists and that Fargate has the containers it asks
        for. Returns its name, schedule and steps, and the token that other users need to replace or delete it."""
        require_bucket(self.cloud.bucket)
        compiled = self.compile(flow)
        if self.name == "argo-workflows":
            token = token_in(self.ask(flow, "create").stderr)
            templates = [one["name"] for one in compiled["spec"]["templates"] if "container" in one]
            cron = json.loads(compiled["metadata"]["annotations"].get("metaflow/cron", "{}")).get("schedule", "no schedule")
            return compiled["metadata"]["name"], cron, templates, token
        states = list(tasks(compiled))
        for step, job in states:
            sizes = {size["Type"]: size["Value"] for size in job["ContainerOverrides"]["ResourceRequirements"]}
            require_pair(f"step {step}", float(sizes["VCPU"]), int(float(sizes["MEMORY"])))
        with tempfile.NamedTemporaryFile("r") as told:
            token = token_in(self.ask(flow, "create", "--deployer-attribute-file", told.name).stderr)
            name = json.loads(Path(told.name).read_text())["name"]
        return name, schedule_of(name), [step for step, _ in states], token


def target(place: Place, to: str, authorize: str) -> Target:
    """The scheduler for production, for the branch BRANCH, or for the user's own branch."""
    if place.store:
        raise RecsysError(f'STORE "{place.store}" is for runs on this machine; deployed flows use store.root of config.toml')
    require_config_alone(place, read_config())
    branch = place.flow_options or options_of(place.branch, user())
    return Target(to, read(read_config(), to), branch, authorize)


def require_config_alone(place: Place, config: Mapping[str, Any]) -> None:
    """Raises RecsysError if a variable chooses other data than config.toml does, which deployed flows carry with them."""
    chosen: dict[str, object] = {"DATASET": place.dataset if place.dataset != config.get("dataset") else "", "AS_OF": place.as_of}
    chosen |= {"SAMPLE": place.sample if place.sample != 1 else ""} | {name.upper(): path for name, path in place.inputs.items()}
    if given := [name for name, value in chosen.items() if value]:
        raise RecsysError(
            f'{given[0]} "{chosen[given[0]]}" is for runs on this machine; deployed flows use the dataset that config.toml names,'
            f" with its own source_settings and all its events; change config.toml, and leave out {given[0]}"
        )


def deployed(flow: str | None) -> list[str]:
    """The given flow, or all that run on a schedule."""
    return [flow] if flow else [name for name in FLOWS if name != "TuneFlow"]


def deploy(place: Place, flow: Flow = None, to: To = "step-functions", authorize: Token = "") -> None:
    """Deploys the scheduled flows to AWS Step Functions and Batch, or to Argo Workflows, with [cloud] of config.toml.

    Example: make deploy PRODUCTION=1
    """
    chosen = target(place, to, authorize)
    place.checked_settings()  # refuses a wrong value before anything is deployed
    if place.branch_name == PRODUCTION:
        require_committed(code_version())
    for name in deployed(flow):
        machine, schedule, steps, token = chosen.deploy(FLOWS[name])
        console.print(f"{name} is {machine} on {chosen.name}, {schedule}: {len(steps)} steps, {', '.join(steps)}")
    where = describe_store(place.root, place.branch_name)
    console.print(f"image {chosen.cloud.image}\npackages in s3://{chosen.cloud.bucket}/metaflow, store {where}")
    console.print(f"users other than {user()} replace or remove this deployment with AUTHORIZE={token}")


def undeploy(place: Place, flow: Flow = None, to: To = "step-functions", authorize: Token = "") -> None:
    """Removes deployed flows and their schedules. Releases stay in the store.

    Example: make undeploy FLOW=MonitorFlow PRODUCTION=1
    """
    chosen, refused = target(place, to, authorize), []
    for name in deployed(flow):
        try:
            chosen.ask(FLOWS[name], "delete")
            console.print(f"{name} is no longer deployed")
        except RecsysError as error:
            if "doesn't exist" in str(error):
                console.print(f"{name} is not deployed")
            else:
                refused.append(f"{name}: {error}")
    if refused:
        raise RecsysError("\n".join(refused))


def trigger(place: Place, flow: OneFlow, to: To = "step-functions", authorize: Token = "") -> None:
    """Starts a deployed flow now.

    Example: make trigger FLOW=TrainFlow PRODUCTION=1
    """
    for line in target(place, to, authorize).runs(FLOWS[flow], "trigger"):
        say(line)


def cloud_status(place: Place, flow: Flow = None, to: To = "step-functions", authorize: Token = "") -> None:
    """Lists the executions of deployed flows with their status.

    Example: make cloud-status PRODUCTION=1
    """
    chosen = target(place, to, authorize)
    if chosen.name == "argo-workflows":
        raise RecsysError(f"TO argo-workflows cannot list executions here; run: argo list --namespace {chosen.cloud.namespace}")
    for name in deployed(flow):
        for line in chosen.runs(FLOWS[name], "list-runs") or ["no execution yet"]:
            say(f"{name}: {line}")


def options_of(branch: str, user: str) -> list[str]:
    """Metaflow's options for a branch; none for the user's own. Raises RecsysError for another user's branch."""
    name = branch_name(branch)
    if name.startswith("user.") and name != f"user.{user}":
        raise RecsysError(f'BRANCH "{branch}" is another user\'s, and you are {user}; pass METAFLOW_USER={name[5:]} if it is yours')
    return [f"--branch={name.removeprefix('test.')}"] if name.startswith("test.") else []


def token_in(output: str) -> str:
    """The production token in the output of Metaflow's `create`; empty if there is none."""
    match = re.search(r"create --authorize (\S+)", output)
    return match[1] if match else ""


def schedule_of(machine: str) -> str:
    """The schedule on which EventBridge starts a state machine. Metaflow derives the rule's name, of at most 64 letters, from
    it."""
    import boto3
    from metaflow.plugins.aws.step_functions.event_bridge_client import format as rule_of

    events = boto3.client("events")
    try:
        rule = events.describe_rule(Name=rule_of(machine))
    except events.exceptions.ResourceNotFoundException:
        return "no schedule"
    return rule["ScheduleExpression"] if rule["State"] == "ENABLED" else "no schedule"


def tasks(machine: Mapping[str, Any]) -> Iterable[tuple[str, dict[str, Any]]]:
    """All steps of a state machine with the parameters of their Batch jobs."""
    for name, state in machine["States"].items():
        for inner in [*state.get("Branches", []), *([state["Iterator"]] if "Iterator" in state else [])]:
            yield from tasks(inner)
        if state.get("Resource", "").endswith("batch:submitJob.sync"):
            yield name, state["Parameters"]


def require_pair(what: str, cpu: float, memory: int) -> None:
    """Raises RecsysError if Fargate has no container with so many cores and megabytes. `what` starts the message."""
    allowed = FARGATE.get(cpu, ())
    if memory not in allowed:
        advice = f"cpu must be one of {', '.join(map(str, FARGATE))}"
        if allowed:
            steps = f" in steps of {allowed.step}" if isinstance(allowed, range) else ""
            advice = f"cpu {cpu:g} goes with {allowed[0]} to {allowed[-1]} MB{steps}"
        raise RecsysError(f"{what} asks for cpu {cpu:g} with memory {memory}, which Fargate does not have; {advice}")


def require_bucket(bucket: str) -> None:
    """Raises RecsysError if the bucket cannot be reached."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        s3_client().head_bucket(Bucket=bucket)
    except (BotoCoreError, ClientError) as error:
        raise RecsysError(
            f"config: cloud.bucket {bucket} cannot be reached ({error}); create it with deploy/cloudformation.yml or sign in to AWS"
        ) from None
