"""The API's station records, for keys that manage them: what `skyfuse stations` does."""

from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel
from pydantic_core import from_json, to_json

from schemas.station import Station
from sources.gateway.answers import HttpAnswer
from sources.gateway.errors import KafkaAway, NotTaken
from sources.gateway.key_scope import KeyScope
from sources.gateway.station_pages import StationRequest
from web import composing
from web.answers import document
from web.api.asked import (
    PAGE,
    After,
    Limit,
    MomentQuery,
    StationPath,
    answers,
    body_of,
    broker_away,
    changes,
    expect_broker,
    needs,
    taken,
)
from web.errors import RequestProblem
from web.managing import Adopted, RecordsPage, WaitingList
from web.parts import Parts

#: Who asks here manages all stations: the scope `admin` says so.
_ALL: Final = KeyScope(("*",), "the page", managed=("*",))
_FIELDS: Final = taken(Station, "fields of the record; those that are not given stay, or have their default")


def add(api: APIRouter, parts: Parts) -> None:
    """Add the paths."""
    live, pages = parts.live, parts.records
    admin = [needs(parts, "admin")]

    async def asked(
        page: Callable[[StationRequest], Awaitable[HttpAnswer]], station: str = "", body: bytes = b"",
        **query: str | None,
    ) -> Any:  # fmt: skip
        """The answer of the function that the gateway answers with, too. Raises RequestProblem."""
        expect_broker(parts)
        given = {name: value for name, value in query.items() if value is not None}
        try:
            answer = await page(StationRequest(_ALL, station, given, body))
        except KafkaAway as error:
            raise broker_away(str(error)) from error
        except NotTaken as error:
            raise RequestProblem(error.status, error.code, str(error), error.retry_after_s) from error
        return from_json(answer.body) if answer.body else None

    @api.get(
        "/records", responses=answers(RecordsPage), dependencies=admin,
        summary="The records of the stations, each with what counted before",
    )  # fmt: skip
    async def records(request: Request, after: After = None, limit: Limit = PAGE) -> Response:
        return document(request, composing.records_page(live, after, limit))

    @api.get(
        "/records/{station}",
        responses=answers(Station, 404),
        dependencies=admin,
        summary="A station's record",
    )
    async def record(request: Request, station: StationPath) -> Response:
        found = live.stations.get(station)
        if found is None:
            raise RequestProblem(404, "unknown_station", f"{station} has no record")
        return document(request, found)

    @api.post(
        "/records", responses=changes(201, Station, 409), dependencies=admin, openapi_extra=_FIELDS,
        summary="Record a station that has no record yet", status_code=201,
    )  # fmt: skip
    async def recorded(request: Request) -> Response:
        return _made(201, await asked(pages.add, body=await body_of(request)), Station)

    @api.patch(
        "/records/{station}", responses=changes(200, Station, 404), dependencies=admin, openapi_extra=_FIELDS,
        summary="Change fields of a record, from a time of the data on",
    )  # fmt: skip
    async def edited(
        request: Request,
        station: StationPath,
        since: Annotated[MomentQuery, Query(alias="from")] = None,
        moved: Annotated[bool, Query(description="it stands elsewhere, and begins anew")] = False,
    ) -> Response:
        body = await body_of(request)
        return _made(
            200,
            await asked(pages.edit, station, body, **{"from": since, "moved": str(moved).lower()}),
            Station,
        )

    @api.delete(
        "/records/{station}", responses=changes(204, None, 404), dependencies=admin, status_code=204,
        summary="Retire a station: its alerts end, what was learned is forgotten, its series stays",
        response_class=Response,
    )  # fmt: skip
    async def retired(request: Request, station: StationPath) -> Response:
        await body_of(request, due=False)
        await asked(pages.retire, station)
        return Response(status_code=204)

    @api.get(
        "/waiting", responses=answers(WaitingList, 503), dependencies=admin,
        summary="Who has sent and waits to be let in",
    )  # fmt: skip
    async def waiting(request: Request) -> Response:
        return document(request, WaitingList.model_validate({"waiting": await asked(pages.waiting)}))

    @api.post(
        "/records/{station}/adopt", responses=changes(200, Adopted, 404, 409), dependencies=admin,
        openapi_extra=_FIELDS, summary="Let a station in, and publish what waits of it",
    )  # fmt: skip
    async def adopted(request: Request, station: StationPath) -> Response:
        body = await body_of(request)
        return _made(200, await asked(pages.adopt, station, body), Adopted)


def _made(status: int, plain: Any, model: type[BaseModel]) -> Response:
    made = model.model_validate_json(to_json(plain))
    return Response(to_json(made), status, {"Cache-Control": "no-store"}, "application/json")
