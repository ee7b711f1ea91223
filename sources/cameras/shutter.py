"""How a picture is had of each kind of camera. What goes wrong is a FetchError, in words for people."""

import asyncio
import contextlib
import json
import sys
from collections.abc import Mapping
from typing import Final, NamedTuple, Protocol

from camera.image import MAX_ORIGINAL_BYTES
from camera.picture_file import kind_of
from datasets.errors import SourceError
from sources.asking import asked_of
from sources.cameras.mjpeg import first_picture
from sources.entries import CameraEntry
from sources.errors import FetchError
from sources.fetch import Fetcher, Known

#: Seconds that the program gets beyond its own limit.
_GRACE_S: Final = 2.0
#: What the kinds of PyAV's errors mean.
_STREAM_ERRORS: Final[Mapping[str, tuple[str, str]]] = {
    "HTTPUnauthorizedError": ("unauthorized", "user name or password are wrong (401)"),
    "HTTPForbiddenError": ("forbidden", "the user may not do that (403)"),
    "HTTPNotFoundError": ("not_found", "there is no such stream (404)"),
    "ConnectionRefusedError": ("unreachable", "it cannot be reached: connection refused"),
    "TimeoutError": ("timeout", "the stream does not answer"),
    "ExitError": ("timeout", "the stream does not answer"),
    "LookupError": ("no_picture", "the stream has no key frame"),
    "IndexError": ("no_picture", "the stream has no picture in it"),
    "ModuleNotFoundError": ("no_pyav", "PyAV is not installed: pip install av"),
}


class Taken(NamedTuple):
    """A picture; `data` is None where the camera says that it is still the last one."""

    data: bytes | None
    modified_ms: int | None = None  #: when the camera says that it was taken


class Shutter(Protocol):
    """Takes a picture of one camera. Raises FetchError."""

    async def take(self) -> Taken:
        """A picture."""

    async def close(self) -> None:
        """Let go of what is held."""


def shutter_of(entry: CameraEntry, streams: asyncio.Semaphore) -> Shutter:
    """The shutter of a camera that is asked. Raises SourceError where its password cannot be read.

    `streams`: how many streams may be opened at a time, each by a process of its own with FFmpeg in it.
    """
    if entry.stream is not None:
        return _RtspStream(entry.stream, entry.credentials(), entry.timeout.total_seconds(), streams)
    url = entry.snapshot or entry.mjpeg
    if url is None:
        raise SourceError(f"camera {entry.name} is not one that is asked")
    fetcher = Fetcher(asked_of(entry, url, MAX_ORIGINAL_BYTES))
    return _Snapshot(fetcher) if entry.snapshot else _Mjpeg(fetcher)


class _Snapshot:
    def __init__(self, fetcher: Fetcher) -> None:
        self._fetcher = fetcher
        self._known = Known()

    async def take(self) -> Taken:
        answer = await self._fetcher.fetch(self._known)
        self._known = answer.known
        if answer.body is not None:
            _expect_picture(answer.body)
        return Taken(answer.body, answer.modified_ms)

    async def close(self) -> None:
        await self._fetcher.close()


class _Mjpeg:
    def __init__(self, fetcher: Fetcher) -> None:
        self._fetcher = fetcher

    async def take(self) -> Taken:
        async with self._fetcher.open() as answer:
            read = bytearray()
            async for piece in answer.content.iter_any():
                read += piece
                picture = first_picture(read)
                if picture is not None:
                    return Taken(picture)
                if len(read) > MAX_ORIGINAL_BYTES:
                    break
        if read and not answer.headers.get("Content-Type", "").lower().startswith("multipart/"):
            raise FetchError("not_a_picture", "it is no MJPEG stream: a single picture is a `snapshot`")
        raise FetchError("no_picture", "the stream ended before a whole picture")

    async def close(self) -> None:
        await self._fetcher.close()


class _RtspStream:
    def __init__(
        self, url: str, credentials: tuple[str, str] | None, timeout_s: float, streams: asyncio.Semaphore
    ) -> None:
        username, password = credentials or (None, "")
        self._request = json.dumps(
            {"url": url, "username": username, "password": password, "timeout_s": timeout_s}
        ).encode()
        self._timeout_s = timeout_s
        self._streams = streams

    async def take(self) -> Taken:
        async with self._streams:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "sources.cameras.grab",
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                start_new_session=True,
            )  # fmt: skip
            try:
                async with asyncio.timeout(self._timeout_s + _GRACE_S):
                    picture, words = await process.communicate(self._request)
            except TimeoutError:
                raise FetchError(
                    "timeout", f"the stream gave no picture within {self._timeout_s:g} s"
                ) from None
            finally:
                if process.returncode is None:
                    with contextlib.suppress(ProcessLookupError):
                        process.kill()
                    await process.wait()
        if process.returncode == 0:
            return Taken(picture)
        kind = (words.decode(errors="replace").split() or [""])[-1]
        code, why = _STREAM_ERRORS.get(kind, ("broken_stream", f"the stream cannot be read: {kind[:40]}"))
        raise FetchError(code, why)

    async def close(self) -> None:
        """Nothing is open between two pictures."""


def _expect_picture(data: bytes) -> None:
    if kind_of(data) is None:
        seen = "a web page" if data.lstrip()[:1] == b"<" else "something else" if data else "nothing"
        raise FetchError("not_a_picture", f"it answers with {seen}, not with a picture")
