"""The process: keys, addresses, and how it stops."""

import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cli.serve import read_keys, require_keys
from conftest import Fork, assert_refused, make_release, wait
from recsys import RecsysError
from recsys.publishing.publication import ValidatedRelease, publish
from recsys.store.snapshots import open_store

LOCAL = ["localhost"]


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.3.4.5"])
def test_on_its_own_address_no_key_is_needed(host: str) -> None:
    require_keys(host, LOCAL, [])


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "shop.example"])
def test_on_an_address_that_others_reach_it_starts_with_keys_only(host: str) -> None:
    require_keys(host, LOCAL, ["k" * 16])
    with pytest.raises(RecsysError, match=f"{host}.*set RECS_API_KEYS"):
        require_keys(host, LOCAL, [])


def test_any_host_name_is_answered_with_keys_only() -> None:
    require_keys("127.0.0.1", [*LOCAL, "*"], ["k" * 16])
    with pytest.raises(RecsysError, match=r"allowed_hosts is \['localhost', '\*'\].*set RECS_API_KEYS or name the hosts"):
        require_keys("127.0.0.1", [*LOCAL, "*"], [])


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


@pytest.mark.parametrize("name", ["RECS_API_KEYS", "RECS_API_KEYS_FILE"])
def test_a_secret_that_was_not_mounted_does_not_open_the_door(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str) -> None:
    (tmp_path / "keys").touch()
    monkeypatch.setenv(name, str(tmp_path / "keys") if name.endswith("FILE") else "")
    with pytest.raises(RecsysError, match="has no key"):
        read_keys()


@pytest.fixture
def command(tmp_path: Path) -> list[str]:
    return [sys.executable, str(Fork(tmp_path).root / "flows" / "cli"), "serve"]


def test_an_open_door_ends_in_one_line(command: list[str]) -> None:
    assert_refused(subprocess.run([*command, "HOST=0.0.0.0"], capture_output=True, text=True), "0.0.0.0", "RECS_API_KEYS")


def test_a_wrong_port_ends_in_one_line(command: list[str]) -> None:
    assert_refused(subprocess.run([*command, "PORT=http"], capture_output=True, text=True), "http", "PORT")


@contextmanager
def started(command: list[str]) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A service that answers, and its port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with subprocess.Popen([*command, f"PORT={port}"], stderr=subprocess.PIPE, text=True) as process:

        def answers() -> bool:
            try:
                return urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz?u12", timeout=5).status == 200
            except OSError:
                return False

        wait(answers)
        yield process, port
        process.kill()


@pytest.fixture
def process(command: list[str]) -> Iterator[tuple[subprocess.Popen[str], int]]:
    with started(command) as (process, port):
        yield process, port


def test_it_answers_from_the_store_that_is_given(command: list[str], tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "given"), "shop")
    publish(store, ValidatedRelease("a", make_release(store, "a"), None), ["lists"])
    with started([*command, f"STORE={tmp_path / 'given'}"]) as (_, port):
        wait(lambda: urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/users/u0/recommendations", timeout=5).status == 200)


def test_without_a_release_it_says_so_and_waits_and_stops_and_logs_no_path(process: tuple[subprocess.Popen[str], int]) -> None:
    service, _ = process
    service.send_signal(signal.SIGTERM)
    _, said = service.communicate(timeout=30)
    assert service.returncode in (0, -signal.SIGTERM)
    assert "`make run DATASET=shop` makes one" in said
    assert "Finished server process" in said
    assert "u12" not in said


def test_a_request_that_is_under_way_when_it_stops_is_answered(process: tuple[subprocess.Popen[str], int]) -> None:
    service, port = process
    body = b'{"items": ["i1"]}'
    told = f"Host: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(f"POST /v1/sessions/recommendations HTTP/1.1\r\n{told}\r\n\r\n".encode() + body[:5])
        time.sleep(0.5)
        service.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        connection.sendall(body[5:])
        assert connection.recv(100).startswith(b"HTTP/1.1 503")  # for no release is live
    assert service.wait(timeout=30) in (0, -signal.SIGTERM)
