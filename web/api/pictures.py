"""The API's pictures: the newest of each camera, small."""

from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Request, Response

from schemas.base import LATEST_MS
from web import composing
from web.answers import document, pack, send
from web.api.asked import CameraPath, StationPath, StationQuery, answers, in_thread, known, needs
from web.documents import PicturesList
from web.errors import RequestProblem
from web.parts import Parts
from web.pictures import SmallPicture

_TakenAt = Annotated[
    int | None,
    Query(
        ge=0,
        le=LATEST_MS,
        description="when it was taken, ms since 1970: by it an address is of one picture",
    ),
]

#: What tells what the colours of a heat map mean.
HEAT_HEADERS: Final = {
    "X-Heat-Way": "raises or lowers: which fields are marked",
    "X-Heat-Most": "AQI points that a field moves it by at most",
    "X-Heat-End": "AQI points of the brightest colour; the scale begins at 0",
    "X-Heat-Fields": "how many fields a row and a column have: 7x7",
}


def add(api: APIRouter, parts: Parts) -> None:
    """Add the paths."""
    live = parts.live

    @api.get(
        "/pictures", responses=answers(PicturesList, 404), dependencies=[needs(parts, "frames")],
        summary="The newest picture of each camera of a station, small",
    )  # fmt: skip
    async def pictures(request: Request, station: StationQuery) -> Response:
        known(live, station)
        made = await in_thread(lambda: composing.pictures(parts, station))
        return document(request, made)

    @api.get(
        "/pictures/{station}/{camera}", responses=answers(None, 404, media="image/jpeg"),
        dependencies=[needs(parts, "frames")], summary="A camera's newest picture, small",
        response_class=Response,
    )  # fmt: skip
    async def picture(
        request: Request, station: StationPath, camera: CameraPath, at: _TakenAt = None
    ) -> Response:
        del at
        return send(request, pack(_picture(parts, station, camera).jpeg, "image/jpeg"), "private, no-cache")

    @api.get(
        "/pictures/{station}/{camera}/heat", responses=_with_scale(answers(None, 404, media="image/png")),
        dependencies=[needs(parts, "frames")], response_class=Response,
        summary="The same, with what in it raises the model's estimate, or else lowers it (Grad-CAM)",
    )  # fmt: skip
    async def heat(
        request: Request, station: StationPath, camera: CameraPath, at: _TakenAt = None
    ) -> Response:
        del at
        found = _picture(parts, station, camera)
        current = live.latest.get(station)
        store = parts.pictures
        if current is None or store is None or not await in_thread(lambda: store.explains):
            raise RequestProblem(
                404, "no_heat", "the model bundle, or the station, has nothing to explain with"
            )
        estimate = current.estimate
        made = await in_thread(lambda: store.heat(station, camera, found, estimate))
        way, (columns, rows) = "lowers" if made.lowers else "raises", made.fields
        told = way, f"{made.most:.3g}", f"{made.end:.3g}", f"{columns}x{rows}"
        scale = dict(zip(HEAT_HEADERS, told, strict=True))
        return send(request, pack(made.png, "image/png"), "private, no-cache", scale)


def _with_scale(documented: dict[int | str, dict[str, Any]]) -> dict[int | str, dict[str, Any]]:
    """The documented answers with the headers that tell what the colours of a heat map mean."""
    headers = {
        name: {"description": text, "schema": {"type": "string"}} for name, text in HEAT_HEADERS.items()
    }
    return documented | {200: documented[200] | {"headers": headers}}


def _picture(parts: Parts, station: str, camera: str) -> SmallPicture:
    found = None if parts.pictures is None else parts.pictures.of(station).get(camera)
    if found is None:
        raise RequestProblem(
            404, "no_picture", f"there is no picture of {station}, {camera}, of the last hours"
        )
    return found
