"""A plain folder (docs/data-layout.md) as a panel: hourly means of its readings, and of `weather.csv` beside
them.
"""

import math
from collections import defaultdict
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError

from aqi.averaging import as_level
from aqi.units import to_canonical
from datasets.errors import because
from datasets.events import Problem, ReadingRow, event_ms
from datasets.plain import read_plain
from datasets.spool import Spool
from datasets.tables import csv_rows
from forecast.errors import ForecastError
from forecast.panel import CHANNELS, Panel, dewpoint, panel_of, wind_of
from forecast.places import place_of, regions, sun_offset
from schemas.base import StationId, first_error
from schemas.parameters import POLLUTANTS
from schemas.reading import Value
from schemas.times import HOUR_MS

#: Columns of `weather.csv` beside `station` and `time`: degrees C, degrees C, %, hPa, m/s, degrees from
#: which it blows, mm.
WEATHER_COLUMNS: Final = (
    "temperature", "dewpoint", "relativehumidity", "pressure", "windspeed", "winddirection", "rain",
)  # fmt: skip
#: Temperature at which gases in a folder are taken to be reported.
_REFERENCE_CELSIUS: Final = 25.0
#: A station's speed and direction of the wind within so long are one wind, as in the stream's windows.
_MINUTE_MS: Final = 60_000
_WIND: Final = ("windspeed", "winddirection")
_station_id: Final = TypeAdapter(StationId)

_Sums = dict[tuple[str, int], dict[str, list[float]]]


def read_panel(root: Path, latest_ms: int) -> tuple[Panel, list[str]]:
    """The panel and what had to be left out. A time after `latest_ms` is none. Raises SourceError,
    ForecastError.
    """
    found: _Sums = defaultdict(lambda: defaultdict(list))
    winds: dict[tuple[str, int], dict[str, float]] = defaultdict(dict)
    minute = 0
    with Spool(latest_ms) as spool:
        contents = read_plain(root, spool)
        problems = [str(problem) for problem in contents.problems]
        records = {record.station: record for record in contents.stations}
        for event in spool.ordered():
            row = event.row
            if not isinstance(row, ReadingRow):
                continue
            if not event.timed:
                problems.append(f"{row.where}: {row.stated!r} is no time that can be used")
                continue
            if wrong := _wrong_id(row.station):
                problems.append(f"{row.where}: {wrong}")
                continue
            # A mean counts in the hour in which its period began, as in the stream (forecast.hours).
            at = event.time_ms - row.before_ms(records.get(row.station))
            known = _measured(row)
            if isinstance(known, str):
                problems.append(f"{row.where}: {known}")
            elif row.parameter in _WIND:
                if event.time_ms // _MINUTE_MS != minute:
                    _blown(winds, found)
                    minute = event.time_ms // _MINUTE_MS
                winds[row.station, at // HOUR_MS][row.parameter] = known
            else:
                found[row.station, at // HOUR_MS][row.parameter].append(known)
    _blown(winds, found)
    for table in (root / "weather.csv", root / "weather.csv.gz"):
        if table.is_file():
            _read_weather(table, latest_ms, found, problems)
    hours: dict[str, dict[int, list[float]]] = defaultdict(dict)
    for (station, hour), sums in sorted(found.items()):
        means = {name: math.fsum(v) / len(v) for name, v in sums.items()}
        levels = {name: as_level(mean) for name, mean in means.items() if name in POLLUTANTS}
        hours[station][hour] = _channels(means | levels)
    if not hours and problems:
        raise ForecastError(f"{root}: no hour of any station has a value{because(problems)}")
    offsets = {station: sun_offset(records.get(station), min(of)) for station, of in hours.items()}
    places = [place_of(records.get(station)) for station in hours]
    return replace(panel_of(hours, offsets), regions=regions(places)), problems


def _blown(winds: dict[tuple[str, int], dict[str, float]], found: _Sums) -> None:
    """Count a minute's winds, by station and hour, and let go of them."""
    for key, wind in winds.items():
        for name, part in wind_of(wind.get("windspeed"), wind.get("winddirection")).items():
            found[key][name].append(part)
    winds.clear()


@lru_cache(maxsize=4_096)
def _wrong_id(station: str) -> str:
    """Why that is no station's id; empty: it is one."""
    try:
        _station_id.validate_python(station)
    except ValidationError as error:
        return f"station {station!r:.40}: {first_error(error).message}"
    return ""


def _measured(row: ReadingRow) -> float | str:
    """The value in the unit of its channel, or why it is none."""
    try:
        value = Value.model_validate({"parameter": row.parameter, "value": row.value, "unit": row.unit})
    except ValidationError as error:
        return first_error(error).message
    if row.parameter in POLLUTANTS:
        return to_canonical(row.parameter, value.value, row.unit, _REFERENCE_CELSIUS)
    return value.value


def _read_weather(table: Path, latest_ms: int, found: _Sums, problems: list[str]) -> None:
    spoiled: list[Problem] = []
    for where, row in csv_rows(table, ("station", "time"), WEATHER_COLUMNS, spoiled):
        ms = event_ms(row["time"], latest_ms)
        if ms is None:
            problems.append(f"{where}: {row['time']!r} is no time that can be used")
            continue
        if wrong := _wrong_id(row["station"]):
            problems.append(f"{where}: {wrong}")
            continue
        known = {name: _number(row.get(name)) for name in WEATHER_COLUMNS}
        for name, value in known.items():
            if isinstance(value, str):
                problems.append(
                    f"{where}: {name} {value!r} is no number; leave the cell empty where there is none"
                )
        usable = {name: value for name, value in known.items() if isinstance(value, float)}
        usable |= wind_of(usable.pop("windspeed", None), usable.pop("winddirection", None))
        for name, value in usable.items():
            found[row["station"], ms // HOUR_MS][name].append(value)
    problems.extend(map(str, spoiled))


def _number(cell: Any) -> float | str | None:
    if cell is None or not str(cell).strip():
        return None
    try:
        value = float(cell)
    except ValueError:
        return str(cell)
    return value if math.isfinite(value) else str(cell)


def _channels(means: dict[str, float]) -> list[float]:
    """In the order of `CHANNELS`; a dew point follows from temperature and humidity where it is not given."""
    known = dict(means)
    if "dewpoint" not in known and {"temperature", "relativehumidity"} <= known.keys():
        known["dewpoint"] = dewpoint(known["temperature"], known["relativehumidity"])
    return [known.get(channel, math.nan) for channel in CHANNELS]
