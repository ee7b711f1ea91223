"""Histories of stations, hour by hour, as training groups and as true concentrations.

They are of folders in the plain layout (docs/data-layout.md), made by `backfill.hourly`.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from datasets.groups import Group, Site
from schemas.parameters import POLLUTANTS
from schemas.station import Station
from schemas.times import HOUR_MS

__all__ = ["FolderReader", "StationHistory", "hourly", "hours"]

#: Concentrations (ug/m3, six, NaN = missing) by (station, end of the hour, ms).
Hourly = Mapping[tuple[str, int], tuple[float, ...]]
#: Groups are hours: what most networks archive.


@dataclass
class StationHistory:
    """One station's frames and readings.

    Attributes:
        record: the station; one of its name only where the folder has no record.
        frames: (taken at, ms; camera; file) in order of time.
        means: per parameter, end of the hour (ms) to its mean: ug/m3, not below 0, or % for humidity.
    """

    record: Station
    frames: list[tuple[int, str, Path]] = field(default_factory=list)
    means: dict[str, dict[int, float]] = field(default_factory=dict)


#: Gives a folder's histories by station, and what had to be left out. Raises LayoutError.
FolderReader = Callable[[Path], tuple[dict[str, StationHistory], list[str]]]


def hours(histories: Mapping[str, StationHistory]) -> Iterator[Group]:
    """One group per station and hour with a frame or a concentration, in order of time, without an AQI.

    A group's time is the hour's begin; frames and values belong to the hour of their stamps.
    """
    found: dict[tuple[int, str], list[tuple[int, Path]]] = defaultdict(list)
    for station, history in histories.items():
        for at, _, path in history.frames:
            found[at // HOUR_MS * HOUR_MS + HOUR_MS, station].append((at, path))
        for parameter in POLLUTANTS:
            for end in history.means.get(parameter, {}):
                found.setdefault((end, station), [])
    for (end, station), frames in sorted(found.items()):
        history = histories[station]
        record = history.record
        yield Group(
            site=Site(station, record.name, record.latitude, record.longitude, record.timezone),
            time=datetime.fromtimestamp((end - HOUR_MS) / 1000, UTC).astimezone(ZoneInfo(record.timezone)),
            frames=tuple(path for _, path in frames),
            taken_ms=tuple(at for at, _ in frames),
            readings=tuple(history.means.get(name, {}).get(end, math.nan) for name in POLLUTANTS),
            aqi=math.nan,
        )


def hourly(histories: Mapping[str, StationHistory]) -> Hourly:
    """The concentrations alone, for `model.evaluation.truth.with_true_concentrations`."""
    found: dict[tuple[str, int], tuple[float, ...]] = {}
    for station, history in histories.items():
        ends = {end for name in POLLUTANTS for end in history.means.get(name, {})}
        for end in ends:
            found[station, end] = tuple(history.means.get(name, {}).get(end, math.nan) for name in POLLUTANTS)
    return found
