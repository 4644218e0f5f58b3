"""A deployed flow gets its database's connection from a secret, and hands it to nobody."""

import json
from pathlib import Path

import boto3
import pytest
from account import account
from machine import Failed
from test_step_functions import Cloud

from postgresql import Server, configure, leaks, write_queries

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


def test_the_connection_reaches_containers_and_nothing_that_is_kept(tmp_path: Path, warehouse: Server) -> None:
    with account() as (proxy, outputs):
        cloud = Cloud(tmp_path, proxy, outputs)
        fork = cloud.fork("main")
        configure(fork.root)
        write_queries(fork.root)
        fork.set("", "dataset", "warehouse")
        fork.set("unattended", "secrets", ["reasonable_recs/database"])
        cloud.deploy(fork, "TrainFlow")

        with pytest.raises(Failed, match="Failed to retrieve secret 'reasonable_recs/database'"):
            cloud.fire("main")
        secret = json.dumps({"SHOP_URL": warehouse.url})
        boto3.client("secretsmanager").create_secret(Name="reasonable_recs/database", SecretString=secret)
        attempts = cloud.fire("main").attempts

        assert attempts[-1].step == "end"
        assert not [attempt.step for attempt in attempts if leaks(attempt.log)]
        machines = boto3.client("stepfunctions")
        for machine in machines.list_state_machines()["stateMachines"]:
            assert not leaks(machines.describe_state_machine(stateMachineArn=machine["stateMachineArn"])["definition"])
        assert not [job for job in proxy.jobs if leaks(job)]
        objects = boto3.resource("s3").Bucket(cloud.values["bucket"]).objects.all()
        kept = {entry.key: entry.get()["Body"].read() for entry in objects}
        assert any(key.endswith("/CURRENT") for key in kept)
        assert [key for key, data in kept.items() if leaks(data)] == []
