"""cloud/cloudformation.yml and Dockerfile, read."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from cloud import Cloud

ROOT = Path(__file__).parents[2]


class Loader(yaml.SafeLoader):
    """Knows CloudFormation's tags."""


Loader.add_multi_constructor("!", lambda loader, tag, node: {tag: node.value})


@pytest.fixture(scope="module")
def template() -> dict[str, Any]:
    return yaml.load((ROOT / "cloud" / "cloudformation.yml").read_text(), Loader)


def actions(template: dict[str, Any]) -> dict[str, set[str]]:
    """What each role may do."""
    return {
        name: {
            action
            for policy in one["Properties"].get("Policies", [])
            for statement in policy["PolicyDocument"]["Statement"]
            for action in statement["Action"]
        }
        for name, one in template["Resources"].items()
        if one["Type"] == "AWS::IAM::Role"
    }


def test_every_role_may_do_what_it_needs_and_no_more(template: dict[str, Any]) -> None:
    assert actions(template) == {
        "TaskRole": {
            *("s3:ListBucket", "s3:GetObject", "s3:PutObject", "s3:DeleteObject"),
            *("dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:UpdateItem"),
        },
        "ContainerRole": set(),
        "WorkflowRole": {
            *("batch:SubmitJob", "batch:DescribeJobs", "batch:TerminateJob", "dynamodb:GetItem"),
            *("events:PutTargets", "events:PutRule", "events:DescribeRule"),
        },
        "ScheduleRole": {"states:StartExecution"},
    }


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
    assert rule["Targets"] == [{"Id": "alerts", "Arn": {"!Ref": "Alerts"}}] or rule["Targets"][0]["Id"] == "alerts"


def test_the_image_is_the_lock_by_hashes_and_nothing_else() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    assert "--require-hashes --no-deps --only-binary :all: -r /tmp/requirements.lock" in dockerfile
    assert re.findall(r"^COPY (.*)", dockerfile, re.M) == ["requirements.lock /tmp/"]


def test_ci_calls_only_make_and_only_verbs_that_exist() -> None:
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())["jobs"]
    ran = {step["run"] for job in jobs.values() for step in job["steps"] if "run" in step}
    verbs = set(re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(), re.M))
    assert ran == {f"make {verb}" for verb in ("lint", "run", "test", "test-all", "deploy")}
    assert {line.removeprefix("make ") for line in ran} <= verbs
    assert all(needed in jobs for job in jobs.values() for needed in job.get("needs", []))
