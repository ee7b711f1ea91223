"""The relative humidity of a window, of each sensor and of the station: what corrections need."""

import math
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Final, NamedTuple

from aqi.fill_values import is_fill_value
from aqi.flags import FAIL, STUCK
from aqi.limits import Limits
from fusion.sensors.channel import SeriesJudge
from fusion.sensors.memory import PAST_MS
from fusion.sensors.window import SensorWindow
from streams.join import Item

#: Two humidities that differ by more (%) are not both right.
_HUMIDITY_APART: Final = 20.0
#: Below this (%) no outdoor air is.
_DRY: Final = 3.0
#: Below this (%) it seldom is.
_ARID: Final = 20.0
#: From here on (%) a humidity may stand still: fog.
_SATURATED: Final = 99.0
_HUMIDITY: Final = Limits(
    fail_span=(_DRY, 120.0), stuck_above=0.0, stuck_suspect_s=21_600, stuck_fail_s=86_400, gap_s=10_800
)


class SensorHumidity(NamedTuple):
    """Mean relative humidity (%) of one sensor in a window; `still`: it has not moved for hours."""

    percent: float
    still: bool


class Humidities:
    """The humidity of one window. `series`: the readings by (sensor, parameter) and channel."""

    def __init__(
        self, window: SensorWindow, judge: SeriesJudge,
        series: Mapping[tuple[str, str], Mapping[str, Sequence[Item]]],
    ) -> None:  # fmt: skip
        self._window = window
        self._judge = judge
        #: Of each sensor without a usable humidity, why.
        self._none: dict[str, str] = {}
        self._by_sensor = {
            sensor: humidity
            for (sensor, parameter), by_channel in sorted(series.items())
            if parameter == "relativehumidity" and (humidity := self._of(sensor, by_channel)) is not None
        }

    def serving(self, sensor: str = "") -> float | None:
        """The humidity (%) for a sensor: its own, else what the others agree on, else the likeliest of them.

        Of those that disagree one that does not move counts least, then one that would be a desert's; then
        what was agreed on lately tells. A correction hangs little on it: 30 % of humidity are 2.6 ug/m3 by
        Barkjohn's.
        """
        level = self._window.memory.levels.get("relativehumidity")
        own = self._by_sensor.get(sensor)
        if own is not None and (not own.still or len(self._by_sensor) == 1):
            return own.percent
        usable = [one.percent for one in self._by_sensor.values() if not one.still]
        values = sorted(usable or [one.percent for one in self._by_sensor.values()])
        if not values:
            return None
        if values[-1] - values[0] <= _HUMIDITY_APART:
            return math.fsum(values) / len(values)
        values = [value for value in values if _ARID <= value < _SATURATED] or values
        if len(values) == 2 and level is not None and self._window.end - level.end <= PAST_MS:
            return min(values, key=lambda value: abs(value - level.value))
        return median(values)

    def agreed(self) -> float | None:
        """That of the station, where its sensors agree; None where they do not, or there is none."""
        values = [one.percent for one in self._by_sensor.values()]
        apart = bool(values) and max(values) - min(values) > _HUMIDITY_APART
        return None if apart else self.serving()

    def why_none(self) -> str:
        """Which sensors' humidities failed, and why, in words; empty where none did."""
        return "; ".join(f"that of {name} failed: {why}" for name, why in self._none.items())

    def _of(self, sensor: str, by_channel: Mapping[str, Sequence[Item]]) -> SensorHumidity | None:
        """What one sensor says of the humidity in the window, 100 % at most; None without a usable one."""
        usable = []
        still = False
        fills = self._window.fills(sensor, "relativehumidity")
        for channel, items in sorted(by_channel.items()):
            points = [
                (item, item.payload.value)
                for item in items
                if not is_fill_value(item.payload.value, item.payload.unit, fills)
            ]
            moving = [point for point in points if point[1] < _SATURATED]
            usable += [value for _, value in points if value >= _SATURATED]
            if moving:
                verdicts = self._judge.judged((sensor, "relativehumidity", channel), _HUMIDITY, moving)
                for (_, value), verdict in zip(moving, verdicts, strict=True):
                    if verdict.flag != FAIL:
                        usable.append(value)
                        still = still or bool(verdict.tests & STUCK)
                    elif verdict.tests & STUCK:
                        self._none[sensor] = f"{value:g} % for a day"
                    else:
                        fraction = " (a fraction? it is given in %)" if 0.0 < value <= 1.0 else ""
                        self._none[sensor] = f"{value:g} % is no humidity of outdoor air{fraction}"
        return SensorHumidity(min(100.0, math.fsum(usable) / len(usable)), still) if usable else None
