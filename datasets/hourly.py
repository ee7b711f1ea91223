"""Folders in the plain layout (docs/data-layout.md) as training groups and as histories of stations.

The rows are read by the code that replays such a folder, so that both take the same units, times, files and
station records. A value that the pipeline would refuse, or that fails its quality control, is left out and
reported.
"""

import math
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from aqi.quality import FAIL, FRESH, SensorState, defaults, step, tests_in
from aqi.units import to_canonical
from datasets.errors import LayoutError, SourceError
from datasets.events import FrameRow, ReadingRow
from datasets.groups import REFERENCE_CELSIUS, Group, Site, why_refused
from datasets.plain import read_plain
from datasets.spool import Spool
from schemas.base import format_time, from_ms
from schemas.parameters import PARAMETERS
from schemas.station import Sensor, Station
from schemas.times import DAY_MS, HOUR_MS

__all__ = ["StationHistory", "hourly", "hours", "read_folder"]

#: Concentrations (ug/m3, six, NaN = missing) by (station, end of the hour, ms).
Hourly = Mapping[tuple[str, int], tuple[float, ...]]
#: Groups are hours: what most networks archive.


@dataclass
class StationHistory:
    """One station's frames and readings.

    Attributes:
        record: the station; one of its name only where the folder has no record.
        frames: (taken at, ms; camera; file) in order of time.
        means: per parameter, end of the hour (ms) to the mean of the values stamped in it (one right on
            the hour is the next hour's, as in the stream): ug/m3, not below 0, or % for humidity.
    """

    record: Station
    frames: list[tuple[int, str, Path]] = field(default_factory=list)
    means: dict[str, dict[int, float]] = field(default_factory=dict)


def read_folder(root: Path) -> tuple[dict[str, StationHistory], list[str]]:
    """Histories by station id, and what had to be left out, with file and line or station and time.

    Raises LayoutError where a table cannot be read or lacks a column.
    """
    problems: list[str] = []
    sums: dict[tuple[str, str, int], list[float]] = defaultdict(list)
    found: dict[str, StationHistory] = {}
    #: Of series whose stamps end a declared period.
    declared: dict[tuple[str, str, str], int] = {}
    judged: dict[tuple[str, str, str, str], SensorState] = {}
    try:
        with Spool(latest_ms=int(time.time() * 1000) + DAY_MS) as spool:
            contents = read_plain(root, spool)
            for record in contents.stations:
                found[record.station] = StationHistory(record)
                for known in record.sensors:
                    if known.period is not None and known.stamp == "ends":
                        for name in known.parameters:
                            declared[record.station, known.sensor, name] = known.period
            problems += map(str, contents.problems)
            for event in spool.ordered():
                row = event.row
                if not event.timed:
                    problems.append(f"{row.station}: {row.stated!r} is no time with a zone; left out")
                elif isinstance(row, FrameRow):
                    history = _history(found, row.station)
                    history.frames.append((event.time_ms, row.camera, Path(row.file)))
                else:
                    sensor = _sensor(found.get(row.station), row)
                    value = _judged(row, event.time_ms, sensor, judged, problems)
                    if value is not None:
                        # A mean that is stamped with its end is of the hour that ends there.
                        ends = row.ends_ms if row.period is not None else declared.get(_series(row), 0)
                        end = (event.time_ms - bool(ends)) // HOUR_MS * HOUR_MS + HOUR_MS
                        sums[row.station, row.parameter, end].append(value)
    except SourceError as error:
        raise LayoutError(str(error)) from error
    for (station, parameter, end), values in sums.items():
        means = _history(found, station).means.setdefault(parameter, {})
        mean = math.fsum(values) / len(values)
        # An instrument's noise reaches below zero: it belongs into the mean, which does not.
        means[end] = max(0.0, mean) if parameter in PARAMETERS else mean
    return found, problems


def _series(row: ReadingRow) -> tuple[str, str, str]:
    return row.station, row.sensor or "main", row.parameter


def _history(found: dict[str, StationHistory], station: str) -> StationHistory:
    return found.setdefault(station, StationHistory(Station(station=station)))


def _sensor(history: StationHistory | None, row: ReadingRow) -> Sensor | None:
    """The record of a row's sensor, where there is one."""
    for known in history.record.sensors if history is not None else ():
        if known.sensor == (row.sensor or "main") and row.parameter in known.parameters:
            return known
    return None


def _judged(
    row: ReadingRow,
    at_ms: int,
    sensor: Sensor | None,
    judged: dict[tuple[str, str, str, str], SensorState],
    problems: list[str],
) -> float | None:
    """The value in ug/m3 (weather: as it is), None where a worker would not count it; `judged` moves on."""
    model, fills = ("", ()) if sensor is None else (sensor.model, sensor.fill_values)
    why = why_refused(row.parameter, row.value, row.unit, model, fills)
    value = 0.0 if why is not None else float(row.value)
    if why is None and row.parameter in PARAMETERS:
        value = to_canonical(row.parameter, value, row.unit, REFERENCE_CELSIUS)
        series = (*_series(row), row.channel or "value")
        known = judged.get(series, FRESH)
        verdict = step(defaults().limits[row.parameter], known, at_ms, value)
        judged[series] = verdict.state
        if verdict.flag == FAIL:
            why = f"{value:g} ug/m3 fails quality control ({', '.join(tests_in(verdict.tests))})"
    if why is None:
        return value
    problems.append(f"{row.station} {format_time(from_ms(at_ms))} {row.parameter}: {why}; left out")
    return None


def hours(histories: Mapping[str, StationHistory]) -> Iterator[Group]:
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


def hourly(histories: Mapping[str, StationHistory]) -> Hourly:
    """The concentrations alone, for `model.evaluation.truth.with_true_concentrations`."""
    found: dict[tuple[str, int], tuple[float, ...]] = {}
    for station, history in histories.items():
        ends = {end for name in PARAMETERS for end in history.means.get(name, {})}
        for end in ends:
            found[station, end] = tuple(history.means.get(name, {}).get(end, math.nan) for name in PARAMETERS)
    return found
