"""Addresses that are asked for readings, on a schedule, going on where they were: a way into the gateway."""

import asyncio
import logging
import random
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import tzinfo
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from schemas.base import format_time, from_ms
from sources.adapters.core.translation import MAX_BYTES
from sources.asking import Availability, Setback, asked_of
from sources.entries import PullEntry
from sources.fetch import Fetcher, Known
from sources.gateway.arrival import Arrival
from sources.gateway.devices import OK, SourceChange
from sources.gateway.way import TakesPayloads, side_by_side
from sources.pull.cursors import Cursor, Cursors
from sources.pull.pages import following, page_of
from sources.pull.stretch import Stretch, is_gap, next_stretch, written
from streams import metrics

log = logging.getLogger(__name__)

#: Seconds between two questions of one entry while it makes up for a gap, and between two pages.
_BETWEEN_S: Final = 1.0
#: Stations of an entry that are reported.
_STATIONS: Final = 200


class _Midway(NamedTuple):
    """A question of which some pages are answered: the address with its times, and the page that is next."""

    stretch: Stretch | None
    written: str
    asked: str
    number: int


class PullSchedule:
    """A way in: asks all entries until it is cancelled.

    Args:
        entries: whom to ask for what.
        reception: takes what they answer.
        file: where it is kept how far each was asked.
        zone_of: of a station's civil time.
        known: set when the records that tell it have been read; it begins then.
        report: is given how each does, for the stations that it is of, whenever that changes.
        clock: seconds since 1970.
    """

    name = "pull"

    def __init__(
        self,
        entries: Sequence[PullEntry],
        reception: TakesPayloads,
        file: Path,
        *,
        zone_of: Callable[[str], tzinfo | None] = lambda _: None,
        known: asyncio.Event | None = None,
        report: Callable[[SourceChange], None] = lambda _: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._known = known
        self._entries = entries
        self._reception = reception
        self._file = file
        self._zone_of = zone_of
        self._clock = clock
        self._midway: dict[str, _Midway] = {}
        #: By entry, the stations that its answers were of.
        self._stations: dict[str, dict[str, None]] = {
            entry.name: {} if entry.station is None else {entry.station: None} for entry in entries
        }
        self.states = {
            entry.name: _availability(entry, self._stations[entry.name], report) for entry in entries
        }

    async def serve(self) -> None:
        """Ask them until cancelled. One that fails is asked again, later and later."""
        with Cursors(self._file) as cursors:
            entries = {f"pull {one.name}": one for one in self._entries}
            await side_by_side(entries, lambda entry: self._ask(entry, cursors), self._known)

    def _now_ms(self) -> int:
        return round(self._clock() * 1000)

    async def _ask(self, entry: PullEntry, cursors: Cursors) -> None:
        every_s = entry.every.total_seconds()
        at = cursors.read(entry.name, entry.url)
        # Not all at once after a start, and not before a server that has had enough has said.
        pause = max(random.uniform(0.0, min(every_s, 5.0)), at.not_before_ms / 1000 - self._clock())
        while True:
            await asyncio.sleep(max(0.0, pause))
            began = self._clock()
            came = await self.states[entry.name].ask(partial(self._once, entry, cursors))
            if isinstance(came, Setback):
                pause = came.pause_s
                if came.asked_s:
                    kept = cursors.read(entry.name, entry.url)
                    not_before_ms = self._now_ms() + round(came.asked_s * 1000)
                    cursors.keep(entry.name, entry.url, kept._replace(not_before_ms=not_before_ms))
            else:
                # Somewhat by chance: a fleet of gateways must not come in step.
                pause = _BETWEEN_S if came else every_s * random.uniform(0.95, 1.05)
                pause -= self._clock() - began

    async def _once(self, entry: PullEntry, cursors: Cursors) -> bool:
        """Ask for the next stretch and publish the answer; whether there is more to be asked at once."""
        now_ms = self._now_ms()
        at = cursors.read(entry.name, entry.url)
        stretch = None
        url = entry.url
        midway = self._midway.get(entry.name)
        if midway is not None:
            stretch, url = midway.stretch, midway.written
        elif entry.of_times:
            stretch = next_stretch(
                at.cursor_ms,
                now_ms,
                every_ms=round(entry.every.total_seconds() * 1000),
                span_ms=round(entry.span.total_seconds() * 1000),
                overlap_ms=round(entry.overlap.total_seconds() * 1000),
                back_ms=round(entry.back.total_seconds() * 1000),
            )
            url = written(entry.url, stretch, entry.times)
            if is_gap(at.cursor_ms, now_ms, round(entry.every.total_seconds() * 1000)):
                log.warning(
                    "pull %s makes up for a gap: asks for %s to %s",
                    entry.name, *(format_time(from_ms(ms)) for ms in stretch),
                )  # fmt: skip
                metrics.PULLED.labels(entry.name, "gap").inc()
        # A stretch is a question of its own: what the last one was answered by says nothing of this one.
        known = at.known if stretch is None and midway is None else Known()
        headers = {name: value.get_secret_value() for name, value in entry.headers.items()}
        fetcher = Fetcher(asked_of(entry, url, MAX_BYTES, headers))
        page = midway or _Midway(stretch, url, page_of(url, 1), 1)
        try:
            while True:
                answer = await fetcher.fetch(known, page.asked)
                if page.number == 1:
                    at = at._replace(known=answer.known)
                if answer.body is None:
                    break
                await self._publish(entry, answer.body, now_ms)
                found = following(
                    url, page.asked, page.number, answer.body, answer.following, entry.page_size
                )
                if found is None:
                    break
                # What comes between now and the last page leaves off here, and goes on here.
                page = self._midway[entry.name] = page._replace(asked=found, number=page.number + 1)
                known = Known()
                await asyncio.sleep(_BETWEEN_S)
        finally:
            await fetcher.close()
        self._midway.pop(entry.name, None)
        # Only now: what is not confirmed is asked for again.
        cursors.keep(
            entry.name,
            entry.url,
            Cursor(None if stretch is None else stretch.until_ms, 0, at.known),
        )
        self.states[entry.name].good(OK, "it answers")
        return stretch is not None and stretch.until_ms < now_ms

    async def _publish(self, entry: PullEntry, body: bytes, now_ms: int) -> None:
        zone: tzinfo | None = None if entry.zone is None else ZoneInfo(entry.zone)
        if zone is None and entry.station is not None:
            zone = self._zone_of(entry.station)
        parts = urlsplit(entry.url)
        receipt = await self._reception.take(
            Arrival(
                adapter=entry.adapter,
                body=body,
                received_at=now_ms,
                way="pull",
                topic=parts.path,  # without its query, which may hold a key
                origin=f"pull {entry.name}",
                station=entry.station,
                zone=zone,
            )
        )
        stations = self._stations[entry.name]
        for station in receipt.stations:
            if len(stations) < _STATIONS:
                stations[station] = None


def _availability(
    entry: PullEntry, stations: Mapping[str, None], report: Callable[[SourceChange], None]
) -> Availability:
    def changed(before: str, word: str, words: str) -> None:
        del before
        for station in stations:
            report(SourceChange(station, f"pull {entry.name}", word, words, word == OK))

    return Availability(
        f"pull {entry.name}",
        entry.every.total_seconds(),
        counted=lambda word: metrics.PULLED.labels(entry.name, word).inc(),
        changed=changed,
    )
