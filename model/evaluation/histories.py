"""Histories to replay a virtual sensor over: one station's readings, with the frames of its camera."""

import csv
import gzip
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone, tzinfo
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo

from camera.far_band import Strip
from datasets.errors import LayoutError, because
from datasets.hourly import FolderReader
from schemas.base import to_ms
from schemas.parameters import POLLUTANTS, Pollutant
from schemas.times import HOUR_MS

#: The skyline of milan-webcam: rows 150 to 300 of 540.
_MILAN_BAND: Final = Strip(0.278, 0.556)
#: The camera's own place is not published; the city's is near enough for the sun.
_MILAN_POSITION: Final = (45.46, 9.19)


@dataclass(frozen=True)
class OnlineData:
    """One station's history.

    Attributes:
        station: its name.
        zone: time zone whose midnights part the days.
        position: (latitude, longitude), degrees, or None.
        far_band: the camera's far band, if it is set.
        frames: (captured, ms; file), any order; none: the station has no camera.
        readings: per pollutant, hour end (ms) to the hour's mean in ug/m3.
        humidity: hour end (ms) to relative humidity, %.
    """

    station: str
    zone: tzinfo
    position: tuple[float, float] | None
    far_band: Strip | None
    frames: tuple[tuple[int, Path], ...]
    readings: Mapping[Pollutant, Mapping[int, float]]
    humidity: Mapping[int, float] = field(default_factory=dict)


def joined(earlier: OnlineData, later: OnlineData) -> OnlineData:
    """Two histories of a station as one; the later one's record holds, and its values where both have one."""
    names = {**earlier.readings, **later.readings}
    return replace(
        later,
        frames=tuple(sorted({*earlier.frames, *later.frames})),
        readings={name: {**earlier.readings.get(name, {}), **later.readings.get(name, {})} for name in names},
        humidity={**earlier.humidity, **later.humidity},
    )


def last_hour(data: OnlineData) -> int:
    """End of the last hour (ms) of which there is a reading or a frame."""
    ends = [end for means in data.readings.values() for end in means]
    return max([*ends, *(at // HOUR_MS * HOUR_MS + HOUR_MS for at, _ in data.frames)])


def read_milan(root: Path) -> OnlineData:
    """The folder milan-webcam as it is: `frames/YYYYMMDD-HHMM.jpg`, named by the webcam's clock
    (Europe/Rome), and `pm25-hourly.csv.gz` in UTC+1 all year. A frame at 12:00 is paired with the
    reading labelled 12:00 of the same moment.

    Raises:
        LayoutError: a file is missing or a name or row cannot be read.
    """
    table = root / "pm25-hourly.csv.gz"
    rome = ZoneInfo("Europe/Rome")
    readings: dict[int, float] = {}
    try:
        with gzip.open(table, "rt", encoding="utf-8", newline="") as stream:
            for row in csv.DictReader(stream):
                if row["pm25_ug_m3"].strip():
                    at = datetime.fromisoformat(row["time_local"]).replace(
                        tzinfo=timezone(timedelta(hours=1))
                    )
                    readings[to_ms(at) + HOUR_MS] = float(row["pm25_ug_m3"])
    except (OSError, EOFError, KeyError, ValueError) as error:
        raise LayoutError(f"{table}: not a table of time_local, pm25_ug_m3 ({error!r})") from error
    frames = []
    for path in sorted((root / "frames").glob("*.jpg")):
        try:
            at = datetime.strptime(path.stem, "%Y%m%d-%H%M").replace(tzinfo=rome)
        except ValueError as error:
            raise LayoutError(f"{path}: a frame is named YYYYMMDD-HHMM.jpg") from error
        frames.append((to_ms(at), path))
    if not frames:
        raise LayoutError(f"{root / 'frames'}: no frames named YYYYMMDD-HHMM.jpg")
    return OnlineData("milan", rome, _MILAN_POSITION, _MILAN_BAND, tuple(frames), {"pm25": readings})


def read_layout(root: Path, read: FolderReader) -> tuple[list[OnlineData], list[str]]:
    """The stations of a folder in the plain layout (docs/data-layout.md) that have readings, with or without
    a camera, and what had to be left out. `read` gives its hours; of several cameras the station record's
    first one counts.

    Raises LayoutError: a table cannot be read, or no station has readings.
    """
    histories, problems = read(root)
    found = []
    for station, history in sorted(histories.items()):
        record = history.record
        readings = {name: history.means[name] for name in POLLUTANTS if name in history.means}
        if not readings:
            if history.frames:
                problems.append(f"{station}: it has frames, but no readings to score them by; left out")
            continue
        seen = {camera for _, camera, _ in history.frames}
        cameras = [camera for camera in record.cameras if camera.camera in seen]
        name = cameras[0].camera if cameras else min(seen, default="")
        band = cameras[0].far_band if cameras else None
        place = (record.latitude, record.longitude)
        found.append(
            OnlineData(
                station=station,
                zone=ZoneInfo(record.timezone),
                position=None if place[0] is None or place[1] is None else (place[0], place[1]),
                far_band=Strip(**band.model_dump()) if band is not None else None,
                frames=tuple((at, path) for at, camera, path in history.frames if camera == name),
                readings=readings,
                humidity=history.means.get("relativehumidity", {}),
            )
        )
    if not found:
        raise LayoutError(f"{root}: no station has readings{because(problems)}")
    return found, problems
