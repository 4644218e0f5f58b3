"""deploy/cloudformation.yml and Dockerfile, read."""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from cli.cloud import Cloud
from cli.production import IMAGE_LOCK

ROOT = Path(__file__).parents[2]
# what AWS grants for all of a kind only, or, of jobs, for ids that nobody can know beforehand
ANYWHERE = {"batch:DescribeJobs", "batch:TerminateJob", "states:ListStateMachines"}
ANYWHERE |= {"batch:DescribeJobQueues", "batch:DescribeComputeEnvironments", "batch:DescribeJobDefinitions"}


class Loader(yaml.SafeLoader):
    """Knows CloudFormation's tags."""


Loader.add_multi_constructor("!", lambda loader, tag, node: {tag: node.value})


@pytest.fixture(scope="module")
def template() -> dict[str, Any]:
    return yaml.load((ROOT / "deploy" / "cloudformation.yml").read_text(), Loader)


def policies(template: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """The statements about what each role, and who deploys, may do."""
    made = {name: one["Properties"] for name, one in template["Resources"].items() if one["Type"].startswith("AWS::IAM::")}
    return {
        name: [one for policy in own.get("Policies", [own]) for one in policy.get("PolicyDocument", {}).get("Statement", [])]
        for name, own in made.items()
    }


def actions(template: dict[str, Any]) -> dict[str, set[str]]:
    return {name: {action for one in every for action in one["Action"]} for name, every in policies(template).items()}


def values(node: Any) -> Iterator[Any]:
    """Every value below a node that is no list or mapping."""
    if isinstance(node, dict | list):
        for inner in node.values() if isinstance(node, dict) else node:
            yield from values(inner)
    else:
        yield node


def test_nothing_is_null_and_parameters_say_only_what_aws_knows(template: dict[str, Any]) -> None:
    assert None not in values(template)
    known = {"Type", "Description", "Default", "AllowedValues", "AllowedPattern", "ConstraintDescription", "NoEcho"}
    known |= {"MinLength", "MaxLength", "MinValue", "MaxValue"}
    assert not [name for name, one in template["Parameters"].items() if one.keys() - known]
    unattended = tomllib.loads((ROOT / "config.toml").read_text())["unattended"]
    assert template["Parameters"]["Project"]["Default"] == unattended["project"]


def test_nothing_current_expires(template: dict[str, Any]) -> None:
    rules = template["Resources"]["Bucket"]["Properties"]["LifecycleConfiguration"]["Rules"]
    kinds = {"NoncurrentVersionExpiration", "AbortIncompleteMultipartUpload"}
    assert {kind for rule in rules for kind in rule.keys() - {"Id", "Status"}} == kinds


def test_every_role_may_do_what_it_needs_and_no_more(template: dict[str, Any]) -> None:
    assert actions(template) == {
        "TaskRole": {
            *("s3:ListBucket", "s3:GetObject", "s3:PutObject", "s3:DeleteObject"),
            *("dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:UpdateItem", "secretsmanager:GetSecretValue"),
        },
        "ContainerRole": set(),
        "WorkflowRole": {
            *("batch:SubmitJob", "batch:DescribeJobs", "batch:TerminateJob", "dynamodb:GetItem"),
            *("events:PutTargets", "events:PutRule", "events:DescribeRule"),
        },
        "ScheduleRole": {"states:StartExecution"},
        "DeployPolicy": {
            *("s3:ListBucket", "s3:GetObject", "s3:PutObject", "iam:PassRole", "batch:RegisterJobDefinition"),
            *("batch:DescribeJobQueues", "batch:DescribeComputeEnvironments", "batch:DescribeJobDefinitions"),
            *("states:ListStateMachines", "states:CreateStateMachine", "states:UpdateStateMachine"),
            *("states:DescribeStateMachine", "states:DeleteStateMachine", "states:ListExecutions", "states:StartExecution"),
            *("events:PutRule", "events:PutTargets", "events:RemoveTargets", "events:DisableRule", "events:DeleteRule"),
            "events:DescribeRule",
        },
    }


def test_what_may_be_touched_is_the_stack_s_own_or_named_by_the_project(template: dict[str, Any]) -> None:
    place, ours = "arn:${AWS::Partition}:%s:${AWS::Region}:${AWS::AccountId}:%s", set(template["Resources"])
    named = {
        *("${Bucket.Arn}/*", "${Bucket.Arn}/metaflow/*"),
        place % ("states", "stateMachine:${Project}.*"),
        place % ("events", "rule/${Project}.*"),
        place % ("events", "rule/StepFunctionsGetEventsForBatchJobsRule"),
        place % ("batch", "job-definition/metaflow_*"),
        place % ("secretsmanager", "secret:${Project}/*"),
    }
    for name, every in policies(template).items():
        for one in every:
            resources = one["Resource"] if isinstance(one["Resource"], list) else [one["Resource"]]
            for resource in resources:
                if resource == "*":
                    assert set(one["Action"]) <= ANYWHERE, name
                else:
                    ((tag, value),) = resource.items()
                    assert value in named if tag == "Sub" else value.removesuffix(".Arn") in ours, name


def test_no_action_is_a_wildcard_and_the_bucket_is_nobody_else_s(template: dict[str, Any]) -> None:
    assert not [action for every in actions(template).values() for action in every if "*" in action]
    bucket = template["Resources"]["Bucket"]
    assert set(bucket["Properties"]["PublicAccessBlockConfiguration"].values()) == {True}
    assert bucket["Properties"]["VersioningConfiguration"] == {"Status": "Enabled"}
    assert bucket["DeletionPolicy"] == "Retain"


def test_its_outputs_are_what_the_config_asks_for(template: dict[str, Any]) -> None:
    asked = {name.replace("_", "") for name in Cloud.__dataclass_fields__}
    assert asked - set(template["Outputs"]) == {"image", "namespace", "serviceaccount"}


def test_a_failed_execution_is_told_to_the_topic(template: dict[str, Any]) -> None:
    rule = template["Resources"]["Failed"]["Properties"]
    assert rule["EventPattern"]["detail"]["status"] == ["FAILED", "TIMED_OUT", "ABORTED"]
    (machines,) = rule["EventPattern"]["detail"]["stateMachineArn"]
    assert machines["prefix"]["Sub"].endswith(":stateMachine:${Project}.")
    assert rule["Targets"] == [{"Id": "alerts", "Arn": {"Ref": "Alerts"}}]


def test_the_image_is_the_lock_by_hashes_and_nothing_else() -> None:
    dockerfile = (ROOT / "deploy" / "Dockerfile").read_text()
    (folder,) = re.findall(rf"^ENV {IMAGE_LOCK}=(.*)run.lock$", dockerfile, re.M)
    (default,) = re.findall(r"^ARG LOCK=(.*)", dockerfile, re.M)
    (copied,) = re.findall(r"^COPY (.*)", dockerfile, re.M)
    *sources, target = copied.replace("${LOCK}", default).split()
    assert target == folder
    assert all((ROOT / source).exists() for source in sources)
    assert f"--require-hashes --no-deps --only-binary :all: -r {folder}${{LOCK}}.lock" in dockerfile
