"""How fast the local store grows, so that a full disk is known before it is full."""

from typing import Final, NamedTuple

from schemas.times import DAY_MS, HOUR_MS
from sinks import retention as kept_for
from sinks.store_file import StoreFile

#: What a row takes with its keys and what is free in its page, per byte of its body; measured.
_PER_BODY: Final = 1.25


class Pace(NamedTuple):
    """How fast a store grows: bytes in use, and bytes that a day of windows and their forecasts takes."""

    used: int
    a_day: float


def pace_of(file: StoreFile, now: int) -> Pace:
    """The pace of the newest day that is over at `now` (ms)."""
    used = file.used()
    with file.reading() as db:
        newest = kept_for.horizon(db, now)
    a_day = _rows_a_day(file, "estimate", "end", newest)
    if file.has("foretold"):
        a_day += _rows_a_day(file, "foretold", "issued", newest)
    return Pace(used, a_day)


def _rows_a_day(file: StoreFile, table: str, time: str, newest: int) -> float:
    """Bytes that the rows of a table take whose `time` lies in the day before `newest` (ms)."""
    ((count, first),) = file.select(
        f"SELECT count(*), min({time}) FROM {table} WHERE {time} > ? AND {time} <= ?",
        (newest - DAY_MS, newest),
    )
    if not count:
        return 0.0
    ((body,),) = file.select(
        f"SELECT avg(length(body)) FROM (SELECT body FROM {table} ORDER BY {time} DESC LIMIT 1000)"
    )
    # In the first day, what came in a part of it; not by less than an hour of it.
    share = max(HOUR_MS, newest - first) / DAY_MS
    return float((count / share if share < 0.95 else count) * _PER_BODY * body)
