"""An S3-compatible store that config.toml alone knows the address of."""

import os
from pathlib import Path

import boto3
import pytest

import commands
from conftest import Fork


@pytest.mark.parametrize(("endpoint", "told"), [("http://store:9000", "http://store:9000"), ("", "http://other:9000")])
def test_metaflow_is_told_the_address(monkeypatch: pytest.MonkeyPatch, endpoint: str, told: str) -> None:
    monkeypatch.setenv("METAFLOW_S3_ENDPOINT_URL", "http://other:9000")
    monkeypatch.setattr(commands, "read_config", lambda: {"store": {"endpoint": endpoint}})
    commands.point_metaflow()
    assert os.environ["METAFLOW_S3_ENDPOINT_URL"] == told


@pytest.mark.slow
def test_a_run_keeps_everything_there(s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fork, client, address = Fork(tmp_path / "fork"), boto3.client("s3"), os.environ["AWS_ENDPOINT_URL"]
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    fork.change('root = "data/store"', f'root = "{s3}/recs"')
    fork.change('endpoint = ""', f'endpoint = "{address}"')
    own = {"METAFLOW_DEFAULT_DATASTORE": "s3", "METAFLOW_DATASTORE_SYSROOT_S3": f"{s3}/metaflow"}
    done = fork.make("run", own)
    assert done.returncode == 0, done.stdout + done.stderr
    keys = {entry["Key"] for entry in client.list_objects_v2(Bucket="shop", Prefix="recs/")["Contents"]}
    assert "recs/shop/CURRENT" in keys
    assert client.list_objects_v2(Bucket="shop", Prefix="metaflow/")["KeyCount"]
    assert not (fork.root / "data" / "store").exists()
