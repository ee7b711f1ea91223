"""What the API says of how stations and pipeline fare, and which records were refused."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from web import composing
from web.answers import document, send
from web.api.asked import After, answers, needs, worked_out
from web.composing import SECONDS_KEPT
from web.documents import Health, LettersPage, NotablesList, QualityPage, ShownLetter
from web.parts import Parts


def add(api: APIRouter, parts: Parts) -> None:
    """Add the paths."""
    live = parts.live

    @api.get(
        "/notable", responses=answers(NotablesList), dependencies=[needs(parts, "read")],
        summary="What to look at now",
    )  # fmt: skip
    async def look_at(request: Request) -> Response:
        version = int(parts.now() // SECONDS_KEPT), live.alerts_version, parts.coming
        return send(request, await worked_out(parts, "notable", version, composing.to_look_at, parts))

    @api.get(
        "/quality", responses=answers(QualityPage, 503), dependencies=[needs(parts, "read")],
        summary="What the stations' last hours were made of",
    )  # fmt: skip
    async def quality(
        request: Request,
        hours: Annotated[int, Query(ge=1, le=48)] = 6,
        after: After = None,
        limit: Annotated[int, Query(ge=1, le=100)] = 50,
    ) -> Response:
        name, half = ("quality", hours, after, limit), int(parts.now() // 30)
        version = half, len(live.latest)
        made = await worked_out(parts, name, version, composing.quality_page, parts, hours, after, limit)
        return send(request, made)

    @api.get(
        "/health",
        responses=answers(Health),
        dependencies=[needs(parts, "read")],
        summary="How the pipeline fares",
    )
    async def health(request: Request) -> Response:
        return document(request, composing.health(parts))

    @api.get(
        "/dead-letters", responses=answers(LettersPage), dependencies=[needs(parts, "admin")],
        summary="The newest refused records, and why",
    )  # fmt: skip
    async def letters(request: Request, limit: Annotated[int, Query(ge=1, le=500)] = 100) -> Response:
        found = [
            ShownLetter(
                id=one.id, stage=one.stage, code=one.code, reason=one.reason, failed_at=one.failed_at,
                partly_used=one.partly_used, redriven_at=one.redriven_at,
            )
            for one in list(live.letters.values())[-limit:][::-1]
        ]  # fmt: skip
        return document(request, LettersPage(letters=tuple(found)))
