"""Weather in the forms in which services publish it, as issues for stations."""

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

from pydantic import ValidationError
from pydantic_core import PydanticCustomError

from datasets.errors import SourceError
from datasets.events import Problem
from datasets.tables import csv_rows
from schemas.base import first_error, from_ms, parse_time, to_ms
from schemas.times import HOUR_MS
from schemas.weather import MOST_HOURS, WeatherHour, WeatherIssue

#: Open-Meteo's own service; free of charge where it earns no money. Others answer in the same form.
OPEN_METEO: Final = "https://api.open-meteo.com/v1/forecast"
#: Fields of an hour, and what they are called there.
_FIELDS: Final = {
    "temperature": "temperature_2m", "dewpoint": "dew_point_2m", "pressure": "surface_pressure",
    "wind_speed": "wind_speed_10m", "wind_direction": "wind_direction_10m", "rain": "precipitation",
    "boundary_layer": "boundary_layer_height",
}  # fmt: skip
#: What a number in a unit is multiplied by, and added to, to be in ours.
_UNITS: Final[Mapping[str, Mapping[str, Callable[[float], float]]]] = {
    "temperature": {"°C": float, "°F": lambda one: (one - 32) / 1.8},
    "dewpoint": {"°C": float, "°F": lambda one: (one - 32) / 1.8},
    "pressure": {"hPa": float},
    "wind_speed": {
        "m/s": float, "km/h": lambda one: one / 3.6, "mp/h": lambda one: one * 0.44704,
        "kn": lambda one: one * 0.514444,
    },
    "wind_direction": {"°": float},
    "rain": {"mm": float, "inch": lambda one: one * 25.4},
    "boundary_layer": {"m": float, "ft": lambda one: one * 0.3048},
}  # fmt: skip
#: Columns of a table of what was observed, beside `station` and `time`, and our names.
_COLUMNS: Final = {
    "temperature": "temperature", "dewpoint": "dewpoint", "pressure": "pressure",
    "windspeed": "wind_speed", "winddirection": "wind_direction", "rain": "rain",
}  # fmt: skip


def open_meteo_query(url: str, latitude: float, longitude: float) -> str:
    """What to ask: five days, and the one before."""
    asked = {
        "latitude": f"{latitude:.4f}", "longitude": f"{longitude:.4f}",
        "hourly": ",".join(_FIELDS.values()),
        "wind_speed_unit": "ms", "timezone": "GMT", "forecast_days": "5", "past_days": "1",
    }  # fmt: skip
    return f"{url}{'&' if '?' in url else '?'}{urlencode(asked)}"


def open_meteo(body: bytes, station: str, issued_at: datetime, source: str = "open-meteo") -> WeatherIssue:
    """An answer of Open-Meteo's forecast service (or one of its form). Raises SourceError.

    Its precipitation at a time is that of the hour before; the rest counts for the hour that begins there.
    """
    try:
        answer = json.loads(body)
        if isinstance(answer, dict) and answer.get("error"):
            raise SourceError(f"weather for {station}: the service says: {str(answer.get('reason'))[:200]}")
        hourly, units = answer["hourly"], answer.get("hourly_units", {})
        away = int(answer.get("utc_offset_seconds", 0))
        begins = [_begins(stated, away) for stated in hourly["time"]]
        known = {ours: _column(hourly, units, ours) for ours in _FIELDS}
        rain = known["rain"]
        if rain:
            known["rain"] = [*rain[1:], None]
        hours = [
            {"valid_at": at} | {name: row[place] for name, row in known.items() if row}
            for place, at in enumerate(begins)
            if at % HOUR_MS == 0
        ]
        return WeatherIssue(
            station=station, issued_at=issued_at, source=source,
            latitude=float(answer["latitude"]) if "latitude" in answer else None,
            longitude=float(answer["longitude"]) if "longitude" in answer else None,
            hours=tuple(WeatherHour.model_validate(hour) for hour in hours[:MOST_HOURS]),
        )  # fmt: skip
    except ValidationError as error:
        raise SourceError(f"weather for {station}: {first_error(error).message}") from error
    except (ValueError, TypeError, LookupError, AttributeError, OverflowError, RecursionError) as error:
        # What Python says of it may repeat the whole file.
        raise SourceError(
            f"weather for {station}: this is no answer of Open-Meteo's form, which is JSON with `hourly` and"
            " in it `time` and a list of numbers for each variable"
        ) from error


def _begins(stated: str | int, away: int) -> int:
    """Ms since 1970 of a time as the service writes it: local, without a zone, or seconds."""
    if isinstance(stated, int):
        return stated * 1000
    at = datetime.fromisoformat(stated).replace(tzinfo=UTC)
    return int(at.timestamp() - away) * 1000


def _column(hourly: Mapping[str, Any], units: Mapping[str, str], name: str) -> list[float | None]:
    theirs = _FIELDS[name]
    if theirs not in hourly:
        return []
    unit = units.get(theirs, next(iter(_UNITS[name])))
    if unit not in _UNITS[name]:
        raise SourceError(f"{theirs} is in {unit!r}; it can be in {', '.join(_UNITS[name])}")
    ours = _UNITS[name][unit]
    found = [None if one is None else ours(float(one)) for one in hourly[theirs]]
    if len(found) != len(hourly["time"]):
        raise SourceError(f"{theirs} has {len(found)} values for {len(hourly['time'])} times")
    return found


def _observed(table: Path, now: datetime, problems: list[str]) -> Iterator[WeatherIssue]:
    """A `weather.csv` of the plain layout: each row is known when its hour is over, and none is of an hour
    that is not over `now`. Raises SourceError.
    """
    spoiled: list[Problem] = []
    for where, row in csv_rows(table, ("station", "time"), tuple(_COLUMNS), spoiled):
        try:
            begins = int(parse_time(row["time"]).timestamp() * 1000) // HOUR_MS * HOUR_MS
            known = {ours: _number(theirs, row.get(theirs)) for theirs, ours in _COLUMNS.items()}
            if all(one is None for one in known.values()):
                raise ValueError(f"it has none of {', '.join(_COLUMNS)}")
            if begins + HOUR_MS > to_ms(now):
                raise ValueError(f"{row['time']}: that hour is not over, so nobody has observed it")
            yield WeatherIssue(
                station=row["station"], issued_at=from_ms(begins + HOUR_MS), source=table.name,
                hours=(WeatherHour.model_validate({"valid_at": begins, **known}),),
            )  # fmt: skip
        except ValidationError as error:
            problems.append(f"{where}: {first_error(error).message}")
        except (PydanticCustomError, ValueError) as error:
            problems.append(f"{where}: {error}")
    problems.extend(map(str, spoiled))


def _number(column: str, cell: str | None) -> float | None:
    if cell is None or not cell.strip():
        return None
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"{column}: {cell[:40]!r} is no number; leave the cell empty where there is none")
    return value


def read_weather_file(
    file: Path, stations: Sequence[str], issued_at: datetime, now: datetime, problems: list[str]
) -> Iterator[WeatherIssue]:
    """A file: a table (.csv, .csv.gz) of what was observed until `now`, or an answer of Open-Meteo's form
    that was issued then, for each of `stations`. Raises SourceError.
    """
    if file.name.endswith((".csv", ".csv.gz")):
        found = _observed(file, now, problems)
        yield from (one for one in found if not stations or one.station in stations)
        return
    if not stations:
        raise SourceError(f"{file} names no station: say --station ID")
    try:
        body = file.read_bytes()
    except OSError as error:
        raise SourceError(f"{file} cannot be read: {error.strerror}") from error
    for station in stations:
        try:
            yield open_meteo(body, station, issued_at, file.name)
        except SourceError as error:
            raise SourceError(f"{file}: {error}") from error
