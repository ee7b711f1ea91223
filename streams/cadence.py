"""For how long a reading stands: as declared, or as its sensor's own cadence has it.

A sensor that speaks every 145 seconds, or every hour, has not fallen silent between two of its readings. Each
reading stands for its *period*, and is an input of every window that the period touches (`streams.join`).

* **Declared**, in the message or in the station's record: with the time E at which it ends (its stamp, or its
  stamp plus the period, where the stamp is of its beginning) it stands for [E - period, E), and for nothing
  else: of what comes after nobody knows yet.
* **Learned** (`Cadence`). Nobody has said what its stamp means, so it stands from its stamp on until the next
  one is due, which is a tenth of the period late at most: clocks of cheap devices wander.
* **Declared shorter than the cadence** (a mean of 5 seconds every 145): the mean is declared, how often there
  is one is learned, and it stands until the next one is due.
* **Declared longer than the cadence** (a mean of the last hour every ten minutes): a *running mean*. Those
  that end where a period ends, at whole hours if it is an hour, are the means of those periods. The others
  are shown until then, and no average counts them.

A period that is no longer than a window lends a reading to no other window, but for one: where the stamps
wander about the windows' edge, one window may get two and the next none. A declared mean then lies in the
window of its middle, and one of a learned period stands for the next window too if its successor may come
after that.

What is learned is a function of the log alone, reading by reading, and goes with the log's settled offset:
`Cadences` keeps, beside what it knows at the end of the log, what it knew at the settled offset, and that is
what is written down. So a worker that reads again from there learns the same again, to the last bit.
"""

from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping
from statistics import median_low
from typing import Final, NamedTuple

import msgspec

from schemas.limits import FORGOTTEN_AFTER_MS
from schemas.reading import MAX_PERIOD_S, Observation, Quantity, scaling_of
from schemas.state import Codec
from schemas.station import Station
from streams.join import DECLARED, RUNNING

#: Gaps, and rests, remembered of each series.
GAPS: Final = 5
#: A gap longer than this is an outage, and says nothing of the cadence.
LONGEST_GAP_MS: Final = 6 * MAX_PERIOD_S * 1000
MAX_PERIOD_MS: Final = MAX_PERIOD_S * 1000
#: The next reading may be late by this part of the period.
TOLERANCE: Final = 10
#: Rests that make a duty cycle.
RESTS: Final = 3
#: What is said within so long is said once, more than once: a device that sends three in a row.
BURST_MS: Final = 30_000
#: A device that speaks for longer than a burst, and then rests, does so that often at least. One of which
#: less is heard has outages.
DUTY_MS: Final = MAX_PERIOD_MS // 2
#: A scaling that was not heard for so long is one that its sensor does not send any more.
SCALING_KEPT_MS: Final = 86_400_000

#: The name of a station's cadences among the checkpoints ends so.
CADENCE: Final = "|cadence"

#: Station, sensor, parameter and channel.
Series = tuple[str, str, str, str]


class Rest(NamedTuple):
    """A gap that is long for its series (ms), and the time from the end of the one before it to its own."""

    gap: int
    cycle: int


class Cadence(NamedTuple):
    """What is known of a series: its newest time, the last gaps between its readings, its rests. All ms.

    The period is the lower median of the last gaps: short ones say that the sensor is a fast one, and that a
    long one is an outage. A single gap counts until there is another, if it is no longer than a value may
    stand for. But a device that speaks for a while and then rests, again and again (three readings in a row
    every ten minutes, five minutes of fifteen), is silent between two of its turns by habit: where the last
    rests are of one length, in cycles of one length, the period is that of a rest.

    `woke`: its first reading after its last rest, or of all; `until`: its readings stand so long.

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
    rests: tuple[Rest, ...] = ()
    woke: int = 0
    until: int = 0

    def after(self, time_ms: int) -> "Cadence":
        """With one more reading. One that is not newer (a repeat, a straggler) changes nothing."""
        gap = time_ms - self.last_ms
        if gap <= 0:
            return self
        if gap > FORGOTTEN_AFTER_MS:
            return Cadence(time_ms)  # as if it had never been heard: by then it may be forgotten
        gaps, rests, woke = self.gaps, self.rests, self.woke or self.last_ms
        if gaps and gap > 2 * median_low(gaps):
            rests, woke = (*rests, Rest(gap, time_ms - woke))[-GAPS:], time_ms
        if gap <= LONGEST_GAP_MS:
            gaps = (*gaps, gap)[-GAPS:]
        known = Cadence(time_ms, gaps, rests, woke)
        return known._replace(until=due(time_ms, known.period_ms))

    @property
    def period_ms(self) -> int:
        """For how long a reading stands, an hour at most; 0 while nothing is known."""
        if not self.gaps or (
            len(self.gaps) == 1 and self.gaps[0] > MAX_PERIOD_MS + MAX_PERIOD_MS // TOLERANCE
        ):
            return 0
        return min(max(median_low(self.gaps), self._rest()), MAX_PERIOD_MS)

    def _rest(self) -> int:
        """How long a device rests that has a duty cycle; 0 for any other."""
        if len(self.rests) < RESTS:
            return 0
        gap = median_low([rest.gap for rest in self.rests])
        cycle = median_low([rest.cycle for rest in self.rests])
        alike = sum(
            abs(one.gap - gap) <= gap // 4 and abs(one.cycle - cycle) <= cycle // 4 for one in self.rests
        )
        longest = MAX_PERIOD_MS if cycle - gap <= BURST_MS else DUTY_MS
        if alike < RESTS or cycle > longest + longest // TOLERANCE:
            return 0
        # It has given that up, if it does not rest any more.
        return gap if self.last_ms - self.woke <= cycle else 0


def due(time_ms: int, period_ms: int) -> int:
    """Until when the successor of a reading is due (ms)."""
    return time_ms + period_ms + period_ms // TOLERANCE


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

    def heard(self, series: Series, time_ms: int, offset: int) -> Circumstances:
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
    those of `Quantity`; `basis`, `supersedes`: those of `streams.join.Item`.
    """

    time: int
    since: int = 0
    until: int = 0
    period: int = 0
    scalings: tuple[str, ...] = ()
    twinned: bool = False
    basis: str = ""
    supersedes: int = 0

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
        heard = self.cadences.heard(series, seen.time_ms, offset)
        standing = self._standing(seen, value, record, arrival_ms, heard)
        if heard.supersedes <= max(standing.until, standing.time):
            return standing
        return standing._replace(since=standing.since or standing.time, supersedes=heard.supersedes)

    def _standing(
        self,
        seen: Observation,
        value: Quantity,
        record: Station | None,
        arrival_ms: int,
        heard: Circumstances,
    ) -> Standing:
        period, stamp = seen.period_s * 1000, seen.stamp
        if not period and record is not None:
            sensor = record.sensor_of(value.sensor, value.parameter)
            if sensor is not None and sensor.period is not None:
                period, stamp = sensor.period * 1000, sensor.stamp
        damp = 0
        if value.parameter == "relativehumidity" and record is not None:
            damp = self._humidity(record)
        if not period:
            return self._learned(seen.time_ms, heard, damp)
        end = seen.time_ms + period if stamp == "begins" else seen.time_ms
        standing = self._declared(seen.time_ms, end, period, arrival_ms, damp)
        if heard.period > period + period // TOLERANCE:
            if period <= self._window and not damp:
                return self._learned(standing.time, heard, damp)
            until = _until(end, heard)
            return standing._replace(until=max(standing.until, until))
        if 0 < heard.period <= period - period // 4 and not _ends_a_period(seen.time_ms, end, period, heard):
            # What came between two of these is said by one of them; one of them may be lost.
            since = max(end - period, end - 2 * heard.period) if standing.until else 0
            return standing._replace(since=since, basis=RUNNING)
        return standing

    def _declared(self, at: int, end: int, period: int, arrival_ms: int, damp: int) -> Standing:
        if period <= self._window and not damp:
            return Standing(end - period // 2, period=period, basis=DECLARED)
        # A mean is known when its period is over; a device that sends it before has no later time.
        time = min(end, max(at + 1, arrival_ms)) - 1
        return Standing(time, end - period, max(end, at + damp), period, basis=DECLARED)

    def _learned(self, at: int, heard: Circumstances, damp: int) -> Standing:
        period = heard.period
        until = max(_until(at, heard), at + damp)
        if max(period, damp) <= self._window:
            following = (at // self._window + 2) * self._window
            if until < following:
                return Standing(at, period=period)
            until = following
        return Standing(at, at, until, period)


def _until(at: int, heard: Circumstances) -> int:
    """Until when a reading stands that nobody has declared: the next one is due, or has come before it."""
    until = due(at, heard.period)
    return min(until, heard.after) if heard.after > at else until


def _ends_a_period(at: int, end: int, period: int, heard: Circumstances) -> bool:
    """Whether a running mean, stamped `at`, is the first that ends where a period does, or later.

    Where it ends a little earlier it does so by its clock: a twentieth of the period.
    """
    before = max(heard.before, at - period) if heard.before else at - heard.period
    early = period // 20
    return (end + early) // period > (end - at + before + early) // period


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
