"""The service's routes. Answers are bytes put together from what was prepared when the release was opened."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path as File
from typing import Annotated, Any

from fastapi import FastAPI, HTTPException, Path, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, Response
from prometheus_client import CollectorRegistry, generate_latest
from pydantic import BaseModel, ValidationError

from recsys import RecsysError
from recsys.releases import Answer, Reader
from recsys.serving import schemas
from recsys.serving.impressions import Impressions
from recsys.serving.middleware import OPEN, Middleware
from recsys.serving.prometheus import ServiceMetrics
from recsys.serving.release_manager import Patience, ReleaseManager
from recsys.settings import Settings
from recsys.store import Store

log = logging.getLogger("recsys.serving")
PAGE = File(__file__).parent / "page.html"
MOST_BYTES = 64 * 1024  # of a body
UNTOLD: Any = dict.fromkeys(("tracing", "metrics", "logs", "operation_spans", "auto_configure"), False)  # no telemetry
TICK = 0.05
KEY = {"type": "apiKey", "in": "header", "name": "X-API-Key"}

Id = Annotated[str, Path(min_length=1, max_length=200)]
K = Annotated[int, Query(ge=1, le=schemas.MOST)]
Prefix = Annotated[str, Query(max_length=200)]


def refusals(*codes: int) -> dict[int | str, dict[str, Any]]:
    """What a route may answer instead, for the documentation."""
    return {code: {"model": schemas.Problem} for code in (401, 421, *codes)}


LISTED: dict[str, Any] = {
    "response_model": schemas.Recommendations,
    "responses": refusals(400, 404, 413, 503) | {422: {"model": schemas.Invalid}},
}


class Service:
    """Routes over the live release of a store. Ready once one is live; follows the pointers by itself, and stops gracefully."""

    def __init__(self, store: Store, settings: Settings):
        self.source_settings = settings.serve
        self.is_closed = not settings.dataset.max_age_days  # as monitoring takes it
        self.live = ReleaseManager(
            store, settings.rules.blocked, Patience(self.source_settings.canary_answers, self.source_settings.canary_failures)
        )
        self.impressions = Impressions(store) if self.source_settings.impressions else None
        self.registry = CollectorRegistry()
        self.lag = 0.0  # seconds by which this process is late
        self.meters = ServiceMetrics(self.registry, self.live, self.impressions)

    def app(self, keys: Collection[str] = ()) -> Middleware:
        about: dict[str, Any] = {"title": "reasonable-recs", "version": "1", "summary": "Lists of the live release"}
        app = FastAPI(**about, lifespan=self.lifespan, redoc_url=None, max_body_size=MOST_BYTES, telemetry=UNTOLD)
        asked: dict[str, Any] = {"openapi_extra": parameters(schemas.Asked, "user_id")}
        app.get("/v1/users/{user_id:path}/recommendations", **LISTED, **asked)(self.recommendations)
        app.post("/v1/sessions/recommendations", **LISTED)(self.session)
        app.get("/v1/items/{item_id:path}/similar", **LISTED)(self.similar)
        app.get("/v1/models", response_model=list[schemas.Model], responses=refusals(503))(self.models)
        app.get("/metrics", responses=refusals(), response_class=Response)(self.metrics)
        app.get("/healthz")(self.healthz)
        app.get("/readyz", responses={503: {"model": schemas.Problem}})(self.readyz)
        if self.source_settings.demo:
            app.get("/v1/users/{user_id:path}/history", response_model=schemas.UserProfile, responses=refusals(404, 503))(
                self.history
            )
            app.get("/v1/examples", response_model=list[schemas.Example], responses=refusals(503))(self.examples)
            app.get("/v1/users", response_model=list[str], responses=refusals(503))(self.users)
            app.get("/v1/releases", response_model=list[schemas.Release], responses=refusals(503))(self.releases)
            app.get("/", include_in_schema=False, response_class=HTMLResponse)(self.page)
        app.add_exception_handler(RequestValidationError, invalid)
        describe(app)
        return Middleware(
            app, self.source_settings.allowed_hosts, keys, self.registry, lambda: self.lag > self.source_settings.max_lag_seconds
        )

    @asynccontextmanager
    async def lifespan(self, app: FastAPI) -> AsyncIterator[None]:
        await asyncio.to_thread(attempt, self.live.refresh)
        tasks = [
            asyncio.create_task(self.measure()),
            asyncio.create_task(every(self.source_settings.poll_seconds, self.live.refresh)),
        ]
        if self.impressions:
            tasks.append(asyncio.create_task(every(self.source_settings.flush_seconds, self.impressions.flush)))
        yield
        for task in tasks:
            task.cancel()
        if self.impressions:
            self.impressions.flush()

    async def measure(self) -> None:
        """How long requests wait for their turn: what comes while that is too long is sent away."""
        while True:
            start = time.monotonic()
            await asyncio.sleep(TICK)
            self.lag = time.monotonic() - start - TICK

    async def recommendations(self, request: Request) -> Response:
        """The user's list: all items, or by `list_kind=new_items` those that are new to the user. Strangers get what is popular in
        their `segment`, or with everybody."""
        asked = read(request)

        def question(reader: Reader) -> Answer:
            return reader.recommend(asked.user_id, asked.k, asked.list_kind, asked.segment, asked.model)

        reader, answer = await self._other(asked.release, question) if asked.release else self._ask(asked.user_id, question)
        user = reader.user(asked.user_id) if asked.reasons else None
        seen = user.seen if user else []
        why = [reader.reason(item, answer, seen) for item in answer.items] if asked.reasons else []
        return self._respond(reader, answer, asked.user_id, why, asked.model, asked.shown)

    async def session(self, body: schemas.Session) -> Response:
        """What goes with the items that a visitor looks at now, together with the user's own list."""
        rows = self._reader().rows
        seen = [item for item in body.items if item in rows]
        if not seen:
            raise HTTPException(404, f"none of the {len(body.items)} items is known to the live release")

        def question(reader: Reader) -> Answer:
            return reader.session([reader.rows[item] for item in seen if item in reader.rows], body.k, body.user_id)

        return self._respond(*self._ask(body.user_id, question), body.user_id, shown=body.shown)

    async def similar(self, item_id: Id, k: K = 10) -> Response:
        """The items that most often have target events by the same users."""
        reader = self._reader()
        if item_id not in reader.rows:
            raise HTTPException(404, "no such item is released; ask for one of the live release")
        return self._respond(reader, reader.similar(reader.rows[item_id], k))

    async def models(self) -> list[schemas.Model]:
        """Whose lists are released: the winner's, and those beside it."""
        reader = self._reader()
        winner = reader.about["recommender"]
        shared = {"release": reader.id, "target": reader.about["target"]}
        return [schemas.Model(name=name, default=name == winner, **shared) for name in reader.models]

    async def history(self, user_id: Id) -> schemas.UserProfile:
        """What the release knows of a user. In the demo only."""
        reader = self._reader()
        user = reader.user(user_id)
        if user is None:
            raise HTTPException(404, "no such user in the live release; strangers get what is popular")
        ids = [reader.item_ids[item] for item in user.seen]
        seen = [schemas.SeenItem(days=days, **reader.item(id)) for id, days in zip(ids, user.days, strict=True)]
        return schemas.UserProfile(segment=user.segment, seen=seen)

    async def users(self, prefix: Prefix = "", limit: K = 20) -> list[str]:
        """Some users of the live release, to try. In the demo only."""
        return self._reader().users(prefix, limit)

    async def examples(self) -> list[dict[str, Any]]:
        """Users of the live release that differ, to try first. In the demo only."""
        return self._reader().examples

    async def releases(self) -> list[dict[str, Any]]:
        """Releases that were live, newest first. In the demo only."""
        return await asyncio.to_thread(self.live.history)

    async def metrics(self) -> Response:
        """For Prometheus."""
        return Response(generate_latest(self.registry), media_type="text/plain; version=0.0.4")

    async def healthz(self) -> dict[str, str]:
        """The process answers."""
        return {"status": "ok"}

    async def readyz(self) -> dict[str, str]:
        """A release is live here."""
        return {"release": self._reader().id}

    async def page(self) -> HTMLResponse:
        return HTMLResponse(PAGE.read_text())

    def _reader(self) -> Reader:
        if self.live.current is None:
            raise HTTPException(503, "no release is live yet; `make run` makes one")
        return self.live.current

    def _ask(self, user_id: str, question: Callable[[Reader], Answer]) -> tuple[Reader, Answer]:
        self._reader()
        try:
            return self.live.ask(user_id, question)
        except RecsysError:
            raise HTTPException(404, "no lists of such a model are released; /v1/models lists them") from None

    async def _other(self, release: str, question: Callable[[Reader], Answer]) -> tuple[Reader, Answer]:
        reader = await asyncio.to_thread(self.live.other, release) if self.source_settings.demo else None
        if reader is None:
            raise HTTPException(404, "no such release can be compared; /v1/releases lists those of the demo")
        try:
            return reader, question(reader)
        except RecsysError:
            raise HTTPException(404, "that release has no lists of such a model") from None

    def _respond(
        self,
        reader: Reader,
        answer: Answer,
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
        return Response(reader.write(answer, today, reasons, model), media_type="application/json")


async def every(seconds: float, work: Callable[[], None]) -> None:
    """Does some work again and again, in a thread."""
    while True:
        await asyncio.sleep(seconds)
        await asyncio.to_thread(attempt, work)


def attempt(work: Callable[[], None]) -> None:
    """Whatever keeps it from being done, what is live goes on: the store may be away for a while, or damaged."""
    try:
        work()
    except Exception as error:
        log.warning("the store cannot be followed, so what is live here goes on: %s", error)


def read(request: Request) -> schemas.Asked:
    """What is asked for, in one go: FastAPI reads one parameter after another, which takes as long as all the rest."""
    try:
        return schemas.Asked.model_validate(dict(request.query_params) | request.path_params)
    except ValidationError as error:
        raise RequestValidationError(error.errors()) from None


def parameters(model: type[BaseModel], path: str) -> dict[str, Any]:
    """Of a route that reads them itself, for its documentation."""
    fields = model.model_json_schema()["properties"]
    places = {name: "path" if name == path else "query" for name in fields}
    return {
        "parameters": [
            {"name": name, "in": places[name], "required": name == path, "schema": told} for name, told in fields.items()
        ]
    }


async def invalid(request: Any, error: Any) -> JSONResponse:
    """What is wrong with a request, without repeating it."""
    found = [{"loc": problem["loc"], "msg": problem["msg"], "type": problem["type"]} for problem in error.errors()]
    return JSONResponse({"detail": found}, 422)


def describe(app: FastAPI) -> None:
    """Tells the documentation which routes need a key."""
    described = app.openapi()
    described["components"]["securitySchemes"] = {"key": KEY}
    for path, methods in described["paths"].items():
        for operation in methods.values() if path not in OPEN else ():
            operation["security"] = [{"key": []}]
