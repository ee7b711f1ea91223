"""Who speaks on a partition, and how many may: stations, and the sensors, series and cameras of each.

A gateway with a counter in its ids invents names without end, and of each something is remembered. So a name
beyond the limits of `schemas.limits` is refused where its first record is read; names that are known go on.

Of readings this is a function of the log alone: what is known at the settled offset comes back with the
cadences (`streams.cadence`), and the log after it is read again. Of cameras it comes back with what the gate
remembers of final windows: at a station that is beyond its limit of cameras, a crash may let in another one
of the surplus than before, and nothing worse.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from schemas.errors import Refused
from schemas.limits import (
    CAMERAS_PER_STATION,
    FORGOTTEN_AFTER_MS,
    SENSORS_PER_STATION,
    SERIES_PER_STATION,
    STATIONS_PER_PARTITION,
)
from schemas.reading import Quantity

#: Sensor, parameter and channel.
Series = tuple[str, str, str]
_NEVER: Final = -(2**62)
#: A station's own time may run ahead of what it vouches for: it is surely unheard when this is over, too.
_MARGIN_MS: Final = 3_600_000


class _StationNames:
    __slots__ = ("cameras", "heard", "sensors", "series")

    def __init__(self, heard: int) -> None:
        self.heard = heard
        self.series: dict[Series, int] = {}
        self.sensors: Counter[str] = Counter()
        self.cameras: dict[str, int] = {}


class NamesKnown(NamedTuple):
    """How many names are known of a station, by what they name."""

    sensors: int
    series: int
    cameras: int


class Census:
    """The names known on one partition, each with the event time (ms) at which it was heard last."""

    def __init__(self) -> None:
        self._stations: dict[str, _StationNames] = {}
        #: No station was heard last before this.
        self._oldest = _NEVER

    def restore(
        self, station: str, heard: int, series: Iterable[tuple[Series, int]] = (), cameras: Iterable[str] = ()
    ) -> None:
        """Know a station by what is stored of it, all of it: limits may have been wider."""
        known = self._stations.setdefault(station, _StationNames(heard))
        known.heard = max(known.heard, heard)
        for one, at in series:
            self._know(known, one, at)
            known.heard = max(known.heard, at)
        for camera in cameras:
            known.cameras.setdefault(camera, heard)

    def admit(
        self, station: str, seen: int, values: Sequence[Quantity]
    ) -> tuple[list[Quantity], Refused | None]:
        """Those of a station's values that are taken in, and why the others are not.

        `seen`: the event time that they vouch for, ms. Raises Refused where the station is not.
        """
        known = self._station(station, seen)
        kept, refused = [], []
        for value in values:
            series = value.sensor, value.parameter, value.channel
            why = None if series in known.series else self._full(station, known, series, seen)
            if why is None:
                self._know(known, series, seen)
                kept.append(value)
            else:
                refused.append(why)
        if not refused:
            return kept, None
        more = f" (and {len(refused) - 1} more)" if len(refused) > 1 else ""
        return kept, Refused(refused[0].code, refused[0].message + more)

    def admit_camera(self, station: str, seen: int, camera: str) -> None:
        """Raises Refused where a station, or one more of its cameras, is not taken in."""
        known = self._station(station, seen)
        if camera not in known.cameras and len(known.cameras) >= CAMERAS_PER_STATION:
            for name in [name for name, at in known.cameras.items() if at < seen - FORGOTTEN_AFTER_MS]:
                del known.cameras[name]
            if len(known.cameras) >= CAMERAS_PER_STATION:
                raise Refused(
                    "too_many_cameras",
                    f"station {station} has {CAMERAS_PER_STATION} cameras, so {camera} is not taken in: is"
                    " there a counter in its id? Else make two stations of it",
                )
        known.cameras[camera] = max(seen, known.cameras.get(camera, seen))

    def _station(self, station: str, seen: int) -> _StationNames:
        known = self._stations.get(station)
        if known is None:
            if len(self._stations) >= STATIONS_PER_PARTITION:
                self.leave(seen)
            if len(self._stations) >= STATIONS_PER_PARTITION:
                raise Refused(
                    "too_many_stations",
                    f"{STATIONS_PER_PARTITION} stations speak on this partition, so {station} is not taken"
                    " in: is there a counter in its id? Else retire those that are gone, or use more"
                    " partitions",
                )
            known = self._stations[station] = _StationNames(seen)
            self._oldest = min(self._oldest, seen)
        elif seen > known.heard:
            known.heard = seen
        return known

    @staticmethod
    def _full(station: str, known: _StationNames, series: Series, seen: int) -> Refused | None:
        """Why one more series of a station is not taken in; those unheard for long make room."""
        sensor = series[0]

        def full() -> bool:
            another = sensor not in known.sensors
            return len(known.series) >= SERIES_PER_STATION or (
                another and len(known.sensors) >= SENSORS_PER_STATION
            )

        if full():
            for old in [one for one, at in known.series.items() if at < seen - FORGOTTEN_AFTER_MS]:
                del known.series[old]
                known.sensors[old[0]] -= 1
            known.sensors = +known.sensors
        if not full():
            return None
        if len(known.series) >= SERIES_PER_STATION:
            return Refused(
                "too_many_series",
                f"station {station} has {SERIES_PER_STATION} series (sensor, parameter, channel), so"
                f" {'/'.join(series)} is not taken in: send fewer channels, or make two stations of it",
            )
        return Refused(
            "too_many_sensors",
            f"station {station} has {SENSORS_PER_STATION} sensors, so {sensor} is not taken in: is there a"
            " counter in its id? Else make two stations of it",
        )

    @staticmethod
    def _know(known: _StationNames, series: Series, at: int) -> None:
        before = known.series.get(series)
        if before is None:
            known.sensors[series[0]] += 1
        known.series[series] = at if before is None else max(before, at)

    def leave(self, now: int) -> list[str]:
        """Forget the stations that were not heard for long at the event time `now` (ms); gives them."""
        since = now - FORGOTTEN_AFTER_MS - _MARGIN_MS
        if self._oldest >= since:
            return []
        gone = [name for name, known in self._stations.items() if known.heard < since]
        for name in gone:
            del self._stations[name]
        self._oldest = min((known.heard for known in self._stations.values()), default=now)
        return gone

    def forget(self, station: str) -> int | None:
        """A station is retired; gives when it was heard last, None where nobody knows it."""
        known = self._stations.pop(station, None)
        return None if known is None else known.heard

    def __contains__(self, station: str) -> bool:
        return station in self._stations

    def __len__(self) -> int:
        """How many stations are known."""
        return len(self._stations)

    def names(self, station: str) -> NamesKnown:
        """How many names of a station are known."""
        known = self._stations.get(station, _StationNames(0))
        return NamesKnown(len(known.sensors), len(known.series), len(known.cameras))
