"""The first whole picture of an MJPEG stream (multipart/x-mixed-replace), however it is written. Pure.

Boundaries are of no use: many a camera announces another one than it writes. A part's Content-Length is,
where there is one; else the picture ends where the next part begins.
"""

import re
from typing import Final

from camera.picture_file import JPEG_START

_LENGTH: Final = re.compile(rb"content-length:[ \t]*(\d{1,9})[ \t]*\r?$", re.IGNORECASE | re.MULTILINE)
#: The end of a JPEG, and what comes before the next part.
_END: Final = re.compile(rb"\xff\xd9\s*--")


def first_picture(stream: bytes | bytearray) -> bytes | None:
    """The first JPEG, if all of it is in what has been read so far."""
    start = stream.find(JPEG_START)
    if start < 0:
        return None
    stated = _LENGTH.findall(stream, 0, start)
    if stated:
        end = start + int(stated[-1])
        if len(stream) < end:
            return None
        return bytes(stream[start:end])
    end_of_part = _END.search(stream, start)
    return None if end_of_part is None else bytes(stream[start : end_of_part.start() + 2])
