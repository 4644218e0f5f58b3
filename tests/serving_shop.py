"""A store with releases to serve, and the service over it."""

import json
import shutil
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import uvicorn

from conftest import PASSED, wait
from recsys.serving.app import Service
from recsys.settings.run import Settings
from recsys.store.snapshots import Store, open_store
from recsys.validation.check_input import CheckInput
from recsys.validation_report import ValidationReport

URL = "http://localhost"  # serve.allowed_hosts has it


def publish_copy(
    store: Store, inputs: CheckInput, id: str, live: bool = True, hurt: str = "", change: Callable[[Path], object] = str
) -> None:
    """A copy of a release under another id, with a validation report. `change`: what is done to its folder before it is committed;
    `hurt`: a file that is overwritten afterwards."""
    parents = inputs.release.manifest.parents
    with store.draft() as folder:
        shutil.copytree(inputs.release.path, folder, dirs_exist_ok=True)
        for other in ("manifest.json", "validation_report.json"):
            (folder / other).unlink(missing_ok=True)
        change(folder)
        manifest = store.commit(folder, "release", inputs.release.manifest.made_from, parents, id)
    report = ValidationReport(parents["model"], parents["features"], manifest.content, {"baseline": [PASSED]}, {"lists": [PASSED]})
    store.attach_report(id, report.to_json())
    if hurt:
        store.backend.write(f"releases/{id}/{hurt}", b"hurt")
    if live:
        store.point(id, store.current())


@pytest.fixture
def shop(tmp_path: Path, inputs: CheckInput) -> Store:
    """A store whose live release is called "first"."""
    store = open_store(str(tmp_path), "shop")
    publish_copy(store, inputs, "first", change=add_oracle)
    return store


def add_oracle(folder: Path) -> None:
    """Gives the example users best possible lists, as a simulated source does: the first ten items that may be listed."""
    items = pq.read_table(folder / "items.parquet").to_pylist()
    best = [item["item_id"] for item in items if item["is_available"]][:10]
    examples = json.loads((folder / "examples.json").read_text())
    for user in examples["users"]:
        user["oracle"] = dict.fromkeys(("all_items", "new_items"), best)
    (folder / "examples.json").write_text(json.dumps(examples))


def serving(settings: Settings, **source_settings: Any) -> Settings:
    """Settings of a service that looks at nothing by itself, unless told to."""
    return replace(settings, serve=replace(settings.serve, **{"poll_seconds": 1000.0, "flush_seconds": 1000.0} | source_settings))


class Server:
    """The service in a thread; can be stopped and started again on its port."""

    def __init__(self, store: Store, settings: Settings, *keys: str):
        self.store, self.settings, self.keys, self.port = store, settings, keys, 0
        self.start()

    def start(self) -> None:
        self.service = Service(self.store, self.settings)
        app = self.service.app(self.keys)
        self.server = uvicorn.Server(uvicorn.Config(app, port=self.port, log_level="error"))
        self.thread = threading.Thread(target=self.server.run, daemon=True)
        self.thread.start()
        wait(lambda: self.server.started)
        self.port = self.server.servers[0].sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/"

    def stop(self) -> None:
        self.server.should_exit = True
        self.thread.join()
