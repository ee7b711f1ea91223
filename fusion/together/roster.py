"""Who belongs to a region, and what is known of each station beside its air."""

from collections.abc import Mapping
from itertools import compress
from typing import NamedTuple

import numpy as np

from network.members import Position, Variable
from schemas.alone import Alone
from schemas.base import to_ms
from schemas.distances import distances
from schemas.parameters import POLLUTANTS


class KnownStation(NamedTuple):
    """What a region knows of a station.

    `measured`: pollutants that it has ever measured. `heard`: end of the last window with an input of its own
    (ms). `source`: partition of the fusion stage that it comes from. `bundle`: of its newest estimate.
    `reference`: it is never doubted by others.
    """

    place: tuple[float, float] | None
    standards: tuple[str, ...]
    reference_celsius: float
    measured: tuple[str, ...]
    heard: int
    source: int
    bundle: str
    reference: bool = False


Roster = Mapping[str, KnownStation]


def known_by(alone: Alone, before: KnownStation | None) -> KnownStation:
    """What is known of a station after one of its windows."""
    estimate = alone.estimate
    now = {name for name, one in estimate.pollutants.items() if one.kind != "imputed"}
    ever = now | set(() if before is None else before.measured)
    place = None
    if alone.latitude is not None and alone.longitude is not None:
        place = alone.latitude, alone.longitude
    return KnownStation(
        place,
        alone.standards,
        alone.reference_celsius,
        tuple(name for name in POLLUTANTS if name in ever),
        max(to_ms(estimate.window.end), 0 if before is None else before.heard),
        alone.source,
        estimate.bundle,
        alone.reference,
    )


class Vicinity:
    """Which stations of a region are near each other: within a radius, or where a place is not known."""

    def __init__(self, roster: Roster, radius_km: float) -> None:
        self.stations = sorted(roster)
        self._row = {name: row for row, name in enumerate(self.stations)}
        placed = np.array([roster[name].place is not None for name in self.stations], dtype=np.bool_)
        places = [Position(*(roster[name].place or (0.0, 0.0))) for name in self.stations]
        near = distances(places) <= radius_km
        near |= ~(placed[:, None] & placed)
        np.fill_diagonal(near, False)
        self._near = near

    def of(self, station: str) -> list[str]:
        """The stations near one, without itself."""
        return list(compress(self.stations, self._near[self._row[station]].tolist()))


def variables_of(roster: Roster, vicinity: Vicinity) -> dict[Variable, Position | None]:
    """What can be said in a region: of each station what it has ever measured, or those near it have."""
    found: dict[Variable, Position | None] = {}
    for station in vicinity.stations:
        known = roster[station]
        there = set(known.measured)
        there.update(*(roster[other].measured for other in vicinity.of(station)))
        place = None if known.place is None else Position(*known.place)
        found.update((Variable(station, name), place) for name in POLLUTANTS if name in there)
    return found
