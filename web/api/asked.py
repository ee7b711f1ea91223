"""What the API's paths have in common: their parameters, how they are documented, and what is refused."""

import asyncio
from collections.abc import Callable
from typing import Annotated, Any, Final, TypeVar
from urllib.parse import urlsplit

from fastapi import Depends, Path, Query, Request
from pydantic import BaseModel
from pydantic_core import to_json

from schemas.base import STATION_PATTERN, parse_time, to_ms
from sources.gateway.keys import ApiScope
from web.answers import Packed
from web.composing import PREFIX
from web.errors import RequestProblem
from web.examples import PROBLEMS
from web.live import LiveState
from web.parts import Parts

#: Stations of a page.
PAGE: Final = 1000
#: Bytes of a body.
_MOST_BODY: Final = 256 * 1024

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
_SCHEMA: Final = "#/components/schemas/{}"

_WORDS: Final = {
    401: "no key, or a wrong one, where one is due",
    403: "the key has not the scope",
    400: "the body is no JSON object",
    404: "there is no such thing",
    409: "there is one already",
    413: "the body is too large",
    415: "the body is not application/json",
    421: "the server does not go by this name",
    422: "a parameter is wrong: which, and why",
    429: "too many requests; Retry-After says when to come again",
    503: "it cannot be told now; Retry-After says when to come again",
}


def errors(*more: int) -> dict[int | str, dict[str, Any]]:
    """The documented refusals of an operation."""
    return {status: refusal(status) for status in (401, 403, 421, 422, 429, *more)}


def refusal(status: int) -> dict[str, Any]:
    """A documented refusal."""
    code, detail = PROBLEMS[status]
    example = RequestProblem(status, code, detail).plain()
    content = {"schema": {"$ref": _SCHEMA.format("ProblemDocument")}, "example": example}
    return {"description": _WORDS[status], "content": {"application/problem+json": content}}


def answers(
    model: type[BaseModel] | None, *more: int, media: str = "application/json", example: str | None = None
) -> dict[int | str, dict[str, Any]]:
    """The documented answers of an operation; `example`: of what is no JSON."""
    content: dict[str, Any] = {"schema": {"type": "string"}} if model is None else _content(model)
    if example is not None:
        content["example"] = example
    return {
        200: {"description": "it", "content": {media: content}},
        304: {"description": "it is as the client has it (If-None-Match)"},
        **errors(*more),
    }


def changes(status: int, model: type[BaseModel] | None, *more: int) -> dict[int | str, dict[str, Any]]:
    """The documented answers of an operation that changes something."""
    done: dict[str, Any] = {"description": "it is done"}
    if model is not None:
        done["content"] = {"application/json": _content(model)}
    return {status: done, **errors(400, 413, 415, 503, *more)}


def taken(model: type[BaseModel], about: str) -> dict[str, Any]:
    """The documented body of an operation."""
    content = {"application/json": _content(model)}
    return {"requestBody": {"description": about, "required": True, "content": content}}


def _content(model: type[BaseModel]) -> dict[str, Any]:
    return {"schema": {"$ref": _SCHEMA.format(model.__name__)}}


async def body_of(request: Request, *, due: bool = True) -> bytes:
    """The body of a request that changes something. Raises RequestProblem.

    No other site's page may send it: such a page can make its visitor's browser send forms and plain text
    without asking us, but neither JSON nor another method, and the browser says from where it comes.
    """
    origin = request.headers.get("origin")
    if origin is not None and _netloc(origin) != request.headers.get("host", "").lower():
        raise RequestProblem(403, "other_origin", "changes are taken from this server's own pages alone")
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if due and kind != "application/json":
        raise RequestProblem(415, "not_json", "the body has to be application/json")
    body = b""
    async for some in request.stream():
        body += some
        if len(body) > _MOST_BODY:
            raise RequestProblem(413, "too_large", f"the body has more than {_MOST_BODY} bytes")
    return body


def _netloc(origin: str) -> str | None:
    """Host and port of an origin; None where it is none."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return None


def expect_broker(parts: Parts) -> None:
    """Raises RequestProblem where it is known that the broker is away."""
    if parts.follower.away_since is not None:
        raise broker_away("Kafka does not answer: nothing was changed")


def broker_away(why: str) -> RequestProblem:
    """What is said where Kafka is away."""
    return RequestProblem(503, "kafka_away", why, 5)


def needs(parts: Parts, scope: ApiScope) -> Any:
    """A path's dependency: the key of a request has the scope, or nobody needs one."""

    def check(request: Request) -> None:
        parts.access.check(request, scope)
        _expect_known(request)

    check.__name__ = f"needs_{scope}"
    return Depends(check)


def _expect_known(request: Request) -> None:
    """Raises RequestProblem for a parameter that the path has not: a mistyped one would change nothing."""
    known = sorted(field.alias for field in request.scope["route"].dependant.query_params)
    given = [name for name, _ in request.query_params.multi_items()]
    twice = next((name for name in given if given.count(name) > 1), None)
    if twice is not None:
        raise RequestProblem(
            422, "wrong_parameter", f"{twice[0:60]}: it is there more than once, and only one can be meant"
        )
    strange = sorted(set(given) - set(known))
    if strange:
        has = f"it has {', '.join(known)}" if known else "it has none"
        raise RequestProblem(
            422, "wrong_parameter", f"{strange[0][:60]}: there is no such parameter here; {has}"
        )


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


def without_estimate(live: LiveState, station: str) -> RequestProblem:
    """What is said of a station without a window: nobody knows it, or nothing came of it yet."""
    if station not in live.stations:
        return unknown(station)
    return RequestProblem(
        404,
        "no_estimate",
        f"there is no estimate of {station} yet: it has a record, and no window has closed",
    )


def known(live: LiveState, station: str) -> None:
    """Raises RequestProblem where nobody knows the station."""
    if station not in live.latest and station not in live.stations:
        raise unknown(station)


def heard_of(live: LiveState, station: str | None) -> None:
    """Raises RequestProblem for a station that nobody knows; one that is retired has alerts of before."""
    if station is not None and not any(one.station == station for one in live.alerts.values()):
        known(live, station)


def time_of(name: str, text: str) -> int:
    """The moment (ms) of the parameter `name`. Raises RequestProblem."""
    try:
        return to_ms(parse_time(text))
    except ValueError as error:
        raise RequestProblem(422, "not_a_time", f"{name}: {error}") from None
