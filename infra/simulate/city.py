"""The stations of the simulated city."""

from dataclasses import dataclass
from typing import Final, NamedTuple

from infra.simulate.noise import key, normal, uniform
from schemas.parameters import Parameter
from schemas.station import Camera, FarBand, Sensor, Station

#: Where the city lies: near the equator and the prime meridian, so days are long and times are UTC.
LATITUDE: Final = 12.0
LONGITUDE: Final = -6.0
CAMERA: Final = "mast"
#: Where the renderer puts what lies kilometres away: hills and the far skyline.
FAR_BAND: Final = FarBand(top=0.33, bottom=0.48)

_PM: Final[tuple[Parameter, ...]] = ("pm25", "pm10")
_GASES: Final[tuple[Parameter, ...]] = ("no2", "so2", "co", "o3")
_WEATHER: Final[tuple[Parameter, ...]] = ("relativehumidity", "temperature")


class _Plan(NamedTuple):
    name: str
    camera: bool
    sensors: dict[str, tuple[Parameter, ...]]
    traffic: float
    industry: float
    level: float


#: Mixed on purpose: some stations see, some measure, some do both, and no two measure the same.
_PLANS: Final = (
    _Plan("centre", True, {"pm": _PM, "gas": _GASES, "met": _WEATHER}, 0.7, 0.1, 1.0),
    _Plan("harbour", True, {"pm": _PM, "met": _WEATHER}, 0.4, 0.8, 1.15),
    _Plan("hill", True, {}, 0.05, 0.0, 0.75),
    _Plan("ring-road", False, {"pm": _PM, "gas": _GASES}, 1.0, 0.2, 1.1),
    _Plan("park", True, {"pm": ("pm25",), "gas": ("no2", "o3")}, 0.15, 0.0, 0.85),
    _Plan("school", False, {"pm": _PM}, 0.35, 0.1, 0.95),
)


@dataclass(frozen=True, slots=True)
class SimulatedStation:
    """A station with what makes its air differ from the city's."""

    record: Station
    key: int  #: of its random streams
    traffic: float  #: 0 (a park) to 1 (a main road)
    industry: float  #: 0 to 1
    level: float  #: its particles relative to the city's
    reading_phase_ms: int  #: its place within the reading period
    frame_phase: float  #: its place within the frame period, 0 to 1

    @property
    def id(self) -> str:
        """Station id."""
        return self.record.station

    @property
    def has_camera(self) -> bool:
        """Whether it sends frames."""
        return bool(self.record.cameras)


@dataclass(frozen=True, slots=True)
class City:
    """All stations, and the seed that everything random comes from."""

    seed: int
    stations: tuple[SimulatedStation, ...]


def build(count: int = 6, seed: int = 7) -> City:
    """A city of `count` stations (1 or more); the first six are named, further ones repeat their kinds."""
    if count < 1:
        raise ValueError(f"a city has at least one station, not {count}")
    return City(seed, tuple(_station(number, seed) for number in range(count)))


def _station(number: int, seed: int) -> SimulatedStation:
    plan = _PLANS[number % len(_PLANS)]
    lap = number // len(_PLANS)
    name = plan.name if lap == 0 else f"{plan.name}-{lap + 1}"
    own = key(seed, "station", name)
    record = Station(
        station=name,
        name=name.replace("-", " ").capitalize(),
        city="Simulated",
        latitude=round(LATITUDE + 0.05 * normal(own, 1), 4),
        longitude=round(LONGITUDE + 0.05 * normal(own, 2), 4),
        kind="simulated",
        standards=("us-epa-2024", "in-naqi-2014"),
        cameras=(Camera(camera=CAMERA, far_band=FAR_BAND),) if plan.camera else (),
        sensors=tuple(
            Sensor(sensor=sensor, parameters=parameters) for sensor, parameters in plan.sensors.items()
        ),
    )
    return SimulatedStation(
        record=record,
        key=own,
        traffic=plan.traffic,
        industry=plan.industry,
        level=plan.level * (1.0 if lap == 0 else 0.8 + 0.4 * uniform(own, 3)),
        reading_phase_ms=int(10_000 * uniform(own, 4)),
        frame_phase=uniform(own, 5),
    )
