"""The API's notes beside the data: to read, and for keys with the scope `write` to make."""

from datetime import UTC, datetime

from fastapi import APIRouter, Request, Response
from pydantic import ValidationError
from pydantic_core import to_json

from datasets.errors import SourceError
from schemas.base import first_error, to_ms
from sources.annotating import new_annotation
from web.answers import document
from web.api.asked import (
    MomentQuery,
    StationQuery,
    answers,
    body_of,
    broker_away,
    changes,
    expect_broker,
    in_thread,
    known,
    needs,
    taken,
)
from web.api.series import LONGEST_MS, span_of
from web.errors import RequestProblem
from web.managing import NewNote, Note, NotesList
from web.parts import Parts

#: Notes of one answer: the newest.
_MOST = 200


def add(api: APIRouter, parts: Parts) -> None:
    """Add the paths."""

    @api.get(
        "/notes", responses=answers(NotesList, 404, 503), dependencies=[needs(parts, "read")],
        summary="What people said of a station's data in a span of time",
    )  # fmt: skip
    async def notes(
        request: Request, station: StationQuery, since: MomentQuery = None, until: MomentQuery = None
    ) -> Response:
        known(parts.live, station)
        start, end = span_of(parts, since, until, LONGEST_MS)
        every = await in_thread(parts.store.annotations)
        found = [
            Note.of(one)
            for one in reversed(every)
            if one.station == station
            and one.undone is None
            and to_ms(one.since) < end
            and to_ms(one.until) > start
        ]
        return document(request, NotesList(station=station, notes=tuple(found[:_MOST])))

    @api.post(
        "/notes", responses=changes(201, Note, 404), dependencies=[needs(parts, "write")], status_code=201,
        openapi_extra=taken(NewNote, "the note"), summary="Put a note beside a station's data",
    )  # fmt: skip
    async def noted(request: Request) -> Response:
        body = await body_of(request)
        try:
            given = NewNote.model_validate_json(body)
            known(parts.live, given.station)
            key = parts.access.key_of(request)
            made = new_annotation(
                now=datetime.fromtimestamp(parts.now(), UTC), kind="note",
                by="" if key is None else f"key {key.name}", **dict(given),
            )  # fmt: skip
        except ValidationError as error:
            code, message = first_error(error)
            raise RequestProblem(422, code, message) from error
        expect_broker(parts)
        try:
            await in_thread(lambda: parts.annotate(made))
        except SourceError as error:
            raise broker_away(str(error)) from error
        return Response(to_json(Note.of(made)), 201, {"Cache-Control": "no-store"}, "application/json")
