"""What stands before every answer: keys and counts. Plain ASGI, for it costs every request."""

import functools
import hashlib
import hmac
import time
from collections.abc import Awaitable, Callable, Collection, MutableMapping
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram
from starlette.responses import JSONResponse

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

OPEN = {"/", "/healthz", "/readyz", "/docs", "/openapi.json"}  # what needs no key; all that tells of a user does
PROBES = {"/healthz", "/readyz", "/metrics"}  # answered under any load
NO_KEY = JSONResponse({"detail": "this needs a key: send it as the header X-API-Key"}, 401)
BUSY = JSONResponse({"detail": "too many requests wait; try again in a second"}, 503, {"Retry-After": "1"})
SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)


class Guard:
    """Refuses who has no key, and sends requests away while too many wait; counts and times every answer by its route, never by its
    path: paths hold ids."""

    def __init__(self, app: Any, keys: Collection[str], registry: CollectorRegistry, busy: Callable[[], bool]):
        self.app, self.busy = app, busy
        self.keys = [_hash(key.encode()) for key in keys]
        self._requests = Counter("recs_requests", "Answers by route and status", ["route", "status"], registry=registry)
        self._seconds = Histogram("recs_request_seconds", "Seconds to answer", ["route"], registry=registry, buckets=SECONDS)
        self._count = functools.cache(lambda route, status: self._requests.labels(route, status))
        self._time = functools.cache(self._seconds.labels)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        start, status = time.perf_counter(), 500

        async def watched(message: MutableMapping[str, Any]) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._answers(scope)(scope, receive, watched)
        finally:
            route = getattr(scope.get("route"), "path_format", "none")
            self._count(route, status).inc()
            self._time(route).observe(time.perf_counter() - start)

    def _answers(self, scope: Scope) -> Any:
        path = scope["path"]
        if path not in OPEN | PROBES and self.busy():
            return BUSY
        return self.app if path in OPEN or self._admits(scope) else NO_KEY

    def _admits(self, scope: Scope) -> bool:
        """Whether no key is needed, or the one sent is known. All hashes are compared, so the time taken tells nothing."""
        if not self.keys:
            return True
        sent = _hash(dict(scope["headers"]).get(b"x-api-key", b""))
        return sum(hmac.compare_digest(sent, key) for key in self.keys) > 0


def _hash(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()
