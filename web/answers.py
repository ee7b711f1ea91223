"""Answers as bytes: their tags, so that what has not changed is not sent again, and their packing."""

import hashlib
import zlib
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from pydantic import BaseModel
from pydantic_core import to_json
from starlette.requests import Request
from starlette.responses import Response

from web.errors import RequestProblem

JSON: Final = "application/json"
GEOJSON: Final = "application/geo+json"
_PROBLEM: Final = "application/problem+json"
#: Smaller ones are not packed.
_PACKED_FROM: Final = 600
#: Answers kept ready, and bytes of them.
_KEPT: Final = 256
_KEPT_BYTES: Final = 32 * 1024 * 1024


class Packed(NamedTuple):
    """A body, packed where that is worth while, and its tag."""

    body: bytes
    gzipped: bytes | None
    tag: str
    media: str


def pack(body: bytes, media: str, level: int = 6) -> Packed:
    """A body ready to be sent."""
    tag = f'W/"{hashlib.blake2b(body, digest_size=12).hexdigest()}"'
    packed = None
    if (len(body) >= _PACKED_FROM and not media.startswith("image/")) or media == "image/svg+xml":
        maker = zlib.compressobj(level, zlib.DEFLATED, 31)
        packed = maker.compress(body) + maker.flush()
    return Packed(body, packed, tag, media)


def send(
    request: Request, packed: Packed, cache: str = "no-cache", headers: Mapping[str, str] | None = None
) -> Response:
    """The answer to a request: 304 where the client has it already."""
    given = dict(headers or {}) | {"ETag": packed.tag, "Cache-Control": cache, "Vary": "Accept-Encoding"}
    known = request.headers.get("if-none-match")
    # Compared weakly (RFC 9110, 13.1.2): packed or not, it is the same.
    if known is not None and {"*", packed.tag.removeprefix("W/")}.intersection(
        one.strip().removeprefix("W/") for one in known.split(",")
    ):
        return Response(status_code=304, headers=given)
    if packed.gzipped is not None and _takes_gzip(request.headers.get("accept-encoding", "")):
        return Response(packed.gzipped, headers=given | {"Content-Encoding": "gzip"}, media_type=packed.media)
    return Response(packed.body, headers=given, media_type=packed.media)


def _takes_gzip(accepted: str) -> bool:
    for one in accepted.lower().split(","):
        name, _, quality = one.partition(";")
        if name.strip() in ("gzip", "*"):
            return quality.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return False


def document(
    request: Request, made: BaseModel, headers: Mapping[str, str] | None = None, media: str = JSON
) -> Response:
    """An answer that is made anew each time."""
    return send(request, pack(to_json(made), media, 1), headers=headers)


def problem(error: RequestProblem) -> Response:
    """An error (RFC 9457)."""
    headers = {"Cache-Control": "no-store"}
    if error.retry_after_s is not None:
        headers["Retry-After"] = str(error.retry_after_s)
    if error.status == 401:
        headers["WWW-Authenticate"] = 'Bearer realm="skyfuse"'
    return Response(to_json(error.plain()), error.status, headers, _PROBLEM)


class Ready:
    """Answers that are made once for each version of what they show, however many ask."""

    def __init__(self) -> None:
        self._kept: OrderedDict[Any, tuple[object, Packed]] = OrderedDict()
        self._bytes = 0

    def known(self, name: Any, version: object) -> Packed | None:
        """The answer of that name, where it is of that version."""
        kept = self._kept.get(name)
        return kept[1] if kept is not None and kept[0] == version else None

    def get(self, name: Any, version: object, make: Callable[[], bytes], media: str = JSON) -> Packed:
        """The answer of that name at that version."""
        kept = self._kept.pop(name, None)
        if kept is not None:
            self._bytes -= len(kept[1].body)
        if kept is None or kept[0] != version:
            kept = version, pack(make(), media, 1)
        self._kept[name] = kept
        self._bytes += len(kept[1].body)
        while len(self._kept) > _KEPT or (self._bytes > _KEPT_BYTES and len(self._kept) > 1):
            _, (_, gone) = self._kept.popitem(last=False)
            self._bytes -= len(gone.body)
        return kept[1]
