"""The server of the page and its API: what `skyfuse worker web` runs."""

import asyncio
import contextlib
import logging
import signal
import time
from collections.abc import AsyncIterator, Sequence
from functools import cache, partial
from typing import Any, Final

import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from prometheus_client import generate_latest
from pydantic.json_schema import models_json_schema
from pydantic_core import to_json
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from agents.away import Away, end_within
from agents.rules_file import RulesSource
from model.bundle.bundle import Bundle
from schemas.times import in_ms
from settings.sections import InfluxSettings, Settings, WebSettings
from sources.annotating import send_annotation
from sources.gateway.keys import KeyRing
from sources.gateway.station_pages import StationPages
from sources.stations.registry import StationRegistry
from streams import metrics
from streams.admin import client_arguments
from streams.to_end import read_topic
from streams.topics import NETWORK_STATE
from streams.version import version
from web import pages
from web.access import Access
from web.answers import Ready, problem, send
from web.api.asked import refusal
from web.api.pictures import HEAT_HEADERS
from web.api.router import DOCUMENTS, router
from web.composing import PREFIX
from web.errors import RequestProblem
from web.examples import EXAMPLES
from web.follow import Follower
from web.history import StoreHistory
from web.influx_history import InfluxHistory
from web.live import LiveState
from web.neighbours import Neighbours
from web.parts import Parts, PendingMemo, StreamCounter
from web.pictures import CameraPictures
from web.workers import Workers

log = logging.getLogger(__name__)

_FORMAT: Final = "[%(asctime)s] [%(process)d] [%(levelname)s] %(message)s"
#: Seconds that open streams have to end in.
_ENDS_S: Final = 2
_SCHEMAS: Final = "#/components/schemas/"
#: Headers of every answer.
_ALWAYS: Final = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cross-Origin-Opener-Policy": "same-origin",
}
#: Letters of a path that the log has.
_PATH: Final = 200


def parts_of(settings: Settings) -> Parts:
    """What a server of these settings answers from. Raises KeyFileError, RulesError."""
    live = LiveState(settings.kafka.partitions)
    shown, kafka = settings.web, settings.kafka
    pictures = None
    if shown.pictures:
        pictures = CameraPictures(in_ms(shown.pictures_for), cache(lambda: Bundle.load(settings.bundle)))
    store = StoreHistory(settings.store_path)
    learned = partial(read_topic, client_arguments(kafka), kafka.names.of(NETWORK_STATE))
    return Parts(
        settings=shown,
        live=live,
        follower=Follower(settings, live, None if pictures is None else pictures.take),
        store=store,
        series=influx_history(settings.influx) or store,
        access=Access(shown, KeyRing(settings.keys_path, complain=log.error)),
        workers=Workers(shown.workers),
        rules=RulesSource.when_right(settings.alerts.rules),
        ready=Ready(),
        counter=StreamCounter(),
        pending=PendingMemo(),
        neighbours=Neighbours(learned if settings.network.enabled else None),
        records=StationPages(StationRegistry(client_arguments(kafka), kafka.prefix), time.time),
        annotate=partial(send_annotation, kafka),
        pictures=pictures,
    )


def influx_history(settings: InfluxSettings) -> InfluxHistory | None:
    """InfluxDB's history, where one is set that may be read."""
    if settings.url is None or settings.read_token_file is None:
        return None
    return InfluxHistory(settings.url, settings.bucket, settings.read_token_file)


def application(parts: Parts) -> FastAPI:
    """The application: API, page, and what every answer has."""

    @contextlib.asynccontextmanager
    async def running(_: FastAPI) -> AsyncIterator[None]:
        tasks = [
            asyncio.create_task(parts.follower.serve(), name="follows the topics"),
            asyncio.create_task(parts.workers.serve(), name="asks the workers"),
        ]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            parts.series.close()
            parts.store.close()

    app = FastAPI(
        title="skyfuse",
        version="1.0.0",
        description="Air quality of a network's stations: measured and imputed values, always told apart."
        " What answers to GET answers to HEAD, too: with the same headers, and no body.",
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        lifespan=running,
    )
    app.include_router(router(parts))
    app.include_router(pages.router(parts))
    described = openapi(app)

    @app.get(f"{PREFIX}/openapi.json", include_in_schema=False)
    async def document(request: Request) -> Response:
        parts.access.check_host(request)
        return send(request, parts.ready.get("openapi", 1, lambda: to_json(described)))

    @app.exception_handler(RequestProblem)
    async def known(_: Request, error: RequestProblem) -> Response:
        return problem(error)

    @app.exception_handler(RequestValidationError)
    async def wrong(_: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"][1:])
        return problem(RequestProblem(422, "wrong_parameter", f"{where}: {first['msg']}"))

    @app.exception_handler(HTTPException)
    async def other(_: Request, error: HTTPException) -> Response:
        if error.status_code == 404:
            text = f"there is no such path: {PREFIX}/openapi.json has them all"
            return problem(RequestProblem(404, "no_path", text))
        answer = problem(RequestProblem(error.status_code, "refused", str(error.detail)))
        answer.headers.update(error.headers or {})
        if "GET" in answer.headers.get("allow", ""):
            answer.headers["Allow"] += ", HEAD"  # `_Door` answers it
        return answer

    @app.exception_handler(Exception)
    async def spoilt(_: Request, error: Exception) -> Response:
        del error  # the server logs it
        return problem(RequestProblem(500, "fault", "something went wrong here; the log has it"))

    if parts.settings.cors:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(parts.settings.cors),
            allow_methods=["GET"],
            allow_headers=["Authorization", "X-Api-Key", "If-None-Match", "Last-Event-ID"],
            expose_headers=["ETag", "Retry-After", *HEAT_HEADERS],
            max_age=3600,
        )
    app.add_middleware(_Door, parts=parts)
    return app


def openapi(app: FastAPI) -> dict[str, Any]:
    """The API's document, with the models that answer."""
    made = get_openapi(
        title=app.title, version=app.version, description=app.description, routes=app.routes,
        license_info=app.license_info,
    )  # fmt: skip
    _, models = models_json_schema(
        [(one, "serialization") for one in DOCUMENTS], ref_template=_SCHEMAS + "{model}"
    )
    components = made.setdefault("components", {})
    components["schemas"] = models["$defs"]
    components["securitySchemes"] = {
        "key": {"type": "http", "scheme": "bearer"},
        "header": {"type": "apiKey", "in": "header", "name": "X-Api-Key"},
    }
    made["security"] = [{}, {"key": []}, {"header": []}]
    for path in made["paths"].values():
        for operation in path.values():
            # FastAPI's own form of a wrong parameter is not ours.
            operation["responses"] = {
                status: answer for status, answer in operation["responses"].items() if status != "422"
            } | {"422": refusal(422)}
            for answer in (*operation["responses"].values(), operation.get("requestBody", {})):
                for content in answer.get("content", {}).values():
                    # Not with the routes: FastAPI leaves out what is null, in an example too.
                    name = content["schema"].get("$ref", "").rpartition("/")[2]
                    if name in EXAMPLES:
                        content["example"] = EXAMPLES[name]
    return made


class _Door:
    """What every answer has, and the line of each request in the log: never a key, never a query."""

    def __init__(self, app: ASGIApp, parts: Parts) -> None:
        self._app = app
        self._parts = parts
        self._settings: WebSettings = parts.settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.monotonic()
        path: str = scope["path"]
        status = 0

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in _ALWAYS.items():
                    headers.setdefault(name, value)
                headers["Content-Security-Policy"] = pages.policy(self._settings, path)
                if not path.startswith("/widget/"):
                    headers["X-Frame-Options"] = "DENY"
                badge = path.startswith("/badge/")
                headers["Cross-Origin-Resource-Policy"] = "cross-origin" if badge else "same-origin"
                log.debug("begins to answer %r", path[:_PATH])
            await send(message)

        try:
            if scope["method"] == "HEAD":
                await self._head(scope, receive, answer)
            else:
                await self._app(scope, receive, answer)
        finally:
            log.info(
                "%s %r %d in %.0f ms",
                scope["method"],
                path[:_PATH],
                status,
                1000 * (time.monotonic() - began),
            )

    async def _head(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer with what comes before the body of a GET; the body is not waited for."""
        begun = asyncio.Event()

        async def answer(message: Message) -> None:
            if message["type"] != "http.response.body":
                await send(message)
            elif not begun.is_set():
                begun.set()
                await send({"type": "http.response.body", "body": b""})

        working = asyncio.ensure_future(self._app({**scope, "method": "GET"}, receive, answer))
        waiting = asyncio.ensure_future(begun.wait())
        try:
            await asyncio.wait([working, waiting], return_when=asyncio.FIRST_COMPLETED)
            if working.done():
                working.result()
        finally:
            working.cancel()
            waiting.cancel()
            await asyncio.gather(working, waiting, return_exceptions=True)


def run_web(settings: Settings, web_port: int, web_host: str, loglevel: str = "INFO") -> None:
    """Serve in this process until it is told to stop; /livez, /readyz and /metrics at `web_port`."""
    logging.basicConfig(level=loglevel.upper(), format=_FORMAT)
    for handler in logging.getLogger().handlers:
        handler.addFilter(Away(settings.kafka.bootstrap or ""))
    metrics.BUILD.labels(version(), "", "web").set(1)
    asyncio.run(_run(settings, web_port, web_host))


async def _run(settings: Settings, web_port: int, web_host: str) -> None:
    parts = await asyncio.to_thread(parts_of, settings)
    shown = settings.web
    servers = [_SignalFreeServer(served_by(application(parts), shown.host, shown.port))]
    if web_port:
        servers.append(_SignalFreeServer(served_by(_probes(parts), web_host, web_port)))
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    serving = [asyncio.create_task(server.serve()) for server in servers]
    stopping = asyncio.create_task(stop.wait())
    log.info("the page is at http://%s:%d", shown.host, shown.port)
    await asyncio.wait([*serving, stopping], return_when=asyncio.FIRST_COMPLETED)
    backstop = end_within()
    stopping.cancel()
    for server in servers:
        server.should_exit = True
    await asyncio.gather(*serving)
    backstop.cancel()


def served_by(app: Any, host: str, port: int) -> uvicorn.Config:
    """How the server of an application behaves: what it says of itself, how long it takes to end."""
    return uvicorn.Config(
        app, host=host, port=port, log_config=None, access_log=False, server_header=False, date_header=True,
        timeout_graceful_shutdown=_ENDS_S, backlog=512, proxy_headers=False,
    )  # fmt: skip


class _SignalFreeServer(uvicorn.Server):
    """A server that leaves the signals to us."""

    @contextlib.contextmanager
    def capture_signals(self) -> Any:
        """Nothing is captured."""
        yield


def _probes(parts: Parts) -> FastAPI:
    """/livez, /readyz and /metrics, as the other workers have them."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

    @app.get("/livez")
    async def livez() -> dict[str, str]:
        return {"status": "alive", "role": "web"}

    @app.get("/readyz")
    async def readyz(response: Response) -> dict[str, object]:
        problems: Sequence[str] = (
            ["Kafka is away"]
            if parts.follower.away_since is not None
            else []
            if parts.follower.read.is_set()
            else ["the topics are being read"]
        )
        response.status_code = 503 if problems else 200
        return {"status": "not ready" if problems else "ready", "role": "web", "problems": problems}

    @app.get("/metrics")
    async def exposition() -> Response:
        return Response(generate_latest(metrics.REGISTRY), media_type="text/plain")

    return app
