"""Folders in the plain layout (docs/data-layout.md) as training groups and as histories of stations.

The rows are read by the code that replays such a folder, so that both take the same units, times, files and
station records. A value that the pipeline would refuse is left out and reported.
"""

import math
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo

from pydantic import ValidationError

from aqi.units import to_canonical
from datasets.errors import LayoutError, SourceError
from datasets.events import FrameRow, ReadingRow
from datasets.groups import Group, Site
from datasets.plain import read_plain
from datasets.spool import Spool
from model.bundle.targets import Hourly
from schemas.base import first_error, format_time, from_ms
from schemas.parameters import PARAMETERS
from schemas.reading import Value
from schemas.station import Station

__all__ = ["History", "hourly", "hours", "read_folder"]

#: Groups are hours: what most networks archive.
HOUR_MS: Final = 3_600_000
_DAY_MS: Final = 24 * HOUR_MS


@dataclass
class History:
    """One station's frames and readings.

    Attributes:
        record: the station; one of its name only where the folder has no record.
        frames: (taken at, ms; camera; file) in order of time.
        means: per parameter, end of the hour (ms) to the mean of the values stamped in it (one right on
            the hour is the next hour's, as in the stream): ug/m3, or % for humidity.
    """

    record: Station
    frames: list[tuple[int, str, Path]] = field(default_factory=list)
    means: dict[str, dict[int, float]] = field(default_factory=dict)


def read_folder(root: Path) -> tuple[dict[str, History], list[str]]:
    """Histories by station id, and what had to be left out, with file and line or station and time.

    Raises LayoutError where a table cannot be read or lacks a column.
    """
    problems: list[str] = []
    sums: dict[tuple[str, str, int], list[float]] = defaultdict(list)
    found: dict[str, History] = {}
    #: Of series whose stamps end a declared period.
    declared: dict[tuple[str, str, str], int] = {}
    try:
        with Spool(latest_ms=int(time.time() * 1000) + _DAY_MS) as spool:
            contents = read_plain(root, spool)
            for record in contents.stations:
                found[record.station] = History(record)
                for sensor in record.sensors:
                    if sensor.period is not None and sensor.stamp == "ends":
                        for name in sensor.parameters:
                            declared[record.station, sensor.sensor, name] = sensor.period
            problems += map(str, contents.problems)
            for event in spool.ordered():
                row = event.row
                if not event.timed:
                    problems.append(f"{row.station}: {row.stated!r} is no time with a zone; left out")
                elif isinstance(row, FrameRow):
                    history = _history(found, row.station)
                    history.frames.append((event.time_ms, row.camera, Path(row.file)))
                else:
                    value = _canonical(row, event.time_ms, problems)
                    if value is not None:
                        # A mean that is stamped with its end is of the hour that ends there.
                        ends = row.ends_ms if row.period is not None else declared.get(_series(row), 0)
                        end = (event.time_ms - bool(ends)) // HOUR_MS * HOUR_MS + HOUR_MS
                        sums[row.station, row.parameter, end].append(value)
    except SourceError as error:
        raise LayoutError(str(error)) from error
    for (station, parameter, end), values in sums.items():
        means = _history(found, station).means.setdefault(parameter, {})
        means[end] = math.fsum(values) / len(values)
    return found, problems


def _series(row: ReadingRow) -> tuple[str, str, str]:
    return row.station, row.sensor or "main", row.parameter


def _history(found: dict[str, History], station: str) -> History:
    return found.setdefault(station, History(Station(station=station)))


def _canonical(row: ReadingRow, at_ms: int, problems: list[str]) -> float | None:
    plain = {"parameter": row.parameter, "value": row.value, "unit": row.unit}
    try:
        quantity = Value.model_validate(plain)
    except ValidationError as error:
        _, message = first_error(error)
        problems.append(f"{row.station} {format_time(from_ms(at_ms))} {row.parameter}: {message}; left out")
        return None
    if quantity.parameter in PARAMETERS:
        return max(0.0, to_canonical(quantity.parameter, quantity.value, quantity.unit, 25.0))
    return quantity.value


def hours(histories: Mapping[str, History]) -> Iterator[Group]:
    """One group per station and hour with a frame or a concentration, in order of time, without an AQI.

    A group's time is the hour's begin; frames and values belong to the hour of their stamps.
    """
    found: dict[tuple[int, str], list[tuple[int, Path]]] = defaultdict(list)
    for station, history in histories.items():
        for at, _, path in history.frames:
            found[at // HOUR_MS * HOUR_MS + HOUR_MS, station].append((at, path))
        for parameter in PARAMETERS:
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
            readings=tuple(history.means.get(name, {}).get(end, math.nan) for name in PARAMETERS),
            aqi=math.nan,
        )


def hourly(histories: Mapping[str, History]) -> Hourly:
    """The concentrations alone, for `model.bundle.targets.with_true_concentrations`."""
    found: dict[tuple[str, int], tuple[float, ...]] = {}
    for station, history in histories.items():
        ends = {end for name in PARAMETERS for end in history.means.get(name, {})}
        for end in ends:
            found[station, end] = tuple(history.means.get(name, {}).get(end, math.nan) for name in PARAMETERS)
    return found
