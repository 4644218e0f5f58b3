"""An S3-compatible store that config.toml alone knows the address of: a run of one's own, then one of production."""

import os
import re
import subprocess
from pathlib import Path

import boto3
import pytest

from cli import variables
from conftest import Fork, assert_refused


@pytest.mark.parametrize(("endpoint", "told"), [("http://store:9000", "http://store:9000"), ("", "http://other:9000")])
def test_metaflow_is_told_the_address(monkeypatch: pytest.MonkeyPatch, endpoint: str, told: str) -> None:
    monkeypatch.setenv("METAFLOW_S3_ENDPOINT_URL", "http://other:9000")
    monkeypatch.setattr(variables, "read_config", lambda: {"store": {"endpoint": endpoint}})
    variables.point_metaflow()
    assert os.environ["METAFLOW_S3_ENDPOINT_URL"] == told


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_run_keeps_everything_there(s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fork, client, address = small(tmp_path / "fork"), boto3.client("s3"), os.environ["AWS_ENDPOINT_URL"]
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    fork.set("store", "root", f"{s3}/recs")
    fork.set("store", "endpoint", address)
    own = {"METAFLOW_DEFAULT_DATASTORE": "s3", "METAFLOW_DATASTORE_SYSROOT_S3": f"{s3}/metaflow", "METAFLOW_USER": "tester"}

    def kept() -> set[str]:
        return {entry["Key"] for entry in client.list_objects_v2(Bucket="shop", Prefix="recs/")["Contents"]}

    assert "/recs/user.tester (yours; PRODUCTION=1 for production)" in done(fork.make("run", own))
    assert {key.split("/")[1] for key in kept()} == {"user.tester"}
    assert "recs/user.tester/shop/CURRENT" in kept()
    assert client.list_objects_v2(Bucket="shop", Prefix="metaflow/")["KeyCount"]
    assert not (fork.root / "data" / "store").exists()
    assert_refused(fork.make("resume", own, PRODUCTION="1"), "/recs/user.tester (yours", "leave out PRODUCTION=1")

    assert_refused(fork.make("recommend", own, PRODUCTION="1"), "git finds no commit", "/recs (production)")
    git(fork, "init", "--quiet")
    (fork.root / ".gitignore").write_text("/data/\n__pycache__/\n")
    git(fork, "add", "--all")
    git(fork, "commit", "--quiet", "--message", "a commit")
    (fork.root / "config.toml").open("a").write("# a change\n")
    assert_refused(fork.make("run", own, PRODUCTION="1"), "config.toml", "leave out PRODUCTION=1", "/recs (production)")
    assert not [key for key in kept() if not key.startswith("recs/user.tester/")]
    git(fork, "commit", "--quiet", "--all", "--message", "another")
    told = done(fork.make("run", own, PRODUCTION="1"))
    assert "/recs (production)" in told
    (next_steps,) = re.findall(r"^look next +(.+)$", told, re.M)
    assert all("PRODUCTION=1" in command.split() for command in next_steps.split(" · "))
    assert "recs/shop/CURRENT" in kept()


def small(folder: Path) -> Fork:
    """Two recommenders, that train at once."""
    fork = Fork(folder)
    config = re.sub(r"\[recommenders\.(item_to_item|two_stage)\]\n(.+\n)+", "", (folder / "config.toml").read_text())
    (folder / "config.toml").write_text(config)
    return fork


def done(result: subprocess.CompletedProcess[str]) -> str:
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def git(fork: Fork, *arguments: str) -> None:
    subprocess.run(["git", "-c", "user.name=t", "-c", "user.email=t@example.com", *arguments], cwd=fork.root, check=True)
