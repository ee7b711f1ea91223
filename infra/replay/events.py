"""What a folder holds, before it becomes messages: readings and frames with their times as stated."""

import re
from dataclasses import dataclass
from typing import Final

from pydantic_core import PydanticCustomError

from schemas.base import parse_time, to_ms

_INTEGER: Final = re.compile(r"-?\d{1,18}")


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
    where: str = ""  #: file and line


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


def event_ms(stated: str | int, latest_ms: int) -> int | None:
    """Event time in ms since the epoch; None where it is no time or after `latest_ms`."""
    try:
        ms = to_ms(parse_time(stated))
    except PydanticCustomError:
        return None
    return ms if ms <= latest_ms else None
