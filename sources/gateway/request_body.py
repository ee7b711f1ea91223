"""The body of a request, whole, within its bound: as it came, unpacked, or the parts of a form.

What is wrong with a body raises NotTaken, with the answer to it.
"""

import asyncio
import re
import zlib
from collections.abc import Mapping
from typing import Final, NamedTuple

from aiohttp import web

from sources.gateway.errors import NotTaken

#: Seconds that a body may take to come in.
_BODY_S: Final = 30.0
_NAME: Final = re.compile(r'\bname="?([A-Za-z0-9_-]{1,64})"?')
#: Members of a packed body: gzip files put one behind the other are one.
_MEMBERS: Final = 100
#: Parts of a form; it has a picture, a station, a camera and a time.
_PARTS: Final = 16


async def body_of(request: web.BaseRequest, most: int) -> bytes:
    """The body, unpacked; `most`: bytes of it, packed and unpacked. Raises NotTaken."""
    encoding = request.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in ("identity", "gzip", "x-gzip", "deflate", ""):
        raise NotTaken("unsupported_encoding", f"{encoding[:40]!r}: send gzip, deflate or plain", 415)
    packed = encoding in ("gzip", "x-gzip", "deflate")
    if request.content_length is not None and request.content_length > most:
        raise _too_large(most)
    if request.content.is_eof():  # most bodies come with the head
        whole = request.content.read_nowait()
        if len(whole) > most:
            raise _too_large(most)
    else:
        if request.headers.get("Expect", "").lower() == "100-continue":
            # Only now: who would be turned away need not send it.
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            request.writer.output_size = 0
        whole = await _arriving(request, most)
    if not packed:
        return whole
    return await asyncio.to_thread(_unpacked, whole, most)


async def _arriving(request: web.BaseRequest, most: int) -> bytes:
    data = bytearray()
    try:
        async with asyncio.timeout(_BODY_S):
            async for chunk in request.content.iter_any():
                data += chunk
                if len(data) > most:
                    raise _too_large(most)
    except TimeoutError:
        raise NotTaken("bad_request", f"the body did not come within {_BODY_S:g} s", 408) from None
    return bytes(data)


def _unpacked(data: bytes, most: int) -> bytes:
    """What gzip or deflate packed, up to a bound. Raises NotTaken."""
    out = bytearray()
    members = 0
    try:
        while data:
            members += 1
            if (
                members > _MEMBERS
            ):  # each costs a copy of what is left: empty ones by the thousand cost minutes
                raise NotTaken("bad_request", f"the packed body has more than {_MEMBERS} members", 400)
            unpacking = zlib.decompressobj(47)
            out += unpacking.decompress(data, most + 1 - len(out))
            if len(out) > most:
                raise _too_large(most)
            if not unpacking.eof:
                raise NotTaken("bad_request", "the packed body ends too early", 400)
            data = unpacking.unused_data
    except zlib.error as error:
        why = f"the body is not packed as its Content-Encoding says: {error}"
        raise NotTaken("bad_request", why, 400) from None
    return bytes(out)


def _too_large(most: int) -> NotTaken:
    return NotTaken("too_large", f"more than {most} bytes, unpacked, are not taken: send it in parts", 413)


class PictureForm(NamedTuple):
    """A form with a picture: its fields by name, and the bytes of the file."""

    fields: Mapping[str, str]
    picture: bytes


def form_of(content_type: str, body: bytes) -> PictureForm:
    """The parts of a multipart body; `content_type`: the header with its boundary. Raises NotTaken."""
    found = re.search(r'boundary="?([^";,]{1,70})"?', content_type)
    if found is None:
        raise NotTaken("bad_request", "multipart/form-data without a boundary", 400)
    pieces = (b"\r\n" + body).split(b"\r\n--" + found[1].encode(), _PARTS + 2)[1:]
    fields: dict[str, str] = {}
    picture: bytes | None = None
    for piece in pieces:
        if piece.startswith(b"--"):
            break
        head, blank, content = piece.partition(b"\r\n\r\n")
        name = _NAME.search(head.decode(errors="replace"))
        if not blank or name is None:
            raise NotTaken("bad_request", "a part of the form has no name", 400)
        if name[1] in ("station", "camera", "time"):
            fields[name[1]] = content[:200].decode(errors="replace").strip()
        elif picture is None:
            picture = content
        else:
            raise NotTaken("bad_request", "one picture a request: the form has two files", 400)
    else:
        raise NotTaken("bad_request", "the form does not end, or has too many parts", 400)
    if picture is None:
        raise NotTaken("bad_request", "the form has no file: curl -F file=@picture.jpg", 400)
    return PictureForm(fields, picture)
