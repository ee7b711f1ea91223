"""The readings of a window to values of its pollutants, and what is to be remembered after it."""

from collections.abc import Mapping, Sequence

from aqi.correction import IDENTITY
from aqi.flags import CHANNELS, GROSS_RANGE, SUSPECT, ZERO, Verdict
from aqi.quality_defaults import Defaults
from aqi.zero import MEMORY_MS, followed, is_lost
from fusion.sensors.channel import SeriesJudge
from fusion.sensors.declared import correction_of
from fusion.sensors.humidity import Humidities
from fusion.sensors.means import SensorMean, together, unjudged
from fusion.sensors.measured import Measured, Readings, check_particles, failed_of, measured_of
from fusion.sensors.memory import Level, SensorMemory
from fusion.sensors.scaling import SCALES, Scalings
from fusion.sensors.standing import standing_of
from fusion.sensors.twins import DISTRUSTED_MS, Comparison
from fusion.sensors.weather import own_weather
from fusion.sensors.window import Objections, SensorWindow
from schemas.parameters import POLLUTANTS
from schemas.reading import LIMITS, scaling_of
from schemas.station import Station
from streams.join import Item


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
    window = SensorWindow(start, end, station, memory, limits, reference)
    objections = Objections()
    series = standing_of(items, start, end)
    judge = SeriesJudge(window, objections)
    comparison = Comparison(window, objections)
    humidities = Humidities(window, judge, series)
    sensors = _Sensors(window, objections, judge, comparison, humidities)
    found: dict[str, dict[str, SensorMean]] = {}
    for (sensor, parameter), by_channel in sorted(series.items()):
        if parameter in POLLUTANTS:
            mean = sensors.mean(sensor, parameter, by_channel)
            if mean is not None:
                found.setdefault(parameter, {})[sensor] = mean
    measured: dict[str, Measured] = {}
    for parameter, means in found.items():
        kept = comparison.compare(parameter, means)
        if kept:
            measured[parameter] = measured_of(kept, window.size)
    check_particles(measured, limits)
    return (
        Readings(
            measured,
            {name: failed_of(parts) for name, parts in objections.failed.items()},
            {name: pair for name, pair in objections.disputed.items() if name not in measured},
            objections.refused,
            humidities.serving(),
            own_weather(window, series),
            len(items),
        ),
        sensors.remembered(measured),
    )


class _Sensors:
    """The sensors of a window, each from its readings to one corrected mean."""

    def __init__(
        self, window: SensorWindow, objections: Objections, judge: SeriesJudge, comparison: Comparison,
        humidities: Humidities,
    ) -> None:  # fmt: skip
        self._window = window
        self._objections = objections
        self._judge = judge
        self._comparison = comparison
        self._humidities = humidities
        self._scalings = Scalings(window, objections)
        self._zeros = dict(window.memory.zeros)

    def mean(
        self, sensor: str, parameter: str, by_channel: Mapping[str, Sequence[Item]]
    ) -> SensorMean | None:
        """A sensor's mean of a pollutant, corrected; None where it has none."""
        rule = correction_of(self._window.station, sensor, parameter)
        scale = self._scalings.taken(sensor, parameter, rule, by_channel)
        taken = {channel: items for channel, items in by_channel.items() if scaling_of(channel) == scale}
        if not taken:
            sent = ", ".join(sorted(by_channel))
            who = f"{rule.id} takes" if rule.channel else "of this sensor is taken"
            self._objections.refuse(parameter, sensor, f"{who} channel {scale}; it sends {sent}")
            self._objections.add_failed(
                parameter, sensor, unjudged(parameter, by_channel, self._window.reference)
            )
            return None
        if (
            scale not in SCALES
            and not rule.channel
            and not self._scalings.is_one_thing(sensor, parameter, scale, by_channel)
        ):
            self._objections.add_failed(
                parameter, sensor, unjudged(parameter, by_channel, self._window.reference)
            )
            return None
        twins = {channel: items for channel, items in taken.items() if channel != scale}
        means = {
            channel: mean
            for channel, items in sorted((twins if len(twins) == 2 else taken).items())
            if (mean := self._judge.mean(sensor, parameter, channel, items, f"{sensor}/{channel}"))
            is not None
        }
        kept = self._comparison.agreeing(
            parameter, {f"{sensor}/{name}": mean for name, mean in means.items()}
        )
        if not kept:
            return None
        mean = together(list(kept.values()))
        value = rule.apply(parameter, mean.value, rule.channel, self._humidities.serving(sensor))
        if value is None:
            minutes = self._window.limits.humidity_s // 60
            why = f"{rule.id} needs a relative humidity of the last {minutes} minutes"
            failed = self._humidities.why_none()
            self._objections.refuse(parameter, sensor, f"{why}; {failed}" if failed else why)
            unknown = mean._replace(verdict=Verdict(max(mean.verdict.flag, SUSPECT), mean.verdict.tests))
            self._objections.add_failed(parameter, sensor, unknown)
            return None
        low, high = LIMITS[parameter]
        if not low <= value <= high:
            self._objections.refuse(
                parameter, sensor,
                f"{rule.id} makes {value:.6g} of {mean.value:.6g} ug/m3, beyond {low:g} to {high:g}",
            )  # fmt: skip
            self._objections.fail(parameter, sensor, mean, GROSS_RANGE)
            return None
        if self._zero_is_lost(sensor, parameter, value, by_channel):
            self._objections.fail(parameter, sensor, mean, ZERO)
            return None
        return mean._replace(value=value, method="mean" if rule is IDENTITY else rule.id)

    def _zero_is_lost(
        self, sensor: str, parameter: str, value: float, by_channel: Mapping[str, Sequence[Item]]
    ) -> bool:
        """Whether a sensor's values, after correction, have been too far below zero for too long."""
        lowest = self._window.limits.limits[parameter].lowest_mean
        if lowest is None:
            return False
        level = self._zeros.get((sensor, parameter))
        if any(self._window.has(item) for items in by_channel.values() for item in items):
            level = self._zeros[sensor, parameter] = followed(level, self._window.end, value, lowest)
        if level is None or not is_lost(level, lowest):
            return False
        self._objections.refuse(
            parameter, sensor,
            f"its mean of the last hours is {level.mean:.3g} ug/m3: noise in clean air has none below"
            f" {lowest:g}, so its zero (or its correction) is off",
        )  # fmt: skip
        return True

    def remembered(self, measured: Mapping[str, Measured]) -> SensorMemory:
        """The memory after this window."""
        levels = dict(self._window.memory.levels)
        for name, found in measured.items():
            # What was disputed, or doubted, is no ground for the next choice.
            if found.flag != SUSPECT and not found.tests & CHANNELS:
                levels[name] = self._level(name, found.value)
        humidity = self._humidities.agreed()
        if humidity is not None:
            levels["relativehumidity"] = self._level("relativehumidity", humidity)
        now = self._window.end
        distrusted = {
            key: end for key, end in self._comparison.distrusted.items() if now - end <= DISTRUSTED_MS
        }
        zeros = {key: zero for key, zero in self._zeros.items() if now - zero.last_ms <= MEMORY_MS}
        return SensorMemory(self._judge.series, levels, self._scalings.scales, distrusted, zeros)

    def _level(self, name: str, value: float) -> Level:
        before, end = self._window.memory.levels.get(name), self._window.end
        return Level(value, end, end) if before is None else before.followed(value, end)
