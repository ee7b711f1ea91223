"""When a camera is asked: at its own moments of a period, by day. Pure."""

import zlib
from typing import Final

from camera.gate import NIGHT_ELEVATION
from camera.sun import sun_elevation
from schemas.times import MINUTE_MS

#: How often it is looked whether the sun has risen.
_LOOK_MS: Final = MINUTE_MS


def next_moment(name: str, every_ms: int, now_ms: int) -> int:
    """The next time (ms) after `now_ms` at which a camera is asked.

    Cameras of one period are asked one after the other, each always at the same place in the period.
    """
    phase = zlib.crc32(name.encode()) % every_ms
    return now_ms + every_ms - (now_ms - phase) % every_ms


def is_night(now_ms: int, place: tuple[float, float] | None) -> bool:
    """Whether the gate would take a picture for one of the night; never where nobody knows the place."""
    return place is not None and sun_elevation(now_ms, *place) < NIGHT_ELEVATION


def next_picture(
    name: str, every_ms: int, night_ms: int | None, place: tuple[float, float] | None, now_ms: int
) -> tuple[int, bool]:
    """When (ms) to wake, and whether to take a picture then: not while it is night and none are taken."""
    if is_night(now_ms, place):
        if night_ms is None:
            return next_moment(name, max(every_ms, _LOOK_MS), now_ms), False
        return next_moment(name, night_ms, now_ms), True
    return next_moment(name, every_ms, now_ms), True
