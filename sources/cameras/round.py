"""Cameras that are asked, each at its own cadence, with its faults in words: a way into the gateway."""

import asyncio
import logging
import random
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from sources.asking import Availability
from sources.cameras.cadence import next_picture
from sources.cameras.shutter import Shutter, Taken, shutter_of
from sources.cameras.view import FROZEN_AFTER_MS, Shown, shown
from sources.entries import CameraEntry
from sources.errors import FetchError
from sources.gateway.arrival import Picture
from sources.gateway.devices import OK, SourceChange
from sources.gateway.errors import KafkaAway
from sources.gateway.way import TakesArrivals, side_by_side
from streams import metrics

log = logging.getLogger(__name__)

#: A camera's clock may be so far ahead (ms), and what it calls its newest picture so old.
_AHEAD_MS: Final = 60_000
_OLD_MS: Final = 3_600_000
#: Streams that are opened at a time.
_STREAMS: Final = 4
#: The first picture is taken within so many seconds, by chance.
_FIRST_S: Final = 5.0
NIGHT: Final = "night"
FROZEN: Final = "frozen"
_WELL: Final = (OK, NIGHT)


class CameraRound:
    """A way in: asks all cameras until it is cancelled.

    Args:
        entries: the cameras that are asked.
        reception: takes what they show.
        place_of: where a station is, degrees north and east, for cameras that say nothing of it.
        known: set when the records that tell it have been read; it begins then.
        report: is given how each camera does, whenever that changes.
        clock: seconds since 1970.
    """

    name = "cameras"

    def __init__(
        self,
        entries: Sequence[CameraEntry],
        reception: TakesArrivals,
        *,
        place_of: Callable[[str], tuple[float, float] | None] = lambda _: None,
        known: asyncio.Event | None = None,
        report: Callable[[SourceChange], None] = lambda _: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._known = known
        self._reception = reception
        self._place_of = place_of
        self._clock = clock
        self._entries = entries
        self._streams = asyncio.Semaphore(_STREAMS)
        self.states = {entry.name: _availability(entry, clock, report) for entry in entries}

    async def serve(self) -> None:
        """Ask them until cancelled. One that fails is asked again, later and later."""
        await side_by_side({f"camera {one.name}": one for one in self._entries}, self._watch, self._known)

    def _now_ms(self) -> int:
        return round(self._clock() * 1000)

    async def _watch(self, entry: CameraEntry) -> None:
        every_s = entry.every.total_seconds()
        night_ms = None if entry.night == "off" else round(entry.night.total_seconds() * 1000)
        one = _Watched(entry, self._streams)
        first_s: float | None = random.uniform(0.0, min(_FIRST_S, every_s))
        try:
            while True:
                wake_ms, wanted = next_picture(
                    entry.name, round(every_s * 1000), night_ms, self._place(entry), self._now_ms()
                )
                if not wanted:
                    self.states[entry.name].good(NIGHT, "it sends pictures")
                pause = (wake_ms - self._now_ms()) / 1000
                await asyncio.sleep(pause if first_s is None else min(pause, first_s))
                first_s = None
                if wanted:
                    setback = await self.states[entry.name].ask(partial(self._once, one))
                    if setback is not None:
                        await one.close()
                        await asyncio.sleep(max(0.0, setback.pause_s - every_s))
        finally:
            await one.close()

    async def _once(self, one: "_Watched") -> None:
        """Take a picture, and hand it over where it is another one than before."""
        taken = await one.take()
        now_ms = self._now_ms()
        if taken.data is not None:
            view = await asyncio.to_thread(shown, taken.data, one.view, now_ms)
            if one.view is None or view.scene != one.view.scene:
                await self._hand_over(one.entry, taken.data, taken.modified_ms, now_ms)
            one.view = view
        state = self.states[one.entry.name]
        if one.view is not None and now_ms - one.view.since_ms >= FROZEN_AFTER_MS:
            hours = (now_ms - one.view.since_ms) / 3_600_000
            state.good(FROZEN, f"it has shown the same picture for {hours:.1f} h", warn=True)
        else:
            state.good(OK, "it sends pictures")

    async def _hand_over(self, entry: CameraEntry, data: bytes, modified_ms: int | None, now_ms: int) -> None:
        picture = Picture(
            station=entry.station,
            taken_at=_taken_at(modified_ms, now_ms),
            data=data,
            received_at=now_ms,
            way="camera",
            camera=entry.camera,
            origin=f"camera {entry.name}",
            crop=entry.area,
        )
        try:
            receipt = await self._reception.take_picture(picture)
        except KafkaAway as error:
            # It is let go: there will be another one.
            log.warning("a picture of camera %s was not published: %s", entry.name, error)
            raise
        if receipt.refused:
            raise FetchError(receipt.refused[0].code, f"its picture cannot be used: {receipt.refused[0].why}")

    def _place(self, entry: CameraEntry) -> tuple[float, float] | None:
        if entry.latitude is not None and entry.longitude is not None:
            return entry.latitude, entry.longitude
        return self._place_of(entry.station)


class _Watched:
    """A camera, and what it has shown last. It is opened anew after a failure: its password may have been
    mended, and it shall not answer that we have a picture that was not published.
    """

    def __init__(self, entry: CameraEntry, streams: asyncio.Semaphore) -> None:
        self.entry = entry
        self.view: Shown | None = None
        self._streams = streams
        self._shutter: Shutter | None = None

    async def take(self) -> Taken:
        """A picture. Raises FetchError, SourceError."""
        if self._shutter is None:
            self._shutter = shutter_of(self.entry, self._streams)
        return await self._shutter.take()

    async def close(self) -> None:
        """Let go of what is held."""
        shutter, self._shutter = self._shutter, None
        if shutter is not None:
            await shutter.close()


def _availability(
    entry: CameraEntry, clock: Callable[[], float], report: Callable[[SourceChange], None]
) -> Availability:
    def changed(before: str, word: str, words: str) -> None:
        if before:
            metrics.CAMERA_STATE.remove(entry.station, entry.camera, before)
        metrics.CAMERA_STATE.labels(entry.station, entry.camera, word).set(clock())
        report(SourceChange(entry.station, f"camera {entry.camera}", word, words, word in _WELL))

    return Availability(
        f"camera {entry.name}",
        entry.every.total_seconds(),
        counted=lambda word: metrics.CAMERA_ASKED.labels(entry.station, entry.camera, word).inc(),
        changed=changed,
    )


def _taken_at(modified_ms: int | None, now_ms: int) -> int:
    """When a picture was taken: as the server says, unless that cannot be."""
    if modified_ms is None or not now_ms - _OLD_MS <= modified_ms <= now_ms + _AHEAD_MS:
        return now_ms
    return min(modified_ms, now_ms)
