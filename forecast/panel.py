"""A network's hours: what its stations measured and the weather around them, hour by hour."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from forecast.errors import ForecastError
from schemas.arrays import Float32, Float64
from schemas.forecast import FORECAST_HOURS, FORECAST_LEVELS
from schemas.parameters import POLLUTANTS

#: What is known of the weather: degrees C, degrees C, hPa, m/s towards east and north, m/s, mm in the hour.
WEATHER_CHANNELS: Final = (
    "temperature", "dewpoint", "pressure", "wind_east", "wind_north", "wind_speed", "rain",
)  # fmt: skip
CHANNELS: Final = (*POLLUTANTS, *WEATHER_CHANNELS)
#: How far ahead a forecast looks, in hours.
HORIZON: Final = FORECAST_HOURS
#: The quantiles of every forecast.
QUANTILES: Final = FORECAST_LEVELS
_LEVELS: Final = np.array(QUANTILES)
#: Panels longer than this are a slip of a clock, not a history: every hour between takes memory.
_MOST_HOURS: Final = 40 * 366 * 24
#: A value older than this is not carried forward as "the last value".
CARRIED: Final = 72


def crps(quantiles: Float64, outcome: Float64) -> Float64:
    """(...) twice the mean pinball of `QUANTILES` (..., 7) beside what came (...), in their unit: the
    continuous ranked probability score, as far as seven quantiles tell it (Gneiting and Ranjan 2011).
    """
    miss = outcome[..., None] - quantiles
    score: Float64 = 2 * np.maximum(_LEVELS * miss, (_LEVELS - 1) * miss).mean(axis=-1)
    return score


@dataclass(frozen=True)
class Panel:
    """Hourly means of a network's stations, without holes in time: what was not measured is NaN.

    `values` is (stations, hours, `CHANNELS`), gases in ug/m3 as everywhere; `begins` counts hours since 1970
    (UTC) and names the hour in which `values[:, 0]` was measured; `offsets` are hours that a station's clock
    of the sun is ahead of UTC; `regions` say which stations are neighbours (empty: all are).
    """

    stations: tuple[str, ...]
    begins: int
    offsets: tuple[float, ...]
    values: Float32
    regions: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.values.shape[::2] != (len(self.stations), len(CHANNELS)) or self.values.dtype != np.float32:
            raise ForecastError(
                f"a panel of {len(self.stations)} stations has values {self.values.shape}"
                f" {self.values.dtype};"
                f" it wants float32 of (stations, hours, {len(CHANNELS)})"
            )

    @property
    def hours(self) -> int:
        return int(self.values.shape[1])

    def between(self, begins: int, ends: int) -> "Panel":
        """The hours from `begins` up to, not including, `ends` (hours since 1970)."""
        first, last = max(begins - self.begins, 0), max(ends - self.begins, 0)
        return replace(self, begins=self.begins + first, values=self.values[:, first:last])

    def only(self, stations: Sequence[str]) -> "Panel":
        """Some of the stations."""
        rows = [self.stations.index(name) for name in stations]
        return Panel(
            tuple(stations), self.begins, tuple(self.offsets[row] for row in rows), self.values[rows],
            tuple(self.regions[row] for row in rows) if self.regions else (),
        )  # fmt: skip

    def until(self, hour: int) -> "Panel":
        """What was known when hour number `hour` (of this panel) had passed."""
        return replace(self, values=self.values[:, : hour + 1])


def dewpoint(temperature: float, humidity: float) -> float:
    """Dew point in degrees C from degrees C and % (Magnus formula of Alduchov and Eskridge 1996)."""
    gamma = np.log(max(humidity, 1.0) / 100.0) + 17.625 * temperature / (243.04 + temperature)
    return float(243.04 * gamma / (17.625 - gamma))


def wind_of(speed: float | None, direction: float | None) -> dict[str, float]:
    """The wind's channels (m/s) of a speed and the degrees from which it blows; none where there is no speed.

    Whoever has both of one time makes them one vector before he takes a mean: that of a wind that goes round
    in a circle is none. A direction without a speed tells no channel.

    Examples:
        >>> {name: round(part, 6) + 0.0 for name, part in wind_of(2.0, 270.0).items()}
        {'wind_speed': 2.0, 'wind_east': 2.0, 'wind_north': 0.0}
        >>> wind_of(2.0, None), wind_of(None, 270.0)
        ({'wind_speed': 2.0}, {})
    """
    if speed is None:
        return {}
    if direction is None:
        return {"wind_speed": speed}
    towards = math.radians(direction + 180)
    return {
        "wind_speed": speed, "wind_east": speed * math.sin(towards), "wind_north": speed * math.cos(towards),
    }  # fmt: skip


def panel_of(
    hours: Mapping[str, Mapping[int, Sequence[float] | Float32]], offsets: Mapping[str, float]
) -> Panel:
    """A panel from each station's hours (since 1970) and their values in the order of `CHANNELS`."""
    seen = [hour for station in hours.values() for hour in station]
    if not seen:
        raise ForecastError("no hour of any station has a value: nothing can be forecast from that")
    begins, ends = min(seen), max(seen)
    if ends - begins > _MOST_HOURS:
        raise ForecastError(
            f"these hours lie {(ends - begins) // 8766} years apart: take out those whose clock was wrong"
        )
    values = np.full((len(hours), ends - begins + 1, len(CHANNELS)), np.nan, np.float32)
    for row, station in enumerate(hours.values()):
        for hour, known in station.items():
            values[row, hour - begins] = known
    return Panel(tuple(hours), begins, tuple(offsets[name] for name in hours), values)
