"""The cadences of all series of a partition: learned from the log, and kept with its settled offset.

What is learned is a function of the log alone, reading by reading, and goes with the log's settled offset:
`Cadences` keeps, beside what it knows at the end of the log, what it knew at the settled offset, and that is
what is written down. So a worker that reads again from there learns the same again, to the last bit.
"""

from collections import deque
from collections.abc import Collection, Iterator, Mapping
from typing import Final, NamedTuple

import msgspec

from schemas.reading import scaling_of
from schemas.state import Codec
from streams.cadence import Cadence
from streams.census import Series

#: A scaling that was not heard for so long is one that its sensor does not send any more.
SCALING_KEPT_MS: Final = 86_400_000

#: The name of a station's cadences among the checkpoints ends so.
CADENCE: Final = "|cadence"

#: Station, sensor, parameter and channel.
StationSeries = tuple[str, str, str, str]


class Circumstances(NamedTuple):
    """What the log knew as it came to a reading, all ms.

    `period`: that it stands for, 0 where that is not known; `before`: the newest one before it, of one that
    is newer still; `after`: the newest one, of one that is older; 0 where there is none. `supersedes`: until
    when an earlier one would stand, where that is longer than this one does.
    """

    period: int
    before: int = 0
    after: int = 0
    supersedes: int = 0


class Cadences:
    """The cadences of the series of one partition, at the end of the log and at its settled offset."""

    def __init__(self, restored: Mapping[str, Mapping[Series, Cadence]] | None = None) -> None:
        """`restored`: per station, what `settled_at` gave for the offset from which the log is read again."""
        self._known: dict[StationSeries, Cadence] = {}
        self._settled: dict[str, dict[Series, Cadence]] = {}
        #: By station, sensor and parameter, in the order in which they were first heard.
        self._channels: dict[tuple[str, str, str], tuple[str, ...]] = {}
        #: By station and parameter, in that order, too.
        self._sensors: dict[tuple[str, str], tuple[str, ...]] = {}
        for station, series in (restored or {}).items():
            self._settled[station] = dict(series)
            for (sensor, parameter, channel), cadence in series.items():
                self._know((station, sensor, parameter, channel), cadence)
        #: Changes that lie beyond the settled offset, in log order.
        self._ahead: deque[tuple[int, StationSeries, Cadence]] = deque()

    def heard(self, series: StationSeries, time_ms: int, offset: int) -> Circumstances:
        """Take a reading of the log."""
        before = self._known.get(series)
        after = Cadence(time_ms) if before is None else before.after(time_ms)
        if after is before:
            newer = after.last_ms if time_ms < after.last_ms else 0
            return Circumstances(after.period_ms, after=newer)
        self._know(series, after)
        self._ahead.append((offset, series, after))
        if before is None:
            return Circumstances(after.period_ms)
        superseded = before.until if before.until > after.until else 0
        return Circumstances(after.period_ms, before.last_ms, supersedes=superseded)

    def scalings(self, series: StationSeries, time_ms: int) -> tuple[str, ...]:
        """What `Quantity.scalings` is for a reading of a series that was heard."""
        sensor = series[:3]
        channels = self._channels[sensor]
        if len(channels) == 1:
            return ()
        found = dict.fromkeys(
            scaling_of(channel)
            for channel in channels
            if abs(time_ms - self._known[(*sensor, channel)].last_ms) <= SCALING_KEPT_MS
        )
        return tuple(found) if len(found) > 1 else ()

    def twinned(self, series: StationSeries, time_ms: int) -> bool:
        """What `Quantity.twinned` is for a reading of a series that was heard."""
        station, sensor, parameter, channel = series
        sensors, channels = self._sensors[station, parameter], self._channels[series[:3]]
        if len(sensors) == len(channels) == 1:
            return False
        scaling = scaling_of(channel)
        others = [
            (station, sensor, parameter, one)
            for one in channels
            if one != channel and scaling_of(one) == scaling
        ]
        others += [
            (station, name, parameter, one)
            for name in sensors
            if name != sensor
            for one in self._channels[station, name, parameter]
        ]
        return any(abs(time_ms - self._known[one].last_ms) <= SCALING_KEPT_MS for one in others)

    def _know(self, series: StationSeries, cadence: Cadence) -> None:
        if series not in self._known:
            station, sensor, parameter, channel = series
            of = station, sensor, parameter
            if of not in self._channels:
                self._sensors[station, parameter] = (*self._sensors.get((station, parameter), ()), sensor)
            self._channels[of] = (*self._channels.get(of, ()), channel)
        self._known[series] = cadence

    def settled_at(self, offset: int) -> set[str]:
        """The log is settled up to `offset` (excluded); gives the stations of which more is known by that."""
        changed = set()
        while self._ahead and self._ahead[0][0] < offset:
            _, (station, *series), cadence = self._ahead.popleft()
            sensor, parameter, channel = series
            self._settled.setdefault(station, {})[sensor, parameter, channel] = cadence
            changed.add(station)
        return changed

    def settled(self, station: str) -> Mapping[Series, Cadence]:
        """What is known of a station's series at the settled offset."""
        return self._settled.get(station, {})

    def forget(self, stations: Collection[str]) -> None:
        """Stations have left."""
        if not stations:
            return
        for station in stations:
            self._settled.pop(station, None)
        self._known = {series: one for series, one in self._known.items() if series[0] not in stations}
        self._channels = {of: channels for of, channels in self._channels.items() if of[0] not in stations}
        self._sensors = {of: sensors for of, sensors in self._sensors.items() if of[0] not in stations}
        self._ahead = deque(change for change in self._ahead if change[1][0] not in stations)

    def forget_before(self, time_ms: int) -> None:
        """Series that were not heard since have left, of stations that go on."""
        for station, series in self._settled.items():
            old = [name for name, cadence in series.items() if cadence.last_ms < time_ms]
            for sensor, parameter, channel in old:
                known = self._known.get((station, sensor, parameter, channel))
                if known is not None and known.last_ms < time_ms:
                    del series[sensor, parameter, channel]
                    del self._known[station, sensor, parameter, channel]
                    of = station, sensor, parameter
                    left = tuple(name for name in self._channels.pop(of) if name != channel)
                    if left:
                        self._channels[of] = left
                        continue
                    sensors = tuple(
                        name for name in self._sensors.pop((station, parameter)) if name != sensor
                    )
                    if sensors:
                        self._sensors[station, parameter] = sensors

    def stations(self) -> Iterator[tuple[str, Mapping[Series, Cadence]]]:
        """What is known of each station's series at the settled offset."""
        yield from self._settled.items()


class CadencesState(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """A station's cadences by (sensor, parameter, channel), in the order in which they were first heard."""

    series: tuple[tuple[Series, Cadence], ...] = ()


CADENCES: Final = Codec("cadences of a station's sensors", CadencesState)


def dump_cadences(series: Mapping[Series, Cadence]) -> bytes:
    """A station's cadences, to be kept under the name of the station followed by `CADENCE`."""
    return CADENCES.encode(CadencesState(series=tuple(series.items())))


def read_cadences(name: str, data: bytes) -> CadencesState:
    """What `dump_cadences` wrote. Raises StateError."""
    del name
    return CADENCES.decode(data)


def by_station(
    snapshots: Mapping[str, tuple[int, CadencesState]],
) -> dict[str, dict[Series, Cadence]]:
    """Per station its cadences, from the checkpoints under their names."""
    return {name.removesuffix(CADENCE): dict(state.series) for name, (_, state) in snapshots.items()}
