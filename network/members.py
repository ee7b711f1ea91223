"""Who is in a cell: its variables, where they stand, and how alike they are taken for at first."""

from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property
from typing import Final, NamedTuple

import numpy as np

from schemas.arrays import Float64, Int64
from schemas.distances import distances
from schemas.errors import ArrayError
from schemas.parameters import POLLUTANTS, Pollutant

#: Correlation of two stations' same pollutant at no distance, and the km over which it falls to 1/e: so it is
#: 0.8 at ten km, 0.6 at 35 and 0.3 at 100, as in Taiwan's low-cost fleet (0.75, 0.6, 0.3); in Beijing it is
#: 0.9 and 0.8 at the first two.
NEAR: Final = 0.9
REACH_KM: Final = 90.0
#: What lasts, a station's mean, is alike over a third of that.
LASTING_KM: Final = 30.0
#: The same where a position is not known.
UNPLACED: Final = 0.6
#: Correlation of the pollutants of one station, in the order of `POLLUTANTS`: rounded from a year of Beijing.
_ALIKE: Final = np.array(
    [
        [1.0, 0.85, 0.65, 0.45, 0.7, -0.2],
        [0.85, 1.0, 0.6, 0.45, 0.6, -0.1],
        [0.65, 0.6, 1.0, 0.45, 0.65, -0.5],
        [0.45, 0.45, 0.45, 1.0, 0.45, -0.2],
        [0.7, 0.6, 0.65, 0.45, 1.0, -0.3],
        [-0.2, -0.1, -0.5, -0.2, -0.3, 1.0],
    ]
)
#: Places in `POLLUTANTS` of what one optical sensor measures.
PARTICLES: Final = (POLLUTANTS.index("pm25"), POLLUTANTS.index("pm10"))


class Silence(IntEnum):
    """What is silent beside the sensor itself."""

    SENSOR = 0  #: nothing else
    PARTICLES = 1  #: PM2.5 and PM10 of the station: one optical sensor
    STATION = 2  #: the whole station
    POLLUTANT = 3  #: the pollutant at every station
    HALF = 4  #: half of all sensors, at random
    ALL = 5  #: everything


class Variable(NamedTuple):
    """One pollutant at one station."""

    station: str
    pollutant: Pollutant


class Position(NamedTuple):
    """Degrees north and east, WGS 84."""

    latitude: float
    longitude: float


@dataclass(frozen=True)
class Members:
    """The variables of a cell, in a fixed order, and the place of each one's station (None: not known)."""

    variables: tuple[Variable, ...]
    places: tuple[Position | None, ...]

    def __post_init__(self) -> None:
        if len(set(self.variables)) != len(self.variables) or len(self.places) != len(self.variables):
            raise ArrayError("variables of a cell are distinct, and each has a place or None")

    def __len__(self) -> int:
        return len(self.variables)

    @cached_property
    def stations(self) -> tuple[str, ...]:
        """In order of their first variable."""
        return tuple(dict.fromkeys(one.station for one in self.variables))

    @cached_property
    def pollutants(self) -> Int64:
        """(d,) of each variable, the place of its pollutant in `POLLUTANTS`."""
        return np.array([POLLUTANTS.index(one.pollutant) for one in self.variables], dtype=np.int64)

    @cached_property
    def owners(self) -> Int64:
        """(d,) of each variable, the place of its station in `stations`."""
        places = {station: place for place, station in enumerate(self.stations)}
        return np.array([places[one.station] for one in self.variables], dtype=np.int64)

    @cached_property
    def table(self) -> Int64:
        """(stations, pollutants) the place of a variable, -1 where there is none."""
        table = np.full((len(self.stations), len(POLLUTANTS)), -1, dtype=np.int64)
        table[self.owners, self.pollutants] = np.arange(len(self))
        return table

    @cached_property
    def groups(self) -> dict[Silence, Int64]:
        """By kind of silence, what falls silent together: (groups, members) places of variables, -1: none.

        Groups of one, and one of all, are left out: for those `Silence.SENSOR` and `Silence.ALL` stand.
        """
        found = {}
        for kind, table in (
            (Silence.STATION, self.table),
            (Silence.PARTICLES, self.table[:, list(PARTICLES)]),
            (Silence.POLLUTANT, self.table.T),
        ):
            size = (table >= 0).sum(axis=1)
            kept = table[(size > 1) & (size < len(self))]
            if len(kept):
                found[kind] = kept[:, (kept >= 0).any(axis=0)]
        return found

    @cached_property
    def nearness(self) -> Float64:
        """(d, d) how alike the lasting levels of two stations' same pollutant are by their distance alone."""
        return self.nearness_of(np.arange(len(self)))

    def nearness_of(self, variables: Int64) -> Float64:
        """(n, d) the rows of `nearness` of some variables: of a large region nobody needs all."""
        return self._by_distance(variables, LASTING_KM)

    @cached_property
    def prior(self) -> Float64:
        """(d, d) correlation before anything is known: that of the places times that of the pollutants."""
        alike = _ALIKE[self.pollutants[:, None], self.pollutants]
        result: Float64 = self._by_distance(np.arange(len(self)), REACH_KM) * alike
        return result

    def _by_distance(self, variables: Int64, reach_km: float) -> Float64:
        """(n, d) how alike some variables are to all by their stations' distance, 1 within a station."""
        known = np.array([place is not None for place in self.places], dtype=np.bool_)
        places = [place or Position(0.0, 0.0) for place in self.places]
        apart = distances([places[index] for index in variables.tolist()], places)
        near = np.where(known[variables][:, None] & known, NEAR * np.exp(-apart / reach_km), UNPLACED)
        return np.where(self.owners[variables][:, None] == self.owners, 1.0, near)
