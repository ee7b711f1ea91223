"""One key frame of a stream as a JPEG: a program of its own, since opening a dead stream may hang for ever.

    python -m sources.cameras.grab < request.json > picture.jpg

The request, `{"url": …, "username": …, "password": …, "timeout_s": …}`, comes by standard input: what stands
in a command line is for everybody to read. Exit code 1, and a word on standard error, where there is none.
"""

import json
import signal
import sys
import time
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote, urlsplit, urlunsplit

#: Nothing else is opened, whatever a stream's description says.
_PROTOCOLS: Final = "rtsp,rtsps,rtp,udp,tcp,tls"
_QUALITY: Final = 92
#: Frames that are decoded before a key frame is given up.
_MOST_FRAMES: Final = 3


def address_of(url: str, username: str | None, password: str) -> str:
    """The address as FFmpeg wants it: with who asks in it."""
    if username is None:
        return url
    parts = urlsplit(url)
    return urlunsplit(
        parts._replace(netloc=f"{quote(username, safe='')}:{quote(password, safe='')}@{parts.netloc}")
    )


def grab(request: Mapping[str, Any]) -> bytes:
    """A JPEG. Raises av.error.FFmpegError and LookupError."""
    import av
    import simplejpeg

    timeout_s = float(request["timeout_s"])
    options = {
        "rtsp_transport": "tcp",
        "timeout": str(round(timeout_s * 1e6)),
        "protocol_whitelist": _PROTOCOLS,
    }
    url = address_of(request["url"], request.get("username"), request.get("password", ""))
    with av.open(url, options=options, timeout=timeout_s) as container:
        stream = container.streams.video[0]
        stream.codec_context.skip_frame = "NONKEY"
        for number, frame in enumerate(container.decode(stream)):
            if frame.key_frame or number >= _MOST_FRAMES:
                pixels = frame.to_ndarray(format="rgb24")
                encoded: bytes = simplejpeg.encode_jpeg(
                    pixels, quality=_QUALITY, colorspace="RGB", colorsubsampling="422"
                )
                return encoded
    raise LookupError("the stream ended before a key frame")


def main() -> int:
    """Read a request, write a picture."""
    request = json.load(sys.stdin)
    # Should nobody be there any more to end it: the kernel does, also inside FFmpeg.
    signal.alarm(round(float(request["timeout_s"])) + 5)
    began = time.monotonic()
    try:
        picture = grab(request)
    except Exception as error:  # noqa: BLE001
        # Its words have the address, with the password. The kind of error says enough, but for one: what
        # FFmpeg says of an answer that it waited for in vain differs.
        waited = time.monotonic() - began > 0.9 * float(request["timeout_s"])
        print("TimeoutError" if waited else type(error).__name__, file=sys.stderr)
        return 1
    sys.stdout.buffer.write(picture)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
