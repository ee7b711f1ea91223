"""The stations of the simulated city."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, NamedTuple

from schemas.parameters import GASES, POLLUTANTS, Parameter
from schemas.station import Camera, FarBand, Sensor, Station
from sources.simulate.noise import key, normal, uniform

#: How often a sensor speaks, if nothing else is said.
READING_PERIOD_MS: Final = 10_000
#: As many as partitions of the default number take (`schemas.limits`), twice over.
MOST_STATIONS: Final = 10_000
CAMERA: Final = "mast"
#: So many laps of the six plans look at scenes of their own. A scene takes 0.15 s to lay out and 6 MB to
#: keep: when each of 200 cameras had its own, none was kept until its next picture was due, and laying it
#: out anew was 94 % of the simulator's work. Cameras of later laps look at these scenes turned.
_LAPS_OF_SCENES: Final = 8
#: Where the renderer puts what lies kilometres away: hills and the far skyline.
FAR_BAND: Final = FarBand(top=0.33, bottom=0.48)

_PM: Final[tuple[Parameter, ...]] = tuple(name for name in POLLUTANTS if name not in GASES)
_GASES: Final[tuple[Parameter, ...]] = tuple(name for name in POLLUTANTS if name in GASES)
_WEATHER: Final[tuple[Parameter, ...]] = ("relativehumidity", "temperature")
_NOTHING: Final[Mapping[str, int]] = MappingProxyType({})


class Place(NamedTuple):
    """Where a city lies, and since when (ms): from then on some of its sensors fail as `_Plan` says."""

    latitude: float
    longitude: float
    opened_ms: int | None = None


#: Where every city lay once; nothing failed there but by chance.
FORMER_PLACE: Final = Place(12.0, -6.0)


class _Plan(NamedTuple):
    name: str
    camera: bool
    sensors: dict[str, tuple[Parameter, ...]]
    traffic: float
    industry: float
    level: float
    periods: Mapping[str, int] = _NOTHING  #: seconds, of sensors that speak more rarely than the others
    declared: bool = False  #: whether its record says so; else it is learned
    silent: str | None = None  #: the sensor that is silent when the city is first seen
    fouled: str | None = None  #: the one that shows several times too much
    smoke: bool = False  #: whether something burns near by then


#: Mixed on purpose: some stations see, some measure, some do both, and no two measure the same.
_PLANS: Final = (
    _Plan("centre", True, {"pm": _PM, "gas": _GASES, "met": _WEATHER}, 0.7, 0.1, 1.0),
    _Plan("harbour", True, {"pm": _PM, "pm-b": _PM, "met": _WEATHER}, 0.4, 0.8, 1.15, fouled="pm-b"),
    _Plan("hill", True, {}, 0.05, 0.0, 0.75),
    _Plan(
        "ring-road", False, {"pm": _PM, "gas": _GASES}, 1.0, 0.2, 1.1, {"gas": 300}, declared=True, smoke=True
    ),
    _Plan("park", True, {"pm": ("pm25",), "gas": ("no2", "o3")}, 0.15, 0.0, 0.85, silent="pm"),
    _Plan("school", False, {"pm": _PM}, 0.35, 0.1, 0.95, {"pm": 145}),
)


@dataclass(frozen=True, slots=True)
class SimulatedStation:
    """A station with what makes its air differ from the city's."""

    record: Station
    key: int  #: of its random streams
    scene: int  #: key of what its camera looks at
    turn: int  #: by how many columns the scene is turned before it; negative: and mirrored
    traffic: float  #: 0 (a park) to 1 (a main road)
    industry: float  #: 0 to 1
    level: float  #: its particles relative to the city's
    reading_phase: float  #: its place within the reading period, 0 to 1
    frame_phase: float  #: its place within the frame period, 0 to 1
    periods_ms: Mapping[str, int]  #: of sensors that speak more rarely than the others
    silent: str | None  #: the sensor that is silent when the city is first seen
    fouled: str | None  #: the one that shows several times too much then
    smoke: bool  #: whether something burns near by then

    @property
    def id(self) -> str:
        """Station id."""
        return self.record.station

    @property
    def has_camera(self) -> bool:
        """Whether it sends frames."""
        return bool(self.record.cameras)

    def period_ms(self, sensor: str) -> int:
        """How often a sensor speaks."""
        return self.periods_ms.get(sensor, READING_PERIOD_MS)


@dataclass(frozen=True, slots=True)
class City:
    """All stations, and the seed that everything random comes from."""

    seed: int
    stations: tuple[SimulatedStation, ...]
    place: Place


def build(count: int = 6, seed: int = 7, place: Place = FORMER_PLACE) -> City:
    """A city of `count` stations (1 or more); the first six are named, further ones repeat their kinds."""
    if count < 1:
        raise ValueError(f"a city has at least one station, not {count}")
    return City(seed, tuple(_station(number, seed, place) for number in range(count)), place)


def _name(plan: _Plan, lap: int) -> str:
    return plan.name if lap == 0 else f"{plan.name}-{lap + 1}"


def _turn(own: int) -> int:
    """Somewhere in the middle of the scene; half of all cameras see it mirrored."""
    columns = 100 + int(400 * uniform(own, 6))
    return columns if uniform(own, 7) < 0.5 else -columns


def _station(number: int, seed: int, place: Place) -> SimulatedStation:
    plan = _PLANS[number % len(_PLANS)]
    lap = number // len(_PLANS)
    name = _name(plan, lap)
    own = key(seed, "station", name)
    seen_by = _name(plan, lap % _LAPS_OF_SCENES)
    record = Station(
        station=name,
        name=name.replace("-", " ").capitalize(),
        city="Simulated",
        latitude=round(place.latitude + 0.05 * normal(own, 1), 4),
        longitude=round(place.longitude + 0.05 * normal(own, 2), 4),
        kind="simulated",
        standards=("us-epa-2024", "in-naqi-2014"),
        cameras=(Camera(camera=CAMERA, far_band=FAR_BAND),) if plan.camera else (),
        sensors=tuple(
            Sensor(
                sensor=sensor,
                parameters=parameters,
                period=plan.periods.get(sensor) if plan.declared else None,
            )
            for sensor, parameters in plan.sensors.items()
        ),
    )
    return SimulatedStation(
        record=record,
        key=own,
        scene=key(key(seed, "station", seen_by), "scene"),
        turn=_turn(own) if lap >= _LAPS_OF_SCENES else 0,
        traffic=plan.traffic,
        industry=plan.industry,
        level=plan.level * (1.0 if lap == 0 else 0.8 + 0.4 * uniform(own, 3)),
        reading_phase=uniform(own, 4),
        frame_phase=uniform(own, 5),
        periods_ms={sensor: 1000 * seconds for sensor, seconds in plan.periods.items()},
        silent=plan.silent if lap == 0 else None,
        fouled=plan.fouled if lap == 0 else None,
        smoke=plan.smoke and lap == 0,
    )
