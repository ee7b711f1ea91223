"""What a station's own sensors say of the weather in a window, beside its humidity: what forecasts go by."""

import math
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Final

from aqi.fill_values import is_fill_value
from fusion.sensors.window import SensorWindow
from schemas.parameters import OwnWeather
from streams.join import Item

#: Directions that point everywhere have no mean: their vectors' is shorter than this.
_NO_DIRECTION: Final = 1e-6

_ByChannel = Mapping[tuple[str, str], Mapping[str, Sequence[Item]]]


def own_weather(window: SensorWindow, series: _ByChannel) -> dict[OwnWeather, float]:
    """Means of the readings of the window itself (degrees C, hPa, m/s, degrees from which it blows), of
    several sensors the one in the middle; what none measured is left out. `series`: by (sensor, parameter)
    and channel.

    What only stands for the window does not count again: an hour is the mean of what was heard in it.
    """
    found: dict[OwnWeather, float] = {}
    scalar: tuple[OwnWeather, ...] = ("temperature", "pressure", "windspeed")
    for name in scalar:
        means = [math.fsum(values) / len(values) for values in _heard(window, series, name)]
        if means:
            found[name] = median(means)
    directions = [
        math.radians(value) for values in _heard(window, series, "winddirection") for value in values
    ]
    if directions:
        east = math.fsum(map(math.sin, directions)) / len(directions)
        north = math.fsum(map(math.cos, directions)) / len(directions)
        if math.hypot(east, north) > _NO_DIRECTION:
            found["winddirection"] = math.degrees(math.atan2(east, north)) % 360.0
    return found


def _heard(window: SensorWindow, series: _ByChannel, name: OwnWeather) -> list[list[float]]:
    """The values of each sensor that has any, in the order of the sensors' names."""
    heard = []
    for (sensor, parameter), by_channel in sorted(series.items()):
        if parameter == name:
            fills = window.fills(sensor, name)
            values = [
                item.payload.value
                for _, items in sorted(by_channel.items())
                for item in items
                if window.has(item) and not is_fill_value(item.payload.value, item.payload.unit, fills)
            ]
            if values:
                heard.append(values)
    return heard
