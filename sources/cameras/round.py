"""Cameras that are asked, each at its own cadence, with its faults in words: a way into the gateway."""

import asyncio
import logging
import random
import time
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from datasets.errors import SourceError
from sources.cameras.cadence import next_picture
from sources.cameras.shutter import shutter_of
from sources.cameras.view import FROZEN_AFTER_MS, Shown, shown
from sources.entries import CameraEntry
from sources.errors import FetchError
from sources.fetch import pause_s
from sources.gateway.arrival import Picture, Receipt
from sources.gateway.errors import KafkaAway
from streams import metrics

log = logging.getLogger(__name__)

#: A camera's clock may be so far ahead (ms), and what it calls its newest picture so old.
_AHEAD_MS: Final = 60_000
_OLD_MS: Final = 3_600_000
#: Streams that are opened at a time.
_STREAMS: Final = 4
#: The first picture is taken within so many seconds, by chance.
_FIRST_S: Final = 5.0
OK: Final = "ok"
NIGHT: Final = "night"
FROZEN: Final = "frozen"


class TakesPictures(Protocol):
    """The part of the reception that cameras use."""

    async def take_picture(self, picture: Picture) -> Receipt:
        """Publish; raises KafkaAway."""


class CameraState:
    """How a camera does: one word for the metric, a sentence for people, said when it changes."""

    def __init__(self, entry: CameraEntry, clock: Callable[[], float]) -> None:
        self._entry = entry
        self._clock = clock
        self.word = ""
        self.failures = 0  #: in a row

    def good(self, word: str, words: str = "") -> None:
        """It answers; `words` where that is worth a line all the same."""
        self.failures = 0
        self._become(word, words or "it sends pictures", logging.WARNING if words else logging.INFO)

    def fault(self, word: str, words: str) -> None:
        """It does not."""
        self.failures += 1
        self._become(word, words, logging.WARNING)

    def _become(self, word: str, words: str, level: int) -> None:
        metrics.CAMERA_ASKED.labels(self._entry.station, self._entry.camera, word).inc()
        if word == self.word:
            return
        if self.word:
            metrics.CAMERA_STATE.remove(self._entry.station, self._entry.camera, self.word)
        metrics.CAMERA_STATE.labels(self._entry.station, self._entry.camera, word).set(self._clock())
        self.word = word
        log.log(level, "camera %s is %s: %s", self._entry.name, word, words)


class CameraRound:
    """A way in: asks all cameras until it is cancelled.

    Args:
        entries: the cameras that are asked.
        reception: takes what they show.
        place_of: where a station is, degrees north and east, for cameras that say nothing of it.
        known: set when the records that tell it have been read; it begins then.
        clock: seconds since 1970.
    """

    name = "cameras"

    def __init__(
        self,
        entries: Sequence[CameraEntry],
        reception: TakesPictures,
        *,
        place_of: Callable[[str], tuple[float, float] | None] = lambda _: None,
        known: asyncio.Event | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._known = known
        self._reception = reception
        self._place_of = place_of
        self._clock = clock
        self._entries = entries
        self._streams = asyncio.Semaphore(_STREAMS)
        self.states = {entry.name: CameraState(entry, clock) for entry in entries}

    async def serve(self) -> None:
        """Ask them until cancelled. One that fails is asked again, later and later."""
        if self._known is not None:
            await self._known.wait()
        async with asyncio.TaskGroup() as group:
            for entry in self._entries:
                group.create_task(self._watch(entry), name=f"camera {entry.name}")

    def _now_ms(self) -> int:
        return round(self._clock() * 1000)

    async def _watch(self, entry: CameraEntry) -> None:
        state = self.states[entry.name]
        every_ms = round(entry.every.total_seconds() * 1000)
        night_ms = None if entry.night == "off" else round(entry.night.total_seconds() * 1000)
        before: Shown | None = None
        shutter = None
        first_s: float | None = random.uniform(0.0, min(_FIRST_S, entry.every.total_seconds()))
        try:
            while True:
                wake_ms, wanted = next_picture(
                    entry.name, every_ms, night_ms, self._place(entry), self._now_ms()
                )
                if not wanted:
                    state.good(NIGHT, "")
                pause = (wake_ms - self._now_ms()) / 1000
                await asyncio.sleep(pause if first_s is None else min(pause, first_s))
                first_s = None
                if not wanted:
                    continue
                try:
                    # Made anew after a failure: its password may have been mended.
                    shutter = shutter or shutter_of(entry, self._streams)
                    taken = await shutter.take()
                    now_ms = self._now_ms()
                    if taken.data is None:
                        view = before
                    else:
                        view = await asyncio.to_thread(shown, taken.data, before, now_ms)
                    if taken.data is not None and view is not None and _is_new(view, before):
                        await self._hand_over(entry, taken.data, taken.modified_ms, now_ms)
                    before = view
                    if before is not None and now_ms - before.since_ms >= FROZEN_AFTER_MS:
                        hours = (now_ms - before.since_ms) / 3_600_000
                        state.good(FROZEN, f"it has shown the same picture for {hours:.1f} h")
                    else:
                        state.good(OK)
                except (FetchError, SourceError) as error:
                    code = error.code if isinstance(error, FetchError) else "no_password"
                    state.fault(code, str(error))
                    asked = error.retry_after_s if isinstance(error, FetchError) else None
                    if shutter is not None:
                        await shutter.close()
                        shutter = None
                    pause = max(pause_s(state.failures, every_ms / 1000), asked or 0.0)
                    if pause > every_ms / 1000:
                        await asyncio.sleep(pause - every_ms / 1000)
                except KafkaAway as error:
                    # The picture is let go: there will be another one. The camera shall not say that it has
                    # told us of this one.
                    log.warning("a picture of camera %s was not published: %s", entry.name, error)
                    if shutter is not None:
                        await shutter.close()
                        shutter = None
                    await asyncio.sleep(error.retry_after_s * random.uniform(1.0, 1.5))
                except Exception:
                    state.fault("unexpected", "something went wrong that should not, as written here")
                    log.exception("camera %s", entry.name)
                    await asyncio.sleep(pause_s(state.failures, every_ms / 1000))
        finally:
            if shutter is not None:
                await shutter.close()

    async def _hand_over(self, entry: CameraEntry, data: bytes, modified_ms: int | None, now_ms: int) -> None:
        receipt = await self._reception.take_picture(
            Picture(
                station=entry.station,
                taken_at=_taken_at(modified_ms, now_ms),
                data=data,
                received_at=now_ms,
                way="camera",
                camera=entry.camera,
                origin=f"camera {entry.name}",
                crop=entry.area,
            )
        )
        if receipt.refused:
            raise FetchError(receipt.refused[0].code, f"its picture cannot be used: {receipt.refused[0].why}")

    def _place(self, entry: CameraEntry) -> tuple[float, float] | None:
        if entry.latitude is not None and entry.longitude is not None:
            return entry.latitude, entry.longitude
        return self._place_of(entry.station)


def _is_new(view: Shown, before: Shown | None) -> bool:
    return before is None or view.scene != before.scene


def _taken_at(modified_ms: int | None, now_ms: int) -> int:
    """When a picture was taken: as the server says, unless that cannot be."""
    if modified_ms is None or not now_ms - _OLD_MS <= modified_ms <= now_ms + _AHEAD_MS:
        return now_ms
    return min(modified_ms, now_ms)
