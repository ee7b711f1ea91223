"""For how long a reading stands: as declared, or as its sensor's own cadence has it.

A sensor that speaks every 145 seconds, or every hour, has not fallen silent between two of its readings. Each
reading stands for its *period*, and is an input of every window that the period touches (`streams.join`).

* **Declared**, in the message or in the station's record: with the time E at which it ends (its stamp, or its
  stamp plus the period, where the stamp is of its beginning) it stands for [E - period, E), and for nothing
  else: of what comes after nobody knows yet.
* **Learned**: the lower median of the last gaps between the series' readings; a single gap counts until there
  is another, if it is no longer than a value may stand for. Nobody has said what its stamp
  means, so it stands from its stamp on until the next one is due, which is a tenth of the period late at
  most: clocks of cheap devices wander. Gaps of seconds are of one burst, and say nothing of the cadence.

A period that is no longer than a window lends a reading to no other window, but for one: where the stamps
wander about the windows' edge, one window may get two and the next none. A declared mean then lies in the
window of its middle, and one of a learned period stands for the next window too if its successor may come
after that.

What is learned is a function of the log alone, reading by reading, and goes with the log's settled offset:
`Cadences` keeps, beside what it knows at the end of the log, what it knew at the settled offset, and that is
what is written down. So a worker that reads again from there learns the same again, to the last bit.
"""

from bisect import insort
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Final, NamedTuple

import msgspec

from schemas.limits import UNHEARD_MS
from schemas.reading import MAX_PERIOD_S, Observation, Quantity, scaling_of
from schemas.state import Codec
from schemas.station import Station

#: Gaps remembered of each series.
GAPS: Final = 5
#: A shorter one is within a burst of readings: a device that sends three in a row every ten minutes.
SHORTEST_GAP_MS: Final = 30_000
#: A gap longer than this is an outage, and says nothing of the cadence.
LONGEST_GAP_MS: Final = 6 * MAX_PERIOD_S * 1000
MAX_PERIOD_MS: Final = MAX_PERIOD_S * 1000
#: The next reading may be late by this part of the period.
TOLERANCE: Final = 10
#: A scaling that was not heard for so long is one that its sensor does not send any more.
SCALING_KEPT_MS: Final = 86_400_000
#: Windows at most that one reading is an input of before, and after, its own.
MAX_WINDOWS: Final = 720

#: The name of a station's cadences among the checkpoints ends so.
CADENCE: Final = "|cadence"

#: Station, sensor, parameter and channel.
Series = tuple[str, str, str, str]


class Cadence(NamedTuple):
    """What is known of a series: its newest time (ms) and the last gaps between its readings (ms).

    Examples:
        >>> two = Cadence(0).after(145_000)
        >>> two.period_ms
        145000
        >>> Cadence(0).after(7_200_000).period_ms  # an outage, as far as anybody knows
        0
        >>> two.after(290_000).after(290_000) == two.after(290_000)  # a repeat changes nothing
        True
    """

    last_ms: int
    gaps: tuple[int, ...] = ()

    def after(self, time_ms: int) -> "Cadence":
        """With one more reading. One that is not newer (a repeat, a straggler) changes nothing."""
        gap = time_ms - self.last_ms
        if gap <= 0:
            return self
        if gap > UNHEARD_MS:
            return Cadence(time_ms)  # as if it had never been heard: by then it may be forgotten
        if not SHORTEST_GAP_MS <= gap <= LONGEST_GAP_MS:
            return Cadence(time_ms, self.gaps)
        return Cadence(time_ms, (*self.gaps, gap)[-GAPS:])

    @property
    def period_ms(self) -> int:
        """The lower median of the gaps, an hour at most; 0 while nothing is known."""
        if not self.gaps or (
            len(self.gaps) == 1 and self.gaps[0] > MAX_PERIOD_MS + MAX_PERIOD_MS // TOLERANCE
        ):
            return 0
        ordered: list[int] = []
        for gap in self.gaps:
            insort(ordered, gap)
        return min(ordered[(len(ordered) - 1) // 2], MAX_PERIOD_MS)


class Cadences:
    """The cadences of the series of one partition, at the end of the log and at its settled offset."""

    def __init__(self, restored: Mapping[str, Mapping[tuple[str, str, str], Cadence]] | None = None) -> None:
        """`restored`: per station, what `settled_at` gave for the offset from which the log is read again."""
        self._known: dict[Series, Cadence] = {}
        self._settled: dict[str, dict[tuple[str, str, str], Cadence]] = {}
        #: By station, sensor and parameter, in the order in which they were first heard.
        self._channels: dict[tuple[str, str, str], tuple[str, ...]] = {}
        #: By station and parameter, in that order, too.
        self._sensors: dict[tuple[str, str], tuple[str, ...]] = {}
        for station, series in (restored or {}).items():
            self._settled[station] = dict(series)
            for (sensor, parameter, channel), cadence in series.items():
                self._know((station, sensor, parameter, channel), cadence)
        #: Changes that lie beyond the settled offset, in log order.
        self._ahead: deque[tuple[int, Series, Cadence]] = deque()

    def heard(self, series: Series, time_ms: int, offset: int) -> int:
        """Take a reading of the log; gives the period (ms) that it stands for, 0 where that is not known."""
        before = self._known.get(series)
        after = Cadence(time_ms) if before is None else before.after(time_ms)
        if after is not before:
            self._know(series, after)
            self._ahead.append((offset, series, after))
        return after.period_ms

    def scalings(self, series: Series, time_ms: int) -> tuple[str, ...]:
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

    def twinned(self, series: Series, time_ms: int) -> bool:
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

    def _know(self, series: Series, cadence: Cadence) -> None:
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

    def settled(self, station: str) -> Mapping[tuple[str, str, str], Cadence]:
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

    def stations(self) -> Iterator[tuple[str, Mapping[tuple[str, str, str], Cadence]]]:
        """What is known of each station's series at the settled offset."""
        yield from self._settled.items()


class Standing(NamedTuple):
    """When a reading was true: `time` of its own window, and the period [since, until), all ms.

    `until` 0: for its own window only. `period`: its length, 0 where it is not known. `scalings`, `twinned`:
    those of `Quantity`.
    """

    time: int
    since: int = 0
    until: int = 0
    period: int = 0
    scalings: tuple[str, ...] = ()
    twinned: bool = False

    @property
    def beside(self) -> bool:
        """Whether anything else of the same sensor, or thing, is known."""
        return self.twinned or bool(self.scalings)


class Periods:
    """For how long each value of an observation stands.

    Args:
        window_ms: length of a window. A period that is no longer stands for its own window only.
        station_of: the record of a station, where there is one.
        humidity_ms: per station record, for how long its humidity serves a correction that needs it.
    """

    def __init__(
        self,
        window_ms: int,
        cadences: Cadences,
        station_of: Callable[[str], Station | None],
        humidity_ms: Callable[[Station], int] = lambda _: 0,
    ) -> None:
        self._window = window_ms
        self.cadences = cadences
        self._station_of = station_of
        self._humidity = humidity_ms

    def of(self, observation: Observation, arrival_ms: int, offset: int) -> list[Standing]:
        """One standing per value of `observation`, which reached the broker at `arrival_ms`."""
        record = self._station_of(observation.station)
        standings = []
        for value in observation.values:
            standing = self._of(observation, value, record, arrival_ms, offset)
            series = observation.station, value.sensor, value.parameter, value.channel
            scalings = self.cadences.scalings(series, observation.time_ms)
            twinned = self.cadences.twinned(series, observation.time_ms)
            if scalings or twinned:
                standing = standing._replace(scalings=scalings, twinned=twinned)
            standings.append(standing)
        return standings

    def _of(
        self, seen: Observation, value: Quantity, record: Station | None, arrival_ms: int, offset: int
    ) -> Standing:
        series = seen.station, value.sensor, value.parameter, value.channel
        learned = self.cadences.heard(series, seen.time_ms, offset)
        period, stamp = seen.period_s * 1000, seen.stamp
        if not period and record is not None:
            sensor = record.sensor_of(value.sensor, value.parameter)
            if sensor is not None and sensor.period is not None:
                period, stamp = sensor.period * 1000, sensor.stamp
        damp = 0
        if value.parameter == "relativehumidity" and record is not None:
            damp = self._humidity(record)
        if period:
            return self._declared(seen.time_ms, period, stamp == "begins", arrival_ms, damp)
        return self._learned(seen.time_ms, learned, damp)

    def _declared(self, at: int, period: int, begins: bool, arrival_ms: int, damp: int) -> Standing:
        end = at + period if begins else at
        if period <= self._window and not damp:
            return Standing(end - period // 2, period=period)
        # A mean is known when its period is over; a device that sends it before has no later time.
        time = min(end, max(at + 1, arrival_ms)) - 1
        return self._standing(time, end - period, max(end, at + damp), period)

    def _learned(self, at: int, period: int, damp: int) -> Standing:
        until = at + max(period + period // TOLERANCE, damp)
        if max(period, damp) <= self._window:
            following = (at // self._window + 2) * self._window
            if until < following:
                return Standing(at, period=period)
            until = following
        return self._standing(at, at, until, period)

    def _standing(self, time: int, since: int, until: int, period: int) -> Standing:
        longest = MAX_WINDOWS * self._window
        return Standing(time, max(since, time - longest), min(until, time + longest), period)


class CadencesState(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """A station's cadences by (sensor, parameter, channel), in the order in which they were first heard."""

    series: tuple[tuple[tuple[str, str, str], Cadence], ...] = ()


CADENCES: Final = Codec("cadences of a station's sensors", CadencesState)


def dump_cadences(series: Mapping[tuple[str, str, str], Cadence]) -> bytes:
    """A station's cadences, to be kept under the name of the station followed by `CADENCE`."""
    return CADENCES.encode(CadencesState(series=tuple(series.items())))


def read_cadences(name: str, data: bytes) -> CadencesState:
    """What `dump_cadences` wrote. Raises StateError."""
    del name
    return CADENCES.decode(data)


def by_station(
    snapshots: Mapping[str, tuple[int, CadencesState]],
) -> dict[str, dict[tuple[str, str, str], Cadence]]:
    """Per station its cadences, from the checkpoints under their names."""
    return {name.removesuffix(CADENCE): dict(state.series) for name, (_, state) in snapshots.items()}
