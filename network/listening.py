"""Who listens to whom in a region, and how much.

Of each sensor, were it to fall silent now: what explains its variance. It is the same split as that of an
estimate's shares (`network.cell`), with the other stations told apart, and as of the region's newest hour.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple

import numpy as np

from network.cell import Cell
from network.members import Variable
from network.past import age_class
from network.region import Region
from network.silence import kinds_of
from schemas.times import HOUR_MS

#: Hours of silence that the part of the own past is given for: it is more after one, and less after weeks.
SILENT_HOURS: Final = 24
#: Who was not heard for so long before the region's newest hour tells nobody anything.
_LATELY_MS: Final = 3 * HOUR_MS


class Listening(NamedTuple):
    """What would stand in for one sensor.

    Attributes:
        variable: the sensor.
        hours: in which it was heard so far.
        heard: whether it was, in the last three hours of the region.
        neighbours: share of each other station, the largest first; stations that tell nothing are left out.
        own, past: shares of the station's other pollutants, and of the sensor's own past once it has been
            silent for `SILENT_HOURS`. All shares sum to 1, or to 0 where nobody tells anything.
    """

    variable: Variable
    hours: float
    heard: bool
    neighbours: Mapping[str, float]
    own: float
    past: float


def listening(region: Region) -> list[Listening]:
    """Of every sensor of a region, in the order of its members; of those that are in a cell of their own
    station's.
    """
    if region.whole is not None:
        return _of_cell(region.whole, range(len(region.members)))
    found: dict[Variable, Listening] = {}
    for listener in region.listeners:
        variables = listener.cell.members.variables
        own = [index for index, one in enumerate(variables) if one.station == listener.station]
        found.update((one.variable, one) for one in _of_cell(listener.cell, own))
    return [found[one] for one in region.members.variables if one in found]


def _of_cell(cell: Cell, wanted: range | list[int]) -> list[Listening]:
    members = cell.members
    heard = (cell.last_ms > 0) & (cell.t_ms - cell.last_ms < _LATELY_MS)
    covariance = cell.settled.covariance
    conditioned = cell.settled.given(heard)
    kinds, age = kinds_of(members, heard), age_class(np.array(float(SILENT_HOURS)))
    remains = cell.past.lasting.remains[members.pollutants, kinds, age]
    stations = members.stations
    found = []
    for index in wanted:
        # Of one that is heard, what the others would say: minus its row of the precision over its own.
        weights = np.where(heard, conditioned[index], 0.0)
        if heard[index]:
            weights = weights / -conditioned[index, index]
            weights[index] = 0.0
        told = weights * covariance[index]
        by_station = np.zeros(len(stations))
        np.add.at(by_station, members.owners, told)
        mine = members.owners[index]
        own = max(0.0, float(by_station[mine]))
        by_station[mine] = 0.0
        # One that only sharpens what another one says may explain less than nothing: that is 0.
        others = max(0.0, float(by_station.sum()))
        telling = np.maximum(by_station, 0.0)
        whole = float(telling.sum())
        telling = telling * (others / whole) if whole > 0.0 else telling
        left = max(0.0, float(covariance[index, index] - told.sum()))
        past = left * (1.0 - float(remains[index])) if cell.heard[index] > 0.0 else 0.0
        total = others + own + past
        scale = 1.0 / total if total > 0.0 else 0.0
        order = [int(place) for place in np.argsort(-telling, kind="stable") if telling[place] > 0.0]
        found.append(
            Listening(
                members.variables[index],
                float(cell.heard[index]),
                bool(heard[index]),
                {stations[place]: float(telling[place]) * scale for place in order},
                own * scale,
                past * scale,
            )
        )
    return found
