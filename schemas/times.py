"""Lengths of time in ms, and where a time lies in them: windows, quarters and hours begin at the epoch."""

from datetime import timedelta
from typing import Final

MINUTE_MS: Final = 60_000
QUARTER_MS: Final = 15 * MINUTE_MS
HOUR_MS: Final = 60 * MINUTE_MS
DAY_MS: Final = 24 * HOUR_MS
MILLISECOND: Final = timedelta(milliseconds=1)


def in_ms(length: timedelta) -> int:
    """A length of time in whole milliseconds (finer digits are cut)."""
    return length // MILLISECOND


def end_of(time_ms: int, length_ms: int) -> int:
    """The end of the period of `length_ms` that what reaches to `time_ms` lies in: an end is its own."""
    return -(-time_ms // length_ms) * length_ms


def window_end(time_ms: int, length_ms: int) -> int:
    """The end of the period of `length_ms` that an instant lies in: one on an edge begins the next period."""
    return (time_ms // length_ms + 1) * length_ms
