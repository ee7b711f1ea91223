"""The API's stream of new estimates and alerts."""

from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import StreamingResponse

from schemas.base import STATION_PATTERN
from web.api.asked import errors, heard_of, needs
from web.errors import RequestProblem
from web.examples import STREAM_EXAMPLE
from web.parts import Parts
from web.streaming import events

_STREAM: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "description": "server-sent events: hello, estimate (StationNow), alert (AlertNow), pulse, reset;"
        " with Last-Event-ID it goes on after that one",
        "content": {"text/event-stream": {"schema": {"type": "string"}, "example": STREAM_EXAMPLE}},
    },
    **errors(404, 503),
}


def add(api: APIRouter, parts: Parts) -> None:
    """Add the paths."""

    @api.get(
        "/stream", responses=_STREAM, response_class=StreamingResponse, dependencies=[needs(parts, "read")],
        summary="New estimates and alerts, as they come",
    )  # fmt: skip
    async def stream(
        request: Request,
        station: Annotated[str | None, Query(pattern=STATION_PATTERN, description="only of this one")] = None,
    ) -> Response:
        if parts.follower.read.is_set():  # before that nobody is known
            heard_of(parts.live, station)
        if parts.counter.open >= parts.settings.streams:
            raise RequestProblem(503, "busy", "there are too many open streams", 10)
        return StreamingResponse(
            events(parts, request.headers.get("last-event-id"), station),
            media_type="text/event-stream",
            headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
        )
