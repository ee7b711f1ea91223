"""The way in by HTTP: ours, and the paths that stock firmwares, network servers and collectors call.

A request is answered when Kafka has confirmed what became of it. All that a client can make grow has a bound:
connections, bodies (packed and unpacked), requests a second, names that are remembered.
"""

import asyncio
import logging
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, NamedTuple, cast
from zoneinfo import ZoneInfo

from aiohttp import web
from pydantic_core import PydanticCustomError, to_json

from camera.image import MAX_ORIGINAL_BYTES
from schemas.base import is_id, parse_time, to_ms
from schemas.zone import zone_of_name
from settings.sections import HttpSettings
from sources.adapters import adapters
from sources.gateway import tls
from sources.gateway.answers import HttpAnswer
from sources.gateway.arrival import Arrival, Picture, Receipt
from sources.gateway.credentials import client_address, credentials_of
from sources.gateway.errors import KafkaAway, NotAllowed, NotTaken, SpoolFull
from sources.gateway.http_paths import HttpPaths
from sources.gateway.idempotency import IdempotentAnswers
from sources.gateway.key_scope import KeyScope
from sources.gateway.keys import KeyRing, Signed
from sources.gateway.openapi import document
from sources.gateway.rates import Rates, network_of
from sources.gateway.reception import Reception
from sources.gateway.request_body import body_of, form_of
from sources.gateway.request_text import expect_text, fields_of
from sources.gateway.station_pages import StationPages, StationRequest
from sources.gateway.way import TakesPayloads
from sources.stations.registry import StationRegistry
from streams import metrics

log = logging.getLogger(__name__)

#: Bytes of a form beside its picture.
_FORM: Final = 64 * 1024
#: Seconds after which a connection without a request is closed.
_SILENT_S: Final = 20.0
_KEEPALIVE_S: Final = 75.0
#: What the query of a picture, and of our own observations, may name.
_OF_FRAMES: Final = ("station", "camera", "time")
_OF_OBSERVATIONS: Final = ("station", "zone")
#: Headers that adapters read.
_PASSED_ON: Final = ("x-sensor", "x-pin", "content-type")
_JSON: Final = "application/json"
#: The AirGradient firmware asks for its settings; it keeps those it has.
_CONFIG: Final = re.compile(r"/sensors/[^/]+/one/config")
_Handler = Callable[["_Request"], Awaitable[HttpAnswer]]


class _Request(NamedTuple):
    """A request whose sender is known and whose body is here. `named`: what its path names (`HttpPaths`)."""

    web: web.BaseRequest
    named: Mapping[str, str]
    body: bytes
    scope: KeyScope
    origin: str


class _Route(NamedTuple):
    """What serves a path, and how many bytes of a body it takes."""

    handler: _Handler
    most: int


class HttpWay:
    """The server.

    Args:
        settings: of it.
        reception: for senders that try again.
        patient: for devices that do not.
        keys: who may speak for which station.
        now: s since 1970.
        zone_of: of a station's civil time, where its record says so.
        stations: their records, for keys that manage them; None: nobody manages them here.

    Raises CertificateFileError.
    """

    name = "http"

    def __init__(
        self,
        settings: HttpSettings,
        reception: Reception,
        patient: TakesPayloads,
        keys: KeyRing,
        *,
        now: Callable[[], float] = time.time,
        zone_of: Callable[[str], ZoneInfo | None] = lambda _: None,
        stations: StationRegistry | None = None,
    ) -> None:
        self._settings = settings
        self._stations = None if stations is None else StationPages(stations, now)
        self._reception = reception
        self._patient = patient
        self._keys = keys
        self._now = now
        self._zone_of = zone_of
        self._per_key = Rates(settings.rate_per_key)
        self._per_address = Rates(settings.rate_per_address)
        self._answers = IdempotentAnswers()
        self._tls = tls.of_server(settings)
        self._paths = self._routes()
        self._openapi = to_json(document())
        self.address: tuple[str, int] | None = None
        self.listening = asyncio.Event()

    # -- life cycle ----------------------------------------------------------------------------------------

    def _routes(self) -> HttpPaths[Mapping[str, _Route]]:
        body = self._settings.max_body
        takes: dict[str, dict[str, _Route]] = {
            path: {"POST": _Route(handler, most)}
            for path, handler, most in (
                ("/v1/observations", self._observations, body),
                ("/v1/frames", self._frames, MAX_ORIGINAL_BYTES + _FORM),
                ("/v1/ingest/{adapter}", self._ingest, body),
                # AirGradient with `httpDomain`.
                ("/sensors/{device}/measures", self._by("airgradient"), body),
                # airRohr: its own API's default path, and the community's with one message per sensor.
                ("/data.php", self._by("sensor-community"), body),
                ("/v1/push-sensor-data/", self._by("sensor-community"), body),
                # ThingsBoard's HTTP API; the token is the key.
                ("/api/v1/{token}/telemetry", self._by("thingsboard", "/api/v1/TOKEN/telemetry"), body),
                # InfluxDB 1 and 2: Telegraf's output.
                ("/write", self._influx, body),
                ("/api/v2/write", self._influx, body),
            )
        }
        if self._stations is not None:
            for method, path, page in (
                ("GET", "/v1/stations", self._stations.all),
                ("POST", "/v1/stations", self._stations.add),
                ("POST", "/v1/stations/import", self._stations.take),
                ("GET", "/v1/stations/{station}", self._stations.one),
                ("PATCH", "/v1/stations/{station}", self._stations.edit),
                ("DELETE", "/v1/stations/{station}", self._stations.retire),
                ("POST", "/v1/stations/{station}/adopt", self._stations.adopt),
                ("GET", "/v1/waiting", self._stations.waiting),
            ):
                takes.setdefault(path, {})[method] = _Route(_managed(page), body)
        return HttpPaths(takes)

    async def serve(self) -> None:
        """Serve until cancelled."""
        settings = self._settings
        # Without an application: that one's routing would cost as much as checking what a request carries.
        made = web.Server(self._answer)
        runner = web.ServerRunner(made, handle_signals=False, shutdown_timeout=3.0)
        await runner.setup()
        loop = asyncio.get_running_loop()

        #: Whose TLS handshake is not over: the server does not know of them yet.
        greeting: set[_Connection] = set()

        def silent(connection: _Connection) -> None:
            greeting.discard(connection)
            if not connection.spoke:
                connection.force_close()

        def protocol() -> asyncio.Protocol:
            # One that is refused is closed at once: a full server answers nobody else's health check late.
            if len(made.connections) + len(greeting) >= settings.max_clients:
                metrics.TURNED_AWAY.labels(self.name, "busy").inc()
                return _Closes()
            connection = _Connection(
                made,
                loop=loop,
                access_log=cast(logging.Logger, None),
                auto_decompress=False,
                keepalive_timeout=_KEEPALIVE_S,
            )
            greeting.add(connection)
            connection.greeted = lambda: greeting.discard(connection)
            connection.silence = loop.call_later(_SILENT_S, silent, connection)
            return connection

        assert settings.port is not None
        server = await loop.create_server(
            protocol, settings.host, settings.port, ssl=self._tls, backlog=256, reuse_address=True,
            ssl_handshake_timeout=None if self._tls is None else _SILENT_S,
        )  # fmt: skip
        try:
            self.address = server.sockets[0].getsockname()[:2]
            self.listening.set()
            metrics.TAKES.labels(self.name).set(1)
            log.info("takes HTTP at %s:%d", *self.address)
            await asyncio.Event().wait()
        finally:
            metrics.TAKES.labels(self.name).set(0)
            server.close()
            await runner.cleanup()

    # -- every request -------------------------------------------------------------------------------------

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        cast(_Connection, request.protocol).spoke = True
        try:
            answer = await self._handle(request)
        except NotTaken as away:
            answer = HttpAnswer.turned_away(away.code, str(away), away.status, away.retry_after_s)
            metrics.TURNED_AWAY.labels(self.name, away.code).inc()
        except KafkaAway as error:
            metrics.TURNED_AWAY.labels(self.name, "kafka_away").inc()
            answer = HttpAnswer.turned_away(
                "kafka_away", f"{error}: send it again later", 503, error.retry_after_s
            )
        except SpoolFull as error:
            metrics.TURNED_AWAY.labels(self.name, "spool_full").inc()
            answer = HttpAnswer.turned_away("spool_full", str(error), 503, 60)
        except NotAllowed as error:
            metrics.TURNED_AWAY.labels(self.name, "not_allowed").inc()
            answer = HttpAnswer.turned_away("not_allowed", str(error), 403)
        return web.Response(
            status=answer.status, body=answer.body, headers={"Content-Type": _JSON, **answer.headers}
        )

    async def _handle(self, request: web.BaseRequest) -> HttpAnswer:
        expect_text(request)
        found = self._paths.find(request.path)
        if found is None:
            return self._page(request)
        takes, named = found
        route = takes.get("GET" if request.method == "HEAD" else request.method)
        if route is None:
            raise NotTaken("method", f"this path takes {' and '.join(sorted(takes))}", 405)
        address = client_address(request, behind_proxy=self._settings.behind_proxy)
        self._within(self._per_address, network_of(address), "address")
        shown = credentials_of(request, named.get("token"))
        signed = None
        scope: KeyScope | None = None
        match shown:
            case Signed():
                signed = shown
            case str():
                scope = self._keys.holder(shown)
                if scope is None:
                    raise NotTaken(
                        "no_key",
                        "nobody has this key: `skyfuse gateway keys list` names those there are",
                        401,
                    )
            case None:
                scope = self._keys.keyless
                if scope is None:
                    raise NotTaken(
                        "no_key", "send a key: Authorization: Bearer KEY (`skyfuse gateway keys add`)", 401
                    )
        if scope is not None and not scope.keyless:
            self._within(self._per_key, scope.holder, "key")
        body = await body_of(request, route.most)
        if signed is not None:
            scope = self._keys.signer(signed, self._now(), request.raw_path, body)
            if scope is None:
                raise NotTaken("no_key", "the signature is wrong, too old, or of no key that signs", 401)
            # Only now: the name of a key is no secret, and a stranger is not to use up its rate.
            self._within(self._per_key, scope.holder, "key")
        assert scope is not None
        return await self._once(_Request(request, named, body, scope, address), route)

    def _page(self, request: web.BaseRequest) -> HttpAnswer:
        """What is no way in. Raises NotTaken."""
        if request.path == "/openapi.json":
            if request.method not in ("GET", "HEAD"):
                raise NotTaken("method", f"{request.path} takes GET", 405)
            return HttpAnswer(200, self._openapi)
        if _CONFIG.fullmatch(request.path):
            raise NotTaken("unknown_path", "settings of devices are not kept here", 404)
        raise NotTaken("unknown_path", "there is no such path: GET /openapi.json lists them", 404)

    async def _once(self, request: _Request, route: _Route) -> HttpAnswer:
        """The answer; that of before, where the request carries the idempotency key of one."""
        key = request.web.headers.get("Idempotency-Key")
        if key is None or request.web.method in ("GET", "HEAD"):
            return await route.handler(request)
        of = f"{request.scope.holder}\n{request.web.method} {request.web.raw_path}"
        return await self._answers.once(key, of, request.body, self._now(), lambda: route.handler(request))

    def _within(self, rates: Rates, name: str, whose: str) -> None:
        wait = rates.wait_s(name, time.monotonic())
        if wait > 0:
            raise NotTaken("too_many", f"too many requests of this {whose}", 429, max(1, round(wait)))

    # -- what there is -------------------------------------------------------------------------------------

    async def _observations(self, request: _Request) -> HttpAnswer:
        fields_of(request.web, _OF_OBSERVATIONS)
        kind = request.web.content_type
        if kind == "text/csv":
            adapter = "skyfuse-csv"
        elif kind in ("application/json", "application/octet-stream", "text/plain"):
            looks_like_json = request.body.lstrip()[:1] in (b"{", b"[")
            adapter = "skyfuse-json" if kind == "application/json" or looks_like_json else "skyfuse-csv"
        else:
            raise NotTaken(
                "bad_request", f"Content-Type {kind[:60]!r}: send application/json or text/csv", 415
            )
        return HttpAnswer.taken(await self._take(request, adapter, request.web.path, self._reception))

    async def _ingest(self, request: _Request) -> HttpAnswer:
        adapter = request.named["adapter"]
        if adapter not in adapters():
            raise NotTaken(
                "unknown_adapter",
                f"no adapter {adapter[:40]!r}; there are: {', '.join(sorted(adapters()))}", 404,
            )  # fmt: skip
        return HttpAnswer.taken(await self._take(request, adapter, request.web.path, self._reception))

    def _by(self, adapter: str, path: str = "") -> _Handler:
        async def handler(request: _Request) -> HttpAnswer:
            to: TakesPayloads = self._reception
            if not request.scope.keyless or self._station(request, adapter) is not None:
                to = self._patient
            return HttpAnswer.taken(await self._take(request, adapter, path or request.web.path, to))

        return handler

    async def _influx(self, request: _Request) -> HttpAnswer:
        if request.web.query.get("precision", "ns") not in ("ns", "n", "us", "u", "ms", "s"):
            raise NotTaken("bad_request", "precision is ns, us, ms or s", 400)
        receipt = await self._take(request, "influx-line", request.web.path, self._reception)
        if receipt.published or not receipt.refused:
            return HttpAnswer(204, b"")
        why = "; ".join(part.why for part in receipt.refused[:4])
        return HttpAnswer(422, to_json({"code": "unprocessable entity", "message": why}))

    async def _take(self, request: _Request, adapter: str, path: str, to: TakesPayloads) -> Receipt:
        station = self._station(request, adapter)
        if station is not None and not request.scope.covers(station):
            raise NotAllowed(f"{request.scope.holder} may not speak for the station {station}")
        headers = {name: value for name in _PASSED_ON if (value := request.web.headers.get(name)) is not None}
        known = station or request.scope.only
        zone = request.web.query.get("zone")
        return await to.take(
            Arrival(
                adapter, request.body, int(self._now() * 1000), self.name, path, request.origin, station,
                request.scope, headers, "server",
                (None if known is None else self._zone_of(known)) if zone is None else _zone(zone),
            )
        )  # fmt: skip

    def _station(self, request: _Request, adapter: str) -> str | None:
        given = request.web.query.get("station") or request.web.headers.get("X-Station")
        if given is None:
            device = request.named.get("device", "")
            # The id that the adapter makes of the path, so that who may speak for it is known beforehand.
            kind, _, serial = device.partition(":")
            if adapter != "airgradient" or kind != "airgradient" or request.scope.only is not None:
                return None
            given = f"airgradient-{serial.lower()}"
        return _id(given, "station")

    async def _frames(self, request: _Request) -> HttpAnswer:
        form = None
        fields = fields_of(request.web, _OF_FRAMES)
        if request.web.content_type == "multipart/form-data":
            form = form_of(request.web.headers.get("Content-Type", ""), request.body)
            fields = {**fields, **form.fields}
        station = fields.get("station") or request.scope.only
        if station is None:
            raise NotTaken("bad_request", "say which station it is of: ?station=ID", 400)
        now_ms = int(self._now() * 1000)
        picture = Picture(
            _id(station, "station"), _time_ms(fields.get("time"), now_ms),
            request.body if form is None else form.picture, now_ms, self.name,
            _id(fields.get("camera", "main"), "camera"), request.origin, request.scope,
        )  # fmt: skip
        return HttpAnswer.taken(await self._reception.take_picture(picture))


def _managed(page: Callable[[StationRequest], Awaitable[HttpAnswer]]) -> _Handler:
    async def handler(request: _Request) -> HttpAnswer:
        station = request.named.get("station", "")
        if station:
            _id(station, "station")
        return await page(StationRequest(request.scope, station, request.web.query, request.body))

    return handler


class _Closes(asyncio.Protocol):
    """For a client that there is no room for."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.close()


class _Connection(web.RequestHandler):
    """A connection. One that sends no whole request's head for a while holds a place that others need."""

    spoke = False
    #: Called when it is open: with TLS, when both sides have shaken hands.
    greeted: Callable[[], None]
    #: Closes it; while it is to come, it holds what the connection has.
    silence: asyncio.TimerHandle

    def connection_lost(self, exc: BaseException | None) -> None:
        """It is closed, and holds nothing any more, however many come and go."""
        self.silence.cancel()
        del self.greeted
        super().connection_lost(exc)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It is open."""
        self.greeted()
        super().connection_made(transport)


def _zone(name: str) -> ZoneInfo:
    try:
        return zone_of_name(name)
    except PydanticCustomError as error:
        raise NotTaken("bad_request", error.message(), 400) from None


def _time_ms(text: str | None, now_ms: int) -> int:
    if text is None:
        return now_ms
    try:
        return to_ms(parse_time(int(text) if text.isascii() and text.isdigit() else text))
    except PydanticCustomError as error:
        raise NotTaken("bad_request", error.message(), 400) from None


def _id(text: str, what: str) -> str:
    if is_id(text):
        return text
    why = f"{text[:80]!r} is no {what} id: letters, digits, . _ -, at most 64"
    raise NotTaken("bad_request", why, 400)
