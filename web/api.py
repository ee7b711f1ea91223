"""The API, version 1: what it answers at which path, to whom."""

import asyncio
from collections.abc import Callable
from typing import Annotated, Any, Final, Literal, TypeVar

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel
from pydantic_core import to_json

from alerting.explained import explain_worker
from schemas.base import STATION_PATTERN, format_time, from_ms, parse_time, to_ms
from schemas.estimate import Estimate
from schemas.parameters import POLLUTANTS
from schemas.times import HOUR_MS
from sources.gateway.keys import ApiScope
from web import composing
from web.answers import GEOJSON, Packed, document, pack, send
from web.documents import (
    AlertNow,
    AlertsExplained,
    AlertsPage,
    Explained,
    Health,
    LatestPage,
    LettersPage,
    NotablesList,
    PendingList,
    PendingNow,
    PicturesList,
    ProblemDocument,
    QualityPage,
    RuleNow,
    SeriesColumns,
    ShownLetter,
    SiteDocument,
    StationFeature,
    StationNow,
    StationsPage,
)
from web.errors import RequestProblem
from web.live import LiveState
from web.parts import Parts
from web.pictures import SmallPicture
from web.streaming import events
from web.why import sentences

PREFIX: Final = "/api/v1"
#: Seconds between two signs of life on a stream without events.
PULSE_S: Final = 5.0
_DAY_MS: Final = 24 * HOUR_MS
#: The longest span of a series, and of a table of all windows.
_LONGEST_MS: Final = 366 * _DAY_MS
_LONGEST_CSV_MS: Final = 31 * _DAY_MS
_PAGE: Final = 1000
#: What takes a while to work out is kept for so long.
_SECONDS_KEPT: Final = 5
_EVENTS_AT_ONCE: Final = 500
#: From light to dark, so that they differ without colour too; each beside its ink has a contrast over 4.5.
SHADES: Final = ("#bfe8d9", "#f3d55b", "#ee9a3a", "#cf4b3c", "#8a2a6b", "#4a1030", "#26081a")
_DARK_INK_UNTIL: Final = 3


_StationPath = Annotated[str, Path(pattern=STATION_PATTERN, description="station id")]
_CameraPath = Annotated[str, Path(pattern=STATION_PATTERN, description="camera id")]
_StationQuery = Annotated[str, Query(pattern=STATION_PATTERN, description="station id")]
_After = Annotated[
    str | None, Query(pattern=STATION_PATTERN, description="what comes after this id; `next` has it")
]
_Limit = Annotated[int, Query(ge=1, le=_PAGE, description="of one page")]
_Time = Annotated[
    str | None, Query(max_length=40, description="RFC 3339 with a zone, such as 2026-08-21T10:00:00Z")
]
_Charted = Literal["index", "pm25", "pm10", "no2", "so2", "co", "o3"]
_T = TypeVar("_T")

_WORDS: Final = {
    401: "no key, or a wrong one, where one is due",
    403: "the key has not the scope",
    404: "there is no such thing",
    421: "the server does not go by this name",
    422: "a parameter is wrong: which, and why",
    429: "too many requests; Retry-After says when to come again",
    503: "it cannot be told now; Retry-After says when to come again",
}


def _errors(*more: int) -> dict[int | str, dict[str, Any]]:
    schema = {"$ref": "#/components/schemas/ProblemDocument"}
    return {
        status: {"description": _WORDS[status], "content": {"application/problem+json": {"schema": schema}}}
        for status in (401, 403, 421, 422, 429, *more)
    }


def _answers(
    model: type[BaseModel] | None, *more: int, media: str = "application/json", about: str = "it"
) -> dict[int | str, dict[str, Any]]:
    """The documented answers of an operation."""
    content: dict[str, Any] = (
        {"schema": {"type": "string"}}
        if model is None
        else {"schema": {"$ref": f"#/components/schemas/{model.__name__}"}}
    )
    return {
        200: {"description": about, "content": {media: content}},
        304: {"description": "it is as the client has it (If-None-Match)"},
        **_errors(*more),
    }


_STREAM: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "description": "server-sent events: hello, estimate (StationNow), alert (AlertNow), pulse, reset;"
        " with Last-Event-ID it goes on after that one",
        "content": {"text/event-stream": {"schema": {"type": "string"}}},
    },
    **_errors(503),
}


def router(parts: Parts) -> APIRouter:
    """All paths of the API."""
    api = APIRouter(prefix=PREFIX)
    live, access = parts.live, parts.access

    def needs(scope: ApiScope) -> Any:
        def check(request: Request) -> None:
            access.check(request, scope)

        check.__name__ = f"needs_{scope}"
        return Depends(check)

    @api.get(
        "/site",
        responses=_answers(SiteDocument),
        dependencies=[needs("read")],
        summary="What a page has to know",
    )
    async def site(request: Request) -> Response:
        ids = sorted(
            {block.standard for one in live.latest.values() for block in one.estimate.indices}
            | {name for record in live.stations.values() for name in record.standards}
        )
        packed = parts.ready.get("site", tuple(ids), lambda: to_json(composing.site(parts, ids)))
        return send(request, packed)

    @api.get(
        "/stations", responses=_answers(StationsPage, media=GEOJSON), dependencies=[needs("read")],
        summary="The stations, as GeoJSON",
    )  # fmt: skip
    async def stations(request: Request, after: _After = None, limit: _Limit = _PAGE) -> Response:
        packed = parts.ready.get(
            ("stations", after, limit),
            (int(parts.now() // _SECONDS_KEPT), len(live.stations), len(live.latest)),
            lambda: to_json(composing.stations_page(parts, after, limit)),
            GEOJSON,
        )
        return send(request, packed)

    @api.get(
        "/stations/{station}", responses=_answers(StationFeature, 404, media=GEOJSON),
        dependencies=[needs("read")], summary="One station, as GeoJSON",
    )  # fmt: skip
    async def one_station(request: Request, station: _StationPath) -> Response:
        _known(live, station)
        return document(request, composing.feature(parts, station))

    @api.get(
        "/latest", responses=_answers(LatestPage), dependencies=[needs("read")],
        summary="The newest window of each station, in brief",
    )  # fmt: skip
    async def latest(request: Request, after: _After = None, limit: _Limit = _PAGE) -> Response:
        packed = parts.ready.get(
            ("latest", after, limit), live.latest_version, lambda: composing.latest_page(live, after, limit)
        )
        return send(request, packed)

    @api.get(
        "/latest/{station}", responses=_answers(StationNow, 404), dependencies=[needs("read")],
        summary="The newest window of a station, in brief",
    )  # fmt: skip
    async def latest_of(request: Request, station: _StationPath) -> Response:
        current = live.latest.get(station)
        if current is None:
            raise _unknown(station)
        packed = parts.ready.get(
            ("latest of", station), (current.end_ms, current.estimate.revision), lambda: current.body
        )
        return send(request, packed)

    @api.get(
        "/explain", responses=_answers(Explained, 404, 503), dependencies=[needs("read")],
        summary="An estimate with all it rests on, and that in words",
    )  # fmt: skip
    async def explain(request: Request, station: _StationQuery, at: _Time = None) -> Response:
        if at is None:
            current = live.latest.get(station)
            if current is None:
                raise _unknown(station)
            estimate: Estimate | None = current.estimate
        else:
            moment = _time("at", at)
            _known(live, station)
            estimate = await _in_thread(lambda: parts.history.estimate(station, moment))
        if estimate is None:
            raise RequestProblem(
                404, "no_window", f"the store has no window of {station} within a day before {at}"
            )
        made = Explained(estimate=estimate.model_dump(mode="json"), why=sentences(estimate))
        return document(request, made)

    @api.get(
        "/series", responses=_answers(SeriesColumns, 404, 503), dependencies=[needs("read")],
        summary="A pollutant or an index over time, as many points as a plot can show",
    )  # fmt: skip
    async def series(
        request: Request,
        station: _StationQuery,
        what: _Charted = "index",
        standard: Annotated[str | None, Query(max_length=60, description="of the index")] = None,
        since: _Time = None,
        until: _Time = None,
        points: Annotated[int, Query(ge=10, le=2000, description="at most so many")] = 600,
    ) -> Response:
        _known(live, station)
        start, end = _span(parts, since, until, _LONGEST_MS)
        made = await _in_thread(lambda: composing.series(parts, station, what, standard, start, end, points))
        return document(request, made)

    @api.get(
        "/series.csv", responses=_answers(None, 404, 503, media="text/csv"), dependencies=[needs("read")],
        summary="All windows of a station, one row for each value: a table to download",
        response_class=Response,
    )  # fmt: skip
    async def table(station: _StationQuery, since: _Time = None, until: _Time = None) -> Response:
        _known(live, station)
        start, end = _span(parts, since, until, _LONGEST_CSV_MS)
        rows = await _in_thread(
            lambda: {one: parts.history.concentrations(station, one, start, end) for one in POLLUTANTS}
        )
        name = f"{station}-{format_time(from_ms(start))[:10]}.csv"
        return Response(
            composing.table(station, rows),
            headers={"Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "no-store"},
            media_type="text/csv",
        )

    @api.get(
        "/alerts", responses=_answers(AlertsPage), dependencies=[needs("read")],
        summary="Alerts, the newest first",
    )  # fmt: skip
    async def alerts(
        request: Request,
        active: Annotated[bool | None, Query(description="only open ones, or those that are over")] = None,
        station: Annotated[str | None, Query(pattern=STATION_PATTERN)] = None,
        skip: Annotated[int, Query(ge=0, le=20_000, description="so many; `next` has it")] = 0,
        limit: Annotated[int, Query(ge=1, le=500)] = 200,
    ) -> Response:
        packed = parts.ready.get(
            ("alerts", active, station, skip, limit),
            live.alerts_version,
            lambda: to_json(composing.alerts_page(live, active, station, skip, limit)),
        )
        return send(request, packed)

    @api.get(
        "/alerts/explain", responses=_answers(AlertsExplained, 404), dependencies=[needs("read")],
        summary="Why each alert of a station is or is not open",
    )  # fmt: skip
    async def explain_alerts(request: Request, station: _StationQuery) -> Response:
        _known(live, station)
        state = composing.alert_state(live, station)
        states = {} if state is None else {station: state}
        explained = explain_worker(parts.rules(), states, list(live.alerts.values()), station)
        made = AlertsExplained(
            station=station,
            rules=tuple(
                RuleNow(rule=one.rule, open=one.open, severity=one.severity, text=one.text)
                for one in explained
            ),
        )
        return document(request, made)

    @api.get(
        "/alerts/pending", responses=_answers(PendingList),
        dependencies=[needs("read")], summary="Alerts that open, or rise, soon if what is seen now lasts",
    )  # fmt: skip
    async def pending_alerts(request: Request) -> Response:
        found = sorted(await _in_thread(lambda: composing.on_their_way(parts)), key=lambda pair: pair[1].at)
        made = PendingList(
            pending=tuple(
                PendingNow(station=station, rule=one.rule, severity=one.severity, at=from_ms(one.at))
                for station, one in found
            )
        )
        return document(request, made)

    @api.get(
        "/notable", responses=_answers(NotablesList), dependencies=[needs("read")],
        summary="What to look at now",
    )  # fmt: skip
    async def look_at(request: Request) -> Response:
        version = int(parts.now() // _SECONDS_KEPT), live.alerts_version
        return send(request, await _worked_out(parts, "notable", version, composing.to_look_at, parts))

    @api.get(
        "/quality", responses=_answers(QualityPage, 503), dependencies=[needs("read")],
        summary="What the stations' last hours were made of",
    )  # fmt: skip
    async def quality(
        request: Request,
        hours: Annotated[int, Query(ge=1, le=48)] = 6,
        after: _After = None,
        limit: Annotated[int, Query(ge=1, le=100)] = 50,
    ) -> Response:
        name, half = ("quality", hours, after, limit), int(parts.now() // 30)
        version = half, len(live.latest)
        made = await _worked_out(parts, name, version, composing.quality_page, parts, hours, after, limit)
        return send(request, made)

    @api.get(
        "/health", responses=_answers(Health), dependencies=[needs("read")], summary="How the pipeline fares"
    )
    async def health(request: Request) -> Response:
        return document(request, composing.health(parts))

    @api.get(
        "/dead-letters", responses=_answers(LettersPage), dependencies=[needs("admin")],
        summary="The newest refused records, and why",
    )  # fmt: skip
    async def letters(request: Request, limit: Annotated[int, Query(ge=1, le=500)] = 100) -> Response:
        found = [
            ShownLetter(
                id=one.id, stage=one.stage, code=one.code, reason=one.reason, failed_at=one.failed_at,
                partly_used=one.partly_used, redriven_at=one.redriven_at,
            )
            for one in list(live.letters)[-limit:][::-1]
        ]  # fmt: skip
        return document(request, LettersPage(letters=tuple(found)))

    @api.get(
        "/pictures", responses=_answers(PicturesList, 404), dependencies=[needs("frames")],
        summary="The newest picture of each camera of a station, small",
    )  # fmt: skip
    async def pictures(request: Request, station: _StationQuery) -> Response:
        _known(live, station)
        made = await _in_thread(lambda: composing.pictures(parts, station))
        return document(request, made)

    @api.get(
        "/pictures/{station}/{camera}", responses=_answers(None, 404, media="image/jpeg"),
        dependencies=[needs("frames")], summary="A camera's newest picture, small",
        response_class=Response,
    )  # fmt: skip
    async def picture(request: Request, station: _StationPath, camera: _CameraPath) -> Response:
        return send(request, pack(_picture(parts, station, camera).jpeg, "image/jpeg"), "private, no-cache")

    @api.get(
        "/pictures/{station}/{camera}/heat", responses=_answers(None, 404, media="image/png"),
        dependencies=[needs("frames")], response_class=Response,
        summary="The same, with what in it raises the network's estimate (Grad-CAM)",
    )  # fmt: skip
    async def heat(request: Request, station: _StationPath, camera: _CameraPath) -> Response:
        found = _picture(parts, station, camera)
        current = live.latest.get(station)
        store = parts.pictures
        if current is None or store is None or not await _in_thread(lambda: store.explains):
            raise RequestProblem(
                404, "no_heat", "the model bundle, or the station, has nothing to explain with"
            )
        estimate = current.estimate
        made = await _in_thread(lambda: store.heat(station, camera, found, estimate))
        return send(request, pack(made, "image/png"), "private, no-cache")

    @api.get(
        "/stream", responses=_STREAM, response_class=StreamingResponse, dependencies=[needs("read")],
        summary="New estimates and alerts, as they come",
    )  # fmt: skip
    async def stream(
        request: Request,
        station: Annotated[str | None, Query(pattern=STATION_PATTERN, description="only of this one")] = None,
    ) -> Response:
        if parts.counter.open >= parts.settings.streams:
            raise RequestProblem(503, "busy", "there are too many open streams", 10)
        return StreamingResponse(
            events(parts, request.headers.get("last-event-id"), station),
            media_type="text/event-stream",
            headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
        )

    return api


#: Models that the document has beside those that answer.
DOCUMENTS: Final[tuple[type[BaseModel], ...]] = (
    AlertNow, AlertsExplained, AlertsPage, Explained, Health, LatestPage, LettersPage, NotablesList,
    PendingList, PicturesList, ProblemDocument, QualityPage, SeriesColumns, SiteDocument, StationFeature,
    StationNow, StationsPage,
)  # fmt: skip


def _picture(parts: Parts, station: str, camera: str) -> SmallPicture:
    found = None if parts.pictures is None else parts.pictures.of(station).get(camera)
    if found is None:
        raise RequestProblem(
            404, "no_picture", f"there is no picture of {station}, {camera}, of the last hours"
        )
    return found


async def _worked_out(
    parts: Parts, name: object, version: object, make: Callable[..., BaseModel], *given: Any
) -> Packed:
    """An answer that takes a while: made in a thread, once for each version of what it shows."""
    known = parts.ready.known(name, version)
    if known is not None:
        return known
    made = await _in_thread(lambda: to_json(make(*given)))
    return parts.ready.get(name, version, lambda: made)


async def _in_thread(work: Callable[[], _T]) -> _T:
    return await asyncio.to_thread(work)


def _unknown(station: str) -> RequestProblem:
    return RequestProblem(
        404, "unknown_station", f"nobody knows a station {station}: /api/v1/stations has them all"
    )


def _known(live: LiveState, station: str) -> None:
    if station not in live.latest and station not in live.stations:
        raise _unknown(station)


def _time(name: str, text: str) -> int:
    try:
        return to_ms(parse_time(text))
    except ValueError as error:
        raise RequestProblem(422, "not_a_time", f"{name}: {error}") from None


def _span(parts: Parts, since: str | None, until: str | None, longest: int) -> tuple[int, int]:
    end = int(parts.now() * 1000) + 60_000 if until is None else _time("until", until)
    start = end - _DAY_MS if since is None else _time("since", since)
    if not start < end:
        raise RequestProblem(422, "no_span", "since has to be earlier than until")
    if end - start > longest:
        raise RequestProblem(
            422, "too_long", f"since to until is more than {longest // _DAY_MS} days: ask for parts"
        )
    return start, end
