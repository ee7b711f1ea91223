"""For how long a reading stands: as declared, or as its sensor's own cadence has it.

A sensor that speaks every 145 seconds, or every hour, has not fallen silent between two of its readings. Each
reading stands for its *period*, and is an input of every window that the period touches (`streams.join`).

* **Declared**, in the message or in the station's record: with the time E at which it ends (its stamp, or its
  stamp plus the period, where the stamp is of its beginning) it stands for [E - period, E), and for nothing
  else: of what comes after nobody knows yet.
* **Learned** (`streams.cadence`). Nobody has said what its stamp means, so it stands from its stamp on until
  the next one is due, which is a tenth of the period late at most: clocks of cheap devices wander.
* **Declared shorter than the cadence** (a mean of 5 seconds every 145): the mean is declared, how often there
  is one is learned, and it stands until the next one is due.
* **Declared longer than the cadence** (a mean of the last hour every ten minutes): a *running mean*. Those
  that end where a period ends, at whole hours if it is an hour, are the means of those periods. The others
  are shown until then, and no average counts them.

A period that is no longer than a window lends a reading to no other window, but for one: where the stamps
wander about the windows' edge, one window may get two and the next none. A declared mean then lies in the
window of its middle, and one of a learned period stands for the next window too if its successor may come
after that.
"""

from collections.abc import Callable
from typing import NamedTuple

from schemas.reading import Observation, Quantity
from schemas.station import Station
from streams.cadence import TOLERANCE, due
from streams.cadences import Cadences, Circumstances
from streams.join import DECLARED, RUNNING


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
        newest = self._station_of(observation.station)
        record = None if newest is None else newest.at(observation.time_ms)
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
