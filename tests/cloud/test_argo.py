"""What `make deploy TO=argo-workflows` hands over. It is compiled and read here, not executed."""

import io
import json
import re
import sys
import tarfile
from pathlib import Path
from typing import Any

import boto3
import pytest

from cli.cloud import Cloud, Target
from conftest import ROOT, Fork
from recsys.settings.deployment import read_operations
from recsys.settings.loading import parse

KNOWN = read_operations(parse((ROOT / "config.toml").read_text()))

pytestmark = pytest.mark.slow
PLACES = ("queue", "table", "task_role", "container_role", "workflow_role", "schedule_role")


@pytest.fixture(scope="module")
def compiled(s3: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    fork, patch = Fork(tmp_path_factory.mktemp("fork")), pytest.MonkeyPatch()
    patch.setenv("METAFLOW_USER", "tester")
    patch.setenv("METAFLOW_S3_ENDPOINT_URL", str(boto3.client("s3").meta.endpoint_url))
    places = dict.fromkeys(PLACES, "")
    cloud = Cloud(bucket=s3.removeprefix("s3://"), image="recs@sha256:0", namespace="recs", service_account="recs-task", **places)
    flow = [sys.executable, str(fork.root / "flows" / "train_flow.py"), "--no-pylint"]
    specification = Target("argo-workflows", cloud, ["--production"]).compile(flow)
    patch.undo()
    return specification


def containers(compiled: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {one["name"]: one for one in compiled["spec"]["templates"] if "inputs" in one and "container" in one}


def test_the_steps_stand_in_the_flow_s_order(compiled: dict[str, Any]) -> None:
    (flow,) = (one for one in compiled["spec"]["templates"] if one["name"] == "TrainFlow")
    order = {one["name"]: one.get("depends", "") for one in flow["dag"]["tasks"]}
    assert list(order)[:4] == ["start", "land", "build-features", "build-features-foreach-recipes"]
    assert list(order)[4:] == ["select", "recommend", "validate", "publish", "end"]
    assert "validate" in order["publish"]
    assert set(containers(compiled)) == set(order) - {"build-features-foreach-recipes"} | {"train"}


def test_name_place_and_schedule_are_those_of_the_config(compiled: dict[str, Any]) -> None:
    assert compiled["metadata"]["name"] == f"{KNOWN.unattended.project.replace('_', '')}.prod.trainflow"
    assert compiled["metadata"]["namespace"] == "recs"
    assert json.loads(compiled["metadata"]["annotations"]["metaflow/cron"])["schedule"] in KNOWN.schedule["train"].eventbridge


def test_every_container_has_its_size_image_rights_and_retries(compiled: dict[str, Any]) -> None:
    for name, one in containers(compiled).items():
        size = KNOWN.resources_of(name.replace("-", "_"))
        asked = one["container"]["resources"]["requests"]
        assert (asked["cpu"], asked["memory"]) == (f"{size.cpu:.1f}", f"{size.memory:.1f}M"), name
        assert (one["container"]["image"], one["serviceAccountName"]) == ("recs@sha256:0", "recs-task")
        assert one["retryStrategy"]["limit"] == KNOWN.unattended.retries


def test_the_package_has_all_that_a_step_reads(compiled: dict[str, Any]) -> None:
    (url,) = set(re.findall(r"s3://(shop/metaflow/TrainFlow/data/\w\w/\w{40})", json.dumps(compiled)))
    bucket, _, key = url.partition("/")
    package = boto3.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read()
    with tarfile.open(fileobj=io.BytesIO(package)) as tar:
        names = {Path(name).as_posix().removeprefix(".mf_code/") for name in tar.getnames()}
    for wanted in ("train_flow.py", "base_flow.py", "reporting/cards.py", "recsys/pipeline.py"):
        assert wanted in names
    assert any(name.endswith("dbt_project/dbt_project.yml") for name in names)
