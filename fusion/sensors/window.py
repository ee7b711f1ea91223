"""One window of a station at work: what it is judged by, and what is said against its readings."""

from dataclasses import dataclass

from aqi.fill_values import fill_numbers
from aqi.flags import FAIL, Verdict
from aqi.quality_defaults import Defaults
from fusion.sensors.means import SensorMean
from fusion.sensors.measured import Disputed
from fusion.sensors.memory import SensorMemory
from schemas.station import Sensor, Station
from streams.join import Item


@dataclass(frozen=True)
class SensorWindow:
    """The window [start, end) (ms) of a station, and the rules for it.

    `memory`: before it. `reference`: temperature (Cel) at which the station's network reports gases.
    """

    start: int
    end: int
    station: Station | None
    memory: SensorMemory
    limits: Defaults
    reference: float

    @property
    def size(self) -> int:
        """Its length, ms."""
        return self.end - self.start

    def has(self, item: Item) -> bool:
        """Whether a reading is of the window itself, and does not only stand for it."""
        return self.start <= item.time < self.end

    def record(self, sensor: str, parameter: str) -> Sensor | None:
        """What the station's record declares of a sensor."""
        return self.station.sensor_of(sensor, parameter) if self.station else None

    def fills(self, sensor: str, parameter: str) -> tuple[float, ...]:
        """The numbers by which a sensor says that it has no value."""
        record = self.record(sensor, parameter)
        if record is None:
            return fill_numbers(self.limits, parameter)
        return fill_numbers(self.limits, parameter, record.model, record.fill_values)


class Objections:
    """What fails and what is refused of a window, by pollutant, in the order in which it is found."""

    def __init__(self) -> None:
        self.failed: dict[str, list[tuple[str, SensorMean]]] = {}
        self.disputed: dict[str, Disputed] = {}
        self.refused: dict[str, dict[str, str]] = {}
        #: Pollutant and name of what does not move, and fails for it.
        self.stuck: set[tuple[str, str]] = set()

    def refuse(self, parameter: str, what: str, why: str) -> None:
        """`what` (a sensor, or sensor/channel) is left out, and why, in words."""
        self.refused.setdefault(parameter, {})[what] = why

    def add_failed(self, parameter: str, sensor: str, mean: SensorMean) -> None:
        """A sensor's mean is no value of the pollutant."""
        self.failed.setdefault(parameter, []).append((sensor, mean))

    def fail(self, parameter: str, name: str, mean: SensorMean, test: int) -> None:
        """The mean of `name` (a sensor, or sensor/channel) failed a test."""
        failed = mean._replace(verdict=Verdict(FAIL, mean.verdict.tests | test))
        self.add_failed(parameter, name.partition("/")[0], failed)
