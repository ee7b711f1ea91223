"""Estimates as points of a time series: measurement, tags, fields and whole seconds of the window's END.

InfluxDB identifies a point by measurement, tags and time, and a rewrite replaces only the fields that it
names. So everything that a revision may change is a field, tags are what never changes for a series, and
**every point carries every field of its measurement**. A number that does not exist is written as -1 beside
a boolean `has_...` that is false (index-like integers, which cannot be negative, are -1 without a boolean); a
text that does not exist is empty. All six pollutants are written for every window, a pollutant without any
value with kind ``missing``, so that one which drops out in a revision does not leave its old value behind.

A window's points are written straight as lines of the line protocol (second precision): a city's backlog is
millions of them, and a line costs a third of what a point and then its line would (docs/performance.md).
Points that are rare (station directory, alerts, aggregates) are `Point`s.

Tags and fields, their units and meaning are listed in docs/outputs.md.
"""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from operator import itemgetter
from typing import Final

from pydantic_core import PydanticCustomError

from schemas.alert import SEVERITIES, Alert
from schemas.annotation import Annotation
from schemas.base import to_ms
from schemas.estimate import Estimate, IndexBlock, MissingPollutant, PollutantEstimate
from schemas.forecast import FORECAST_HOURS, FORECAST_LEVELS, Forecast
from schemas.parameters import POLLUTANTS
from schemas.station import Station
from schemas.times import HOUR_MS
from sinks.errors import PointError

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
                fields.append(f'{name}="{_quote(str(value))}"')
        return f"{self.measurement}{tags} {','.join(fields)} {self.time}"


_PLAIN = re.compile(r"[\w./:+-]*")


@lru_cache(8192)
def _escape(tag: str) -> str:
    """A tag value: commas, spaces and equals signs escaped, line ends as spaces, no backslash."""
    if _PLAIN.fullmatch(tag):
        return tag
    plain = " ".join(tag.splitlines()).replace("\\", "/")
    return plain.replace(",", "\\,").replace(" ", "\\ ").replace("=", "\\=")


@lru_cache(8192)
def _quote(text: str) -> str:
    """A string field: quotes and backslashes escaped, line ends as spaces (a line is a point)."""
    if _PLAIN.fullmatch(text):
        return text
    return " ".join(text.splitlines()).replace("\\", "\\\\").replace('"', '\\"')


def window_lines(estimate: Estimate) -> list[str]:
    """The lines of one revision of one window: six `aq`, one `aqi` per standard, one `station_state`.

    Numbers are finite: an `Estimate` cannot hold others. Raises PointError if the window does not end on a
    whole second: two windows would share a point.
    """
    start, end = to_ms(estimate.window.start), to_ms(estimate.window.end)
    tail = _tail(estimate, end)
    station = _escape(estimate.station)
    pollutant, missing = estimate.pollutants.get, estimate.missing.get
    lines = [
        f"aq,parameter={parameter},station={station} "
        f"{_pollutant(pollutant(parameter), missing(parameter))},{tail}"
        for parameter in POLLUTANTS
    ]
    leading = "t"
    for block in estimate.indices:
        series = f"aqi,standard={_escape(block.standard)},station={station}"
        lines.append(f"{series} {_index(block)},leading={leading},{tail}")
        leading = "f"
    lines.append(
        f"station_state,station={station} {_state(estimate)},window_s={(end - start) // 1000}i,{tail}"
    )
    return lines


def withdrawn_lines(estimate: Estimate, standards: Iterable[str]) -> list[str]:
    """Lines that overwrite the `aqi` points of standards which this revision of the window has no more.

    Every field says that there is nothing; `status` is ``withdrawn``.
    """
    tail = _tail(estimate, to_ms(estimate.window.end))
    station = _escape(estimate.station)
    return [
        f"aqi,standard={_escape(standard)},station={station} {_WITHDRAWN},leading=f,{tail}"
        for standard in standards
    ]


def _tail(estimate: Estimate, end: int) -> str:
    """Revision, bundle and time: what all lines of a window end in."""
    if end % 1000:
        raise PointError(
            f"window end {estimate.window.end.isoformat()} of {estimate.station} is not a whole second:"
            " choose a window size of whole seconds"
        )
    return f'revision={estimate.revision}i,bundle="{_quote(estimate.bundle)}" {end // 1000}'


def _pollutant(pollutant: PollutantEstimate | None, missing: MissingPollutant | None) -> str:
    """Fields of `aq` that belong to the pollutant. Concentrations in ug/m3."""
    if pollutant is None:
        if missing is None:
            return _NO_POLLUTANT
        return (
            f'value={NONE}.0,has_value=f,kind="missing",qc={missing.qc}i,qc_tests={missing.qc_tests}i,'
            f'{_NO_INTERVAL},method="",raw={missing.raw!r},has_raw=t,n={missing.n}i,'
            f'sensors="{",".join(missing.sensors)}",refused="{_refused(missing.refused)}"'
        )
    lo, hi, raw = pollutant.lo, pollutant.hi, pollutant.raw
    interval = _NO_INTERVAL if lo is None or hi is None else f"lo={lo!r},hi={hi!r},has_interval=t"
    unprocessed = _NO_RAW if raw is None else f"raw={raw!r},has_raw=t"
    return (
        f'value={pollutant.value!r},has_value=t,kind="{pollutant.kind}",qc={pollutant.qc}i,'
        f'qc_tests={pollutant.qc_tests}i,{interval},method="{_quote(pollutant.method)}",'
        f'{unprocessed},n={pollutant.n}i,sensors="{",".join(pollutant.sensors)}",'
        f'refused="{_refused(pollutant.refused)}"'
    )


def _refused(refused: Mapping[str, str]) -> str:
    """What was left out and why, one text."""
    return _quote("; ".join([f"{name} {why}" for name, why in refused.items()])) if refused else ""


def _index(block: IndexBlock) -> str:
    """Fields of `aqi` that belong to the index. Index-like integers are -1 where there is none."""
    category = _quote(block.category or "")
    # Names a colour: the same category key has another colour in another standard.
    band = f"{_quote(block.standard)}/{category}" if category else ""
    sub = block.subindices
    six = _SIX(sub) if len(sub) == len(POLLUTANTS) else tuple([sub.get(name, NONE) for name in POLLUTANTS])
    return (
        f'index={_whole(block.index)}i,category="{category}",band="{band}",level={_whole(block.level)}i,'
        f'dominant="{",".join(block.dominant)}",status="{block.status}",reason="{_quote(block.reason)}",'
        f"imputed_share={block.imputed_share!r},lo={_whole(block.lo)}i,hi={_whole(block.hi)}i,"
        f"nowcast={_whole(block.nowcast)}i,nowcast_lo={_whole(block.nowcast_lo)}i,"
        f"nowcast_hi={_whole(block.nowcast_hi)}i,"
        f"{_SUBINDICES % six}"
    )


def _state(estimate: Estimate) -> str:
    """Fields of `station_state`: what the window rests on, and what the model alone said."""
    kinds = [pollutant.kind for pollutant in estimate.pollutants.values()]
    inputs, model = estimate.inputs, estimate.model
    frames = inputs.frames
    used, reasons = 0, ""
    if frames:
        used = sum([frame.usable for frame in frames])
        reasons = _quote(",".join(sorted({reason for frame in frames for reason in frame.reasons})))
    humidity = _NO_HUMIDITY
    if inputs.humidity is not None:
        humidity = f"humidity={inputs.humidity!r},has_humidity=t"
    said = _NO_MODEL
    if model is not None:
        interval = _NO_MODEL_INTERVAL
        if model.lo is not None and model.hi is not None:
            interval = f"model_lo={model.lo!r},model_hi={model.hi!r},has_model_interval=t"
        said = f"model_aqi={model.aqi!r},has_model=t,{interval}"
    return (
        f'sides="{estimate.sides}",readings={inputs.readings}i,frames={len(frames)}i,frames_used={used}i,'
        f'frame_reasons="{reasons}",{humidity},'
        f"measured={kinds.count('measured')}i,corrected={kinds.count('corrected')}i,"
        f"imputed={kinds.count('imputed')}i,missing={len(POLLUTANTS) - len(kinds)}i,{said}"
    )


def _whole(value: int | None) -> int:
    return NONE if value is None else value


# What the numbers that may not exist are written as; see above.
_NO_INTERVAL: Final = f"lo={NONE}.0,hi={NONE}.0,has_interval=f"
_NO_RAW: Final = f"raw={NONE}.0,has_raw=f"
_NO_HUMIDITY: Final = f"humidity={NONE}.0,has_humidity=f"
_NO_MODEL_INTERVAL: Final = f"model_lo={NONE}.0,model_hi={NONE}.0,has_model_interval=f"
_NO_MODEL: Final = f"model_aqi={NONE}.0,has_model=f,{_NO_MODEL_INTERVAL}"
_SIX: Final = itemgetter(*POLLUTANTS)
_SUBINDICES: Final = ",".join([f"sub_{parameter}=%di" for parameter in POLLUTANTS])
_NO_POLLUTANT: Final = (
    f'value={NONE}.0,has_value=f,kind="missing",qc=9i,qc_tests=0i,'
    f'{_NO_INTERVAL},method="",{_NO_RAW},n=0i,sensors="",refused=""'
)
_WITHDRAWN: Final = _index(
    IndexBlock(
        standard="-", index=None, category=None, level=None, status="insufficient", imputed_share=0.0,
        reason="the station does not declare this standard any more",
    )
).replace('status="insufficient"', 'status="withdrawn"')  # fmt: skip


def station_point(station: Station, time: int) -> Point:
    """The directory entry of a station at `time` (seconds): lets dashboards list stations by city.

    City is a tag here and nowhere else: it may change, and elsewhere that would split a series.
    """
    located = station.latitude is not None and station.longitude is not None
    return Point(
        "station",
        (("city", station.city or NOWHERE), ("station", station.station)),
        {
            "name": station.name or station.station,
            "latitude": float(NONE if station.latitude is None else station.latitude),
            "longitude": float(NONE if station.longitude is None else station.longitude),
            "has_location": located,
            "kind": station.kind, "timezone": station.timezone, "standards": ",".join(station.standards),
            "cameras": len(station.cameras), "sensors": len(station.sensors),
        },
        time,
    )  # fmt: skip


def alert_point(alert: Alert) -> Point:
    """An alert as its newest event has it, at the end of the window that opened it (which is in its id).

    Station, rule and that time are the alert's identity, so every later event overwrites the point: the
    measurement holds what the compacted topic holds. `at` and `since` are ms, as Grafana's regions want them.
    PointError for an id of another form.
    """
    value = alert.values.get("value")
    try:
        opened = to_ms(alert.opened) // 1000
    except PydanticCustomError as error:
        raise PointError(f"alert id {alert.id!r} does not end in the time it opened: {error}") from error
    return Point(
        "alert",
        (("rule", alert.rule), ("station", alert.station)),
        {
            "id": alert.id, "sequence": alert.sequence, "event": alert.event,
            "active": alert.event in ("open", "update"),
            "severity": alert.severity, "level": SEVERITIES.index(alert.severity),
            "at": to_ms(alert.at), "since": to_ms(alert.since), "reason": alert.reason,
            "value": float(NONE if value is None else value), "has_value": value is not None,
        },
        opened,
    )  # fmt: skip


#: Fields of the quantiles.
_QUANTILE_NAMES: Final = tuple(f"p{round(100 * level):02d}" for level in FORECAST_LEVELS)


def annotation_point(annotation: Annotation) -> Point:
    """An annotation at the time it begins to speak of; taken back, it is not `active`.

    The id is a tag: two annotations may speak of the same time. They are few, people make them.
    """
    return Point(
        "annotation",
        (("id", annotation.id), ("kind", annotation.kind), ("station", annotation.station)),
        {
            "active": annotation.undone is None, "text": annotation.text, "by": annotation.by,
            "sensor": annotation.sensor or "", "parameter": annotation.parameter or "",
            "since": to_ms(annotation.since), "until": to_ms(annotation.until),
            "made_at": to_ms(annotation.made_at),
        },
        to_ms(annotation.since) // 1000,
    )  # fmt: skip


def forecast_points(forecast: Forecast, until: int | None = None) -> list[Point]:
    """The next 72 hours at the ends of the hours that they speak of, and how earlier forecasts came out.

    `until` (ms): of hours that end later a newer forecast has spoken, so this one has no points of them.

    A newer forecast overwrites the hours of the one before: what has passed shows what was said an hour
    before, and what comes the newest.
    """
    station, issued = ("station", forecast.station), to_ms(forecast.issued_at)
    made: dict[str, FieldValue] = {
        "issued_at": issued,
        "revision": forecast.revision,
        "model": forecast.model,
    }
    points = []
    for hour in range(FORECAST_HOURS):
        end = issued + (hour + 1) * HOUR_MS
        if until is not None and end > until:
            break
        at = end // 1000
        for name, one in forecast.pollutants.items():
            fields: dict[str, FieldValue] = {
                label: one.quantiles[level][hour] for level, label in enumerate(_QUANTILE_NAMES)
            }
            fields |= {"mean": one.mean[hour], "imputed_share": one.imputed_share, "hours_ahead": hour + 1}
            points.append(Point("forecast", (("parameter", name), station), fields | made, at))
        for index in forecast.indices:
            fields = {
                "index": _whole(index.index[hour]), "lo": _whole(index.lo[hour]),
                "hi": _whole(index.hi[hour]), "hours_ahead": hour + 1,
                "categories": ",".join(
                    f"{name}:{row[hour]!r}"
                    for name, row in zip(index.categories, index.probabilities, strict=True)
                ),
                "membership": ",".join(f"{name}:{of!r}" for name, of in index.degrees(hour).items()),
            }  # fmt: skip
            points.append(Point("forecast_index", (("standard", index.standard), station), fields | made, at))
    for name, scores in forecast.scores.items():
        for horizon, score in scores.items():
            tags = ("horizon", horizon), ("parameter", name), station
            scored: dict[str, FieldValue] = score.model_dump(exclude={"models"})
            # A field's name has no spaces, and InfluxQL wants none of its operators in it.
            scored |= {
                f"mae_{re.sub('[^a-z0-9]', '_', model)}": error for model, error in score.models.items()
            }
            points.append(Point("forecast_score", tags, scored, issued // 1000))
    return points
