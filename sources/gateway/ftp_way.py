"""The way in by FTP, for cameras that upload their pictures: a server without files.

What is uploaded is held until it is whole and goes the way of every picture. The camera hears that its
transfer is complete when Kafka has confirmed it, and else that it may send it again.
"""

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import CancelledError
from functools import partial
from typing import Final, NamedTuple

from camera.image import MAX_ORIGINAL_BYTES
from schemas.base import is_id
from settings.sections import FtpSettings
from sources.gateway.arrival import Picture
from sources.gateway.devices import OK, SourceChange
from sources.gateway.errors import FtpMissing, KafkaAway, NotAllowed
from sources.gateway.key_scope import KeyScope
from sources.gateway.keys import KeyRing
from sources.gateway.way import TakesArrivals
from streams import metrics

log = logging.getLogger(__name__)

#: Seconds after which a transfer is given up that nobody answers; Kafka's patience is far shorter.
_LONGEST_S: Final = 120.0
#: Between a station and its camera in the name of a user.
_PLUS: Final = "+"
#: Cameras that are remembered to have been told of.
_MOST: Final = 20_000


class _FtpSender(NamedTuple):
    """Who has logged in: a camera of a station, by which key."""

    station: str
    camera: str
    scope: KeyScope
    origin: str


class FtpWay:
    """The server.

    Args:
        settings: of it; it has a port.
        reception: takes the pictures.
        keys: a key is the password; the user is the station, or STATION+CAMERA.
        report: is given how each camera does, whenever that changes.
        clock: seconds since 1970.

    Raises FtpMissing.
    """

    name = "ftp"

    def __init__(
        self,
        settings: FtpSettings,
        reception: TakesArrivals,
        keys: KeyRing,
        *,
        report: Callable[[SourceChange], None] = lambda _: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        try:
            from sources.gateway.ftp_server import FtpHost, FtpServer
        except ImportError as error:
            raise FtpMissing(
                "gateway.ftp.port is set, and pyftpdlib is not installed: `pip install pyftpdlib` into the"
                " environment of skyfuse, or install skyfuse[ftp]"
            ) from error
        host = FtpHost(self._admitted, self._taken, self._too_large)
        self._bound: Callable[[], FtpServer] = partial(FtpServer, settings, host)
        self._reception = reception
        self._keys = keys
        self._report = report
        self._clock = clock
        self._words: dict[tuple[str, str], str] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self.address: tuple[str, int] | None = None
        self.listening = asyncio.Event()

    async def serve(self) -> None:
        """Serve until cancelled."""
        self._loop = asyncio.get_running_loop()
        server = self._bound()
        stop = threading.Event()
        thread = threading.Thread(target=server.serve_until, args=(stop,), name="ftp", daemon=True)
        thread.start()
        self.address = server.address
        self.listening.set()
        log.info("takes FTP at %s:%d", *self.address)
        try:
            await asyncio.Event().wait()
        finally:
            stop.set()
            # A client's thread may wait for this loop: it goes on meanwhile.
            await asyncio.to_thread(thread.join, 10.0)

    def _admitted(self, user: str, key: str, origin: str) -> _FtpSender | None:
        """Who shows a key, None: nobody that may send for this station. Of any thread."""
        scope = self._keys.holder(key)
        station, _, camera = user.partition(_PLUS)
        camera = camera or "main"
        if scope is None or not is_id(station) or not is_id(camera) or not scope.covers(station):
            metrics.TURNED_AWAY.labels(self.name, "no_key" if scope is None else "not_allowed").inc()
            return None
        return _FtpSender(station, camera, scope, origin)

    def _taken(self, sender: _FtpSender, data: bytes) -> str:
        """Publish an upload; the reply to it. Of any thread but the loop's."""
        assert self._loop is not None
        taking = asyncio.run_coroutine_threadsafe(self._take(sender, data), self._loop)
        try:
            return taking.result(_LONGEST_S)
        except (CancelledError, TimeoutError):
            return "451 The gateway is being stopped: send it again."

    def _too_large(self, sender: _FtpSender) -> str:
        """The reply to an upload that was given up for its size. Of any thread but the loop's."""
        assert self._loop is not None
        metrics.TURNED_AWAY.labels(self.name, "too_large").inc()
        words = f"its picture is larger than {MAX_ORIGINAL_BYTES} bytes: make it smaller at the camera"
        self._loop.call_soon_threadsafe(self._become, sender, "too_large", words)
        return f"552 More than {MAX_ORIGINAL_BYTES} bytes are not taken: send a smaller picture [too_large]."

    async def _take(self, sender: _FtpSender, data: bytes) -> str:
        now_ms = int(self._clock() * 1000)
        try:
            receipt = await self._reception.take_picture(
                Picture(
                    station=sender.station, taken_at=now_ms, data=data, received_at=now_ms, way=self.name,
                    camera=sender.camera, origin=sender.origin, scope=sender.scope,
                )
            )  # fmt: skip
        except KafkaAway:
            metrics.TURNED_AWAY.labels(self.name, "kafka_away").inc()
            return "451 Kafka is away: send it again later."
        except NotAllowed:
            return "550 This key is not for that station."
        except Exception:
            log.exception("a picture of %s+%s", sender.station, sender.camera)
            return "451 Something went wrong that should not: send it again later."
        if receipt.refused:
            code, why = receipt.refused[0].code, receipt.refused[0].why
            self._become(sender, code, f"its picture cannot be used: {why}")
            return f"552 This is no picture that can be used [{code}]."
        self._become(sender, OK, "it sends pictures")
        return "226 It is taken."

    def _become(self, sender: _FtpSender, word: str, words: str) -> None:
        """How the camera does, reported when it changes. Of the loop's thread."""
        camera = sender.station, sender.camera
        if self._words.get(camera) == word or (camera not in self._words and len(self._words) >= _MOST):
            return
        self._words[camera] = word
        self._report(SourceChange(sender.station, f"camera {sender.camera}", word, words, word == OK))
