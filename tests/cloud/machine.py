"""Step Functions and Batch in small: walks a compiled state machine and runs every job's command, unmodified, as a process in
an empty folder with the environment that a container would have. What it does not know, it refuses.

A green rehearsal does not prove: that the roles' rights suffice (moto asks for none), that the image can be pulled
and has what this virtual environment has, that quotas, memory and time limits of an account suffice, that tasks of a Map bear
each other at the same time (they run one after the other here), or that nothing reads what else lies on this machine's disk:
folder, home, temporary files and environment are a container's own, the rest of the disk is not shut off."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

DOCKERFILE = Path(__file__).parents[2] / "deploy" / "Dockerfile"
LOCK = DOCKERFILE.parents[1] / "requirements" / "run.lock"
KNOWN = {
    "Machine": {"StartAt", "States", "TimeoutSeconds", "ProcessorConfig"},
    "Task": {"Type", "Resource", "Parameters", "Retry", "ResultPath", "OutputPath", "Next", "End"},
    "Map": {"Type", "MaxConcurrency", "ItemsPath", "Parameters", "Iterator", "OutputPath", "Next", "End"},
    "Parallel": {"Type", "Branches", "OutputPath", "Next", "End"},
    "Job": {"JobDefinition", "JobName", "JobQueue", "Parameters", "ContainerOverrides", "RetryStrategy", "Timeout"},
    "Container": {"Command", "ResourceRequirements", "Environment"},
}
KEY = re.compile(r"\.?(?:\['([^']+)'\]|\[(\d+)\]|(?<=\.)(\w+))")


class Unknown(Exception):
    """The specification says what this interpreter was not taught."""


class Failed(Exception):
    """A job has failed in every attempt, and with it the execution."""

    def __init__(self, words: str, attempts: list["Attempt"]):
        super().__init__(words)
        self.attempts = attempts


def only(kind: str, value: Mapping[str, Any]) -> None:
    if strange := value.keys() - KNOWN[kind]:
        raise Unknown(f"{kind} with {', '.join(sorted(strange))}")


def look_up(path: str, data: Any, context: Mapping[str, Any]) -> Any:
    """A JSONPath of the kinds that Metaflow compiles to: keys, indices, or several keys at once."""
    found: Any = context if path.startswith("$$") else data
    rest = path.lstrip("$")
    if several := re.fullmatch(r"\.\[('\w+'(?:, '\w+')+)\]", rest):
        return {name: found[name] for name in re.findall(r"\w+", several[1]) if name in found}
    while rest:
        if not (match := KEY.match(rest)):
            raise Unknown(f"path {path}")
        quoted, index, plain = match.groups()
        found, rest = found[int(index)] if index else found[quoted or plain], rest[match.end() :]
    return found


def fill(template: Any, data: Any, context: Mapping[str, Any]) -> Any:
    """Parameters with every `name.$` looked up."""
    if isinstance(template, list):
        return [fill(part, data, context) for part in template]
    if not isinstance(template, dict):
        return template
    return {
        name.removesuffix(".$"): look_up(part, data, context) if name.endswith(".$") else fill(part, data, context)
        for name, part in template.items()
    }


@dataclass(frozen=True)
class Attempt:
    """One container that ran."""

    step: str
    number: int
    code: int
    log: str


def image_environment() -> dict[str, str]:
    """What the Dockerfile sets. The lock that the image keeps is the one that it was built from."""
    found = re.findall(r"^ENV (\w+)=(\S+)$", DOCKERFILE.read_text(), re.M)
    return {name: str(LOCK) if value.endswith(f"/{LOCK.name}") else value for name, value in found}


def instance_environment(folder: str) -> dict[str, str]:
    """What a container has besides its job's: the image's, a python with the lock's packages, rights."""
    path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
    rights = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
    return {"PATH": path, "HOME": folder, "TMPDIR": f"{folder}/tmp"} | rights | image_environment()


@dataclass
class Execution:
    """Of a state machine's definition. `meddle(step, attempt, process)` is called once a container has started."""

    definition: Mapping[str, Any]
    name: str = field(default_factory=lambda: f"x{uuid4().hex[:8]}")
    meddle: Callable[[str, int, subprocess.Popen[str]], None] = lambda step, attempt, process: None
    attempts: list[Attempt] = field(default_factory=list)

    def run(self, input: str) -> "Execution":
        """Raises Failed if the execution does."""
        self.machine(self.definition, json.loads(input), {"Execution": {"Name": self.name}})
        return self

    def machine(self, machine: Mapping[str, Any], data: Any, context: Mapping[str, Any]) -> Any:
        only("Machine", machine)
        name = machine["StartAt"]
        while True:
            state = machine["States"][name]
            data = self.state(name, state, data, context)
            if state.get("End"):
                return data
            name = state["Next"]

    def state(self, name: str, state: Mapping[str, Any], data: Any, context: Mapping[str, Any]) -> Any:
        if state["Type"] not in ("Task", "Map", "Parallel"):
            raise Unknown(f"a state of type {state['Type']}")
        only(state["Type"], state)
        result: Any
        if state["Type"] == "Parallel":
            result = [self.machine(branch, data, context) for branch in state["Branches"]]
        elif state["Type"] == "Map":
            result = []
            for item in look_up(state["ItemsPath"], data, context):
                inner = {**context, "Map": {"Item": {"Value": item}}}
                result.append(self.machine(state["Iterator"], fill(state["Parameters"], data, inner), inner))
        else:
            result = self.task(name, state["Resource"], fill(state["Parameters"], data, context))
        if "ResultPath" in state:
            result = {**data, state["ResultPath"].removeprefix("$."): result}
        return look_up(state.get("OutputPath", "$"), result, context)

    def task(self, name: str, resource: str, parameters: dict[str, Any]) -> Any:
        import boto3

        if resource.endswith(":dynamodb:getItem"):
            return {"Item": boto3.client("dynamodb").get_item(**parameters)["Item"]}
        if not resource.endswith(":batch:submitJob.sync"):
            raise Unknown(f"resource {resource}")
        only("Job", parameters)
        only("Container", parameters["ContainerOverrides"])
        (made,) = boto3.client("batch").describe_job_definitions(jobDefinitions=[parameters["JobDefinition"]])["jobDefinitions"]
        id, environment = str(uuid4()), made["containerProperties"]["environment"]
        given = {one["name"]: one["value"] for one in environment}
        given |= {one["Name"]: one["Value"] for one in parameters["ContainerOverrides"]["Environment"]}
        for number in range(1, parameters["RetryStrategy"]["Attempts"] + 1):
            own = given | {"AWS_BATCH_JOB_ID": id, "AWS_BATCH_JOB_ATTEMPT": str(number)}
            own |= {
                "AWS_BATCH_JQ_NAME": parameters["JobQueue"].split("/")[-1],
                "AWS_BATCH_CE_NAME": "recs",
                "AWS_EXECUTION_ENV": "AWS_ECS_FARGATE",
            }
            limit = parameters["Timeout"]["AttemptDurationSeconds"]
            if self.container(name, number, parameters["ContainerOverrides"]["Command"], own, limit) == 0:
                return {"JobId": id, "JobName": parameters["JobName"], "Parameters": parameters["Parameters"]}
        raise Failed(f"{name}: {self.attempts[-1].log[-3000:]}", self.attempts)

    def container(self, step: str, number: int, command: list[str], environment: dict[str, str], limit: int) -> int:
        with (
            tempfile.TemporaryDirectory(prefix="container-", ignore_cleanup_errors=True) as folder,
            tempfile.TemporaryFile("w+") as log,
        ):
            os.mkdir(f"{folder}/tmp")
            os.mkdir(f"{folder}/work")
            everything = instance_environment(folder) | environment
            process = subprocess.Popen(
                command,
                cwd=f"{folder}/work",
                env=everything,
                stdout=log,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )
            try:
                self.meddle(step, number, process)
                code = process.wait(min(limit, 300))
            finally:  # a container that ends takes all of its processes along
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            log.seek(0)
            self.attempts.append(Attempt(step, number, code, log.read()))
            return code
