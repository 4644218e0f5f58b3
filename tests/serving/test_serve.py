"""The process: keys, addresses, and how it stops."""

import os
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from conftest import Fork, assert_refused
from recsys import RecsysError
from serve import read_keys, refuse_open_door
from serving_shop import wait


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.3.4.5"])
def test_on_its_own_address_no_key_is_needed(host: str) -> None:
    refuse_open_door(host, [])


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "shop.example"])
def test_on_an_address_that_others_reach_it_starts_with_keys_only(host: str) -> None:
    refuse_open_door(host, ["k" * 16])
    with pytest.raises(RecsysError, match=f"{host}.*set RECS_API_KEYS"):
        refuse_open_door(host, [])


def test_keys_are_read_from_the_environment_and_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "keys").write_text(f"{'c' * 16}\n\n{'d' * 16}\n")
    monkeypatch.setenv("RECS_API_KEYS", f"{'a' * 16}, {'b' * 16},")
    monkeypatch.setenv("RECS_API_KEYS_FILE", str(tmp_path / "keys"))
    assert read_keys() == [letter * 16 for letter in "abcd"]


def test_a_short_key_and_a_file_that_is_not_there_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECS_API_KEYS", "secret")
    with pytest.raises(RecsysError, match="shorter than 16"):
        read_keys()
    monkeypatch.setenv("RECS_API_KEYS_FILE", "/nowhere")
    with pytest.raises(RecsysError, match=r"/nowhere.*cannot be read"):
        read_keys()


@pytest.fixture
def command(tmp_path: Path) -> list[str]:
    return [sys.executable, str(Fork(tmp_path).root / "flows" / "serve.py")]


def test_an_open_door_ends_in_one_line(command: list[str]) -> None:
    environment = os.environ | {"HOST": "0.0.0.0"}
    assert_refused(subprocess.run(command, env=environment, capture_output=True, text=True), "0.0.0.0", "RECS_API_KEYS")


def test_it_answers_without_a_release_and_stops_gracefully_and_logs_no_path(command: list[str]) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with subprocess.Popen(command, env=os.environ | {"PORT": str(port)}, stderr=subprocess.PIPE, text=True) as process:

        def answers() -> bool:
            try:
                return urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz?u12", timeout=5).status == 200
            except OSError:
                return False

        wait(answers)
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=30)
    assert process.returncode in (0, -signal.SIGTERM)
    assert "Finished server process" in said
    assert "u12" not in said
