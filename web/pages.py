"""The page's files, the station widget and its badge: nothing in them comes from elsewhere."""

from functools import cache
from html import escape
from pathlib import Path
from typing import Annotated, Final
from urllib.parse import urlsplit

from fastapi import APIRouter, Request, Response
from fastapi import Path as PathValue

from schemas.base import STATION_PATTERN, format_time, from_ms
from settings.sections import WebSettings
from web import composing
from web.answers import Packed, pack, send
from web.documents import CategoryShown, IndexNow
from web.errors import RequestProblem
from web.parts import Parts

FILES: Final = Path(__file__).with_name("static")
_MEDIA: Final = {
    ".html": "text/html; charset=utf-8", ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".json": "application/json", ".svg": "image/svg+xml", ".txt": "text/plain; charset=utf-8",
    ".webmanifest": "application/manifest+json",
}  # fmt: skip
#: Paths that are views of the page: each has an address of its own.
VIEWS: Final = ("/", "/stations/{station}", "/alerts", "/quality", "/pipeline", "/manage")
_StationAddress = Annotated[str, PathValue(pattern=STATION_PATTERN)]
_GREY: Final = "#6b7280"


def file(name: str) -> Packed | None:
    """A file of the page; None where there is none of that name.

    What strangers ask for is looked up among the names there are: nothing is opened, or kept, by another.
    """
    return _packed(name) if name in _names() else None


@cache
def _names() -> frozenset[str]:
    found = (path for path in FILES.rglob("*") if path.suffix in _MEDIA and path.is_file())
    return frozenset(path.relative_to(FILES).as_posix() for path in found)


@cache
def _packed(name: str) -> Packed:
    path = FILES / name
    return pack(path.read_bytes(), _MEDIA[path.suffix], 9)


def policy(settings: WebSettings, path: str) -> str:
    """The Content-Security-Policy of a path: scripts, styles and data from here alone."""
    pictures = "'self' data: blob:"
    if settings.tiles is not None and "//" in settings.tiles:
        parts = urlsplit(settings.tiles)
        pictures += f" {parts.scheme}://{parts.netloc}"
    framing = " ".join(settings.embed) if path.startswith("/widget/") else "'none'"
    return (
        f"default-src 'none'; script-src 'self'; style-src 'self'; img-src {pictures}; connect-src 'self';"
        " font-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none';"
        f" frame-ancestors {framing}"
    )


def router(parts: Parts) -> APIRouter:
    """The paths of the page."""
    pages = APIRouter(include_in_schema=False)

    def shown(request: Request, name: str, cache_for: str = "no-cache") -> Response:
        parts.access.check_host(request)
        found = file(name)
        if found is None:
            raise RequestProblem(404, "no_file", f"there is no {name}")
        return send(request, found, cache_for)

    async def view(request: Request) -> Response:
        return shown(request, "index.html")

    for path in VIEWS:
        pages.add_api_route(path, view, methods=["GET"])

    @pages.get("/static/{name:path}")
    async def static(request: Request, name: str) -> Response:
        return shown(request, name)

    @pages.get("/favicon.ico")
    async def icon(request: Request) -> Response:
        return shown(request, "icon.svg")

    @pages.get("/widget/{station}")
    async def widget(request: Request, station: _StationAddress) -> Response:
        del station
        return shown(request, "widget.html")

    @pages.get("/badge/{station}.svg")
    async def badge(request: Request, station: _StationAddress) -> Response:
        parts.access.check(request, "read")
        return send(request, pack(_badge(parts, station).encode(), "image/svg+xml"), "public, max-age=30")

    return pages


def _badge(parts: Parts, station: str) -> str:
    current = parts.live.latest.get(station)
    name = station
    record = parts.live.stations.get(station)
    if record is not None and record.name:
        name = record.name
    if current is None:
        return _drawn(name, "no data", _GREY, "#ffffff", "skyfuse knows no such station, or nothing of it")
    block = current.estimate.indices[0] if current.estimate.indices else None
    at = format_time(from_ms(current.end_ms))
    age = parts.now() * 1000 - current.end_ms
    if age > 1000 * composing.feature(parts, station).properties.stale_after_s:
        return _drawn(name, f"old: {at[:16]}Z", _GREY, "#ffffff", f"nothing new since {at}")
    if block is None or block.index is None:
        return _drawn(name, "no index", _GREY, "#ffffff", f"no index at {at}")
    index = IndexNow(
        standard=block.standard, index=block.index, category=block.category, level=block.level,
        status=block.status,
    )  # fmt: skip
    look = _category(index)
    words = f"AQI {block.index}" + ("" if look is None else f" {look.name['en']}")
    words += "" if block.status == "valid" else f" ({block.status})"
    colour, ink = (_GREY, "#ffffff") if look is None else (look.shade, look.ink)
    return _drawn(name, words, colour, ink, f"{words}, {block.standard}, window to {at}")


def _category(index: IndexNow) -> CategoryShown | None:
    standard = composing.standard_shown(index.standard)
    if standard is None or index.level is None or not 0 <= index.level < len(standard.categories):
        return None
    return standard.categories[index.level]


def _drawn(left: str, right: str, colour: str, ink: str, title: str) -> str:
    left = left[:40]
    first, second = 14 + 7 * len(left), 14 + 7 * len(right)
    whole = first + second
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{whole}" height="22" role="img"'
        f' aria-label="{escape(left)}: {escape(title)}"><title>{escape(left)}: {escape(title)}</title>'
        f'<rect width="{first}" height="22" fill="#333"/>'
        f'<rect x="{first}" width="{second}" height="22" fill="{colour}"/>'
        f'<g font-family="Verdana,DejaVu Sans,sans-serif" font-size="12" text-anchor="middle">'
        f'<text x="{first / 2}" y="15" fill="#fff" textLength="{first - 12}">{escape(left)}</text>'
        f'<text x="{first + second / 2}" y="15" fill="{ink}" textLength="{second - 12}">'
        f"{escape(right)}</text>"
        "</g></svg>"
    )
