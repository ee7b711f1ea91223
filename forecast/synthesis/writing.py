"""A panel as a folder in the plain layout (docs/data-layout.md), which `replay` and `forecast` read."""

import csv
import json
import math
from datetime import UTC, datetime
from pathlib import Path

from forecast.panel import WEATHER_CHANNELS, Panel
from schemas.parameters import POLLUTANTS

_SKY = {name: len(POLLUTANTS) + place for place, name in enumerate(WEATHER_CHANNELS)}
_PLAIN = ("temperature", "dewpoint", "pressure")


def write_panel(panel: Panel, folder: Path) -> None:
    """Readings, weather and stations; hours begin where the panel's do. `folder` is made."""
    folder.mkdir(parents=True, exist_ok=True)
    records = [
        {"station": name, "timezone": _zone(offset)}
        for name, offset in zip(panel.stations, panel.offsets, strict=True)
    ]
    (folder / "stations.json").write_text(json.dumps(records, indent=1) + "\n")
    with (
        (folder / "readings.csv").open("w", newline="") as readings,
        (folder / "weather.csv").open("w", newline="") as weather,
    ):
        table, sky = (csv.writer(file, lineterminator="\n") for file in (readings, weather))
        table.writerow(["station", "time", "parameter", "value", "unit", "period", "stamp"])
        sky.writerow(["station", "time", *_PLAIN, "windspeed", "winddirection", "rain"])
        for hour in range(panel.hours):
            stamp = f"{datetime.fromtimestamp((panel.begins + hour) * 3600, UTC):%Y-%m-%dT%H:%M:%SZ}"
            for row, station in enumerate(panel.stations):
                values = panel.values[row, hour].tolist()
                for place, name in enumerate(POLLUTANTS):
                    if math.isfinite(values[place]):
                        table.writerow([station, stamp, name, _short(values[place]), "ug/m3", 3600, "begins"])
                known = [values[_SKY[name]] for name in _PLAIN]
                known += [values[_SKY["wind_speed"]], _from(values), values[_SKY["rain"]]]
                if any(math.isfinite(value) for value in known):
                    sky.writerow([station, stamp, *map(_short, known)])


def _zone(offset: float) -> str:
    """The zone of a station's sun; POSIX counts the other way."""
    return "UTC" if not round(offset) else f"Etc/GMT{-round(offset):+d}"


def _from(values: list[float]) -> float:
    """Degrees from which the wind blows."""
    east, north = values[_SKY["wind_east"]], values[_SKY["wind_north"]]
    return math.degrees(math.atan2(-east, -north)) % 360 if math.isfinite(east + north) else math.nan


def _short(value: float) -> str:
    return f"{value:.6g}" if math.isfinite(value) else ""
