"""What the store keeps of windows that are over their time: hours and days, and what it knows of them.

A window's time is over when its hour ended longer ago than windows are kept, counted from the newest window
in the store: event time, so that the same estimates leave the same store however long a worker was away. It
is then counted into its hour and its day, and goes. From that moment on, whether it is still in the file or
not, its numbers stand: a higher revision is not counted, but kept in mind and told.

A window that was never seen is taken in whatever its age, such as one from a backfill of old files. It stays
a day of event time, in which it may be revised, and is then counted into its hour and day like any other.
"""

import logging
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from schemas.errors import Refused
from schemas.estimate import Estimate
from schemas.station import stored_station
from schemas.times import DAY_MS, HOUR_MS, end_of
from sinks.aggregates import Period, periods_of
from sinks.tally import Counted, Tally
from streams.boundary import guarded

log = logging.getLogger(__name__)

#: How long a window stays that came when its time was over, ms of event time.
REVISED_FOR_MS: Final = DAY_MS
#: Until then stays what cannot be read: for ever.
_FOR_EVER: Final = 2**62
#: No day is longer: an end of search.
_TWO_DAYS_MS: Final = 2 * DAY_MS

TABLES: Final = """
CREATE TABLE hourly (          -- hours of windows that have left
    station  TEXT NOT NULL,
    stop     INTEGER NOT NULL, -- end of the hour, ms
    body     TEXT NOT NULL,    -- their tally, JSON
    PRIMARY KEY (station, stop)
) WITHOUT ROWID;
CREATE INDEX hourly_by_stop ON hourly (stop);
CREATE TABLE daily (           -- civil days of windows that have left
    station  TEXT NOT NULL,
    stop     INTEGER NOT NULL,
    start    INTEGER NOT NULL,
    body     TEXT NOT NULL,
    counted  BLOB NOT NULL,    -- which windows, by end and revision
    hours    INTEGER NOT NULL, -- whether its hours are still there
    missed   INTEGER NOT NULL, -- of how many of them a newer revision came, which is not counted
    PRIMARY KEY (station, stop)
) WITHOUT ROWID;
CREATE INDEX daily_by_stop ON daily (hours, stop);
CREATE TABLE late (            -- windows that came when their time was over
    station  TEXT NOT NULL,
    end      INTEGER NOT NULL,
    until    INTEGER NOT NULL, -- how far event time goes until they leave, ms
    PRIMARY KEY (station, end)
) WITHOUT ROWID;
"""


@dataclass(frozen=True)
class Retention:
    """How long what is kept, ms of event time; None: for ever."""

    windows: int | None = None
    hours: int | None = None
    days: int | None = None


class Left(NamedTuple):
    """What is left of the windows of a period: their tally, and how many have newer revisions than it has."""

    period: Period
    tally: Tally
    missed: int


def horizon(db: sqlite3.Connection, now: int) -> int:
    """Event time: the end of the newest window, ms. `now`: the time, ms since the epoch."""
    # One of the future, which a wrong clock or a stranger made, would move all others out.
    (newest,) = db.execute("SELECT max(end) FROM estimate WHERE end <= ?", (now,)).fetchone()
    return -(2**62) if newest is None else int(newest)


def cutoff(kept: int | None, horizon: int) -> int:
    """The end of the last hour that is over its time, where windows are kept for so long; ms."""
    return -(2**62) if kept is None else (horizon - kept) // HOUR_MS * HOUR_MS


def is_past(end: int, kept: int | None, horizon: int) -> bool:
    """Whether the window that ends at `end` is over its time, where such are kept for so long."""
    return end <= cutoff(kept, horizon)


def may_be_revised(db: sqlite3.Connection, station: str, end: int, horizon: int) -> bool:
    """Whether a window came when its time was over, and may still be revised."""
    found = db.execute(
        "SELECT 1 FROM late WHERE station = ? AND end = ? AND until > ?", (station, end, horizon)
    ).fetchone()
    return found is not None


def let_be_revised(db: sqlite3.Connection, station: str, end: int, horizon: int) -> None:
    """Keep a window that came when its time was over, for a while."""
    db.execute("INSERT OR REPLACE INTO late VALUES (?, ?, ?)", (station, end, horizon + REVISED_FOR_MS))


def newest_revision(db: sqlite3.Connection, station: str, end: int) -> int | None:
    """The highest revision seen of a window that was counted into its day; None where it was not."""
    for day in _days_around(db, station, end):
        revision = day.counted.newest(end)
        if revision is not None:
            return revision
    return None


def miss(db: sqlite3.Connection, station: str, end: int, revision: int) -> None:
    """Keep in mind that a counted window has a higher revision, which is not counted."""
    for day in _days_around(db, station, end):
        counted = day.counted
        if counted.newest(end) is not None:
            counted.miss(end, revision)
            db.execute(
                "UPDATE daily SET counted = ?, missed = ? WHERE station = ? AND stop = ?",
                (counted.to_bytes(), counted.missed(0, _FOR_EVER), station, day.stop),
            )


class _Day(NamedTuple):
    """A civil day of windows that have left (ms), and which they are."""

    stop: int
    start: int
    counted: Counted


def _days_around(db: sqlite3.Connection, station: str, end: int) -> Iterator[_Day]:
    # More than one only where the station's zone has changed.
    rows = db.execute(
        "SELECT stop, start, counted FROM daily WHERE station = ? AND stop >= ? AND stop < ? AND start < ?",
        (station, end, end + _TWO_DAYS_MS, end),
    ).fetchall()
    for stop, start, counted in rows:
        yield _Day(stop, start, Counted(counted))


def due_hours(db: sqlite3.Connection, cutoff: int, horizon: int, limit: int) -> list[tuple[str, int]]:
    """Station and end of the oldest hours up to `cutoff` whose windows are to leave: of `limit` windows."""
    rows = db.execute(
        "SELECT e.station, e.end FROM estimate e WHERE e.end <= ? AND NOT EXISTS (SELECT 1 FROM late l"
        " WHERE l.station = e.station AND l.end = e.end AND l.until > ?) ORDER BY e.end LIMIT ?",
        (cutoff, horizon, limit),
    ).fetchall()
    return list(dict.fromkeys((station, end_of(end, HOUR_MS)) for station, end in rows))


def roll_up(db: sqlite3.Connection, station: str, stop: int, horizon: int) -> int:
    """Count the windows of a station's hour into it and its day, and take them out; gives how many.

    In a transaction of the caller's. Windows that may still be revised (`late`) stay.
    """
    start = stop - HOUR_MS
    rows = db.execute(
        "SELECT end, revision, body FROM estimate e WHERE station = ? AND end > ? AND end <= ? AND NOT EXISTS"
        " (SELECT 1 FROM late l WHERE l.station = e.station AND l.end = e.end AND l.until > ?) ORDER BY end",
        (station, start, stop, horizon),
    ).fetchall()
    gone: dict[int, list[str]] = {}
    for end, standard in db.execute(
        "SELECT end, standard FROM withdrawn WHERE station = ? AND end > ? AND end <= ?",
        (station, start, stop),
    ):
        gone.setdefault(end, []).append(standard)
    zone = _zone(db, station)
    hour = Tally()
    days: dict[Period, tuple[Tally, list[tuple[int, int]]]] = {}
    ends = []
    for end, revision, body in rows:
        read = guarded(lambda body=body: Estimate.model_validate_json(body))  # type: ignore[misc]
        if isinstance(read, Refused):
            log.warning("a window of the store stays, since it cannot be read: %s: %.200s", read, body)
            db.execute("INSERT OR REPLACE INTO late VALUES (?, ?, ?)", (station, end, _FOR_EVER))
            continue
        one = Tally.of([read], gone.get(end, ()))
        hour = hour.plus(one)
        day = periods_of(station, end, zone)[1]
        tally, counted = days.get(day, (Tally(), []))
        days[day] = tally.plus(one), [*counted, (end, revision)]
        ends.append((station, end))
    hours_there = False
    for day, (tally, counted) in days.items():
        hours_there |= _into_day(db, day, tally, counted)
    if hours_there:
        _into_hour(db, station, stop, hour)
    for table in ("estimate", "withdrawn", "late"):
        db.executemany(f"DELETE FROM {table} WHERE station = ? AND end = ?", ends)
    return len(ends)


def _into_day(db: sqlite3.Connection, day: Period, tally: Tally, windows: list[tuple[int, int]]) -> bool:
    """Add windows to a day; whether its hours are still there."""
    kept = db.execute(
        "SELECT body, counted, hours FROM daily WHERE station = ? AND stop = ?", (day.station, day.stop)
    ).fetchone()
    counted, hours = Counted(), True
    if kept is not None:
        tally, counted, hours = Tally.from_json(kept[0]).plus(tally), Counted(kept[1]), bool(kept[2])
    for end, revision in windows:
        counted.add(end, revision)
    db.execute(
        "INSERT OR REPLACE INTO daily (station, stop, start, body, counted, hours, missed)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        (
            day.station,
            day.stop,
            day.start,
            tally.to_json(),
            counted.to_bytes(),
            hours,
            counted.missed(0, _FOR_EVER),
        ),
    )
    return hours


def _into_hour(db: sqlite3.Connection, station: str, stop: int, tally: Tally) -> None:
    kept = db.execute("SELECT body FROM hourly WHERE station = ? AND stop = ?", (station, stop)).fetchone()
    if kept is not None:
        tally = Tally.from_json(kept[0]).plus(tally)
    db.execute("INSERT OR REPLACE INTO hourly VALUES (?, ?, ?)", (station, stop, tally.to_json()))


def _zone(db: sqlite3.Connection, station: str) -> str:
    # Of the store, not of this worker: it may count hours of stations of another worker's partition.
    kept = db.execute("SELECT body FROM station WHERE station = ?", (station,)).fetchone()
    if kept is None:
        return "UTC"
    read = guarded(lambda: stored_station(kept[0]))
    return "UTC" if isinstance(read, Refused) else read[0].timezone


def expire(db: sqlite3.Connection, retention: Retention, horizon: int, limit: int) -> int:
    """Take out hours and days that are over their time, those of up to `limit` days; gives of how many."""
    found = 0
    if retention.hours is not None:
        days = db.execute(
            "SELECT station, start, stop FROM daily WHERE stop <= ? AND hours = 1 ORDER BY stop LIMIT ?",
            (horizon - retention.hours, limit),
        ).fetchall()
        for station, start, stop in days:
            db.execute(
                "DELETE FROM hourly WHERE station = ? AND stop > ? AND stop <= ?", (station, start, stop)
            )
            db.execute("UPDATE daily SET hours = 0 WHERE station = ? AND stop = ?", (station, stop))
        found += len(days)
    if retention.days is not None:
        days = db.execute(
            "SELECT station, stop FROM daily WHERE stop <= ? AND hours = 0 ORDER BY stop LIMIT ?",
            (horizon - retention.days, limit),
        ).fetchall()
        db.executemany("DELETE FROM daily WHERE station = ? AND stop = ?", days)
        found += len(days)
    return found


def left_of(db: sqlite3.Connection, period: Period) -> Tally | None:
    """The tally of a period's windows that have left; None where they cannot be told any more.

    An hour is gone for good when its day's hours are.
    """
    if period.kind == "hourly":
        kept = db.execute(
            "SELECT body FROM hourly WHERE station = ? AND stop = ?", (period.station, period.stop)
        ).fetchone()
        if (
            kept is None
            and db.execute(
                "SELECT 1 FROM daily WHERE station = ? AND stop > ? AND stop < ? AND start < ? AND hours = 0",
                (period.station, period.start, period.stop + _TWO_DAYS_MS, period.stop),
            ).fetchone()
        ):
            return None
    else:
        kept = db.execute(
            "SELECT body FROM daily WHERE station = ? AND stop = ?", (period.station, period.stop)
        ).fetchone()
    return Tally() if kept is None else Tally.from_json(kept[0])


def left(
    db: sqlite3.Connection, station: str | None, since: int | None, until: int | None, limit: int
) -> list[Left]:
    """Hours, and days whose hours are gone, that have any time in [since, until) (ms); the newest, by end."""
    rows = [
        *(
            (Period("hourly", name, stop - HOUR_MS, stop), body)
            for name, stop, body in _newest(
                db, "station, stop, body FROM hourly", station,
                [("stop >= ?", since), ("stop < ?", None if until is None else until + HOUR_MS)], limit,
            )
        ),
        *(
            (Period("daily", name, start, stop), body)
            for name, start, stop, body in _newest(
                db, "station, start, stop, body FROM daily", station,
                [("hours = ?", 0), ("stop >= ?", since), ("start < ?", until)], limit,
            )
        ),
    ]  # fmt: skip
    rows.sort(key=lambda row: (row[0].stop, row[0].station, row[0].start))
    if limit >= 0:
        rows = rows[max(0, len(rows) - limit) :]
    return [Left(period, Tally.from_json(body), _missed(db, period)) for period, body in rows]


def _newest(
    db: sqlite3.Connection,
    what: str,
    station: str | None,
    conditions: Sequence[tuple[str, int | None]],
    limit: int,
) -> list[Any]:
    """The newest rows of one table that meet the conditions whose value is given."""
    given: list[tuple[str, int | str]] = [(text, value) for text, value in conditions if value is not None]
    if station is not None:
        given.append(("station = ?", station))
    where = " AND ".join(["1", *(text for text, _ in given)])
    return db.execute(
        f"SELECT {what} WHERE {where} ORDER BY stop DESC, station DESC LIMIT ?",
        [*(value for _, value in given), limit],
    ).fetchall()


def _missed(db: sqlite3.Connection, period: Period) -> int:
    rows = db.execute(
        "SELECT counted FROM daily WHERE station = ? AND stop > ? AND stop < ? AND start < ? AND missed > 0",
        (period.station, period.start, period.stop + _TWO_DAYS_MS, period.stop),
    ).fetchall()
    return sum(Counted(counted).missed(period.start, period.stop) for (counted,) in rows)
