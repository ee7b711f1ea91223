"""What a station's sensors say in one window: judged, scaled, compared with their twins, corrected. Pure.

From the single reading up:

1. *Standing.* A series' readings of the window itself count, by the time they speak for
   (`fusion.weighing`). Where it has none, the one whose period covers the window stands for it
   (`streams.cadence`); it was judged in its own window, and is not judged again.
2. *Reading.* A fill value of its type of sensor is no measurement; quality control judges the others, each
   channel with a memory of its own. Only what fails is left out.
3. *Scaling.* Several channels of one sensor (cf_1, atm) are scalings of one measurement: one of them is
   taken, always the same, never their mean, whether they come together or in turns. The correction says
   which, else the station's record, else `SCALES`. Once taken a scaling is kept until it has been away for a
   day.
   Names that nobody declared and that `SCALES` has not may mean anything: where they disagree, none is.
4. *Twins.* Channels ..._a and ..._b measure the same thing: their means over the window are compared. Where
   they disagree one is kept, if there are grounds (`better`); never the mean. The one that was left out does
   not speak for the sensor when the other falls silent. Exactly nothing is what a dead sensor of particles
   shows: it never wins over one that measures, and alone it is not good before something else was seen.
5. *Correction*, on the mean: `aqi.correction` has linear ones only. Without the humidity it needs there is no
   value: the raw one would be another quantity under the same name.
6. *Sensors* of one station that measure the same are compared like twins.

What is left out is told, with the reason, and so are twins and sensors that disagree without any ground to
choose between them (`Disputed`): the second pass may know more, from the camera or the past.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from aqi.correction import IDENTITY, Correction, correction
from aqi.quality import (
    CHANNELS,
    FAIL,
    FILL_VALUE,
    FLAT_LINE,
    FRESH,
    GOOD,
    GROSS_RANGE,
    MISSING,
    NOT_EVALUATED,
    STUCK,
    SUSPECT,
    UNIT,
    ZERO,
    ChannelRule,
    Defaults,
    Limits,
    SensorState,
    Verdict,
    channels,
    combine,
    defaults,
    fill_numbers,
    is_fill_value,
    judge,
    particles,
    tests_in,
    unit_doubt,
)
from aqi.units import to_canonical
from aqi.zero import MEMORY_MS, ZeroLevel, followed, is_lost
from fusion.weighing import by_time
from schemas.parameters import PARAMETERS
from schemas.reading import LIMITS, scaling_of
from schemas.station import Station
from streams.cadence import SCALING_KEPT_MS
from streams.join import DECLARED, RUNNING, Item

#: Scalings in the order in which they are taken where nobody declares one: the only one, what a Plantower
#: says of outdoor air, what it says of the factory's aerosol.
SCALES: Final = ("value", "atm", "cf_1")
#: What was measured longer ago says nothing of which of two values is true.
PAST_MS: Final = 3 * 3_600_000
#: For so long what was left out of two that disagreed does not count alone.
DISTRUSTED_MS: Final = 86_400_000
#: A window of which less than this share is covered counts for what is.
WHOLE: Final = 0.75
#: Of two values that disagree, one is supported where its logarithmic distance from what is known is smaller
#: by this (a factor of 1.5), and at most that (a factor of 2).
NEARER: Final = math.log(1.5)
NEAR: Final = math.log(2.0)
#: ug/m3 added before distances are taken, so that noise around zero is not a matter of factors.
_FLOOR: Final = 5.0
#: Two humidities that differ by more (%) are not both right.
_HUMIDITY_APART: Final = 20.0
#: Below this (%) no outdoor air is.
_DRY: Final = 3.0
#: Below this (%) it seldom is.
_ARID: Final = 20.0
#: What stands still for so long beside a twin that moves is dead (ms): an exact zero, and any value.
_DEAD_MS: Final = 3_600_000
_STILL_MS: Final = 3 * 3_600_000
#: A level stands for the past when it was so long without a gap of `PAST_MS` (ms): what one of two sensors
#: showed in the minute before the other one spoke does not tell which is right.
_SETTLED_MS: Final = 900_000
#: Whose exact nothing is a sign of death. A gas whose unit is coarse may well read 0.
_COUNTED: Final = ("pm25", "pm10")
#: From here on (%) a humidity may stand still: fog.
_SATURATED: Final = 99.0
_HUMIDITY: Final = Limits(
    fail_span=(_DRY, 120.0), stuck_above=0.0, stuck_suspect_s=21_600, stuck_fail_s=86_400, gap_s=10_800
)

#: Sensor, parameter and channel. In states of older versions a sensor's channels shared one, without a name.
SeriesKey = tuple[str, str, str]


class Level(NamedTuple):
    """A mean that nobody disputed (ug/m3, or % of humidity), and the end of its window (ms).

    `begun`: end of the first window of which there has been one ever since, without a gap of `PAST_MS`.
    """

    value: float
    end: int
    begun: int = 0

    def followed(self, value: float, end: int) -> "Level":
        """The next one."""
        return Level(value, end, self.begun if end - self.end <= PAST_MS else end)


class SensorScale(NamedTuple):
    """The scaling that is taken of a sensor, and the end of the last window that had it (ms)."""

    channel: str
    end: int


@dataclass(frozen=True)
class SensorMemory:
    """What is remembered of a station's sensors from window to window."""

    series: Mapping[SeriesKey, SensorState] = field(default_factory=dict)
    levels: Mapping[str, Level] = field(default_factory=dict)
    scales: Mapping[tuple[str, str], SensorScale] = field(default_factory=dict)
    #: By pollutant and name (sensor, or sensor/channel), end of the last window in which it was left out.
    distrusted: Mapping[tuple[str, str], int] = field(default_factory=dict)
    #: By sensor and pollutant, where its (corrected) values lie about zero.
    zeros: Mapping[tuple[str, str], ZeroLevel] = field(default_factory=dict)


@dataclass(frozen=True)
class Measured:
    """A pollutant's readings in a window: mean `value` after, `raw` before correction (ug/m3).

    `n`: readings; `sensors`: whose; `method`: mean, or the ids of the corrections. `since`: beginning of the
    declared period (ms) that all of them end in this window, 0 where there is none. `covered_s`: seconds of
    the window that they stand for, None: all of it; 0: a running mean, of which another one will tell.
    """

    value: float
    raw: float
    flag: int
    tests: int
    n: int
    sensors: tuple[str, ...]
    method: str
    since: int = 0
    covered_s: int | None = None


class Disputed(NamedTuple):
    """Two values that disagree, by name, and no ground to choose between them so far."""

    names: tuple[str, str]
    values: tuple[Measured, Measured]


@dataclass(frozen=True)
class Readings:
    """What a window's readings say. `failed`, `refused` and `disputed` may lie beside a measured value."""

    measured: Mapping[str, Measured]
    failed: Mapping[str, Measured]
    disputed: Mapping[str, Disputed]
    #: Per pollutant, what was left out (a sensor, or sensor/channel) and why, in words.
    refused: Mapping[str, Mapping[str, str]]
    humidity: float | None
    count: int


class _Reading(NamedTuple):
    """One reading, usable or not."""

    value: float
    verdict: Verdict
    item: Item


class _Mean(NamedTuple):
    """Of one channel, or of one sensor."""

    value: float
    raw: float
    verdict: Verdict
    n: int
    since: int
    method: str
    #: ms of the window.
    covered: int
    #: Whether it has not moved for longer than air stands still.
    still: bool = False
    #: Whether the log knows of another that measures the same.
    twinned: bool = False


class _Humidity(NamedTuple):
    """Mean relative humidity (%) of one sensor in a window; `still`: it has not moved for hours."""

    percent: float
    still: bool


def correction_of(station: Station | None, sensor: str, parameter: str) -> Correction:
    """The correction that is declared for a sensor's values of a parameter."""
    known = station.sensor_of(sensor, parameter) if station else None
    found = IDENTITY if known is None else correction(known.correction)
    return found if not found.parameters or parameter in found.parameters else IDENTITY


def humidity_ms(station: Station) -> int:
    """For how long a humidity of the station serves its corrections (ms); 0: none needs any."""
    needed = any(
        correction_of(station, sensor.sensor, parameter).needs_humidity
        for sensor in station.sensors
        for parameter in sensor.parameters
    )
    return defaults().humidity_s * 1000 if needed else 0


def read(
    items: Sequence[Item],
    start: int,
    end: int,
    station: Station | None,
    memory: SensorMemory,
    limits: Defaults,
    reference: float,
) -> tuple[Readings, SensorMemory]:
    """Judge the readings of the window [start, end); gives also what is to be remembered after it.

    Args:
        items: of the window, also those that stand for a period which covers it.
        reference: temperature (Cel) at which the station's network reports gases.
    """
    window = _WindowAtWork(start, end, station, memory, limits, reference)
    series = _standing(items, start, end)
    humidity = {
        sensor: percent
        for (sensor, parameter), by_channel in sorted(series.items())
        if parameter == "relativehumidity" and (percent := window.humidity(sensor, by_channel)) is not None
    }
    level = memory.levels.get("relativehumidity")
    of_station = _one_humidity(humidity, "", level, end)
    found: dict[str, dict[str, _Mean]] = {}
    for (sensor, parameter), by_channel in sorted(series.items()):
        if parameter in PARAMETERS:
            own = _one_humidity(humidity, sensor, level, end)
            mean = window.sensor(sensor, parameter, by_channel, own)
            if mean is not None:
                found.setdefault(parameter, {})[sensor] = mean
    measured: dict[str, Measured] = {}
    for parameter, means in found.items():
        kept = window.compare(parameter, means)
        if kept:
            measured[parameter] = _measured(kept, end - start)
    _check_particles(measured, limits)
    return (
        Readings(
            measured,
            {name: _failed(parts) for name, parts in window.failed.items()},
            {name: pair for name, pair in window.disputed.items() if name not in measured},
            window.refused,
            of_station,
            len(items),
        ),
        window.remembered(measured, of_station if _agree(humidity) else None),
    )


def _standing(items: Sequence[Item], start: int, end: int) -> dict[tuple[str, str], dict[str, list[Item]]]:
    """Per (sensor, parameter) and channel the readings that count, in order of time."""
    own: dict[SeriesKey, list[Item]] = {}
    over: dict[SeriesKey, list[Item]] = {}
    for item in items:
        key = item.payload.sensor, item.payload.parameter, item.payload.channel
        (own if start <= item.time < end else over).setdefault(key, []).append(item)
    chosen: dict[tuple[str, str], dict[str, list[Item]]] = {}
    for key in sorted({*own, *over}):
        standing = sorted(_without_running(own.get(key, []), over.get(key, [])), key=_time)
        if not standing:
            # The mean of a period that has ended since is this window's own; else the newest still stands,
            # if it does, and has not only ended an earlier one.
            after = [item for item in over[key] if item.time >= end]
            after = _without_running(after, after) or after
            newest = min(after, key=_time) if after else max(over[key], key=_time)
            if newest.until <= start:
                continue
            standing = [newest]
        chosen.setdefault(key[:2], {})[key[2]] = standing
    return chosen


def _without_running(items: Sequence[Item], beside: Sequence[Item]) -> list[Item]:
    """The items without the running means, where there is the mean of a period in their place."""
    if any(item.basis == RUNNING for item in items) and any(
        item.basis == DECLARED for item in (*items, *beside)
    ):
        return [item for item in items if item.basis != RUNNING]
    return list(items)


def _time(item: Item) -> int:
    return item.time


class _WindowAtWork:
    """One window at work: what fails and what is refused gathers here."""

    def __init__(
        self,
        start: int,
        end: int,
        station: Station | None,
        memory: SensorMemory,
        limits: Defaults,
        reference: float,
    ) -> None:
        self._start, self._end = start, end
        self._station = station
        self._memory = memory
        self._limits = limits
        self._reference = reference
        self._series = dict(memory.series)
        self._scales = dict(memory.scales)
        self._distrusted = dict(memory.distrusted)
        #: Of each sensor without a usable humidity, why.
        self._no_humidity: dict[str, str] = {}
        #: Pollutant and name of what does not move, and fails for it.
        self._stuck: set[tuple[str, str]] = set()
        self._zeros = dict(memory.zeros)
        self.failed: dict[str, list[tuple[str, _Mean]]] = {}
        self.disputed: dict[str, Disputed] = {}
        self.refused: dict[str, dict[str, str]] = {}

    # -- one channel ---------------------------------------------------------------------------------------

    def _judged(self, key: SeriesKey, limits: Limits, points: Sequence[tuple[Item, float]]) -> list[Verdict]:
        """Verdicts of a series' readings; its memory moves on by those of this window."""
        sensor, parameter, _ = key
        shared = (sensor, parameter, "")
        before = self._memory.series.get(key, self._memory.series.get(shared, FRESH))
        first, _ = points[0]
        if not self._start <= first.time < self._end:
            return [_carried(limits, before, first.time, points[0][1])]
        verdicts, self._series[key] = judge(limits, before, [(item.time, value) for item, value in points])
        self._series.pop(shared, None)
        return verdicts

    def _channel(
        self, sensor: str, parameter: str, channel: str, items: Sequence[Item], label: str
    ) -> _Mean | None:
        """The mean over a channel's usable readings; None where there is none (`failed` has them then)."""
        fills = self._fills(sensor, parameter)
        points: list[tuple[Item, float]] = []
        filled: list[tuple[Item, float]] = []
        for item in items:
            value = item.payload
            canonical = to_canonical(parameter, value.value, value.unit, self._reference)
            (filled if is_fill_value(value.value, value.unit, fills) else points).append((item, canonical))
        good: list[_Reading] = []
        bad = [_Reading(value, Verdict(FAIL, FILL_VALUE), item) for item, value in filled]
        if points:
            limits = self._limits.limits[parameter]
            for (item, value), verdict in zip(
                points, self._judged((sensor, parameter, channel), limits, points), strict=True
            ):
                doubt = unit_doubt(parameter, item.payload.value, item.payload.unit, self._limits.units)
                verdict = combine(verdict, doubt) if doubt.tests else verdict
                side = bad if verdict.flag in (FAIL, MISSING) else good
                side.append(_Reading(value, verdict, item))
        since = _since(items, self._start, self._end)
        nothing = [reading for reading in good if reading.value == 0.0]
        if parameter in _COUNTED and 0 < len(nothing) < len(good):
            # One of two devices under one name is dead, or the sensor says 0 where it failed to measure.
            some = [reading for reading in good if reading.value != 0.0]
            if all(channels(0.0, one.value, self._limits.channels).flag == FAIL for one in some):
                doubt = Verdict(SUSPECT, CHANNELS)
                good = [one._replace(verdict=combine(one.verdict, doubt)) for one in some]
                bad += [one._replace(verdict=Verdict(FAIL, CHANNELS)) for one in nothing]
                beside = (
                    f"{len(nothing)} of {len(items)} readings show nothing at all beside {some[0].value:.6g}"
                )
                self._refuse(parameter, label, f"{beside} ug/m3: is it one device?")
        if bad:
            self.failed.setdefault(parameter, []).append((sensor, _mean_of(bad, since)))
            if not good:
                last = bad[-1]
                why = f"failed quality control: {' and '.join(tests_in(last.verdict.tests))}"
                if filled and not points:
                    why = "the sensor's sign for no value"
                elif last.verdict.tests & UNIT:
                    why = "no air outdoors has that much: is its unit right?"
                if last.verdict.tests & (STUCK | FLAT_LINE):
                    self._stuck.add((parameter, label))
                self._refuse(parameter, label, f"{why} ({last.value:.6g} ug/m3)")
        if not good:
            return None
        mean = _mean_of(good, since, *self._weights([one.item for one in good]))
        twinned = any(item.payload.twinned for item in items)
        return mean._replace(still=self._still((sensor, parameter, channel), mean), twinned=twinned)

    def _still(self, key: SeriesKey, mean: _Mean) -> bool:
        """Whether a series has not moved for longer than air stands still."""
        if mean.verdict.tests & (STUCK | FLAT_LINE):
            return True
        state = self._series.get(key, FRESH)
        if state.stuck_ms < 0 or state.last != mean.raw:
            return False
        return self._end - state.stuck_ms >= (_DEAD_MS if mean.raw == 0.0 else _STILL_MS)

    def _weights(self, items: Sequence[Item]) -> tuple[list[int], int]:
        """The weight of each, and how much of the window (ms) they cover."""
        size = self._end - self._start
        if len(items) == 1 and not self._start <= items[0].time < self._end:
            return [size], 0 if items[0].basis == RUNNING else size
        return by_time(items, size)

    def _fills(self, sensor: str, parameter: str) -> tuple[float, ...]:
        record = self._station.sensor_of(sensor, parameter) if self._station else None
        if record is None:
            return fill_numbers(self._limits, parameter)
        return fill_numbers(self._limits, parameter, record.model, record.fill_values)

    def _refuse(self, parameter: str, what: str, why: str) -> None:
        self.refused.setdefault(parameter, {})[what] = why

    # -- one sensor ----------------------------------------------------------------------------------------

    def humidity(self, sensor: str, by_channel: Mapping[str, Sequence[Item]]) -> _Humidity | None:
        """What one sensor says of the humidity in the window, 100 % at most; None without a usable one."""
        usable = []
        still = False
        fills = self._fills(sensor, "relativehumidity")
        for channel, items in sorted(by_channel.items()):
            points = [
                (item, item.payload.value)
                for item in items
                if not is_fill_value(item.payload.value, item.payload.unit, fills)
            ]
            moving = [point for point in points if point[1] < _SATURATED]
            usable += [value for _, value in points if value >= _SATURATED]
            if moving:
                verdicts = self._judged((sensor, "relativehumidity", channel), _HUMIDITY, moving)
                for (_, value), verdict in zip(moving, verdicts, strict=True):
                    if verdict.flag != FAIL:
                        usable.append(value)
                        still = still or bool(verdict.tests & STUCK)
                    elif verdict.tests & STUCK:
                        self._no_humidity[sensor] = f"{value:g} % for a day"
                    else:
                        fraction = " (a fraction? it is given in %)" if 0.0 < value <= 1.0 else ""
                        self._no_humidity[sensor] = f"{value:g} % is no humidity of outdoor air{fraction}"
        return _Humidity(min(100.0, math.fsum(usable) / len(usable)), still) if usable else None

    def sensor(
        self, sensor: str, parameter: str, by_channel: Mapping[str, Sequence[Item]], humidity: float | None
    ) -> _Mean | None:
        """A sensor's mean of a pollutant, corrected; None where it has none."""
        rule = correction_of(self._station, sensor, parameter)
        scale = self._scale(sensor, parameter, rule, by_channel)
        taken = {channel: items for channel, items in by_channel.items() if scaling_of(channel) == scale}
        if not taken:
            sent = ", ".join(sorted(by_channel))
            who = f"{rule.id} takes" if rule.channel else "of this sensor is taken"
            self._refuse(parameter, sensor, f"{who} channel {scale}; it sends {sent}")
            self.failed.setdefault(parameter, []).append((sensor, self._raw(parameter, by_channel)))
            return None
        if (
            scale not in SCALES
            and not rule.channel
            and not self._one_thing(sensor, parameter, scale, by_channel)
        ):
            self.failed.setdefault(parameter, []).append((sensor, self._raw(parameter, by_channel)))
            return None
        twins = {channel: items for channel, items in taken.items() if channel != scale}
        means = {
            channel: mean
            for channel, items in sorted((twins if len(twins) == 2 else taken).items())
            if (mean := self._channel(sensor, parameter, channel, items, f"{sensor}/{channel}")) is not None
        }
        kept = self._agreeing(parameter, {f"{sensor}/{name}": mean for name, mean in means.items()})
        if not kept:
            return None
        mean = _together(list(kept.values()))
        value = rule.apply(parameter, mean.value, rule.channel, humidity)
        if value is None:
            why = f"{rule.id} needs a relative humidity of the last {self._limits.humidity_s // 60} minutes"
            failed = "; ".join(f"that of {name} failed: {it}" for name, it in self._no_humidity.items())
            self._refuse(parameter, sensor, f"{why}; {failed}" if failed else why)
            unknown = mean._replace(verdict=Verdict(max(mean.verdict.flag, SUSPECT), mean.verdict.tests))
            self.failed.setdefault(parameter, []).append((sensor, unknown))
            return None
        low, high = LIMITS[parameter]
        if not low <= value <= high:
            self._refuse(
                parameter, sensor,
                f"{rule.id} makes {value:.6g} of {mean.value:.6g} ug/m3, beyond {low:g} to {high:g}",
            )  # fmt: skip
            self._fail(parameter, sensor, mean, GROSS_RANGE)
            return None
        if self._zero_is_lost(sensor, parameter, value, by_channel):
            self._fail(parameter, sensor, mean, ZERO)
            return None
        return mean._replace(value=value, method="mean" if rule is IDENTITY else rule.id)

    def _raw(self, parameter: str, by_channel: Mapping[str, Sequence[Item]]) -> _Mean:
        """The mean of readings that nobody judges."""
        readings = [
            _Reading(
                to_canonical(parameter, item.payload.value, item.payload.unit, self._reference),
                Verdict(MISSING, 0),
                item,
            )
            for items in by_channel.values()
            for item in items
        ]
        return _mean_of(readings, 0)

    def _one_thing(
        self, sensor: str, parameter: str, taken: str, by_channel: Mapping[str, Sequence[Item]]
    ) -> bool:
        """Whether channels of unknown names say the same, so that it matters little which is taken."""
        record = self._station.sensor_of(sensor, parameter) if self._station else None
        sent = {scaling_of(channel) for channel in by_channel}
        sent.update(*(item.payload.scalings for items in by_channel.values() for item in items))
        if (record is not None and record.channel is not None) or len(sent) == 1:
            return True
        values = {
            scaling: self._raw(
                parameter, {name: items for name, items in by_channel.items() if scaling_of(name) == scaling}
            ).value
            for scaling in sorted({scaling_of(channel) for channel in by_channel})
        }
        told = ", ".join(f"{scaling} {value:.6g}" for scaling, value in values.items())
        which = f"name the one to take as `channel` of {sensor} in the station's record"
        if len(values) < len(sent) or any(
            channels(values[taken], value, self._limits.channels).flag == FAIL for value in values.values()
        ):
            names = " and ".join(sorted(sent))
            self._refuse(parameter, sensor, f"sends {names} ({told} ug/m3), which may be anything: {which}")
            return False
        self._refuse(parameter, f"{sensor}/{'+'.join(sorted(sent - {taken}))}", f"{taken} is taken; {which}")
        return True

    def _zero_is_lost(
        self, sensor: str, parameter: str, value: float, by_channel: Mapping[str, Sequence[Item]]
    ) -> bool:
        """Whether a sensor's values, after correction, have been too far below zero for too long."""
        lowest = self._limits.limits[parameter].lowest_mean
        if lowest is None:
            return False
        level = self._zeros.get((sensor, parameter))
        if any(self._start <= item.time < self._end for items in by_channel.values() for item in items):
            level = self._zeros[sensor, parameter] = followed(level, self._end, value, lowest)
        if level is None or not is_lost(level, lowest):
            return False
        self._refuse(
            parameter, sensor,
            f"its mean of the last hours is {level.mean:.3g} ug/m3: noise in clean air has none below"
            f" {lowest:g}, so its zero (or its correction) is off",
        )  # fmt: skip
        return True

    def _scale(
        self, sensor: str, parameter: str, rule: Correction, by_channel: Mapping[str, Sequence[Item]]
    ) -> str:
        """The scaling to take of a sensor that sends those channels."""
        if rule.channel:
            return rule.channel
        record = self._station.sensor_of(sensor, parameter) if self._station else None
        if record is not None and record.channel is not None:
            return scaling_of(record.channel)
        bases = {scaling_of(channel) for channel in by_channel}
        # Those that it sends in other windows count too: the log knows of them before any window is final.
        told = [item.payload.scalings for items in by_channel.values() for item in items]
        sent = max(told, key=len) or sorted(bases)
        best = next((name for name in SCALES if name in sent or name in bases), sent[0])
        known = self._scales.get((sensor, parameter))
        if known is not None and known.channel != best:
            rank = [*SCALES, known.channel, best]
            kept = known.channel in bases or self._end - known.end <= SCALING_KEPT_MS
            if kept and not rank.index(best) < rank.index(known.channel):
                best = known.channel
        if best in bases:
            self._scales[sensor, parameter] = SensorScale(best, self._end)
        return best

    # -- those that measure the same -----------------------------------------------------------------------

    def compare(self, parameter: str, means: Mapping[str, _Mean]) -> dict[str, _Mean]:
        """The sensors of a pollutant that agree."""
        kept = self._agreeing(parameter, means)
        return self._alone(parameter, *next(iter(kept.items()))) if kept and len(means) == 1 else kept

    def _agreeing(self, parameter: str, means: Mapping[str, _Mean]) -> dict[str, _Mean]:
        """Of means of the same thing, by name, those that agree; the verdicts say where any did not."""
        if len(means) < 2:
            return {name: mean for name, mean in means.items() if not self._distrusts(parameter, name, mean)}
        largest = _agreeing_most(means, self._limits.channels)
        if len(largest) == len(means):
            for name in means:
                self._distrusted.pop((parameter, name), None)
            return dict(means)
        moving = {name: mean for name, mean in means.items() if mean.raw != 0.0}
        dead = means.keys() - moving.keys()
        if 2 * len(largest) > len(means) and not largest <= dead:
            middle = _median([means[name].value for name in largest])
            for name in means.keys() - largest:
                self._distrust(parameter, name, f"{means[name].value:.6g} beside {middle:.6g} of the others")
            return {name: _with_tests(means[name], CHANNELS) for name in sorted(largest)}
        if len(means) == 2:
            return self._one_of_two(parameter, means)
        if moving and dead:
            return self._beside_dead(parameter, means, moving)
        self._unsettled(parameter, means)
        return {}

    def _beside_dead(
        self, parameter: str, means: Mapping[str, _Mean], moving: Mapping[str, _Mean]
    ) -> dict[str, _Mean]:
        """Of three or more, of which some show nothing at all, the others, where the past allows it."""
        dead = [mean for name, mean in means.items() if name not in moving]
        past = self._past(parameter)
        choice = better(_together(dead), _together(list(moving.values())), past)
        if choice.kept != 1 or (len(dead) > len(moving) and not choice.proven):
            self._unsettled(parameter, means)
            return {}
        others = " and ".join(sorted(moving))
        values = ", ".join(f"{mean.value:.6g}" for mean in means.values())
        for name in means.keys() - moving.keys():
            self._distrust(parameter, name, f"disagrees with {others} ({values} ug/m3): {choice.ground}")
        kept = self._agreeing(parameter, moving)
        return {name: _chosen(mean, choice.proven) for name, mean in kept.items()}

    def _past(self, parameter: str) -> float | None:
        """What the pollutant was lately (ug/m3), where that is known well enough to judge by."""
        level = self._memory.levels.get(parameter)
        if level is None or self._end - level.end > PAST_MS or self._end - level.begun < _SETTLED_MS:
            return None
        return level.value

    def _alone(self, parameter: str, name: str, mean: _Mean) -> dict[str, _Mean]:
        """The only sensor that speaks. Exactly nothing is in doubt unless the air was as clean before."""
        level = self._memory.levels.get(parameter)
        if mean.raw != 0.0 or parameter not in _COUNTED or (
            level is not None
            and self._end - level.end <= PAST_MS
            and channels(0.0, level.value, self._limits.channels).flag != FAIL
        ):  # fmt: skip
            return {name: mean}
        if not mean.twinned:
            return {name: mean._replace(verdict=combine(mean.verdict, Verdict(SUSPECT, STUCK)))}
        self._fail(parameter, name, mean, CHANNELS)
        self._refuse(parameter, name, "shows nothing at all, and what measures the same is silent")
        return {}

    def _one_of_two(self, parameter: str, means: Mapping[str, _Mean]) -> dict[str, _Mean]:
        (first, one), (second, other) = means.items()
        choice = better(one, other, self._past(parameter))
        if choice.kept is None:
            self._unsettled(parameter, means)
            return {}
        kept, left = ((first, one), second) if choice.kept == 0 else ((second, other), first)
        values = f"{one.value:.6g} and {other.value:.6g} ug/m3"
        self._distrust(parameter, left, f"disagrees with {kept[0]} ({values}): {choice.ground}")
        return {kept[0]: _chosen(kept[1], choice.proven)}

    def _unsettled(self, parameter: str, means: Mapping[str, _Mean]) -> None:
        """Values disagree, and there is no ground to choose between them."""
        names = tuple(means)
        for name, mean in means.items():
            self._fail(parameter, name, mean, CHANNELS)
        values = " and ".join(f"{mean.value:.6g}" for mean in means.values())
        self._refuse(
            parameter, " and ".join(names), f"disagree ({values} ug/m3), and nothing tells which is right"
        )
        # A corrected value cannot be made later, of a twin that is chosen later.
        if len(names) == 2 and (not any("/" in name for name in names) or self._plain(names[0], parameter)):
            one, other = (
                _measured({name.partition("/")[0]: _with_tests(mean, CHANNELS)}, self._end - self._start)
                for name, mean in means.items()
            )
            self.disputed[parameter] = Disputed((names[0], names[1]), (one, other))

    def _distrust(self, parameter: str, name: str, why: str) -> None:
        self._distrusted[parameter, name] = self._end
        self._refuse(parameter, name, why)

    def _distrusts(self, parameter: str, name: str, mean: _Mean) -> bool:
        """Whether the only one that speaks is the one that was left out while there were two.

        Where the other one speaks, and fails because it does not move, the grounds to prefer it are gone.
        """
        last = self._distrusted.get((parameter, name))
        if last is None or self._end - last > DISTRUSTED_MS:
            return False
        sensor, _, channel = name.partition("/")
        stuck = {other.partition("/")[0] == sensor for of, other in self._stuck if of == parameter}
        if bool(channel) in stuck and mean.raw != 0.0:
            del self._distrusted[parameter, name]
            return False
        self._fail(parameter, name, mean, CHANNELS)
        self._refuse(parameter, name, "was left out when there was another to compare it with")
        return True

    def _fail(self, parameter: str, name: str, mean: _Mean, test: int) -> None:
        failed = mean._replace(verdict=Verdict(FAIL, mean.verdict.tests | test))
        self.failed.setdefault(parameter, []).append((name.partition("/")[0], failed))

    def _plain(self, name: str, parameter: str) -> bool:
        return correction_of(self._station, name.partition("/")[0], parameter) is IDENTITY

    # -- afterwards ----------------------------------------------------------------------------------------

    def remembered(self, measured: Mapping[str, Measured], humidity: float | None) -> SensorMemory:
        """The memory after this window."""
        levels = dict(self._memory.levels)
        for name, found in measured.items():
            # What was disputed, or doubted, is no ground for the next choice.
            if found.flag != SUSPECT and not found.tests & CHANNELS:
                levels[name] = self._level(name, found.value)
        if humidity is not None:
            levels["relativehumidity"] = self._level("relativehumidity", humidity)
        distrusted = {key: end for key, end in self._distrusted.items() if self._end - end <= DISTRUSTED_MS}
        zeros = {key: zero for key, zero in self._zeros.items() if self._end - zero.last_ms <= MEMORY_MS}
        return SensorMemory(self._series, levels, self._scales, distrusted, zeros)

    def _level(self, name: str, value: float) -> Level:
        before = self._memory.levels.get(name)
        return Level(value, self._end, self._end) if before is None else before.followed(value, self._end)


class ChosenValue(NamedTuple):
    """Which of two values is kept (0, 1; None: nothing tells), on what ground, whether that proves it."""

    kept: int | None
    ground: str = ""
    proven: bool = False


def better(one: _Mean, other: _Mean, known: float | None) -> ChosenValue:
    """Which of two means that disagree to keep.

    Args:
        known: what the pollutant was lately, or is by what else knows, ug/m3.
    """
    near = None if known is None else nearer(one.value, other.value, known)
    still, dead = [[mean.still for mean in (one, other)], [mean.raw == 0.0 for mean in (one, other)]]
    if still[0] != still[1]:
        # Although the past, which it may have made itself, is on its side.
        return ChosenValue(int(still[0]), "it does not move", proven=near in (None, int(still[0])))
    if dead[0] != dead[1]:
        if near in (None, int(dead[0])):
            return ChosenValue(int(dead[0]), "it shows nothing at all", proven=True)
        return ChosenValue(None)  # clean air, or a sensor that died in it
    if near is not None:
        return ChosenValue(near, f"the station's last value was {known:.6g}")
    doubted = [mean.verdict.flag == SUSPECT for mean in (one, other)]
    if doubted[0] != doubted[1]:
        return ChosenValue(int(doubted[0]), "quality control doubts it")
    return ChosenValue(None)


def _agreeing_most(means: Mapping[str, _Mean], rule: ChannelRule) -> frozenset[str]:
    """The names of the most that agree with one of them (of two such groups, the one of the first name)."""
    groups = [
        frozenset(other for other, its in means.items() if channels(mean.value, its.value, rule).flag != FAIL)
        for _, mean in sorted(means.items())
    ]
    return max(groups, key=len)


def nearer(one: float, other: float, known: float) -> int | None:
    """Which of two values (0, 1) is clearly the nearer to what is known, all ug/m3; None: neither.

    Examples:
        >>> nearer(12.0, 80.0, known=15.0)
        0
        >>> nearer(12.0, 14.0, known=13.0) is None  # both are
        True
        >>> nearer(40.0, 80.0, known=3.0) is None  # both are far away
        True
    """
    away = [abs(math.log((max(value, 0.0) + _FLOOR) / (max(known, 0.0) + _FLOOR))) for value in (one, other)]
    choice = 0 if away[0] <= away[1] else 1
    if away[choice] <= NEAR and away[1 - choice] - away[choice] >= NEARER:
        return choice
    return None


def _carried(limits: Limits, state: SensorState, t_ms: int, value: float) -> Verdict:
    """The verdict of a reading that was judged, or will be, in another window."""
    if state.t_ms == t_ms:
        return Verdict(state.last_flag, state.last_tests)
    [verdict], _ = judge(limits, state if t_ms > state.t_ms else FRESH, [(t_ms, value)])
    return verdict


def _since(items: Sequence[Item], start: int, end: int) -> int:
    """Beginning of the declared period that ends with the only reading of the window; 0 for any other."""
    if len(items) == 1 and start <= items[0].time < end and items[0].until and items[0].since < items[0].time:
        return 0 if items[0].basis == RUNNING else items[0].since
    return 0


def _mean_of(
    readings: Sequence[_Reading], since: int, weights: Sequence[int] = (), covered: int = 0
) -> _Mean:
    """`weights`: none, and they weigh the same. `covered`: ms of the window."""
    if len(set(weights)) < 2:
        mean = math.fsum(reading.value for reading in readings) / len(readings)
    else:
        mean = math.fsum(
            reading.value * weight for reading, weight in zip(readings, weights, strict=True)
        ) / sum(weights)
    verdict = combine(*(reading.verdict for reading in readings))
    return _Mean(mean, mean, verdict, len(readings), since, "mean", covered)


def _together(means: Sequence[_Mean]) -> _Mean:
    """Equal weights: a sensor that speaks more often does not know more."""
    since = {mean.since for mean in means}
    return _Mean(
        math.fsum(mean.value for mean in means) / len(means),
        math.fsum(mean.raw for mean in means) / len(means),
        combine(*(mean.verdict for mean in means)),
        max(mean.n for mean in means),
        since.pop() if len(since) == 1 else 0,
        " + ".join(sorted({mean.method for mean in means})),
        max(mean.covered for mean in means),
        all(mean.still for mean in means),
        any(mean.twinned for mean in means),
    )


def _measured(means: Mapping[str, _Mean], size: int) -> Measured:
    whole = _together(list(means.values()))
    n = sum(mean.n for mean in means.values())
    covered = None if whole.covered >= WHOLE * size else whole.covered and max(1, whole.covered // 1000)
    return Measured(
        whole.value, whole.raw, whole.verdict.flag, whole.verdict.tests, n, tuple(sorted(means)),
        whole.method, whole.since, covered,
    )  # fmt: skip


def _failed(parts: Iterable[tuple[str, _Mean]]) -> Measured:
    """What failed of a pollutant. The flag is that of the worst reading, `MISSING` where none was judged."""
    parts = list(parts)
    whole = _together([mean for _, mean in parts])
    n = sum(mean.n for _, mean in parts)
    return Measured(
        whole.value, whole.raw, whole.verdict.flag, whole.verdict.tests, n,
        tuple(sorted({sensor for sensor, _ in parts})), whole.method,
    )  # fmt: skip


def _chosen(mean: _Mean, proven: bool) -> _Mean:
    """One of several that disagree. Without a proof it is published, but nothing is learned from it."""
    if proven:
        return _with_tests(mean, CHANNELS)
    return mean._replace(verdict=combine(mean.verdict, Verdict(SUSPECT, CHANNELS)))


def _with_tests(mean: _Mean, bits: int) -> _Mean:
    flag = GOOD if mean.verdict.flag == NOT_EVALUATED else mean.verdict.flag
    return mean._replace(verdict=Verdict(flag, mean.verdict.tests | bits))


def _check_particles(measured: dict[str, Measured], limits: Defaults) -> None:
    """Flags both where PM2.5 lies above PM10."""
    if "pm25" not in measured or "pm10" not in measured:
        return
    verdict = particles(measured["pm25"].value, measured["pm10"].value, limits.particles)
    if verdict.tests:
        for name in ("pm25", "pm10"):
            found = measured[name]
            whole = combine(Verdict(found.flag, found.tests), verdict)
            measured[name] = Measured(
                found.value, found.raw, whole.flag, whole.tests, found.n, found.sensors, found.method,
                found.since, found.covered_s,
            )  # fmt: skip


def _one_humidity(
    by_sensor: Mapping[str, _Humidity], sensor: str, level: Level | None, end: int
) -> float | None:
    """The humidity (%) for a sensor: its own, else what the others agree on, else the likeliest of them.

    Of those that disagree one that does not move counts least, then one that would be a desert's; then what
    was agreed on lately tells. A correction hangs little on it: 30 % of humidity are 2.6 ug/m3 by Barkjohn's.
    """
    own = by_sensor.get(sensor)
    if own is not None and (not own.still or len(by_sensor) == 1):
        return own.percent
    usable = [one.percent for one in by_sensor.values() if not one.still]
    values = sorted(usable or [one.percent for one in by_sensor.values()])
    if not values:
        return None
    if values[-1] - values[0] <= _HUMIDITY_APART:
        return math.fsum(values) / len(values)
    values = [value for value in values if _ARID <= value < _SATURATED] or values
    if len(values) == 2 and level is not None and end - level.end <= PAST_MS:
        return min(values, key=lambda value: abs(value - level.value))
    return _median(values)


def _agree(humidity: Mapping[str, _Humidity]) -> bool:
    values = [one.percent for one in humidity.values()]
    return not values or max(values) - min(values) <= _HUMIDITY_APART


def _median(values: Sequence[float]) -> float:
    ordered = sorted(values)
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2.0
