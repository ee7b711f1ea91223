"""Hourly and daily aggregates, computed from the estimates themselves, never by a database task.

Hours are those of UTC; days are the civil days of the station's own zone. A point is stamped with the end of
its period. The store remembers, durably and with the very transaction that changed a window, which periods
have to be (re)computed; a period is computed when event time has passed its end, and again by every later
revision of one of its windows. It depends on the newest revisions alone: a repetition gives the same point.

Every window counts by its length. Concentrations in ug/m3.
"""

from datetime import UTC, datetime, timedelta
from typing import Final, Literal, NamedTuple
from zoneinfo import ZoneInfo

from schemas.base import from_ms, to_ms
from schemas.parameters import POLLUTANTS
from schemas.times import HOUR_MS
from sinks.points import NONE, FieldValue, Point
from sinks.tally import PollutantTally, Tally

PeriodKind = Literal["hourly", "daily"]
KINDS: Final[tuple[PeriodKind, ...]] = ("hourly", "daily")
_NO_POLLUTANT: Final = PollutantTally()


class Period(NamedTuple):
    """One hour or one day of one station: windows with start < end of window <= stop, in ms."""

    kind: PeriodKind
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


def aggregate(period: Period, tally: Tally) -> list[Point]:
    """The points of a period from the newest revisions of its windows.

    Six `aq_hourly` (or `aq_daily`), one per pollutant, and one `aqi_hourly` (`aqi_daily`) per standard, also
    of those withdrawn, whose points may have been written when a window still had them.
    """
    length = period.stop - period.start
    time = period.stop // 1000
    if period.stop % 1000 or not tally.windows:
        raise ValueError(f"{period} has no windows, or does not end on a whole second")
    station = ("station", period.station)
    points = []
    for parameter in POLLUTANTS:
        one = tally.pollutants.get(parameter, _NO_POLLUTANT)
        fields: dict[str, FieldValue] = {
            "has_value": one.windows > 0,
            "mean": float(_or_none(one.mean)),
            "min": float(_or_none(one.least)),
            "max": float(_or_none(one.greatest)),
            "windows": one.windows,
            "measured": one.measured,
            "corrected": one.corrected,
            "imputed": one.imputed,
            "imputed_share": one.imputed_share,
            "coverage": one.ms / length,
            "revision": tally.revision,
        }
        points.append(Point(f"aq_{period.kind}", (("parameter", parameter), station), fields, time))
    for standard, index in sorted(tally.indices.items()):
        fields = {
            "has_index": index.windows > 0,
            "mean": float(_or_none(index.mean)),
            "min": int(_or_none(index.least)),
            "max": int(_or_none(index.greatest)),
            "last": int(_or_none(index.last)),
            "windows": index.windows,
            "valid": index.valid,
            "imputed_share": index.imputed_share,
            "coverage": index.ms / length,
            "revision": tally.revision,
        }
        points.append(Point(f"aqi_{period.kind}", (("standard", standard), station), fields, time))
    return points


def _or_none(value: float | None) -> float:
    return NONE if value is None else value
