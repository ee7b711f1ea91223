"""The directory of stations in the database: one point per station and day, so that it outlives retention.

Dashboards read from it which stations a city has and where they lie. Its points are made while estimates are
written: at the first window of a station in each UTC day, and whenever the station's record has changed.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from schemas.base import to_ms
from schemas.estimate import Estimate
from schemas.station import Station
from sinks.points import Point, station_point

_DAY_S: Final = 86_400


class Directory:
    """What of the directory was written. Forgotten at a restart: a point written twice is one point."""

    def __init__(self) -> None:
        self._written: dict[str, tuple[int, Station]] = {}

    def forget(self, station: str) -> None:
        """A station is retired."""
        self._written.pop(station, None)

    def points(self, estimates: Iterable[Estimate], stations: Mapping[str, Station]) -> list[Point]:
        """Directory points due with `estimates`, given the newest station records by id."""
        due = []
        for estimate in estimates:
            station = stations.get(estimate.station)
            if station is None:
                continue
            time = to_ms(estimate.window.end) // 1000
            day = time // _DAY_S
            if self._written.get(estimate.station) != (day, station):
                self._written[estimate.station] = day, station
                due.append(station_point(station, time))
        return due
