"""The hours of a region's stations, out of a folder."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from datasets.errors import LayoutError, because
from datasets.hourly import FolderReader
from network.members import Members, Position, Variable
from schemas.arrays import Float64
from schemas.base import format_time, from_ms
from schemas.parameters import POLLUTANTS
from schemas.times import DAY_MS, HOUR_MS

#: A gap in all that a folder has, from which on what lies on its smaller side is of a wrong clock.
_FAR_MS: Final = 365 * DAY_MS


@dataclass(frozen=True, eq=False)
class RegionHours:
    """A region's history.

    Attributes:
        members: its variables.
        times: (hours,) ends, ms, one hour apart.
        values: (hours, d) ug/m3, NaN where there is none.
    """

    members: Members
    times: NDArray[np.int64]
    values: Float64


def read_region(folder: Path, read: FolderReader) -> tuple[RegionHours, list[str]]:
    """All stations of a folder in the plain layout as one region, and what had to be left out. `read`
    gives its hours.

    Raises LayoutError: it cannot be read, or has no readings.
    """
    histories, problems = read(folder)
    series: dict[Variable, dict[int, float]] = {}
    for station, history in sorted(histories.items()):
        heard = [name for name in POLLUTANTS if history.means.get(name)]
        series |= {Variable(station, name): history.means[name] for name in heard}
        if not heard:
            seen = "frames, but " if history.frames else ""
            problems.append(f"{station}: it has {seen}no readings to score the network by; left out")
    if not series:
        raise LayoutError(f"{folder}: no station has readings{because(problems)}")
    series, strays = _of_one_time(series)
    problems += strays
    places = []
    for variable in series:
        record = histories[variable.station].record
        placed = record.latitude is not None and record.longitude is not None
        places.append(Position(record.latitude or 0.0, record.longitude or 0.0) if placed else None)
    first = min(min(means) for means in series.values())
    last = max(max(means) for means in series.values())
    times = np.arange(first, last + HOUR_MS, HOUR_MS, dtype=np.int64)
    values = np.full((len(times), len(series)), np.nan)
    for column, means in enumerate(series.values()):
        values[(np.fromiter(means, np.int64) - first) // HOUR_MS, column] = list(means.values())
    return RegionHours(Members(tuple(series), tuple(places)), times, values), problems


def _of_one_time(
    series: Mapping[Variable, Mapping[int, float]],
) -> tuple[dict[Variable, dict[int, float]], list[str]]:
    """The largest part of series (by the ends of hours, ms) that has no gap of a year; the rest in words."""
    ends = np.sort(np.concatenate([np.fromiter(means, np.int64) for means in series.values()]))
    parts = np.split(ends, np.flatnonzero(np.diff(ends) > _FAR_MS) + 1)
    largest = max(parts, key=len)
    kept, strays = {}, []
    for variable, means in series.items():
        within = {end: value for end, value in means.items() if largest[0] <= end <= largest[-1]}
        if within:
            kept[variable] = within
        if len(within) < len(means):
            strays.append(
                f"{variable.station}: {len(means) - len(within)} hours of {variable.pollutant}, the first"
                f" {format_time(from_ms(min(means.keys() - within.keys())))}, lie more than a year from most"
                " of the folder: a clock that was wrong? left out"
            )
    return kept, strays
