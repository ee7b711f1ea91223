"""What devices say of themselves, for the fleet's health: told where it changes, and from time to time."""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from pydantic import ValidationError

from schemas.base import from_ms
from schemas.device import DeviceReport
from schemas.times import HOUR_MS
from sources.adapters.core.translation import Facts
from sources.gateway.arrival import Arrival, Picture, Receipt
from sources.gateway.errors import KafkaAway
from sources.gateway.reception import Publishes
from streams.stage import Out
from streams.topics import DEVICES

log = logging.getLogger(__name__)

#: Stations that are remembered, and that wait to be told.
_MOST: Final = 20_000
#: What has not changed is told again after so long, ms.
_AGAIN_MS: Final = HOUR_MS
#: Addresses that speak for a station in turns within this time (ms) are two devices.
_IN_TURNS_MS: Final = HOUR_MS
_ADDRESSES: Final = 4
_EVERY_S: Final = 1.0


class _Heard:
    """What was told of a station last, and when it was heard from which address."""

    def __init__(self) -> None:
        self.told: tuple[object, ...] = ()
        self.told_at = 0
        self.origins: OrderedDict[str, int] = OrderedDict()
        #: Addresses that came back after another one had spoken.
        self.returned: dict[str, int] = {}
        self.last = ""

    def from_address(self, origin: str, at: int) -> tuple[str, ...]:
        """Note who spoke; gives the addresses that speak in turns, none where there is one only.

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


class DeviceTeller:
    """A witness of all arrivals, and a way that tells of them. What it has not told yet it may lose: the next
    message of the device says it again.
    """

    name = "devices"

    def __init__(self, producer: Publishes, prefix: str) -> None:
        self._producer = producer
        self._topic = prefix + DEVICES.name
        self._heard: OrderedDict[str, _Heard] = OrderedDict()
        self._pending: dict[tuple[str, bool | None], DeviceReport] = {}

    def heard(self, arrival: Arrival, receipt: Receipt) -> None:
        """A payload arrived."""
        facts = {one.station: one for one in receipt.facts}
        for station in dict.fromkeys([*receipt.stations, *facts]):
            one = self._of(station)
            origins = one.from_address(arrival.origin[:120], arrival.received_at) if arrival.origin else ()
            fact = facts.get(station, Facts(station))
            said = (*fact, *origins)
            quiet = fact == Facts(station) and not origins and not one.told
            again = arrival.received_at - one.told_at >= _AGAIN_MS
            if quiet or (said == one.told and not again):
                continue
            one.told, one.told_at = said, arrival.received_at
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

    def seen(self, picture: Picture, receipt: Receipt) -> None:
        """A picture arrived: the vision worker's features tell of it."""

    def linked(self, station: str, online: bool, at_ms: int, origin: str) -> None:
        """A device's birth or last will."""
        del origin
        self._put(lambda: DeviceReport(station=station, at=from_ms(at_ms), online=online))

    def _of(self, station: str) -> _Heard:
        one = self._heard.setdefault(station, _Heard())
        self._heard.move_to_end(station)
        while len(self._heard) > _MOST:
            self._heard.popitem(last=False)
        return one

    def _put(self, make: Callable[[], DeviceReport]) -> None:
        try:
            report = make()
        except (ValidationError, ValueError, OverflowError) as error:
            log.debug("a device's report is left out: %s", error)
            return
        if len(self._pending) < _MOST:
            self._pending[report.station, report.online] = report

    async def serve(self) -> None:
        """Tell what is pending, every second, until cancelled."""
        while True:
            await asyncio.sleep(_EVERY_S)
            await self.tell()

    async def tell(self) -> None:
        """Tell what is pending; while Kafka is away it waits, the newest of each station."""
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
