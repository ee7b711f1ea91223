"""The folder of the India-Nepal data set as it is: labels.csv beside images/, read by `datasets.groups`.

The frames of one group (one site and moment) come from one video and share one reading. They go into the
60-second window that begins at the group's time, as distinct captures; the reading carries the group's time.
"""

import math
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo

from datasets.errors import LayoutError, SourceError
from datasets.events import FrameRow, Problem, ReadingRow
from datasets.groups import Site, india_nepal
from datasets.plain import Contents
from datasets.spool import Spool
from schemas.base import format_time, from_ms, to_ms
from schemas.parameters import POLLUTANTS
from schemas.station import Camera, Sensor, Station

_CAMERA: Final = "video"
_SENSOR: Final = "portal"
#: The frames of a group are spread over this much event time.
_SPREAD_MS: Final = 50_000


def read_india_nepal(root: Path, spool: Spool, zone: ZoneInfo | None = None) -> Contents:
    """Read the whole folder into `spool`. Raises SourceError, also for a `zone`: every site has its own."""
    if zone is not None:
        raise SourceError("times of the India-Nepal set are those of each site: leave --timezone out")
    sites: dict[str, Site] = {}
    problems: list[Problem] = []
    blanks = 0
    spool.begin()
    try:
        for group in india_nepal(root):
            station = group.site.station
            sites[station] = group.site
            start_ms = to_ms(group.time)
            stated = format_time(from_ms(start_ms))
            where = f"{root / 'labels.csv'}, {station} at {stated}"
            for parameter, value in zip(POLLUTANTS, group.readings, strict=True):
                if math.isnan(value):
                    blanks += 1
                else:
                    spool.add(ReadingRow(station, stated, parameter, value, "ug/m3", _SENSOR, where=where))
            for number, file in enumerate(group.frames):
                if not file.is_file():
                    problems.append(
                        Problem(str(root / "labels.csv"), f"frame {file} does not exist; not sent")
                    )
                    continue
                taken = from_ms(start_ms + number * _SPREAD_MS // len(group.frames))
                spool.add(FrameRow(station, format_time(taken), _CAMERA, str(file), file.name, where))
    except (LayoutError, OSError) as error:
        raise SourceError(str(error)) from error
    return Contents([_station(sites[name]) for name in sorted(sites)], problems, blanks)


def _station(site: Site) -> Station:
    return Station(
        station=site.station,
        name=site.name,
        latitude=site.latitude,
        longitude=site.longitude,
        timezone=site.zone,
        kind="reference",
        standards=("us-epa-2024", "in-naqi-2014"),
        cameras=(Camera(camera=_CAMERA),),
        sensors=(Sensor(sensor=_SENSOR, parameters=POLLUTANTS),),
    )
