"""How fast the local store grows, so that a full disk is known before it is full."""

from typing import Final, NamedTuple

from schemas.times import DAY_MS, HOUR_MS
from sinks import retention as kept_for
from sinks.store_file import StoreFile

#: What a window takes with its keys and what is free in its page, per byte of its estimate; measured.
_PER_BODY: Final = 1.25


class Pace(NamedTuple):
    """How fast a store grows: bytes in use, windows that came in the newest day, and bytes that one takes."""

    used: int
    windows_a_day: float
    window_bytes: float


def pace_of(file: StoreFile, now: int) -> Pace:
    """The pace of the newest day that is over at `now` (ms)."""
    used = file.used()
    with file.reading() as db:
        newest = kept_for.horizon(db, now)
    ((count, first),) = file.select(
        "SELECT count(*), min(end) FROM estimate WHERE end > ? AND end <= ?", (newest - DAY_MS, newest)
    )
    ((body,),) = file.select(
        "SELECT avg(length(body)) FROM (SELECT body FROM estimate ORDER BY end DESC LIMIT 1000)"
    )
    if not count:
        return Pace(used, 0.0, 0.0)
    # In the first day, what came in a part of it; not by less than an hour of it.
    share = max(HOUR_MS, newest - first) / DAY_MS
    return Pace(used, count / share if share < 0.95 else float(count), _PER_BODY * body)
