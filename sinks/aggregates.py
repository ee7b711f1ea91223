"""Hourly and daily aggregates, computed from the estimates themselves, never by a database task.

Hours are those of UTC; days are the civil days of the station's own zone. A point is stamped with the end of
its period. The store remembers, durably and with the very transaction that changed a window, which periods
have to be (re)computed; a period is computed when event time has passed its end, and again by every later
revision of one of its windows. It depends on the newest revisions alone: a repetition gives the same point.

Every window counts by its length. Concentrations in ug/m3.
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, Literal, NamedTuple
from zoneinfo import ZoneInfo

from schemas.base import from_ms, to_ms
from schemas.estimate import Estimate
from schemas.parameters import PARAMETERS
from schemas.times import HOUR_MS
from sinks.points import NONE, FieldValue, Point

Kind = Literal["hourly", "daily"]
KINDS: Final[tuple[Kind, ...]] = ("hourly", "daily")


class Period(NamedTuple):
    """One hour or one day of one station: windows with start < end of window <= stop, in ms."""

    kind: Kind
    station: str
    start: int
    stop: int


def periods_of(station: str, end: int, zone: str) -> tuple[Period, Period]:
    """The hour and the day that the window ending at `end` (ms) of `station` in IANA `zone` belongs to."""
    # A window that ends on the hour belongs to the hour before.
    hour = (end - 1) // HOUR_MS * HOUR_MS
    local = from_ms(end - 1).astimezone(ZoneInfo(zone))
    midnight = datetime(local.year, local.month, local.day, tzinfo=local.tzinfo)
    following = local.date() + timedelta(days=1)
    next_midnight = datetime(following.year, following.month, following.day, tzinfo=local.tzinfo)
    return (
        Period("hourly", station, hour, hour + HOUR_MS),
        Period("daily", station, to_ms(midnight.astimezone(UTC)), to_ms(next_midnight.astimezone(UTC))),
    )


def aggregate(period: Period, estimates: Sequence[Estimate], withdrawn: Iterable[str] = ()) -> list[Point]:
    """The points of a period from the newest revisions of its windows.

    Six `aq_hourly` (or `aq_daily`), one per pollutant, and one `aqi_hourly` (`aqi_daily`) per standard, also
    of those `withdrawn`, whose points may have been written when a window still had them.
    """
    length = (period.stop - period.start) / 1000
    time = period.stop // 1000
    if period.stop % 1000 or not estimates:
        raise ValueError(f"{period} has no windows, or does not end on a whole second")
    station = ("station", period.station)
    revision = sum(estimate.revision for estimate in estimates)
    points = []
    for parameter in PARAMETERS:
        used = [
            (estimate.pollutants[parameter], _seconds(estimate))
            for estimate in estimates
            if parameter in estimate.pollutants
        ]
        seconds = sum(width for _, width in used)
        kinds = [pollutant.kind for pollutant, _ in used]
        values = [pollutant.value for pollutant, _ in used]
        imputed = sum(width for pollutant, width in used if pollutant.kind == "imputed")
        fields: dict[str, FieldValue] = {
            "has_value": bool(used),
            "mean": sum(p.value * width for p, width in used) / seconds if used else float(NONE),
            "min": min(values, default=float(NONE)),
            "max": max(values, default=float(NONE)),
            "windows": len(used),
            "measured": kinds.count("measured"),
            "corrected": kinds.count("corrected"),
            "imputed": kinds.count("imputed"),
            "imputed_share": imputed / seconds if used else 0.0,
            "coverage": seconds / length,
            "revision": revision,
        }
        points.append(Point(f"aq_{period.kind}", (("parameter", parameter), station), fields, time))
    standards = {block.standard for estimate in estimates for block in estimate.indices}
    for standard in sorted(standards.union(withdrawn)):
        blocks = [
            (block, _seconds(estimate))
            for estimate in estimates
            for block in estimate.indices
            if block.standard == standard
        ]
        lengths = sum(width for _, width in blocks)
        known = [(block.index, width) for block, width in blocks if block.index is not None]
        seconds = sum(width for _, width in known)
        fields = {
            "has_index": bool(known),
            "mean": sum(index * width for index, width in known) / seconds if known else float(NONE),
            "min": min((index for index, _ in known), default=NONE),
            "max": max((index for index, _ in known), default=NONE),
            "last": known[-1][0] if known else NONE,
            "windows": len(known),
            "valid": sum(block.status == "valid" for block, _ in blocks),
            "imputed_share": sum(block.imputed_share * width for block, width in blocks) / (lengths or 1.0),
            "coverage": seconds / length,
            "revision": revision,
        }
        points.append(Point(f"aqi_{period.kind}", (("standard", standard), station), fields, time))
    return points


def _seconds(estimate: Estimate) -> float:
    return (to_ms(estimate.window.end) - to_ms(estimate.window.start)) / 1000
