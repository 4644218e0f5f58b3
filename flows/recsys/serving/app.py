"""The routes of the service. Answers are put together from JSON that was prepared when the release was opened."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path as File
from typing import Annotated, Any, TypeVar

from fastapi import FastAPI, HTTPException, Path, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, Response
from prometheus_client import CollectorRegistry, generate_latest
from pydantic import BaseModel, ValidationError

from recsys import RecsysError
from recsys.releases import NO_FILTER, Answer, Filter, Reader
from recsys.serving import schemas
from recsys.serving.impressions import Impressions
from recsys.serving.middleware import OPEN, Middleware
from recsys.serving.prometheus import ServiceMetrics
from recsys.serving.release_manager import CanaryLimits, ReleaseManager
from recsys.settings import Settings
from recsys.store import Store

log = logging.getLogger("recsys.serving")
PAGE = File(__file__).parent / "page.html"
MAX_BODY = 64 * 1024  # bytes of a request's body
NO_TELEMETRY: Any = dict.fromkeys(("tracing", "metrics", "logs", "operation_spans", "auto_configure"), False)
TICK = 0.05  # seconds between measurements of the lag
KEY = {"type": "apiKey", "in": "header", "name": "X-API-Key"}

Id = Annotated[str, Path(min_length=1, max_length=200)]
K = Annotated[int, Query(ge=1, le=schemas.MAX_K)]
Prefix = Annotated[str, Query(max_length=200)]
Asked = TypeVar("Asked", schemas.ListRequest, schemas.SimilarRequest)
REPEATED = ("exclude", "category", "seen")  # parameters of a query that may have several values


def refusals(*codes: int) -> dict[int | str, dict[str, Any]]:
    """The error responses of a route, for the OpenAPI document."""
    return {code: {"model": schemas.Problem} for code in (401, 421, *codes)}


LISTED: dict[str, Any] = {
    "response_model": schemas.Recommendations,
    "responses": refusals(400, 404, 413, 503) | {422: {"model": schemas.Invalid}},
}


class Service:
    """The routes, answered from the live release of a store. The service is ready once a release is live, and takes up new releases
    by itself."""

    def __init__(self, store: Store, settings: Settings):
        self.settings = settings.serve
        self.is_closed = not settings.dataset.max_age_days  # a closed history: the age of answers is 0
        limits = CanaryLimits(self.settings.canary_answers, self.settings.canary_failures)
        self.live = ReleaseManager(store, settings.rules.blocked, limits)
        self.impressions = Impressions(store) if self.settings.impressions else None
        self.registry = CollectorRegistry()
        self.lag = 0.0  # seconds that requests wait before they are handled
        self.meters = ServiceMetrics(self.registry, self.live, self.impressions)

    def app(self, keys: Collection[str] = ()) -> Middleware:
        """The ASGI application. keys: the API keys that are accepted; without any, no key is needed."""
        about: dict[str, Any] = {"title": "reasonable-recs", "version": "1", "summary": "Lists of the live release"}
        app = FastAPI(**about, lifespan=self.lifespan, redoc_url=None, max_body_size=MAX_BODY, telemetry=NO_TELEMETRY)
        app.get("/v1/users/{user_id:path}/recommendations", **LISTED, **parameters(schemas.ListRequest, "user_id"))(
            self.recommendations
        )
        app.post("/v1/sessions/recommendations", **LISTED)(self.session)
        app.get("/v1/items/{item_id:path}/similar", **LISTED, **parameters(schemas.SimilarRequest, "item_id"))(self.similar)
        app.get("/v1/models", response_model=list[schemas.Model], responses=refusals(503))(self.models)
        app.get("/metrics", responses=refusals(), response_class=Response)(self.metrics)
        app.get("/healthz")(self.healthz)
        app.get("/readyz", responses={503: {"model": schemas.Problem}})(self.readyz)
        if self.settings.demo:
            app.get("/v1/users/{user_id:path}/history", response_model=schemas.UserProfile, responses=refusals(404, 503))(
                self.history
            )
            app.get("/v1/examples", response_model=list[schemas.Example], responses=refusals(503))(self.examples)
            app.get("/v1/users", response_model=list[str], responses=refusals(503))(self.users)
            app.get("/v1/releases", response_model=list[schemas.Release], responses=refusals(503))(self.releases)
            app.get("/", include_in_schema=False, response_class=HTMLResponse)(self.page)
        app.add_exception_handler(RequestValidationError, invalid)
        describe(app)
        return Middleware(app, self.settings.allowed_hosts, keys, self.registry, lambda: self.lag > self.settings.max_lag_seconds)

    @asynccontextmanager
    async def lifespan(self, app: FastAPI) -> AsyncIterator[None]:
        await asyncio.to_thread(attempt, self.live.refresh)
        tasks = [
            asyncio.create_task(self.measure()),
            asyncio.create_task(every(self.settings.poll_seconds, self.live.refresh)),
        ]
        if self.impressions:
            tasks.append(asyncio.create_task(every(self.settings.flush_seconds, self.impressions.flush)))
        yield
        for task in tasks:
            task.cancel()
        if self.impressions:
            self.impressions.flush()

    async def measure(self) -> None:
        """Measures how long requests wait. While that is too long, the middleware refuses new ones."""
        while True:
            start = time.monotonic()
            await asyncio.sleep(TICK)
            self.lag = time.monotonic() - start - TICK

    async def recommendations(self, request: Request) -> Response:
        """The user's list. `list_kind=new_items` lists only items that are new to the user. Unknown users get popular items of
        their `segment`, or of all users."""
        query = read(request, schemas.ListRequest)

        def ask(reader: Reader) -> Answer:
            chosen = query.user_id, query.k, query.list_kind, query.segment, query.model
            return reader.recommend(*chosen, filtered(reader, query), rows(reader, query.seen))

        is_filtered = bool(query.exclude or query.category)
        reader, answer = await self._ask_other(query.release, ask) if query.release else self._ask(query.user_id, ask, is_filtered)
        reasons = []
        if query.reasons:
            user = reader.user(query.user_id)
            seen = [*reversed(rows(reader, query.seen)), *(user.seen if user else [])]
            reasons = [reader.reason(item, answer, seen) for item in answer.items]
        return self._respond(reader, answer, query.category, query.user_id, reasons, query.model, query.shown)

    async def session(self, body: schemas.Session) -> Response:
        """Items similar to those that a visitor looks at now, combined with the user's own list."""
        if not rows(self._reader(), body.items):
            raise HTTPException(404, f"none of the {len(body.items)} items is in the live release")

        def ask(reader: Reader) -> Answer:
            return reader.session(rows(reader, body.items), body.k, body.user_id, filtered(reader, body))

        reader, answer = self._ask(body.user_id, ask, bool(body.exclude or body.category))
        return self._respond(reader, answer, body.category, body.user_id, shown=body.shown)

    async def similar(self, request: Request) -> Response:
        """Items that are similar to an item, by target events of the same users."""
        query, reader = read(request, schemas.SimilarRequest), self._reader()
        if query.item_id not in reader.rows:
            raise HTTPException(404, "this item is not in the live release; ask for one that is")
        answer = reader.similar(reader.rows[query.item_id], query.k, filtered(reader, query))
        return self._respond(reader, answer, query.category)

    async def models(self) -> list[schemas.Model]:
        """The recommenders whose lists are in the live release; the default is the winner."""
        reader = self._reader()
        winner = reader.about["recommender"]
        shared = {"release": reader.id, "target": reader.about["target"]}
        return [schemas.Model(name=name, default=name == winner, **shared) for name in reader.models]

    async def history(self, user_id: Id) -> schemas.UserProfile:
        """Segment and last target events of a user. In the demo only."""
        reader = self._reader()
        user = reader.user(user_id)
        if user is None:
            raise HTTPException(404, "this user is not in the live release, so has no history; unknown users get popular items")
        ids = [reader.item_ids[item] for item in user.seen]
        seen = [schemas.SeenItem(days=days, **reader.item(id)) for id, days in zip(ids, user.days, strict=True)]
        return schemas.UserProfile(segment=user.segment, seen=seen)

    async def users(self, prefix: Prefix = "", limit: K = 20) -> list[str]:
        """Ids of users of the live release that start with `prefix`. In the demo only."""
        return self._reader().users(prefix, limit)

    async def examples(self) -> list[dict[str, Any]]:
        """Different example users of the live release. In the demo only."""
        return self._reader().examples

    async def releases(self) -> list[dict[str, Any]]:
        """Releases that were live, newest first. In the demo only."""
        return await asyncio.to_thread(self.live.history)

    async def metrics(self) -> Response:
        """Metrics in the format of Prometheus."""
        return Response(generate_latest(self.registry), media_type="text/plain; version=0.0.4")

    async def healthz(self) -> dict[str, str]:
        """Answers if the process is alive."""
        return {"status": "ok"}

    async def readyz(self) -> dict[str, str]:
        """Answers with the live release, or 503 if there is none."""
        return {"release": self._reader().id}

    async def page(self) -> HTMLResponse:
        return HTMLResponse(PAGE.read_text())

    def _reader(self) -> Reader:
        if self.live.current is None:
            raise HTTPException(503, "no release is live yet; `make run` makes one")
        return self.live.current

    def _ask(self, user_id: str, ask: Callable[[Reader], Answer], is_filtered: bool) -> tuple[Reader, Answer]:
        self._reader()
        try:
            return self.live.ask(user_id, ask, is_filtered)
        except RecsysError:
            raise HTTPException(404, "the live release has no lists of this model; /v1/models names those it has") from None

    async def _ask_other(self, release: str, ask: Callable[[Reader], Answer]) -> tuple[Reader, Answer]:
        reader = await asyncio.to_thread(self.live.other, release) if self.settings.demo else None
        if reader is None:
            raise HTTPException(404, "this release cannot be compared; /v1/releases lists those that can, in the demo only")
        try:
            return reader, ask(reader)
        except RecsysError:
            raise HTTPException(404, "this release has no lists of this model") from None

    def _respond(
        self,
        reader: Reader,
        answer: Answer,
        categories: Sequence[str],
        user_id: str = "",
        reasons: Sequence[tuple[str, int]] = (),
        model: str = "",
        shown: bool = True,
    ) -> Response:
        now = datetime.now(UTC)
        self.meters.count(reader, answer)
        if self.impressions and shown and user_id and answer.items:
            self.impressions.add(now, user_id, reader, model or reader.about["recommender"], answer)
        today = reader.as_of if self.is_closed else now.date()
        written = reader.write(answer, today, reasons, model, reader.unknown(categories))
        return Response(written, media_type="application/json")


async def every(seconds: float, work: Callable[[], None]) -> None:
    """Runs `work` in a thread every few seconds, forever."""
    while True:
        await asyncio.sleep(seconds)
        await asyncio.to_thread(attempt, work)


def attempt(work: Callable[[], None]) -> None:
    """Runs `work`. An error, such as an unreachable or damaged store, is logged, and the service continues with the live
    release."""
    try:
        work()
    except Exception as error:
        log.warning("the store cannot be read, so the service continues with its present release: %s", error)


def rows(reader: Reader, ids: Sequence[str]) -> list[int]:
    """Rows of those items that are in a release."""
    return [reader.rows[id] for id in ids if id in reader.rows]


def filtered(reader: Reader, query: schemas.Filtered) -> Filter:
    """The filter that a request asks for."""
    return reader.filter(query.exclude, query.category) if query.exclude or query.category else NO_FILTER


def read(request: Request, model: type[Asked]) -> Asked:
    """Reads all parameters of a request at once. FastAPI reads one after another, which takes as long as all the rest."""
    query = request.query_params
    values: dict[str, Any] = dict(query)
    values |= {name: query.getlist(name) for name in REPEATED if name in values}
    try:
        return model.model_validate(values | request.path_params)
    except ValidationError as error:
        raise RequestValidationError(error.errors()) from None


def parameters(model: type[BaseModel], path: str) -> dict[str, Any]:
    """The OpenAPI parameters of a route that reads them itself. path: the field that is in the path; all others are in the
    query."""
    return {
        "openapi_extra": {
            "parameters": [
                {"name": name, "in": "path" if name == path else "query", "required": name == path, "schema": schema}
                for name, schema in model.model_json_schema()["properties"].items()
            ]
        }
    }


async def invalid(request: Any, error: Any) -> JSONResponse:
    """The response to an invalid request. It leaves out the values that were sent."""
    problems = [{"loc": problem["loc"], "msg": problem["msg"], "type": problem["type"]} for problem in error.errors()]
    return JSONResponse({"detail": problems}, 422)


def describe(app: FastAPI) -> None:
    """Adds to the OpenAPI document which routes need a key."""
    described = app.openapi()
    described["components"]["securitySchemes"] = {"key": KEY}
    for path, methods in described["paths"].items():
        for operation in methods.values() if path not in OPEN else ():
            operation["security"] = [{"key": []}]
