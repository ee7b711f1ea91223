"""What the API's paths have in common: their parameters, how they are documented, and what is refused."""

import asyncio
from collections.abc import Callable
from typing import Annotated, Any, Final, TypeVar

from fastapi import Depends, Path, Query, Request
from pydantic import BaseModel
from pydantic_core import to_json

from schemas.base import STATION_PATTERN, parse_time, to_ms
from sources.gateway.keys import ApiScope
from web.answers import Packed
from web.composing import PREFIX
from web.errors import RequestProblem
from web.live import LiveState
from web.parts import Parts

#: Stations of a page.
PAGE: Final = 1000

StationPath = Annotated[str, Path(pattern=STATION_PATTERN, description="station id")]
CameraPath = Annotated[str, Path(pattern=STATION_PATTERN, description="camera id")]
StationQuery = Annotated[str, Query(pattern=STATION_PATTERN, description="station id")]
After = Annotated[
    str | None, Query(pattern=STATION_PATTERN, description="what comes after this id; `next` has it")
]
Limit = Annotated[int, Query(ge=1, le=PAGE, description="of one page")]
MomentQuery = Annotated[
    str | None, Query(max_length=40, description="RFC 3339 with a zone, such as 2026-08-21T10:00:00Z")
]
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


def errors(*more: int) -> dict[int | str, dict[str, Any]]:
    """The documented refusals of an operation."""
    schema = {"$ref": "#/components/schemas/ProblemDocument"}
    return {
        status: {"description": _WORDS[status], "content": {"application/problem+json": {"schema": schema}}}
        for status in (401, 403, 421, 422, 429, *more)
    }


def answers(
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
        **errors(*more),
    }


def needs(parts: Parts, scope: ApiScope) -> Any:
    """A path's dependency: the key of a request has the scope, or nobody needs one."""

    def check(request: Request) -> None:
        parts.access.check(request, scope)

    check.__name__ = f"needs_{scope}"
    return Depends(check)


async def worked_out(
    parts: Parts, name: object, version: object, make: Callable[..., BaseModel], *given: Any
) -> Packed:
    """An answer that takes a while: made in a thread, once for each version of what it shows."""
    known = parts.ready.known(name, version)
    if known is not None:
        return known
    made = await in_thread(lambda: to_json(make(*given)))
    return parts.ready.get(name, version, lambda: made)


async def in_thread(work: Callable[[], _T]) -> _T:
    """The result of what would keep other requests waiting."""
    return await asyncio.to_thread(work)


def unknown(station: str) -> RequestProblem:
    """What is said of a station that nobody knows."""
    return RequestProblem(
        404, "unknown_station", f"nobody knows a station {station}: {PREFIX}/stations has them all"
    )


def known(live: LiveState, station: str) -> None:
    """Raises RequestProblem where nobody knows the station."""
    if station not in live.latest and station not in live.stations:
        raise unknown(station)


def time_of(name: str, text: str) -> int:
    """The moment (ms) of the parameter `name`. Raises RequestProblem."""
    try:
        return to_ms(parse_time(text))
    except ValueError as error:
        raise RequestProblem(422, "not_a_time", f"{name}: {error}") from None
