"""The API's stations: what there is, the newest of each, and why it is so."""

from fastapi import APIRouter, Request, Response
from pydantic_core import to_json

from schemas.estimate import Estimate
from web import composing
from web.answers import GEOJSON, document, send
from web.api.asked import (
    PAGE,
    After,
    Limit,
    MomentQuery,
    StationPath,
    StationQuery,
    answers,
    in_thread,
    known,
    needs,
    time_of,
    without_estimate,
)
from web.composing import SECONDS_KEPT
from web.documents import (
    Explained,
    LatestPage,
    ListeningAnswer,
    SiteDocument,
    StationFeature,
    StationNow,
    StationsPage,
)
from web.errors import RequestProblem
from web.parts import Parts
from web.why import sentences


def add(api: APIRouter, parts: Parts) -> None:
    """Add the paths."""
    live = parts.live

    @api.get(
        "/site",
        responses=answers(SiteDocument),
        dependencies=[needs(parts, "read")],
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
        "/stations", responses=answers(StationsPage, media=GEOJSON), dependencies=[needs(parts, "read")],
        summary="The stations, as GeoJSON", response_class=Response,
    )  # fmt: skip
    async def stations(request: Request, after: After = None, limit: Limit = PAGE) -> Response:
        packed = parts.ready.get(
            ("stations", after, limit),
            (int(parts.now() // SECONDS_KEPT), len(live.stations), len(live.latest)),
            lambda: to_json(composing.stations_page(parts, after, limit)),
            GEOJSON,
        )
        return send(request, packed)

    @api.get(
        "/stations/{station}", responses=answers(StationFeature, 404, media=GEOJSON),
        dependencies=[needs(parts, "read")], summary="One station, as GeoJSON", response_class=Response,
    )  # fmt: skip
    async def one_station(request: Request, station: StationPath) -> Response:
        known(live, station)
        return document(request, composing.feature(parts, station), media=GEOJSON)

    @api.get(
        "/latest", responses=answers(LatestPage), dependencies=[needs(parts, "read")],
        summary="The newest window of each station, in brief",
    )  # fmt: skip
    async def latest(request: Request, after: After = None, limit: Limit = PAGE) -> Response:
        packed = parts.ready.get(
            ("latest", after, limit), live.latest_version, lambda: composing.latest_page(live, after, limit)
        )
        return send(request, packed)

    @api.get(
        "/latest/{station}", responses=answers(StationNow, 404), dependencies=[needs(parts, "read")],
        summary="The newest window of a station, in brief",
    )  # fmt: skip
    async def latest_of(request: Request, station: StationPath) -> Response:
        current = live.latest.get(station)
        if current is None:
            raise without_estimate(live, station)
        packed = parts.ready.get(
            ("latest of", station), (current.end_ms, current.estimate.revision), lambda: current.body
        )
        return send(request, packed)

    @api.get(
        "/explain", responses=answers(Explained, 404, 503), dependencies=[needs(parts, "read")],
        summary="An estimate with all it rests on, and that in words",
    )  # fmt: skip
    async def explain(request: Request, station: StationQuery, at: MomentQuery = None) -> Response:
        if at is None:
            current = live.latest.get(station)
            if current is None:
                raise without_estimate(live, station)
            estimate: Estimate | None = current.estimate
        else:
            moment = time_of("at", at)
            known(live, station)
            estimate = await in_thread(lambda: parts.store.estimate(station, moment))
        if estimate is None:
            raise RequestProblem(
                404, "no_window", f"the store has no window of {station} within a day before {at}"
            )
        told = sentences(estimate)
        made = Explained(
            estimate=estimate.model_dump(mode="json"), why=tuple(one.text for one in told), told=told
        )
        return document(request, made)

    @api.get(
        "/listening", responses=answers(ListeningAnswer, 404), dependencies=[needs(parts, "read")],
        summary="Whom a station listens to where its own sensors are silent",
    )  # fmt: skip
    async def listens(request: Request, station: StationQuery) -> Response:
        known(live, station)
        found = await in_thread(lambda: parts.neighbours.of(station))
        return document(request, composing.whom_it_hears(station, found))
