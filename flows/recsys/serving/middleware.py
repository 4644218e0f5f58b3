"""Checks host names and API keys of every request, and counts and times the answers. Plain ASGI, because it runs on every
request."""

import functools
import hashlib
import hmac
import re
import time
from collections.abc import Awaitable, Callable, Collection, MutableMapping
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram
from starlette.responses import JSONResponse

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

OPEN = {"/", "/healthz", "/readyz", "/docs", "/openapi.json"}  # paths that need no key, because they show nothing of users
PROBES = {"/healthz", "/readyz", "/metrics"}  # paths for monitoring, which are answered for any host name and under any load
ANY_HOST, PORT = "*", re.compile(rb":\d*$")
OTHER_HOST = JSONResponse({"detail": "this host name is not allowed; add it to serve.allowed_hosts in config.toml"}, 421)
NO_KEY = JSONResponse({"detail": "this needs an API key: send it in the header X-API-Key"}, 401)
BUSY = JSONResponse({"detail": "too many requests are waiting; try again in a second"}, 503, {"Retry-After": "1"})
SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)


class Middleware:
    """Refuses requests to a host name that is not allowed, requests without a valid key, and all requests while too many wait.
    Counts and times answers by route, not by path, because paths contain ids.

    hosts: allowed host names, or `*` for any. keys: accepted API keys; without any, no key is needed. busy: whether too many
    requests wait. Host names are checked against DNS rebinding: a page of any site can point its own host name at this machine and
    read the answers in a browser here. Only the `Host` header distinguishes such requests.
    """

    def __init__(
        self,
        app: Any,
        hosts: Collection[str],
        keys: Collection[str],
        registry: CollectorRegistry,
        busy: Callable[[], bool],
    ):
        self.app, self.busy = app, busy
        self.hosts = {host.lower().encode() for host in hosts}
        self.any_host = ANY_HOST in hosts
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

        async def send_and_note(message: MutableMapping[str, Any]) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._choose_app(scope)(scope, receive, send_and_note)
        finally:
            route = getattr(scope.get("route"), "path_format", "none")
            self._count(route, status).inc()
            self._time(route).observe(time.perf_counter() - start)

    def _choose_app(self, scope: Scope) -> Any:
        """The application, or the response that refuses the request."""
        path = scope["path"]
        if path not in PROBES:
            if not self._is_host_allowed(scope):
                return OTHER_HOST
            if path not in OPEN and self.busy():
                return BUSY
        return self.app if path in OPEN or self._has_key(scope) else NO_KEY

    def _is_host_allowed(self, scope: Scope) -> bool:
        """Whether the request's host name is allowed, with any port."""
        host = next((value for name, value in scope["headers"] if name == b"host"), b"")
        return self.any_host or PORT.sub(b"", host).lower() in self.hosts

    def _has_key(self, scope: Scope) -> bool:
        """Whether no key is needed or the request has a valid one. All keys are compared, so that the time reveals nothing."""
        if not self.keys:
            return True
        sent = _hash(dict(scope["headers"]).get(b"x-api-key", b""))
        return sum(hmac.compare_digest(sent, key) for key in self.keys) > 0


def _hash(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()
