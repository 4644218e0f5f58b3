"""Alerts: told where config.toml says, repeated ones folded, and never in the way of what they tell."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from cli.alerts import Alert, send
from conftest import Fork
from recsys import RecsysError
from recsys.settings.deployment import AlertSettings
from recsys.settings.validation import build
from recsys.store.snapshots import Store
from recsys.validation_report import CheckResult

NOW = datetime(2024, 6, 1, tzinfo=UTC)
BAD = CheckResult("hit_rate_kept", 0.1, 0.2, "warn", False, "hit rate 0.1 is less than half of what was promised")
ALERT = Alert("MonitorFlow", "report", "1 check result failed", "MonitorFlow/7/report", (BAD,))


class Webhook(HTTPServer):
    """Keeps what it is sent, and answers with `status`."""

    status = 200

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.seen: list[dict] = []


class Handler(BaseHTTPRequestHandler):
    server: Webhook

    def do_POST(self) -> None:
        self.server.seen.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(self.server.status)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    server = Webhook()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def to(webhook: Webhook) -> AlertSettings:
    return AlertSettings(f"http://127.0.0.1:{webhook.server_port}/", 24, 5)


def test_a_webhook_gets_the_reason_the_failed_results_and_the_run(webhook: Webhook, store: Store, tmp_path: Path) -> None:
    assert send(ALERT, store, to(webhook), tmp_path, NOW)
    (seen,) = webhook.seen
    assert (seen["flow"], seen["step"], seen["reason"], seen["run"]) == ("MonitorFlow", "report", ALERT.reason, ALERT.run)
    assert seen["results"][0]["message"] == BAD.message
    assert BAD.message in seen["text"]


def test_the_same_again_is_folded_and_told_with_the_next(webhook: Webhook, store: Store, tmp_path: Path) -> None:
    hours = [0, 1, 23, 25, 26]
    told = [send(ALERT, store, to(webhook), tmp_path, NOW + timedelta(hours=hour)) for hour in hours]
    assert told == [True, False, False, True, False]
    assert [seen["folded"] for seen in webhook.seen] == [0, 2]
    assert "2 more like this" in webhook.seen[1]["text"]


def test_another_reason_is_another_alert(webhook: Webhook, store: Store, tmp_path: Path) -> None:
    other = Alert("MonitorFlow", "report", "2 check results failed", "MonitorFlow/8/report")
    assert all(send(alert, store, to(webhook), tmp_path, NOW) for alert in (ALERT, other))


def test_a_webhook_that_fails_raises_nothing_and_the_next_is_told(webhook: Webhook, store: Store, tmp_path: Path) -> None:
    webhook.status = 500
    assert not send(ALERT, store, to(webhook), tmp_path, NOW)
    webhook.status = 200
    assert send(ALERT, store, to(webhook), tmp_path, NOW + timedelta(minutes=1))
    assert webhook.seen[-1]["folded"] == 1


def test_nobody_listening_raises_nothing(store: Store, tmp_path: Path) -> None:
    assert not send(ALERT, store, AlertSettings("http://127.0.0.1:9/", 24, 1), tmp_path, NOW)


def test_a_store_that_does_not_answer_stops_no_alert(
    webhook: Webhook, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: object) -> None:
        raise OSError("no such disk")

    monkeypatch.setattr(store, "update", broken)
    assert send(ALERT, store, to(webhook), tmp_path, NOW)


def test_a_file_gets_a_line_and_standard_output_the_text(store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert send(ALERT, None, AlertSettings("alerts/log.jsonl", 24, 5), tmp_path)
    assert json.loads((tmp_path / "alerts" / "log.jsonl").read_text())["reason"] == ALERT.reason
    assert send(ALERT, None, AlertSettings("stdout", 24, 5), tmp_path)
    assert ALERT.run in capsys.readouterr().out


def test_the_webhook_of_a_variable_replaces_the_destination() -> None:
    alerts = AlertSettings("stdout", 24, 5, to_env="ALERTS_URL")
    assert alerts.with_variable({"ALERTS_URL": " https://example.org/secret\n"}).to == "https://example.org/secret"
    assert AlertSettings("stdout", 24, 5).with_variable({"ALERTS_URL": "https://example.org"}).to == "stdout"


@pytest.mark.parametrize(
    ("environment", "fault"), [({}, "is not set"), ({"ALERTS_URL": "http://example.org/secret"}, "does not hold an https")]
)
def test_a_variable_without_a_webhook_is_refused_and_not_shown(environment: dict[str, str], fault: str) -> None:
    with pytest.raises(RecsysError, match=rf"alerts\.to_env is ALERTS_URL, which {fault}") as refused:
        AlertSettings("stdout", 24, 5, to_env="ALERTS_URL").with_variable(environment)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("to", ["", "http://example.org/hook"])
def test_alerts_do_not_go_nowhere_nor_in_the_clear(to: str) -> None:
    with pytest.raises(RecsysError, match=r"alerts\.to"):
        build(AlertSettings, {"to": to, "repeat_hours": 24, "timeout_seconds": 5}, "alerts")


@pytest.mark.slow
def test_a_step_that_fails_over_all_its_retries_alerts_once(tmp_path: Path) -> None:
    fork = Fork(tmp_path)
    fork.set("alerts", "to", "data/alerts.jsonl")
    flow = [sys.executable, str(fork.root / "flows" / "recommend_flow.py"), "--no-pylint", "--with", "retry:times=2"]
    places = {"METAFLOW_DATASTORE_SYSROOT_LOCAL": str(tmp_path / "data" / "metaflow"), "METAFLOW_USER": "tester", "UNATTENDED": "1"}
    ran = subprocess.run([*flow, "run"], env=os.environ | places, capture_output=True, text=True, cwd=fork.root)
    assert ran.returncode != 0
    assert (ran.stdout + ran.stderr).count("Task is starting") == 3
    (line,) = (fork.root / "data" / "alerts.jsonl").read_text().splitlines()
    assert "nothing is live" in json.loads(line)["reason"]
