"""Files that are put into folders become readings and frames: a way into the gateway."""

import asyncio
import logging
import os
import time
from collections.abc import Callable, Coroutine, Sequence
from datetime import tzinfo
from typing import IO, Final
from zoneinfo import ZoneInfo

from camera.image import MAX_ORIGINAL_BYTES
from sources.adapters.core.parts import Part
from sources.entries import CameraEntry, FolderEntry
from sources.errors import FileRefused
from sources.files.inbox import Claimed, Inbox
from sources.files.piece import Piece, Unread
from sources.files.unpacking import pieces
from sources.gateway.arrival import Arrival, Picture, Receipt
from sources.gateway.devices import OK, SourceChange
from sources.gateway.errors import KafkaAway
from sources.gateway.way import TakesArrivals, side_by_side
from streams import metrics

log = logging.getLogger(__name__)

#: Seconds between two looks into a folder.
_LOOK_S: Final = 1.0
#: Seconds after which a folder is tried again that cannot be used.
_RETRY_S: Final = 10.0
#: For so long (s) a picture has not grown when it is whole: cameras send theirs in one go.
_PICTURE_QUIET_S: Final = 3.0
#: Refused parts that a reason names.
_NAMED: Final = 8


class FolderWatch:
    """A way in: all folders, until it is cancelled.

    Args:
        folders: of files of readings.
        cameras: that put their pictures into folders.
        reception: takes what is in them.
        zone_of: of a station's civil time.
        known: set when the records that tell it have been read; it begins then.
        report: is given how each camera's folder does, whenever that changes.
        now: the clock, s since 1970.
        look_s: seconds between two looks.
    """

    name = "folders"

    def __init__(
        self,
        folders: Sequence[FolderEntry],
        cameras: Sequence[CameraEntry],
        reception: TakesArrivals,
        *,
        zone_of: Callable[[str], tzinfo | None] = lambda _: None,
        known: asyncio.Event | None = None,
        report: Callable[[SourceChange], None] = lambda _: None,
        now: Callable[[], float] = time.time,
        look_s: float = _LOOK_S,
    ) -> None:
        self._known = known
        self._look_s = look_s
        self._jobs: list[_ReadingFiles | _Pictures] = [
            _ReadingFiles(one, reception, zone_of, now) for one in folders
        ]
        self._jobs += [_Pictures(one, reception, report, now) for one in cameras]

    async def serve(self) -> None:
        """Watch them until cancelled. A folder that cannot be used is tried again."""
        jobs = {f"folder {one.inbox.folder}": one for one in self._jobs}
        await side_by_side(jobs, self._watch, self._known)

    async def _watch(self, job: "_ReadingFiles | _Pictures") -> None:
        logged = ""
        while True:
            try:
                with job.inbox.held() as ours:
                    if ours:
                        logged = ""
                        job.become(OK, "its folder is watched")
                        await self._serve(job)
                    words = "another process watches it already"
            except OSError as error:
                words = error.strerror or type(error).__name__
            if words != logged:
                log.warning("folder %s cannot be watched, and is tried again: %s", job.inbox.folder, words)
                logged = words
                job.become("no_folder", f"its folder cannot be watched: {words}")
            await asyncio.sleep(_RETRY_S)

    async def _serve(self, job: "_ReadingFiles | _Pictures") -> None:
        """Until a fault of the folder's own; raises OSError."""
        for claimed in job.inbox.begun():
            await self._settle(job, claimed)
        while True:
            for claimed in await asyncio.to_thread(job.inbox.claim):
                await self._settle(job, claimed)
            await asyncio.sleep(self._look_s)

    async def _settle(self, job: "_ReadingFiles | _Pictures", claimed: Claimed) -> None:
        """Read one file, and put it where it belongs. Only the folder's own faults leave as OSError."""
        name = ascii(claimed.name)[1:-1]
        try:
            with job.inbox.opened(claimed) as file:
                before = os.fstat(file.fileno())
                reason, refused = await job.take(claimed.name, file, before)
                after = os.fstat(file.fileno())
        except OSError as error:
            reason, refused = f"it cannot be read: {error.strerror}", True
        except Exception as error:
            log.exception("file %s in %s", name, job.inbox.folder)
            reason, refused = f"something went wrong that should not: {type(error).__name__}", True
        else:
            if (after.st_size, after.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
                job.inbox.give_back(claimed)
                return
        if refused:
            log.warning("file %s in %s cannot be used: %s", name, job.inbox.folder, reason.splitlines()[0])
            job.inbox.failed(claimed, reason)
        elif job.keeps:
            job.inbox.done(claimed, reason)
        else:
            job.inbox.gone(claimed)
        metrics.FILES.labels("failed" if refused else "done").inc()


class _ReadingFiles:
    keeps = True

    def become(self, word: str, words: str) -> None:
        """A folder of readings may be of any stations: the log has it."""

    def __init__(
        self,
        entry: FolderEntry,
        reception: TakesArrivals,
        zone_of: Callable[[str], tzinfo | None],
        now: Callable[[], float],
    ) -> None:
        self._entry = entry
        self._reception = reception
        self._zone_of = zone_of
        self._now = now
        self.inbox = Inbox(entry.path, entry.quiet.total_seconds())

    async def take(self, name: str, file: IO[bytes], status: os.stat_result) -> tuple[str, bool]:
        """What is to be noted of it, and whether nothing of it could be used."""
        published = 0
        parts: list[Part] = []
        letters: list[str] = []
        pile = pieces(file, name, status.st_size, self._entry.adapter)
        try:
            while (piece := await asyncio.to_thread(next, pile, None)) is not None:
                if isinstance(piece, Unread):
                    parts.append(Part(piece.error.code, piece.where, str(piece.error)))
                    continue
                receipt = await self._send(piece, status.st_mtime_ns // 1_000_000)
                published += receipt.published
                parts += receipt.refused[: _NAMED + 1]
                if receipt.dead_letter is not None:
                    letters.append(receipt.dead_letter)
                del parts[4 * _NAMED :], letters[_NAMED:]
        except FileRefused as error:
            used = f"\n{published} readings before that were taken" if published else ""
            return f"{error} [{error.code}]{used}", True
        return _words(published, parts, letters), not published and bool(parts)

    async def _send(self, piece: Piece, changed_ms: int) -> Receipt:
        station = self._entry.station
        zone: tzinfo | None = None if self._entry.zone is None else ZoneInfo(self._entry.zone)
        if zone is None and station is not None:
            zone = self._zone_of(station)
        arrival = Arrival(
            adapter=piece.adapter,
            body=piece.body,
            # The file's own time: who reads it again must not find another one.
            received_at=changed_ms,
            way="file",
            topic=ascii(piece.where)[1:-1],
            origin=f"folder {self.inbox.folder}",
            station=station,
            zone=zone,
            read_at=round(self._now() * 1000),
        )
        return await _until_confirmed(lambda: self._reception.take(arrival))


class _Pictures:
    keeps = False

    def __init__(
        self,
        entry: CameraEntry,
        reception: TakesArrivals,
        report: Callable[[SourceChange], None],
        now: Callable[[], float],
    ) -> None:
        assert entry.folder is not None
        self._entry = entry
        self._reception = reception
        self._report = report
        self._now = now
        self._word = ""
        self.inbox = Inbox(entry.folder, _PICTURE_QUIET_S)

    def become(self, word: str, words: str) -> None:
        """How the camera does, reported when it changes."""
        if word != self._word:
            self._word = word
            source = f"camera {self._entry.camera}"
            self._report(SourceChange(self._entry.station, source, word, words, word == OK))

    async def take(self, name: str, file: IO[bytes], status: os.stat_result) -> tuple[str, bool]:
        """What is to be noted of it, and whether it could not be used."""
        data = await asyncio.to_thread(file.read, MAX_ORIGINAL_BYTES + 1)
        if len(data) > MAX_ORIGINAL_BYTES:
            self.become("too_large", "what it uploads is no picture: it is too large")
            return f"{name!a} is no picture: it has more than {MAX_ORIGINAL_BYTES} bytes", True
        changed_ms = status.st_mtime_ns // 1_000_000
        receipt = await _until_confirmed(
            lambda: self._reception.take_picture(
                Picture(
                    station=self._entry.station,
                    taken_at=changed_ms,
                    data=data,
                    received_at=changed_ms,
                    way="camera",
                    camera=self._entry.camera,
                    origin=f"folder {self.inbox.folder}",
                    crop=self._entry.area,
                    read_at=round(self._now() * 1000),
                )
            )
        )
        if receipt.refused:
            self.become(receipt.refused[0].code, f"its picture cannot be used: {receipt.refused[0].why}")
        else:
            self.become(OK, "it sends pictures")
        return _words(receipt.published, list(receipt.refused), [receipt.dead_letter or ""]), bool(
            receipt.refused
        )


async def _until_confirmed(send: Callable[[], Coroutine[None, None, Receipt]]) -> Receipt:
    """What is not confirmed is sent again: the file stays where it is meanwhile."""
    while True:
        try:
            return await send()
        except KafkaAway as error:
            await asyncio.sleep(error.retry_after_s)


def _words(published: int, parts: Sequence[Part], letters: Sequence[str]) -> str:
    """What was not used, in lines; "" where there is nothing to say."""
    if not parts:
        return ""
    lines = [f"{published} readings were taken; not used:"]
    for part in parts[:_NAMED]:
        times = f" ({part.times} times)" if part.times > 1 else ""
        lines.append(f"{part.where + ': ' if part.where else ''}{part.why} [{part.code}]{times}")
    if len(parts) > _NAMED:
        lines.append("and more")
    lines += [f"skyfuse dlq show {letter}" for letter in letters if letter]
    return "\n".join(lines)
