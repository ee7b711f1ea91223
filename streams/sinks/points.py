"""Estimates as points of a time series: measurement, tags, fields and whole seconds of the window's END.

InfluxDB identifies a point by measurement, tags and time, and a rewrite replaces only the fields that it
names. So everything that a revision may change is a field, tags are what never changes for a series, and
**every point carries every field of its measurement**. A number that does not exist is written as -1 beside
a boolean `has_...` that is false (index-like integers, which cannot be negative, are -1 without a boolean); a
text that does not exist is empty. All six pollutants are written for every window, a pollutant without any
value with kind ``missing``, so that one which drops out in a revision does not leave its old value behind.

Tags and fields, their units and meaning are listed in docs/outputs.md.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from schemas.base import to_ms
from schemas.estimate import Estimate, IndexBlock, PollutantEstimate
from schemas.parameters import PARAMETERS
from schemas.station import Station
from streams.sinks.errors import PointError

#: Written in place of a number that does not exist.
NONE: Final = -1
#: City of a station that names none: a tag that is empty would be no tag.
NOWHERE: Final = "-"

FieldValue = float | int | str | bool


@dataclass(frozen=True, slots=True)
class Point:
    """One point. `tags` are sorted by name; `time` is in seconds since the epoch."""

    measurement: str
    tags: tuple[tuple[str, str], ...]
    fields: Mapping[str, FieldValue]
    time: int

    def line(self) -> str:
        """The point in line protocol, second precision.

        Raises PointError for a number that is not finite: influxdb-client would leave such a field out and
        the database would keep the old value.
        """
        tags = "".join([f",{name}={_escape(value)}" for name, value in self.tags if value])
        fields = []
        for name, value in self.fields.items():
            kind = type(value)
            if kind is float:  # floats stay floats even when whole: a conflict of types is final
                if not math.isfinite(value):  # type: ignore[arg-type]
                    raise PointError(f"{self.measurement} {dict(self.tags)}: {name} is {value}, not a number")
                fields.append(f"{name}={value!r}")
            elif kind is int:
                fields.append(f"{name}={value}i")
            elif kind is bool:
                fields.append(f"{name}=t" if value else f"{name}=f")
            else:
                fields.append(f'{name}="{_quote(value)}"')  # type: ignore[arg-type]
        return f"{self.measurement}{tags} {','.join(fields)} {self.time}"


_PLAIN = re.compile(r"[\w./:+-]*")


def _escape(tag: str) -> str:
    """A tag value: commas, spaces and equals signs escaped, line ends as spaces, no backslash."""
    if _PLAIN.fullmatch(tag):
        return tag
    plain = " ".join(tag.splitlines()).replace("\\", "/")
    return plain.replace(",", "\\,").replace(" ", "\\ ").replace("=", "\\=")


def _quote(text: str) -> str:
    """A string field: quotes and backslashes escaped, line ends as spaces (a line is a point)."""
    if _PLAIN.fullmatch(text):
        return text
    return " ".join(text.splitlines()).replace("\\", "\\\\").replace('"', '\\"')


def window_points(estimate: Estimate) -> list[Point]:
    """The points of one revision of one window: six `aq`, one `aqi` per standard, one `station_state`.

    Raises PointError if the window does not end on a whole second (two windows would share a point).
    """
    end = to_ms(estimate.window.end)
    if end % 1000:
        raise PointError(
            f"window end {estimate.window.end.isoformat()} of {estimate.station} is not a whole second:"
            " choose a window size of whole seconds"
        )
    time = end // 1000
    station = ("station", estimate.station)
    points = [
        Point(
            "aq",
            (("parameter", parameter), station),
            pollutant_fields(estimate.pollutants.get(parameter))
            | {"revision": estimate.revision, "bundle": estimate.bundle},
            time,
        )
        for parameter in PARAMETERS
    ]
    points += [
        Point(
            "aqi",
            (("standard", block.standard), station),
            index_fields(block)
            | {"leading": position == 0, "revision": estimate.revision, "bundle": estimate.bundle},
            time,
        )
        for position, block in enumerate(estimate.indices)
    ]
    points.append(Point("station_state", (station,), state_fields(estimate), time))
    return points


def pollutant_fields(pollutant: PollutantEstimate | None) -> dict[str, FieldValue]:
    """Fields of `aq` that belong to the pollutant. Concentrations in ug/m3."""
    if pollutant is None:
        return {
            "value": float(NONE), "has_value": False, "kind": "missing", "qc": 9, "qc_tests": 0,
            "lo": float(NONE), "hi": float(NONE), "has_interval": False, "method": "",
            "raw": float(NONE), "has_raw": False, "n": 0, "sensors": "",
        }  # fmt: skip
    lo, hi, has_interval = _interval(pollutant.lo, pollutant.hi)
    raw, has_raw = _optional(pollutant.raw)
    return {
        "value": float(pollutant.value), "has_value": True, "kind": pollutant.kind,
        "qc": pollutant.qc, "qc_tests": pollutant.qc_tests,
        "lo": lo, "hi": hi, "has_interval": has_interval, "method": pollutant.method,
        "raw": raw, "has_raw": has_raw, "n": pollutant.n, "sensors": ",".join(pollutant.sensors),
    }  # fmt: skip


def index_fields(block: IndexBlock) -> dict[str, FieldValue]:
    """Fields of `aqi` that belong to the index. Index-like integers are -1 where there is none."""
    return {
        "index": NONE if block.index is None else block.index,
        "category": block.category or "",
        # Names a colour: the same category key has another colour in another standard.
        "band": f"{block.standard}/{block.category}" if block.category else "",
        "level": NONE if block.level is None else block.level,
        "dominant": ",".join(block.dominant),
        "status": block.status,
        "reason": block.reason,
        "imputed_share": float(block.imputed_share),
        "nowcast": NONE if block.nowcast is None else block.nowcast,
        **{f"sub_{parameter}": block.subindices.get(parameter, NONE) for parameter in PARAMETERS},
    }


def state_fields(estimate: Estimate) -> dict[str, FieldValue]:
    """Fields of `station_state`: what the window rests on, and what the network alone said."""
    kinds = [pollutant.kind for pollutant in estimate.pollutants.values()]
    frames = estimate.inputs.frames
    humidity, has_humidity = _optional(estimate.inputs.humidity)
    model = estimate.model
    model_aqi, has_model = _optional(None if model is None else model.aqi)
    lo, hi, has_interval = _interval(None, None) if model is None else _interval(model.lo, model.hi)
    return {
        "sides": estimate.sides,
        "readings": estimate.inputs.readings,
        "frames": len(frames),
        "frames_used": sum(frame.usable for frame in frames),
        "frame_reasons": ",".join(sorted({reason for frame in frames for reason in frame.reasons})),
        "humidity": humidity, "has_humidity": has_humidity,
        "measured": kinds.count("measured"),
        "corrected": kinds.count("corrected"),
        "imputed": kinds.count("imputed"),
        "missing": len(PARAMETERS) - len(kinds),
        "model_aqi": model_aqi, "has_model": has_model,
        "model_lo": lo, "model_hi": hi, "has_model_interval": has_interval,
        "window_s": (to_ms(estimate.window.end) - to_ms(estimate.window.start)) // 1000,
        "revision": estimate.revision,
        "bundle": estimate.bundle,
    }  # fmt: skip


def station_point(station: Station, time: int) -> Point:
    """The directory entry of a station at `time` (seconds): lets dashboards list stations by city.

    City is a tag here and nowhere else: it may change, and elsewhere that would split a series.
    """
    latitude, has_latitude = _optional(station.latitude)
    longitude, has_longitude = _optional(station.longitude)
    return Point(
        "station",
        (("city", station.city or NOWHERE), ("station", station.station)),
        {
            "name": station.name or station.station,
            "latitude": latitude, "longitude": longitude, "has_location": has_latitude and has_longitude,
            "kind": station.kind, "timezone": station.timezone, "standards": ",".join(station.standards),
            "cameras": len(station.cameras), "sensors": len(station.sensors),
        },
        time,
    )  # fmt: skip


def _optional(number: float | None) -> tuple[float, bool]:
    return (float(NONE), False) if number is None else (float(number), True)


def _interval(lo: float | None, hi: float | None) -> tuple[float, float, bool]:
    if lo is None or hi is None:
        return float(NONE), float(NONE), False
    return float(lo), float(hi), True
