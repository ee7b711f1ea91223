"""What is remembered of a station's sensors from window to window."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from aqi.quality import SensorState
from aqi.zero import ZeroLevel
from schemas.times import HOUR_MS

#: What was measured longer ago says nothing of which of two values is true.
PAST_MS: Final = 3 * HOUR_MS

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
