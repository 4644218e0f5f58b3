"""Measures the cost of a request, for `make bench-serve`.

Compares the service, with keys, metrics, limits and impressions, with a minimal FastAPI and a minimal uvicorn application, in turns
on the same machine; the service answers with users' lists, and to live sessions. Also measures the lists of a large release: time
to write, size, and time to look up a user.
"""

import asyncio
import json
import multiprocessing
import socket
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import astuple, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any
from urllib.parse import quote

import numpy as np
import uvicorn
from fastapi import FastAPI
from rich.console import Console
from rich.table import Table

from cli.variables import Place
from recsys import RecsysError
from recsys.recommenders.base import Lists
from recsys.releases.files import read_items, read_lists
from recsys.releases.list_files import CHUNK, ListRow, connect, pack, unpack, write_rows
from recsys.serving.app import Service
from recsys.serving.impressions import Impressions
from recsys.store.snapshots import open_store

CLIENTS, REQUESTS, ROUNDS = 16, 8_000, 3
SESSION = 10  # items of a session
USERS, ITEMS, LENGTH = 1_000_000, 20_000, 100
KEY = "a key for the benchmark only"
App = tuple[Any, Callable[[], None]]  # an ASGI application, and a function that finishes its deferred work
console = Console(highlight=False)


@dataclass(frozen=True)
class Load:
    cpu_us: float  # of the server, per request
    rate: float  # requests per second
    p50_ms: float
    p99_ms: float


async def uvicorn_hello(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "http":
        headers = [(b"content-type", b"application/json"), (b"content-length", b"17")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b'{"hello":"world"}'})


def nothing() -> None:
    """The hello applications have no deferred work."""


def fastapi_hello(place: Place, scratch: str) -> App:
    app = FastAPI()

    @app.get("/{user_id}")
    async def hello(user_id: str) -> dict[str, str]:
        return {"hello": "world"}

    return app, nothing


def ours(place: Place, scratch: str) -> App:
    chosen, store = place.open()
    chosen = replace(chosen, serve=replace(chosen.serve, max_lag_seconds=30.0))  # a busy machine refuses no request of the bench
    service = Service(store, chosen)
    service.impressions = Impressions(open_store(scratch, chosen.name))  # a temporary store, because nobody sees these lists
    return service.app([KEY]), service.impressions.flush


APPS: dict[str, Callable[[Place, str], App]] = {
    "uvicorn hello": lambda place, scratch: (uvicorn_hello, nothing),
    "FastAPI hello": fastapi_hello,
    "lists": ours,
    "sessions": ours,
}


def serve(name: str, place: Place, listener: socket.socket, scratch: str) -> None:
    """Runs one server. The path /cpu finishes its deferred work and answers with its CPU seconds. scratch: folder for its files."""
    app, finish = APPS[name](place, scratch)

    async def measured(scope: Any, receive: Any, send: Any) -> None:
        if scope.get("path") == "/cpu":
            finish()
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": str(time.process_time()).encode()})
        else:
            await app(scope, receive, send)

    config = uvicorn.Config(measured, log_level="error", access_log=False)
    uvicorn.Server(config).run([listener])


def load(name: str, place: Place, calls: list[bytes]) -> Load:
    """Starts a server, warms it up, and measures these HTTP requests by CLIENTS clients that keep their connections."""
    with socket.socket() as listener, tempfile.TemporaryDirectory() as scratch:
        listener.bind(("127.0.0.1", 0))
        listener.listen(128)
        port = listener.getsockname()[1]
        process = multiprocessing.get_context("spawn").Process(target=serve, args=(name, place, listener, scratch), daemon=True)
        process.start()
        try:
            asyncio.run(put(port, calls[: CLIENTS * 20]))
            before, start = spent(port), time.perf_counter()
            seconds = asyncio.run(put(port, calls))
            wall, cpu = time.perf_counter() - start, spent(port) - before
        finally:
            process.terminate()
            process.join()
    p50, p99 = np.percentile(seconds, [50, 99]) * 1e3
    return Load(cpu / len(calls) * 1e6, len(calls) / wall, p50, p99)


def spent(port: int) -> float:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/cpu", timeout=30) as answer:
        return float(answer.read())


async def put(port: int, calls: list[bytes]) -> list[float]:
    """Sends these requests and returns the seconds of each."""
    async with asyncio.timeout(120):  # the socket accepts connections even if the server has died
        parts = await asyncio.gather(*(client(port, calls[number::CLIENTS]) for number in range(CLIENTS)))
    return [seconds for part in parts for seconds in part]


async def client(port: int, calls: list[bytes]) -> list[float]:
    for _ in range(100):
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            break
        except OSError:
            await asyncio.sleep(0.1)
    found = []
    for request in calls:
        start = time.perf_counter()
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200"):
            raise RecsysError(f"the server answered {head[:60]!r} to {request[:60]!r}; correct that before measuring")
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        await reader.readexactly(length)
        found.append(time.perf_counter() - start)
    writer.close()
    return found


def calls(place: Place, count: int) -> dict[str, list[bytes]]:
    """Requests to each server: for the service, lists and answers to sessions of random users and items of the live release."""
    chosen, kept, live = place.open_release()
    release, draw = kept.load("release", live), np.random.default_rng(chosen.seed)
    users = draw.choice(np.concatenate([users for users, _ in read_lists(release, "all_items")]), count).tolist()
    (items,) = read_items(release, "item_id")
    seen = draw.choice(items, (count, SESSION)).tolist()
    bodies = [json.dumps({"items": ids, "user_id": user}) for ids, user in zip(seen, users, strict=True)]
    return {
        "uvicorn hello": [call("GET /hello")] * count,
        "FastAPI hello": [call("GET /hello")] * count,
        "lists": [call(f"GET /v1/users/{quote(user, safe='')}/recommendations?k=10") for user in users],
        "sessions": [call("POST /v1/sessions/recommendations", body) for body in bodies],
    }


def call(line: str, body: str = "") -> bytes:
    """An HTTP request. line: method and path."""
    told = f"Content-Type: application/json\r\nContent-Length: {len(body.encode())}\r\n" if body else ""
    return f"{line} HTTP/1.1\r\nHost: localhost\r\nX-API-Key: {KEY}\r\n{told}\r\n{body}".encode()


def requests(place: Place) -> dict[str, Load]:
    """Measures all servers in turns; returns the median of the rounds by server."""
    to_send = calls(place, REQUESTS)
    rounds: dict[str, list[Load]] = {name: [] for name in APPS}
    for _ in range(ROUNDS):
        for name in APPS:
            rounds[name].append(load(name, place, to_send[name]))
    return {name: Load(*(median(values) for values in zip(*map(astuple, loads), strict=True))) for name, loads in rounds.items()}


def look_ups() -> dict[str, float]:
    """Measures the lists of a large release: CPU seconds to write, size, and microseconds to look up a user."""
    with tempfile.TemporaryDirectory() as folder:
        path, start = Path(folder) / "lists.sqlite", time.process_time()
        write_rows(path, random_lists())
        built, seconds = time.process_time() - start, []
        with closing(connect(path)) as connection:
            for number in np.random.default_rng(0).integers(USERS, size=20_000).tolist():
                start = time.perf_counter()
                unpack(connection.execute("select all_items from lists where user_id = ?", (f"u{number:07}",)).fetchone()[0])
                seconds.append(time.perf_counter() - start)
        p50, p99 = np.percentile(seconds, [50, 99]) * 1e6
        return {"CPU s to write": built, "GB": path.stat().st_size / 1e9, "look-up p50 us": p50, "look-up p99 us": p99}


def random_lists() -> Iterator[ListRow]:
    """USERS rows with random packed lists of both kinds."""
    rng = np.random.default_rng(0)
    for first in range(0, USERS, CHUNK):
        items, scores = rng.integers(ITEMS, size=(CHUNK, LENGTH), dtype=np.int32), rng.random((CHUNK, LENGTH), np.float32)
        lists = Lists(items, scores)
        yield from zip((f"u{number:07}" for number in range(first, first + CHUNK)), pack(lists), pack(lists), strict=True)


def bench_serve(place: Place) -> None:
    """Measures the cost of a list and of an answer to a session, compared with minimal FastAPI and uvicorn applications.

    Example: make bench-serve DATASET=shop
    """
    loads = requests(place)
    table = Table(
        "", "CPU us a request", "of FastAPI hello", "requests a second", "p50 ms", "p99 ms", box=None, padding=(0, 2, 0, 0)
    )
    for name, load in loads.items():
        ratio = f"{load.cpu_us / loads['FastAPI hello'].cpu_us:.2f}"
        table.add_row(name, f"{load.cpu_us:.0f}", ratio, f"{load.rate:,.0f}", f"{load.p50_ms:.2f}", f"{load.p99_ms:.2f}")
    console.print(f"{CLIENTS} clients that keep their connections, median of {ROUNDS} rounds of {REQUESTS:,} requests", table)
    results = ", ".join(f"{name} {value:.3g}" for name, value in look_ups().items())
    console.print(f"lists of {USERS:,} users, {LENGTH} items each, both kinds of list: {results}")


if __name__ == "__main__":
    from cli.app import main

    main({"": (bench_serve,)})
