"""Events put in event-time order across stations and files, in bounded memory."""

import json
import sqlite3
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Final, NamedTuple, Self

from datasets.events import FrameRow, ReadingRow, event_ms

_BATCH: Final = 5_000
_SCHEMA: Final = """
CREATE TABLE event (time INTEGER, timed INTEGER, station TEXT, stated TEXT, kind INTEGER, row TEXT);
"""


class Spooled(NamedTuple):
    """An event in its place."""

    time_ms: int  #: where it is sent: its event time, or that of the row before it if it has none
    timed: bool  #: whether `time_ms` is its event time
    row: ReadingRow | FrameRow


class Spool:
    """A temporary SQLite file that sorts events by time, station, stated time, readings first, arrival.

    A context manager; the file goes away with it. A time after `latest_ms` (the clock of a device that lives
    in 2100) is no event time: such a row is sent for the pipeline to refuse, but moves no watermark.
    """

    def __init__(self, latest_ms: int) -> None:
        self._latest_ms = latest_ms
        self._folder = tempfile.TemporaryDirectory(prefix="skyfuse-replay-")
        self._base = sqlite3.connect(Path(self._folder.name) / "events.sqlite", isolation_level=None)
        # Nobody reads this file after a crash: no journal, no waiting for the disk.
        self._base.executescript(f"PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; {_SCHEMA}")
        self._waiting: list[tuple[int, int, str, str, int, str]] = []
        self._place = 0
        self._count = 0
        #: the longest period (ms) that readings declare to lie before their times
        self.before_ms = 0
        #: how many events have no usable time
        self.untimed = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._base.close()
        self._folder.cleanup()

    def __len__(self) -> int:
        return self._count

    def begin(self) -> None:
        """A new file: rows without a time that come before any with one are sent first of all."""
        self._place = 0

    def add(self, row: ReadingRow | FrameRow) -> None:
        """Take one event. One without a usable time is sent at the place of the row before it."""
        ms = event_ms(row.stated, self._latest_ms)
        if ms is not None:
            self._place = ms
        if isinstance(row, ReadingRow):
            self.before_ms = max(self.before_ms, row.ends_ms)
        kind = 1 if isinstance(row, FrameRow) else 0
        stated = json.dumps(row.stated)
        self._waiting.append(
            (self._place, ms is not None, row.station, stated, kind, json.dumps(asdict(row)))
        )
        self._count += 1
        self.untimed += ms is None
        if len(self._waiting) >= _BATCH:
            self._write()

    def span(self) -> tuple[int, int] | None:
        """First and last event time in ms; None where nothing has one."""
        self._write()
        first, last = self._base.execute("SELECT min(time), max(time) FROM event WHERE timed").fetchone()
        return None if first is None else (first, last)

    def stations(self) -> int:
        """How many stations the events are of."""
        self._write()
        (count,) = self._base.execute("SELECT count(DISTINCT station) FROM event").fetchone()
        return int(count)

    def strays(self, gap_ms: int, share: float) -> dict[str, int]:
        """Per station that has any, the time (ms) before which its rows are strays.

        Those before a gap of more than `gap_ms`, where they are less than `share` of the station's rows.
        """
        self._write()
        rows = self._base.execute(
            "SELECT station, max(time) FROM (SELECT station, time, time - lag(time) OVER rows AS gap,"
            " row_number() OVER rows - 1 AS before, count(*) OVER (PARTITION BY station) AS all_of_them"
            " FROM event WHERE timed WINDOW rows AS (PARTITION BY station ORDER BY time))"
            " WHERE gap > ? AND before < ? * all_of_them GROUP BY station",
            (gap_ms, share),
        )
        return dict(rows.fetchall())

    def ordered(self) -> Iterator[Spooled]:
        """All events in order."""
        self._write()
        cursor = self._base.execute(
            "SELECT time, timed, kind, row FROM event ORDER BY time, station, stated, kind, rowid"
        )
        for time_ms, timed, kind, row in cursor:
            fields = json.loads(row)
            yield Spooled(time_ms, bool(timed), FrameRow(**fields) if kind else ReadingRow(**fields))

    def _write(self) -> None:
        self._base.execute("BEGIN")
        self._base.executemany("INSERT INTO event VALUES (?, ?, ?, ?, ?, ?)", self._waiting)
        self._base.execute("COMMIT")
        self._waiting.clear()
