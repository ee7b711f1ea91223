"""Where stations are: which of them breathe the same air, and when it is noon there."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final
from zoneinfo import ZoneInfo

import numpy as np

from schemas.distances import distances
from schemas.station import Station

#: Longest way between two stations of one region, in km: a city and its surroundings.
_REACH_KM: Final = 60.0


def regions(places: Sequence[tuple[float, float] | None]) -> tuple[int, ...]:
    """The region of each (latitude, longitude), named after its first station in the list: a chain of ways of
    60 km joins it. Those without a place are taken to be together.
    """
    found = list(range(len(places)))
    nowhere = [row for row, place in enumerate(places) if place is None]
    for row in nowhere:
        found[row] = nowhere[0]
    known = [row for row, place in enumerate(places) if place is not None]
    positions = np.array([places[row] for row in known], np.float64).reshape(-1, 2)
    left = np.ones(len(known), np.bool_)
    for first in range(len(known)):
        if not left[first]:
            continue
        left[first] = False
        todo = [first]
        while todo:
            row = todo.pop()
            found[known[row]] = known[first]
            away = distances(positions[row : row + 1], positions)[0]
            near = np.flatnonzero(left & (away <= _REACH_KM))
            left[near] = False
            todo += near.tolist()
    return tuple(found)


def place_of(record: Station | None) -> tuple[float, float] | None:
    """Latitude and longitude of a station, where its record has them."""
    if record is None or record.latitude is None or record.longitude is None:
        return None
    return record.latitude, record.longitude


def sun_offset(record: Station | None, hour: int) -> float:
    """Hours by which the station's sun is ahead of UTC: of its position, else of its zone (of the first
    hour).
    """
    if record is None:
        return 0.0
    if record.longitude is not None:
        return round(record.longitude / 15)
    away = datetime.fromtimestamp(hour * 3600, UTC).astimezone(ZoneInfo(record.timezone)).utcoffset()
    return round(away.total_seconds() / 3600) if away is not None else 0.0
