"""What fusion tells a region of its stations, where the network stage is on.

A station speaks through its region, on the partition of the region's name; one that has neither a place nor a
region is a region of one: its own other pollutants and its past fill its gaps.
"""

from collections.abc import Iterable
from typing import Final

from camera.sight import Sight
from fusion.indices import standards_of
from fusion.intake import reference
from fusion.together.cameras import told_of, untaught
from schemas.alone import ALONE_IN, MARK_TYPE, Alone, Mark
from schemas.amendment import AMENDMENT_TYPE, Amendment
from schemas.base import to_ms
from schemas.estimate import Estimate
from schemas.station import Station
from settings.names import TopicNames
from streams.accept import Keys
from streams.join import BEGINNING
from streams.stage import Out
from streams.topics import ALONE

#: Headers of a change of the past and of a tombstone: the region (none: all), and the end of the window (ms)
#: behind which it stands.
REGION: Final = "x-region"
BEHIND: Final = "x-behind"


def region_of(station: Station) -> str:
    """Name of the region that a station is of."""
    placed = station.latitude is not None and station.longitude is not None
    return station.region if station.region or placed else f"{ALONE_IN}{station.station}"


class Regions:
    """Makes the records of one partition of fusion for the regions of its stations."""

    def __init__(self, names: TopicNames, keys: Keys, partitions: int, source: int) -> None:
        self._topic = names.of(ALONE)
        self._keys = keys
        self._partitions = partitions
        self._source = source
        self._marked: int | None = None
        #: By station the region that it spoke in last, and the end of that window (ms).
        self._spoke: dict[str, tuple[str, int]] = {}

    def alone(
        self, estimate: Estimate, station: Station, averaged_since: int, sight: Sight | None = None
    ) -> Out:
        """A station's estimate by itself.

        `averaged_since`: end (ms) of the first hour of its averages; `sight`: what its camera shows.
        """
        record = Alone(
            estimate=estimate,
            source=self._source,
            region=region_of(station),
            latitude=station.latitude,
            longitude=station.longitude,
            standards=standards_of(station),
            reference_celsius=reference(station),
            reference=station.kind == "reference",
            averaged_since=averaged_since,
            sight=None if sight is None or not untaught(estimate) else told_of(sight),
        )
        return Out(
            self._topic, estimate.station.encode(), record.model_dump_json().encode(),
            partition=self._keys.partition(region_of(station)),
        )  # fmt: skip

    def moved(self, estimate: Estimate, station: Station) -> list[Out]:
        """To regions that a station was of before: it speaks for itself elsewhere, they need not do so.

        A successor knows them by the station's earlier versions, and says it once more.
        """
        region, end = region_of(station), to_ms(estimate.window.end)
        before, until = self._spoke.get(estimate.station, (region, BEGINNING))
        if end <= until:
            return []
        self._spoke[estimate.station] = region, end
        if until > BEGINNING and before == region:
            return []
        former = {before, *(region_of(version) for version in station.earlier)} - {region}
        behind = str(to_ms(estimate.window.start)).encode()
        return [
            Out(
                self._topic, estimate.station.encode(), None, [(REGION, name.encode()), (BEHIND, behind)],
                self._keys.partition(name),
            )
            for name in sorted(former)
        ]  # fmt: skip

    def amended(self, amendment: Amendment, station: Station, end: int) -> Out:
        """A change of a station's past that stands behind the window that ends at `end` (ms)."""
        headers: list[tuple[str, bytes | None]] = [
            ("ce_type", AMENDMENT_TYPE),
            (REGION, region_of(station).encode()),
            (BEHIND, str(end).encode()),
        ]
        return Out(
            self._topic, amendment.station.encode(), amendment.model_dump_json().encode(), headers,
            self._keys.partition(region_of(station)),
        )  # fmt: skip

    def forget(self, stations: Iterable[str]) -> None:
        """Stations that were not heard for long: where they spoke last is known no more."""
        for station in stations:
            self._spoke.pop(station, None)

    def retired(self, station: str, end: int) -> list[Out]:
        """A station was retired behind the window that ends at `end` (ms): whoever knows it is told."""
        self.forget([station])
        headers: list[tuple[str, bytes | None]] = [(BEHIND, str(end).encode())]
        return [
            Out(self._topic, station.encode(), None, headers, partition)
            for partition in range(self._partitions)
        ]

    def marks(self, final: int) -> list[Out]:
        """How far this partition has come, to all regions; nothing where that was said."""
        if self._marked is not None and final <= self._marked:
            return []
        self._marked = final
        value = Mark(source=self._source, final=final).model_dump_json().encode()
        return [
            Out(self._topic, None, value, [("ce_type", MARK_TYPE)], partition)
            for partition in range(self._partitions)
        ]
