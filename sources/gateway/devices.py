"""What devices say of themselves, for the fleet's health: reported when it changes, and now and then."""

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final, NamedTuple

from pydantic import ValidationError

from schemas.base import from_ms, to_ms
from schemas.device import CLOCK, PAYLOAD, DeviceReport, SourceState
from schemas.times import HOUR_MS, MINUTE_MS
from sources.adapters.core.translation import Facts
from sources.gateway.arrival import Arrival, Picture, Receipt
from sources.gateway.errors import KafkaAway
from sources.gateway.reception import Publishes
from sources.gateway.remembered import remember
from streams.stage import Out
from streams.topics import DEVICES

log = logging.getLogger(__name__)

#: Reports that wait, and sources that are known.
_MOST: Final = 20_000
#: What has not changed is reported again after so long, ms.
_AGAIN_MS: Final = HOUR_MS
#: And what is not well so often: alert rules see by it that it lasts.
_UNWELL_AGAIN_MS: Final = 10 * MINUTE_MS
#: And a clock that is wrong, while its times are refused: somebody who is never believed still speaks.
_CLOCK_AGAIN_MS: Final = MINUTE_MS
#: Messages in a row, of one that is understood otherwise, of which nothing can be used.
_UNUSABLE_IN_A_ROW: Final = 3
#: Addresses that send for a station in turns within this time (ms) are two devices.
_IN_TURNS_MS: Final = HOUR_MS
_ADDRESSES: Final = 4
_EVERY_S: Final = 1.0
#: The state of something asked that gives what it should.
OK: Final = "ok"


class _Reported:
    """What was reported of a station last, and when it sent from which address."""

    def __init__(self) -> None:
        self.facts: tuple[object, ...] = ()
        self.reported_at = 0
        self.origins: OrderedDict[str, int] = OrderedDict()
        #: Addresses that came back after another one had sent.
        self.returned: dict[str, int] = {}
        self.last = ""

    def from_address(self, origin: str, at: int) -> tuple[str, ...]:
        """Note who sent; gives the addresses that send in turns, none where there is one only.

        A device that gets a new address changes it once and does not come back to the old one.
        """
        before = self.origins.get(origin)
        if before is not None and origin != self.last and at - before <= _IN_TURNS_MS:
            self.returned[origin] = at
        self.origins[origin] = at
        self.origins.move_to_end(origin)
        while len(self.origins) > _ADDRESSES:
            old, _ = self.origins.popitem(last=False)
            self.returned.pop(old, None)
        self.last = origin
        back = [one for one, when in self.returned.items() if at - when <= _IN_TURNS_MS]
        return tuple(sorted(back)) if len(back) > 1 else ()


class SourceChange(NamedTuple):
    """How something does now that is asked for a station: `source` as in `camera mast`; the rest as of a
    `SourceState`.
    """

    station: str
    source: str
    state: str
    why: str
    well: bool


class DeviceReporter:
    """A listener to all arrivals, and a way that reports what they say of devices. What it has not reported
    yet it may lose: the next message of the device says it again.
    """

    name = "devices"

    def __init__(self, producer: Publishes, prefix: str, *, now: Callable[[], float] = time.time) -> None:
        self._producer = producer
        self._topic = prefix + DEVICES.name
        self._stations: OrderedDict[str, _Reported] = OrderedDict()
        #: Stations whose times are not believed: why, and when that was reported.
        self._unbelieved: OrderedDict[str, tuple[str, int]] = OrderedDict()
        #: Stations of which nothing could be used: how often in a row, and when that was reported.
        self._unusable: OrderedDict[str, tuple[int, int]] = OrderedDict()
        self._now = now
        self._pending: dict[tuple[str, bool | None, str], DeviceReport] = {}
        self._sources: dict[tuple[str, str], SourceState] = {}
        self._look_again_ms = 0

    def taken(self, arrival: Arrival, receipt: Receipt) -> None:
        """A payload arrived."""
        self._clocks(arrival, receipt)
        self._payloads(arrival, receipt)
        facts = {one.station: one for one in receipt.facts}
        for station in dict.fromkeys([*receipt.stations, *facts]):
            one = self._of(station)
            origins = one.from_address(arrival.origin[:120], arrival.received_at) if arrival.origin else ()
            if station not in facts and not origins and not one.facts:  # nearly always
                continue
            fact = facts.get(station, Facts(station))
            stated = (*fact, *origins)
            quiet = fact == Facts(station) and not origins and not one.facts
            again = arrival.received_at - one.reported_at >= _AGAIN_MS
            if quiet or (stated == one.facts and not again):
                continue
            one.facts, one.reported_at = stated, arrival.received_at
            self._put(
                lambda station=station, fact=fact, origins=origins: DeviceReport(  # type: ignore[misc]
                    station=station,
                    at=from_ms(arrival.received_at),
                    battery_percent=fact.battery_percent,
                    battery_volts=fact.battery_volts,
                    firmware=fact.firmware,
                    model=fact.model,
                    name=fact.name,
                    latitude=fact.latitude,
                    longitude=fact.longitude,
                    origins=origins,
                )
            )

    def _clocks(self, arrival: Arrival, receipt: Receipt) -> None:
        """Of whose clock a time was refused: else who speaks, and is not believed, would look silent."""
        if not (receipt.wrong_clocks or self._unbelieved):
            return
        wrong = {one.station: one for one in receipt.wrong_clocks}
        for station in receipt.stations:
            if station not in wrong:
                self._unbelieved.pop(station, None)
        for station, clock in wrong.items():
            code, reported_at = self._unbelieved.get(station, ("", 0))
            at_ms = arrival.received_at
            if clock.code == code and at_ms - reported_at < _CLOCK_AGAIN_MS:
                continue
            remember(self._unbelieved, station, (clock.code, at_ms))
            self._put(
                lambda station=station, clock=clock, at=from_ms(at_ms): DeviceReport(  # type: ignore[misc]
                    station=station,
                    at=at,
                    source=SourceState(
                        source=CLOCK, state=clock.code, well=False, why=clock.why[:200], since=at,
                        reported_at=at,
                    ),
                )
            )  # fmt: skip

    def _payloads(self, arrival: Arrival, receipt: Receipt) -> None:
        """Who sends nothing that can be used: else who speaks, and is not understood, would look well."""
        for understood in receipt.stations if self._unusable else ():
            self._unusable.pop(understood, None)
        station = receipt.unusable_of
        if station is None:
            return
        times, reported_at = self._unusable.get(station, (0, 0))
        # One that is understood may send something else beside its readings.
        due = times + 1 >= _UNUSABLE_IN_A_ROW or station not in self._stations
        now_ms = arrival.received_at
        report = due and now_ms - reported_at >= _CLOCK_AGAIN_MS
        remember(self._unusable, station, (times + 1, now_ms if report else reported_at))
        if not report:
            return
        part, at = receipt.refused[0], from_ms(now_ms)
        why = f"{part.where}: {part.why}" if part.where else part.why
        state = SourceState(
            source=PAYLOAD, state=part.code[:40], well=False, why=why[:200], since=at, reported_at=at
        )
        self._put(lambda: DeviceReport(station=station, at=at, source=state))

    def picture_taken(self, picture: Picture, receipt: Receipt) -> None:
        """A picture arrived: the vision worker's features say so."""

    def link_changed(self, station: str, online: bool, at_ms: int, origin: str) -> None:
        """A device's birth or last will."""
        del origin
        self._put(lambda: DeviceReport(station=station, at=from_ms(at_ms), online=online))

    def source_changed(self, change: SourceChange) -> None:
        """How a camera or an address does that is asked for a station, whenever that changes."""
        key = change.station, change.source
        if key not in self._sources and len(self._sources) >= _MOST:
            return
        at = from_ms(round(self._now() * 1000))
        state = SourceState(
            source=change.source[:120], state=change.state[:40], well=change.well, why=change.why[:200],
            since=at, reported_at=at,
        )  # fmt: skip
        self._sources[key] = state
        self._put(lambda: DeviceReport(station=change.station, at=at, source=state))

    def report_again(self) -> None:
        """Report, once an hour, what is still asked: of other sources nobody knows whether they are. What is
        not well is reported every ten minutes.
        """
        now_ms = round(self._now() * 1000)
        if now_ms < self._look_again_ms:
            return
        self._look_again_ms = now_ms + _UNWELL_AGAIN_MS
        for key, state in self._sources.items():
            age = now_ms - to_ms(state.reported_at)
            if age >= (_AGAIN_MS if state.well else _UNWELL_AGAIN_MS):
                again = state.model_copy(update={"reported_at": from_ms(now_ms)})
                self._sources[key] = again
                station = key[0]
                self._put(
                    lambda station=station, again=again: DeviceReport(  # type: ignore[misc]
                        station=station, at=again.reported_at, source=again
                    )
                )

    def _of(self, station: str) -> _Reported:
        one = self._stations.get(station) or _Reported()
        remember(self._stations, station, one)
        return one

    def _put(self, make: Callable[[], DeviceReport]) -> None:
        try:
            report = make()
        except (ValidationError, ValueError, OverflowError) as error:
            log.debug("a device's report is left out: %s", error)
            return
        if len(self._pending) < _MOST:
            source = "" if report.source is None else report.source.source
            self._pending[report.station, report.online, source] = report

    async def serve(self) -> None:
        """Report what is pending, every second, until cancelled."""
        while True:
            await asyncio.sleep(_EVERY_S)
            self.report_again()
            await self.report()

    async def report(self) -> None:
        """Report what is pending; while Kafka is away it waits, the newest of each station."""
        pending, self._pending = self._pending, {}
        reports = sorted(pending.values(), key=lambda one: one.at)
        if not reports:
            return
        try:
            await self._producer.publish(
                [Out(self._topic, one.station.encode(), one.model_dump_json().encode()) for one in reports]
            )
        except KafkaAway:
            self._pending = pending | self._pending
