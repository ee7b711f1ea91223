"""What is stored of a station on the state topic: two records, for virtual sensors move once an hour only."""

from collections.abc import Mapping

import msgspec

from aqi.history import History, HistoryState
from aqi.quality import SensorState
from aqi.zero import ZeroLevel
from camera.far_band import BandFinder
from camera.gate import GateState
from camera.virtual_sensor import VirtualSensor
from fusion.amending import LeftOut
from fusion.intake import Intake
from fusion.learning import Air, Gathered
from fusion.migrations import sensors_of_version_1, station_of_version_5
from fusion.sensors.memory import Level, SensorMemory, SensorScale
from schemas.state import Codec


class StationState(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """What a station's final windows left behind, but for its virtual sensors.

    `sensors`: pairs of what names a series of readings, (sensor, parameter, channel), and what quality
    control remembers of it (up to version 5 without the channel); `levels`, `scales`: see `SensorMemory`;
    `cameras`: the gate's memory by camera.
    """

    sensors: tuple[tuple[tuple[str, ...], SensorState], ...] = ()
    cameras: Mapping[str, GateState] = {}
    hour: int = 0
    history: HistoryState = msgspec.field(default_factory=HistoryState)
    last: Mapping[str, tuple[float, int]] = {}
    gathered: Gathered | None = None
    levels: Mapping[str, Level] = {}
    scales: tuple[tuple[tuple[str, str], SensorScale], ...] = ()
    distrusted: tuple[tuple[tuple[str, str], int], ...] = ()
    withheld: tuple[LeftOut, ...] = ()
    zeros: tuple[tuple[tuple[str, str], ZeroLevel], ...] = ()

    @classmethod
    def of(cls, intake: Intake, air: Air) -> "StationState":
        """What is stored of these."""
        return cls(
            sensors=tuple(sorted(intake.sensors.series.items())),
            cameras=intake.cameras,
            hour=intake.hour,
            history=air.history.to_state(),
            last=air.last,
            gathered=air.gathered,
            levels=intake.sensors.levels,
            scales=tuple(sorted(intake.sensors.scales.items())),
            distrusted=tuple(sorted(intake.sensors.distrusted.items())),
            withheld=intake.withheld,
            zeros=tuple(sorted(intake.sensors.zeros.items())),
        )

    def intake(self) -> Intake:
        """What quality control remembers."""
        series = {
            (sensor, parameter, channel[0] if channel else ""): state
            for (sensor, parameter, *channel), state in self.sensors
        }
        memory = SensorMemory(series, self.levels, dict(self.scales), dict(self.distrusted), dict(self.zeros))
        return Intake(memory, self.cameras, self.hour, self.withheld)

    def air(self) -> Air:
        """What is known of the station's air, without virtual sensors."""
        history = History.from_state(self.history)
        if self.history.ever_measured is None:  # from earlier code: its hours do not reach back that far
            history = history.having_measured(self.last)
        return Air(history, self.last, self.gathered)


class SensorsState(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """The virtual sensors of a station, by pollutant, and its band finders, the one fed last at the end."""

    virtual: Mapping[str, VirtualSensor] = {}
    finders: tuple[tuple[str, BandFinder], ...] = ()

    @classmethod
    def of(cls, air: Air) -> "SensorsState":
        """What is stored of these."""
        return cls(virtual=air.virtual, finders=tuple(air.finders.items()))


STATION = Codec("state of a station", StationState, {5: station_of_version_5})
SENSORS = Codec("state of a station's virtual sensors", SensorsState, {1: sensors_of_version_1})

#: Ends the name of a station's record of virtual sensors.
OF_SENSORS = "|sensors"


def read(name: str, data: bytes) -> StationState | SensorsState:
    """The state in the record of that name. Raises StateError."""
    return SENSORS.decode(data) if name.endswith(OF_SENSORS) else STATION.decode(data)
