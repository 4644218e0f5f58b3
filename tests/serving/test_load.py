"""Under load: releases come, go and are corrupt, and no request notices."""

import http.client
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from conftest import make_settings, wait
from recsys.publishing.lifecycle import rollback
from recsys.store.snapshots import Store, open_store
from recsys.validation.check_input import CheckInput
from serving_shop import Server, publish_copy, serving

pytestmark = pytest.mark.slow
CLIENTS, PUBLISHED, CORRUPT, ROLLED_BACK = 16, 20, 3, 3


def mark(id: str) -> Callable[[Path], None]:
    """Writes a release's id into every title, so that each item tells where it comes from."""

    def change(folder: Path) -> None:
        items = pq.read_table(folder / "items.parquet")
        titles = pa.array([id] * items.num_rows)
        pq.write_table(items.set_column(items.schema.get_field_index("title"), "title", titles), folder / "items.parquet")

    return change


@dataclass
class Client:
    """Asks for one user's list again and again over one connection that it keeps."""

    port: int
    user: str
    stop: threading.Event
    answers: int = 0
    releases: set[str] = field(default_factory=set)
    wrong: list[str] = field(default_factory=list)

    def run(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        while not self.stop.is_set():
            try:
                connection.request("GET", f"/v1/users/{self.user}/recommendations?k=10")
                answer = connection.getresponse()
                self.look(answer.status, json.loads(answer.read()))
            except Exception as error:
                self.wrong.append(repr(error))
                connection.close()

    def look(self, status: int, told: dict) -> None:
        self.answers += 1
        titles = {item["title"] for item in told.get("items", [])}
        if status != 200 or titles != {told["release"]} or len(told["items"]) != 10:
            self.wrong.append(f"{status}: {told}")
        self.releases.add(told.get("release", ""))


@pytest.fixture
def busy(tmp_path: Path, inputs: CheckInput) -> Iterator[tuple[Store, Server, list[Client]]]:
    """A service over the release "r0", and clients that ask it until the test ends."""
    store, stop = open_store(str(tmp_path), "shop"), threading.Event()
    publish_copy(store, inputs, "r0", change=mark("r0"))
    server = Server(store, serving(make_settings(), poll_seconds=0.05, flush_seconds=0.5, max_lag_seconds=60.0))
    clients = [Client(server.port, str(user), stop) for user in inputs.state.user_ids[:CLIENTS]]
    threads = [threading.Thread(target=client.run) for client in clients]
    for thread in threads:
        thread.start()
    yield store, server, clients
    stop.set()
    for thread in threads:
        thread.join()
    server.stop()


def test_no_request_notices_publishes_corrupt_releases_and_rollbacks(
    busy: tuple[Store, Server, list[Client]], inputs: CheckInput
) -> None:
    store, server, clients = busy
    live = server.service.live

    def serves(id: str) -> bool:
        return live.current is not None and live.current.id == id

    for number in range(1, PUBLISHED + 1):
        publish_copy(store, inputs, f"r{number}", change=mark(f"r{number}"))
        wait(lambda number=number: serves(f"r{number}"))
        if number % 6 == 0:
            refusals = live.refusals
            publish_copy(store, inputs, f"corrupt{number}", hurt="lists.sqlite")
            wait(lambda refusals=refusals: live.refusals > refusals)
            assert serves(f"r{number}")
            store.point(f"r{number}", store.current())
    for back in range(ROLLED_BACK):
        rollback(store, ["lists"], f"r{back}")
        wait(lambda back=back: serves(f"r{back}"))
    assert [client.wrong for client in clients if client.wrong] == []
    assert live.refusals == CORRUPT
    assert live.loaded == 1 + PUBLISHED + ROLLED_BACK
    assert {f"r{number}" for number in range(PUBLISHED + 1)} == set.union(*(client.releases for client in clients))
    assert sum(client.answers for client in clients) > 1_000
