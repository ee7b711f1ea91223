"""What a folder holds, before it becomes messages: readings and frames with their times as stated."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final
from zoneinfo import ZoneInfo

from pydantic_core import PydanticCustomError

from schemas.base import format_time, parse_time, to_ms
from schemas.reading import DEFAULT_SENSOR
from schemas.station import Station

_INTEGER: Final = re.compile(r"-?\d{1,18}")
_DAY: Final = re.compile(r"\d{4}-\d{2}-\d{2}")
_LOCAL: Final = re.compile(r"\d{4}-\d{2}-\d{2}[Tt ]\d{2}:\d{2}(:\d{2}(\.\d+)?)?")


@dataclass(frozen=True, slots=True)
class Problem:
    """A row of which no message could be made, or that is worth a look."""

    where: str  #: file and line
    what: str  #: in words

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


@dataclass(frozen=True, slots=True)
class ReadingRow:
    """One value of one sensor. `value` is text where the source has something that is no number."""

    station: str
    stated: str | int  #: RFC 3339, or ms since the epoch; what it really is decides the pipeline
    parameter: str
    value: float | str
    unit: str
    sensor: str | None = None
    channel: str | None = None
    period: int | str | None = None  #: seconds
    stamp: str | None = None  #: whether the time `begins` or `ends` the period
    where: str = ""  #: file and line

    @property
    def ends_ms(self) -> int:
        """The declared period (ms) that lies before the stated time; 0 where there is none."""
        return 0 if self.stamp == "begins" or not isinstance(self.period, int) else self.period * 1000

    def before_ms(self, record: Station | None) -> int:
        """As `ends_ms`, by the record of the station where the row declares no period."""
        if self.period is not None or record is None:
            return self.ends_ms
        known = record.sensor_of(self.sensor or DEFAULT_SENSOR, self.parameter)
        if known is None or known.period is None or known.stamp == "begins":
            return 0
        return known.period * 1000


@dataclass(frozen=True, slots=True)
class FrameRow:
    """One picture. `file` is read when it is sent."""

    station: str
    stated: str | int
    camera: str
    file: str
    id: str
    where: str = ""  #: file and line


def stated_time(cell: str) -> str | int:
    """A time cell as it goes into a message: integers are milliseconds, everything else stays text."""
    text = cell.strip()
    return int(text) if _INTEGER.fullmatch(text) else text


def in_zone(stated: str | int, zone: ZoneInfo) -> str | int:
    """A time without a zone as one of `zone`; what says its zone, or is no such time, stays as it is.

    Raises ValueError for a day alone, and for the hours of a change of clocks, which name no moment or two.
    """
    if not isinstance(stated, str):
        return stated
    if _DAY.fullmatch(stated):
        raise ValueError(f"{stated} is a day without a time")
    if not _LOCAL.fullmatch(stated):
        return stated
    try:
        local = datetime.fromisoformat(stated.upper())
    except ValueError as error:
        raise ValueError(f"{stated} is no time: {error}") from error
    try:
        before, after = (local.replace(tzinfo=zone, fold=fold) for fold in (0, 1))
        first, second = before.utcoffset(), after.utcoffset()
        back = before.astimezone(UTC).astimezone(zone).replace(tzinfo=None)
        if back != local:
            raise ValueError(f"there was no {stated} in {zone.key}: clocks were put forward over it")
        if first != second:
            raise ValueError(
                f"{stated} was twice in {zone.key}, as clocks were put back: write which one, as"
                f" {before.isoformat(timespec='minutes')} or {after.isoformat(timespec='minutes')}"
            )
        return format_time(before)
    except OverflowError as error:
        raise ValueError(f"{stated} is no time: {error}") from error


def event_ms(stated: str | int, latest_ms: int) -> int | None:
    """Event time in ms since the epoch; None where it is no time or after `latest_ms`."""
    try:
        ms = to_ms(parse_time(stated))
    except PydanticCustomError:
        return None
    return ms if ms <= latest_ms else None
