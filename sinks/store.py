"""The local store: one SQLite file that holds the newest revision of each window, whole, and then its hour.

The estimate is kept as its JSON; the views `aq`, `aqi` and `station_state` show the same points that go to
InfluxDB (docs/outputs.md), computed from it, so a revision replaces all of them at once. A window that is
over its time leaves; its hour and its day stay (`retention`), and the views `aq_hourly`, `aqi_hourly`,
`aq_daily` and `aqi_daily` show them.

Durability: WAL with ``synchronous=FULL``. A sink acknowledges after `write`, and then the broker may forget;
with NORMAL a power cut could take back commits whose offsets have already moved. FULL costs one fsync per
batch, not per estimate. Readers (``skyfuse query``, the web page) never block the writer and are not blocked.
Several workers of one machine may write the same file: they queue for the lock.

Space: what leaves makes free pages, which new windows fill. Where more than a tenth of the file is free, its
end is cut off, some pages at a time. A store of before version 4 cannot do that until it was written anew
once, which happens when everything that is over its time has left (`Store.tidy`).
"""

import json
import logging
import os
import shutil
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Final, NamedTuple, Self, TypeVar

from schemas.annotation import Annotation
from schemas.base import format_time, from_ms, to_ms
from schemas.errors import Refused
from schemas.estimate import Estimate
from schemas.parameters import PARAMETERS
from schemas.station import Station, stored_station
from schemas.times import DAY_MS, HOUR_MS, end_of
from sinks import retention as kept_for
from sinks.aggregates import Period, periods_of
from sinks.patience import Patience
from sinks.retention import Left, Retention
from sinks.tally import Tally
from streams import metrics
from streams.boundary import guarded
from streams.errors import StoreError

log = logging.getLogger(__name__)

SCHEMA_VERSION: Final = 4
#: "SkyF": lets `file` and us tell this file from any other SQLite database.
APPLICATION_ID: Final = 0x536B7946
_LOCK_WAIT_S: Final = 10.0
#: Conditions of the disk or of another process that pass: waited for. Anything else is an error.
_PASSING: Final = frozenset(
    {sqlite3.SQLITE_FULL, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_IOERR}
)

#: The lock is held no longer at a time by what is only tidied up.
_HOLD_S: Final = 0.05
#: Windows that are over their time, looked for at a time.
_SEARCHED: Final = 4096
#: Event time that passes, ms, before it is looked again where there was nothing.
_SEARCH_AGAIN_MS: Final = 60_000
#: Of a new store. An estimate has up to 2.4 kB: a page of SQLite's 4 kB would hold one, and be half empty.
_PAGE_BYTES: Final = 8192
#: What a window takes with its keys and what is free in its page, per byte of its estimate; measured.
_PER_BODY: Final = 1.25
#: Free pages that are left for new windows: at least so many, and a tenth of the file; cut off at a time.
_SLACK_PAGES: Final = 128
_CUT_PAGES: Final = 128
#: A journal that has grown beyond this, as when the file is written anew, is cut when it is empty again.
_JOURNAL_BYTES: Final = 64 * 1024 * 1024
_INCREMENTAL: Final = 2

_T = TypeVar("_T")

_TABLES: Final = (
    """
CREATE TABLE estimate (
    station  TEXT NOT NULL,
    end      INTEGER NOT NULL, -- window end, ms since the epoch
    revision INTEGER NOT NULL,
    body     TEXT NOT NULL,    -- the estimate, JSON
    PRIMARY KEY (station, end)
);
CREATE INDEX estimate_by_end ON estimate (end);
CREATE TABLE withdrawn (       -- standards that an earlier revision had and the kept one has not
    station  TEXT NOT NULL,
    end      INTEGER NOT NULL,
    standard TEXT NOT NULL,
    PRIMARY KEY (station, end, standard)
) WITHOUT ROWID;
CREATE TABLE due (             -- periods whose aggregates are older than their windows
    kind    TEXT NOT NULL,
    station TEXT NOT NULL,
    start   INTEGER NOT NULL,  -- ms
    stop    INTEGER NOT NULL,
    PRIMARY KEY (kind, station, start, stop)
);
CREATE TABLE station (
    station TEXT PRIMARY KEY,
    body    TEXT NOT NULL      -- the station record, JSON
);
"""
    + kept_for.TABLES
)
_VIEWS: Final = f"""
CREATE VIEW aq AS
WITH parameter(parameter) AS (VALUES {",".join(f"('{name}')" for name in PARAMETERS)})
SELECT e.station, p.parameter, e.end / 1000 AS time,
    j.value ->> 'value' AS value, coalesce(j.value ->> 'kind', 'missing') AS kind,
    coalesce(j.value ->> 'qc', m.value ->> 'qc', 9) AS qc,
    coalesce(j.value ->> 'qc_tests', m.value ->> 'qc_tests', 0) AS qc_tests,
    j.value ->> 'lo' AS lo, j.value ->> 'hi' AS hi, j.value ->> 'method' AS method,
    coalesce(j.value ->> 'raw', m.value ->> 'raw') AS raw,
    coalesce(j.value ->> 'n', m.value ->> 'n', 0) AS n,
    (SELECT group_concat(r.key || ' ' || r.value, char(59, 32))
        FROM json_each(coalesce(j.value, m.value), '$.refused') r) AS refused,
    e.revision, e.body ->> 'bundle' AS bundle
FROM estimate e CROSS JOIN parameter p
LEFT JOIN json_each(e.body, '$.pollutants') j ON j.key = p.parameter
LEFT JOIN json_each(e.body, '$.missing') m ON m.key = p.parameter;
CREATE VIEW aqi AS
SELECT e.station, j.value ->> 'standard' AS standard, e.end / 1000 AS time,
    j.value ->> 'index' AS "index", j.value ->> 'category' AS category, j.value ->> 'level' AS level,
    (SELECT group_concat(d.value, ',') FROM json_each(j.value, '$.dominant') d) AS dominant,
    j.value ->> 'status' AS status, j.value ->> 'reason' AS reason,
    j.value ->> 'imputed_share' AS imputed_share, j.value ->> 'lo' AS lo, j.value ->> 'hi' AS hi,
    j.value ->> 'nowcast' AS nowcast, j.value ->> 'nowcast_lo' AS nowcast_lo,
    j.value ->> 'nowcast_hi' AS nowcast_hi,
    {", ".join(f"j.value ->> '$.subindices.{name}' AS sub_{name}" for name in PARAMETERS)},
    j.key = 0 AS leading, e.revision, e.body ->> 'bundle' AS bundle
FROM estimate e, json_each(e.body, '$.indices') j;
CREATE VIEW station_state AS
SELECT e.station, e.end / 1000 AS time, e.body ->> 'sides' AS sides,
    e.body ->> '$.inputs.readings' AS readings, json_array_length(e.body, '$.inputs.frames') AS frames,
    (SELECT count(*) FROM json_each(e.body, '$.inputs.frames') f WHERE f.value ->> 'usable') AS frames_used,
    e.body ->> '$.inputs.humidity' AS humidity,
    {", ".join(
        f"(SELECT count(*) FROM json_each(e.body, '$.pollutants') p WHERE p.value ->> 'kind' = '{kind}')"
        f" AS {kind}" for kind in ("measured", "corrected", "imputed")
    )},
    {len(PARAMETERS)} - (SELECT count(*) FROM json_each(e.body, '$.pollutants')) AS missing,
    e.body ->> '$.model.aqi' AS model_aqi, e.body ->> '$.model.lo' AS model_lo,
    e.body ->> '$.model.hi' AS model_hi, e.revision, e.body ->> 'bundle' AS bundle
FROM estimate e;
"""  # fmt: skip


def _views_of(kind: str, start: str) -> str:
    """Views of the tallies of hours or days, whose beginning is `start`."""
    return f"""
CREATE VIEW aq_{kind} AS
WITH parameter(parameter) AS (VALUES {",".join(f"('{name}')" for name in PARAMETERS)})
SELECT h.station, p.parameter, h.stop / 1000 AS time,
    (j.value ->> 1) / 1e6 / (j.value ->> 0) AS mean, j.value ->> 2 AS min, j.value ->> 3 AS max,
    coalesce((j.value ->> 4) + (j.value ->> 5) + (j.value ->> 6), 0) AS windows,
    coalesce(j.value ->> 4, 0) AS measured, coalesce(j.value ->> 5, 0) AS corrected,
    coalesce(j.value ->> 6, 0) AS imputed,
    coalesce(1.0 * (j.value ->> 7) / (j.value ->> 0), 0.0) AS imputed_share,
    coalesce(1.0 * (j.value ->> 0) / (h.stop - {start}), 0.0) AS coverage, h.body ->> 'r' AS revision
FROM {kind} h CROSS JOIN parameter p LEFT JOIN json_each(h.body, '$.p') j ON j.key = p.parameter;
CREATE VIEW aqi_{kind} AS
SELECT h.station, j.key AS standard, h.stop / 1000 AS time,
    1.0 * (j.value ->> 1) / (j.value ->> 0) AS mean, j.value ->> 2 AS min, j.value ->> 3 AS max,
    j.value ->> 4 AS last, j.value ->> 6 AS windows, j.value ->> 7 AS valid,
    coalesce((j.value ->> 9) / 1e6 / (j.value ->> 8), 0.0) AS imputed_share,
    1.0 * (j.value ->> 0) / (h.stop - {start}) AS coverage, h.body ->> 'r' AS revision
FROM {kind} h, json_each(h.body, '$.i') j;
"""


_ALL_VIEWS: Final = _VIEWS + _views_of("hourly", f"(h.stop - {HOUR_MS})") + _views_of("daily", "h.start")
_VIEW_NAMES: Final = (
    "aq", "aqi", "station_state", "aq_hourly", "aqi_hourly", "aq_daily", "aqi_daily",
)  # fmt: skip
#: By version, what makes the next one's tables of its own; the views are made anew with any. Estimates and
#: stations have been in the same two tables ever since.
_MIGRATIONS: Final = {
    1: """
CREATE TABLE withdrawn (
    station  TEXT NOT NULL,
    end      INTEGER NOT NULL,
    standard TEXT NOT NULL,
    PRIMARY KEY (station, end, standard)
) WITHOUT ROWID;
""",
    2: "",
    3: kept_for.TABLES,
}


#: Made where it is missing, with no new schema version: a skyfuse of before does not look at it.
_ANNOTATIONS: Final = """
CREATE TABLE IF NOT EXISTS annotation (
    id      TEXT PRIMARY KEY,
    station TEXT NOT NULL,
    body    TEXT NOT NULL      -- the annotation, JSON
);
"""


class Pace(NamedTuple):
    """How fast a store grows: bytes in use, windows that came in the newest day, and bytes that one takes."""

    used: int
    windows_a_day: float
    window_bytes: float


#: The stations of a table whose key begins with them, without looking at all its rows.
_STATIONS: Final = (
    "WITH RECURSIVE one(station) AS (SELECT min(station) FROM {table} UNION ALL"
    " SELECT (SELECT min(t.station) FROM {table} t WHERE t.station > one.station) FROM one"
    " WHERE one.station IS NOT NULL) SELECT station FROM one WHERE station IS NOT NULL"
)


class Store:
    """The store at `path`, made if it is missing. `read_only`: as a reader beside the running workers.

    `aggregates`: note for every window that changes which hour and day have to be computed anew (`due`).
    `retention`: what `tidy` lets go; nothing, if not given. `clock`: seconds since the epoch; a window that
    ends later than that moves no other one out. `free_space`: bytes where the file lies.

    A store of an earlier schema version is brought up to date; a reader reads it as it is.

    Raises StoreError where the file is missing (reader), not a store, of a later schema version, or broken.
    """

    def __init__(
        self,
        path: Path,
        *,
        read_only: bool = False,
        aggregates: bool = False,
        patience: Patience | None = None,
        retention: Retention | None = None,
        clock: Callable[[], float] = time.time,
        free_space: Callable[[Path], int] = lambda path: shutil.disk_usage(path.parent).free,
    ) -> None:
        self._path = path
        self._patience = patience or Patience.until(threading.Event())
        self._lock = threading.Lock()
        self._aggregates = aggregates
        self._retention = retention or Retention()
        self._clock = clock
        self._free_space = free_space
        #: Hours whose windows are to leave, and up to where event time was when there was none.
        self._over: list[tuple[str, int]] = []
        self._searched = -(2**62)
        self._compacted = False
        if read_only and not path.is_file():
            raise StoreError(f"there is no store at {path}: run `skyfuse up` first, or set data_dir")
        if not read_only and not path.exists():
            _create(path)
        try:
            self._db = sqlite3.connect(
                f"{path.absolute().as_uri()}?mode={'ro' if read_only else 'rw'}",
                uri=True, timeout=_LOCK_WAIT_S, isolation_level=None, check_same_thread=False,
            )  # fmt: skip
        except sqlite3.Error as error:
            raise StoreError(f"the store {path} cannot be opened: {error}") from error
        try:
            self._check(read_only)
            self._zones = {name: record.timezone for name, record in self.stations().items()}
        except BaseException:
            self._db.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()

    def write(self, estimates: Sequence[Estimate]) -> list[Estimate]:
        """Keep the highest revision of each (station, window), durably; blocks while the disk is full.

        An equal revision replaces the kept one (after a new bundle it may differ; otherwise it is the same
        bytes and nothing is written). Returns those that are not older than what is kept now, in order: a
        second sink writes these. Raises SinkStopped, StoreError.

        The numbers of a window that is over its time stand (`retention`): a higher revision is told, and
        among those returned, but changes nothing here.
        """
        rows = [
            (estimate.station, to_ms(estimate.window.end), estimate.revision, estimate.model_dump_json())
            for estimate in estimates
        ]
        if not rows:
            return []

        def upsert(db: sqlite3.Connection) -> tuple[dict[tuple[str, int], int], list[tuple[str, int]]]:
            newest: dict[tuple[str, int], int] = {}
            beyond: list[tuple[str, int]] = []
            now = self._now()
            horizon = self._horizon(db, now)
            for estimate, (station, end, revision, body) in zip(estimates, rows, strict=True):
                if end <= now:
                    horizon = max(horizon, end)
                seen, counts = self._keep(db, estimate, end, body, horizon)
                newest[station, end] = max(revision, seen)
                if not counts:
                    beyond.append((station, end))
            return newest, beyond

        newest, beyond = self._transact(upsert)
        if beyond:
            self._tell_beyond(beyond)
        return [
            estimate
            for estimate, (station, end, revision, _) in zip(estimates, rows, strict=True)
            if revision >= newest[station, end]
        ]

    def _keep(
        self, db: sqlite3.Connection, estimate: Estimate, end: int, body: str, horizon: int
    ) -> tuple[int, bool]:
        """Keep one window, unless it is known; the highest revision seen before, and whether this one counts.

        `horizon`: event time with this window.
        """
        station, revision = estimate.station, estimate.revision
        kept = db.execute(
            "SELECT revision, body FROM estimate WHERE station = ? AND end = ?", (station, end)
        ).fetchone()
        over = self._is_over(end, horizon)
        if kept is None or (over and not kept_for.may_be_revised(db, station, end, horizon)):
            seen = self._standing(db, estimate, end, kept and kept[0], horizon)
            if seen is not None:
                if revision > seen:
                    kept_for.miss(db, station, end, revision)
                return seen, revision <= seen
        if kept is None:
            db.execute("INSERT INTO estimate VALUES (?, ?, ?, ?)", (station, end, revision, body))
        elif revision > kept[0] or (revision == kept[0] and body != kept[1]):
            db.execute(
                "UPDATE estimate SET revision = ?, body = ? WHERE station = ? AND end = ?",
                (revision, body, station, end),
            )
            _note_withdrawn(db, station, end, kept[1], estimate)
        else:
            return kept[0], True
        if over:
            kept_for.let_be_revised(db, station, end, horizon)
        if self._aggregates:
            periods = periods_of(station, end, self._zones.get(station, "UTC"))
            db.executemany("INSERT OR IGNORE INTO due VALUES (?, ?, ?, ?)", periods)
        return 0 if kept is None else kept[0], True

    def _standing(
        self, db: sqlite3.Connection, estimate: Estimate, end: int, kept: int | None, horizon: int
    ) -> int | None:
        """The highest revision seen of a window whose numbers stand; None where it may be written.

        `kept`: that of the window itself, which is over its time.
        """
        if kept is not None:
            if estimate.revision <= kept:
                return kept
            kept_for.roll_up(db, estimate.station, end_of(end, HOUR_MS), horizon)
        seen = kept_for.newest_revision(db, estimate.station, end)
        if seen is None and kept is None and kept_for.is_past(end, self._retention.days, horizon):
            return 0
        return seen

    def _is_over(self, end: int, horizon: int) -> bool:
        return kept_for.is_past(end, self._retention.windows, horizon)

    def _now(self) -> int:
        return int(self._clock() * 1000)

    def _horizon(self, db: sqlite3.Connection, now: int) -> int:
        """Event time: the end of the newest window, ms."""
        # One of the future, which a wrong clock or a stranger made, would move all others out.
        (newest,) = db.execute("SELECT max(end) FROM estimate WHERE end <= ?", (now,)).fetchone()
        return -(2**62) if newest is None else int(newest)

    def _tell_beyond(self, beyond: Sequence[tuple[str, int]]) -> None:
        metrics.STORE_BEYOND.inc(len(beyond))
        station, end = beyond[0]
        log.warning(
            "the local store does not count %d revision(s) of windows that it no longer keeps, first %s %s:"
            " its hours and days stay as they were (retention.windows, docs/outputs.md)",
            len(beyond), station, format_time(from_ms(end)),
        )  # fmt: skip

    def tidy(self, windows: int = 0, seconds: float = 0.1) -> None:
        """Let go of what is over its time, and give space back, for `seconds`.

        Goes on until `windows` windows have left, where so many are over their time: a caller that names
        twice as many as it wrote keeps up. The lock is held for some 50 ms at a time; readers do not wait.
        Where the disk is full or another worker has the lock, it is left for another time. Raises StoreError.
        """
        if self._retention == Retention():
            return
        deadline = time.monotonic() + seconds
        left = 0
        while left < windows or time.monotonic() < deadline:
            gone = self._attempt(self._let_go)
            if gone is None:
                self._give_back(deadline)
                return
            left += gone

    def _let_go(self, db: sqlite3.Connection) -> int | None:
        """One portion of what is over its time; how many windows, None where there is nothing more."""
        began = time.monotonic()
        horizon = self._horizon(db, self._now())
        if not self._over and horizon >= self._searched + _SEARCH_AGAIN_MS:
            cutoff = kept_for.cutoff(self._retention.windows, horizon)
            self._over = kept_for.due_hours(db, cutoff, horizon, _SEARCHED)
            if not self._over:
                self._searched = horizon
        if not self._over:
            return 0 if kept_for.expire(db, self._retention, horizon, limit=8) else None
        left = 0
        while self._over and time.monotonic() - began < _HOLD_S:
            # If this is taken back, the next search finds it again.
            left += kept_for.roll_up(db, *self._over.pop(0), horizon)
        return left

    def _give_back(self, deadline: float) -> None:
        """Cut free pages off the file's end, beyond those that new windows need soon."""
        if self._pragma("auto_vacuum") != _INCREMENTAL:
            self._write_anew()
            return

        while time.monotonic() < deadline:
            slack = max(_SLACK_PAGES, self._pragma("page_count") // 10)
            pages = min(_CUT_PAGES, self._pragma("freelist_count") - slack)
            cut = f"PRAGMA incremental_vacuum({pages})"
            if pages <= 0 or self._attempt(lambda db, cut=cut: db.execute(cut).fetchall()) is None:  # type: ignore[misc]
                return

    def _write_anew(self) -> None:
        """Bring a file of an earlier version into the form of which an end can be cut off; tried once."""
        if self._compacted:
            return
        self._compacted = True
        size = (self._pragma("page_count") - self._pragma("freelist_count")) * self._pragma("page_size")
        free = self._free_space(self._path)
        if free < 2 * size + _JOURNAL_BYTES:  # a copy, and the journal of writing it back
            log.warning(
                "the store %s gives no space back: for that it has to be written anew once, which takes %.1f"
                " GiB of free space, and there are %.1f: make room, and restart the sink",
                self._path, (2 * size + _JOURNAL_BYTES) / 2**30, free / 2**30,
            )  # fmt: skip
            return
        log.info(
            "the store %s is written anew once (%.2f GiB), so that it gives space back",
            self._path,
            size / 2**30,
        )
        began = time.monotonic()
        temporary = os.environ.get("SQLITE_TMPDIR")
        # The copy would lie in /tmp, which is often small.
        os.environ["SQLITE_TMPDIR"] = str(self._path.parent.absolute())
        try:
            with self._lock:
                self._db.set_progress_handler(lambda: self._patience.wait(0), 100_000)
                self._db.execute(f"PRAGMA auto_vacuum = {_INCREMENTAL}")
                self._db.execute("VACUUM")
                self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        except sqlite3.Error as error:
            log.warning("the store %s could not be written anew (%s); nothing is lost, it will be tried again"
                        " at the next start", self._path, error)  # fmt: skip
            return
        finally:
            self._db.set_progress_handler(None, 0)
            if temporary is None:
                del os.environ["SQLITE_TMPDIR"]
            else:
                os.environ["SQLITE_TMPDIR"] = temporary
        log.info("the store %s was written anew in %.1f s", self._path, time.monotonic() - began)

    def _pragma(self, name: str) -> int:
        return int(self._select(f"PRAGMA {name}")[0][0])

    def _attempt(self, change: Callable[[sqlite3.Connection], _T]) -> _T | None:
        """A transaction that nobody waits for: None where disk or lock are in the way now."""
        try:
            with self._lock, self._transaction():
                return change(self._db)
        except sqlite3.Error as error:
            if _primary_code(error) not in _PASSING:
                raise StoreError(f"the store {self._path} cannot be tidied up: {error}") from error
            log.info("the store %s is tidied up later: %s", self._path, error)
            return None

    def withdrawn(self, estimates: Sequence[Estimate]) -> list[tuple[Estimate, list[str]]]:
        """Those of `estimates` that have no index by a standard by which an earlier revision had one.

        With the names of these standards: another sink has points of theirs to overwrite.
        """
        with self._lock, self._explained():
            if self._db.execute("SELECT 1 FROM withdrawn LIMIT 1").fetchone() is None:
                return []
            found = []
            for estimate in estimates:
                rows = self._db.execute(
                    "SELECT standard FROM withdrawn WHERE station = ? AND end = ? ORDER BY standard",
                    (estimate.station, to_ms(estimate.window.end)),
                ).fetchall()
                if rows:
                    found.append((estimate, [standard for (standard,) in rows]))
            return found

    def write_stations(self, stations: Sequence[Station]) -> None:
        """Keep the newest record of each station. Raises SinkStopped, StoreError."""
        rows = [(station.station, station.model_dump_json()) for station in stations]
        if rows:
            self._transact(
                lambda db: db.executemany(
                    "INSERT INTO station (station, body) VALUES (?, ?)"
                    " ON CONFLICT (station) DO UPDATE SET body = excluded.body",
                    rows,
                )
            )
            self._zones |= {station.station: station.timezone for station in stations}

    def write_annotations(self, annotations: Sequence[Annotation]) -> None:
        """Keep the newest of each annotation. Raises SinkStopped, StoreError."""
        rows = [(one.id, one.station, one.model_dump_json()) for one in annotations]
        if not rows:
            return

        def upsert(db: sqlite3.Connection) -> None:
            db.execute(_ANNOTATIONS)
            db.executemany(
                "INSERT INTO annotation VALUES (?, ?, ?) ON CONFLICT (id) DO UPDATE SET body = excluded.body",
                rows,
            )

        self._transact(upsert)

    def annotations(self) -> list[Annotation]:
        """Every annotation, by station and time."""
        if not self._has("annotation"):
            return []
        found = [
            Annotation.model_validate_json(body) for (body,) in self._select("SELECT body FROM annotation")
        ]
        return sorted(found, key=lambda one: (one.station, one.since, one.id))

    def left(
        self,
        station: str | None = None,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int | None = None,
    ) -> list[Left]:
        """What is left of windows that are over their time, in hours, or days where those are gone too.

        All with any time in [since, until), oldest first; `limit` keeps the newest ones.
        """
        if not self._has("daily"):
            return []
        with self._lock, self._explained():
            return kept_for.left(
                self._db, station, None if since is None else to_ms(since),
                None if until is None else to_ms(until),
                -1 if limit is None else limit,
            )  # fmt: skip

    def tally(self, period: Period) -> Tally | None:
        """The newest revisions of a period's windows; None where those that have left cannot be told."""
        with self._lock, self._explained():
            left = kept_for.left_of(self._db, period)
        if left is None:
            return None
        return left.plus(Tally.of(self.windows_of(period), self.withdrawn_in(period)))

    def pace(self) -> Pace:
        """How fast the store grows, judged by its newest day."""
        used = (self._pragma("page_count") - self._pragma("freelist_count")) * self._pragma("page_size")
        newest = self._horizon(self._db, self._now())
        ((count, first),) = self._select(
            "SELECT count(*), min(end) FROM estimate WHERE end > ? AND end <= ?", (newest - DAY_MS, newest)
        )
        ((body,),) = self._select(
            "SELECT avg(length(body)) FROM (SELECT body FROM estimate ORDER BY end DESC LIMIT 1000)"
        )
        if not count:
            return Pace(used, 0.0, 0.0)
        # In the first day, what came in a part of it; not by less than an hour of it.
        share = max(HOUR_MS, newest - first) / DAY_MS
        return Pace(used, count / share if share < 0.95 else float(count), _PER_BODY * body)

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """What is read inside is of one moment: nothing leaves meanwhile, or both as window and as hour."""
        self._select("BEGIN")
        try:
            yield
        finally:
            self._select("COMMIT")

    def known_stations(self) -> list[str]:
        """Every station of which there is a window, an hour or a day."""
        tables = ["estimate", *(name for name in ("daily",) if self._has(name))]
        return sorted({name for table in tables for (name,) in self._select(_STATIONS.format(table=table))})

    def due(self, watermark: int) -> list[Period]:
        """Periods that end at or before `watermark` (ms) and have to be computed anew, oldest first."""
        rows = self._select(
            "SELECT kind, station, start, stop FROM due WHERE stop <= ? ORDER BY stop, station, kind",
            (watermark,),
        )
        return [Period(*row) for row in rows]

    def windows_of(self, period: Period) -> list[Estimate]:
        """The newest revisions of the windows of a period, oldest first."""
        rows = self._select(
            "SELECT body FROM estimate WHERE station = ? AND end > ? AND end <= ? ORDER BY end",
            (period.station, period.start, period.stop),
        )
        return _estimates(rows)

    def withdrawn_in(self, period: Period) -> list[str]:
        """Standards withdrawn from windows of a period."""
        rows = self._select(
            "SELECT DISTINCT standard FROM withdrawn WHERE station = ? AND end > ? AND end <= ?",
            (period.station, period.start, period.stop),
        )
        return [standard for (standard,) in rows]

    def computed(self, periods: Sequence[Period]) -> None:
        """The aggregates of `periods` are written; nothing is due until one of their windows changes."""
        if periods:
            self._transact(
                lambda db: db.executemany(
                    "DELETE FROM due WHERE kind = ? AND station = ? AND start = ? AND stop = ?", periods
                )
            )

    def read(
        self,
        station: str | None = None,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int | None = None,
    ) -> list[Estimate]:
        """Estimates by window end in [since, until), oldest first; `limit` keeps the newest ones."""
        conditions, values = ["1"], list[str | int]()
        if station is not None:
            conditions.append("station = ?")
            values.append(station)
        if since is not None:
            conditions.append("end >= ?")
            values.append(to_ms(since))
        if until is not None:
            conditions.append("end < ?")
            values.append(to_ms(until))
        values.append(-1 if limit is None else limit)
        rows = self._select(
            f"SELECT body FROM estimate WHERE {' AND '.join(conditions)}"
            " ORDER BY end DESC, station DESC LIMIT ?",
            values,
        )
        return _estimates(reversed(rows))

    def latest(self) -> list[Estimate]:
        """The newest window of each station, by station."""
        rows = self._select(
            f"SELECT e.body FROM ({_STATIONS.format(table='estimate')}) newest JOIN estimate e ON"
            " e.station = newest.station AND e.end = (SELECT max(end) FROM estimate WHERE station ="
            " newest.station) ORDER BY e.station"
        )
        return _estimates(rows)

    def ends(self, station: str, count: int) -> list[datetime]:
        """When the last windows of a station ended, newest first."""
        rows = self._select(
            "SELECT end FROM estimate WHERE station = ? ORDER BY end DESC LIMIT ?", (station, count)
        )
        return [from_ms(end) for (end,) in rows]

    def stations(self) -> dict[str, Station]:
        """The newest record of each station, by id; what cannot be read any more is left out, and told."""
        found = {}
        for name, body in self._select("SELECT station, body FROM station ORDER BY station"):
            kept = guarded(lambda body=body: stored_station(body))  # type: ignore[misc]
            if isinstance(kept, Refused):
                log.warning("the store's record of station %s is skipped: %s", name, kept)
                continue
            found[name], left_out = kept
            for words in left_out:
                log.warning("the store's record of station %s needs mending: %s", name, words)
        return found

    def _has(self, table: str) -> bool:
        # A reader finds a store of an earlier version as it is.
        return bool(self._select("SELECT 1 FROM sqlite_master WHERE name = ?", (table,)))

    def _select(self, sql: str, values: Sequence[str | int] = ()) -> list[Any]:
        with self._lock, self._explained():
            return self._db.execute(sql, values).fetchall()

    def _transact(self, change: Callable[[sqlite3.Connection], _T]) -> _T:
        attempt = 0
        while True:
            try:
                with self._lock, self._transaction():
                    changed = change(self._db)
                if attempt:
                    self._patience.on_end()
                return changed
            except sqlite3.Error as error:
                if _primary_code(error) not in _PASSING:
                    raise StoreError(f"the store {self._path} cannot be written: {error}") from error
                reason = f"the store {self._path} cannot be written: {error} (free some space, or wait)"
                if _primary_code(error) == sqlite3.SQLITE_FULL:
                    # What is over its time may make room in the file itself, where the disk has none.
                    self.tidy()
            self._patience.pause(attempt, reason)
            attempt += 1

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise StoreError(f"the store {self._path} cannot be read: {error}") from error

    def _check(self, read_only: bool) -> None:
        with self._explained():
            self._db.execute("PRAGMA synchronous = FULL")
            self._db.execute(f"PRAGMA journal_size_limit = {_JOURNAL_BYTES}")
            version = self._version()
            (application,) = self._db.execute("PRAGMA application_id").fetchone()
        if application != APPLICATION_ID:
            raise StoreError(f"{self._path} is a SQLite file, but not a skyfuse store: move it away")
        if version > SCHEMA_VERSION:
            raise StoreError(
                f"the store {self._path} has schema version {version}, and this skyfuse reads up to"
                f" {SCHEMA_VERSION}: start the newer skyfuse that made it (nothing was changed or deleted)"
            )
        if version < min(_MIGRATIONS):
            raise StoreError(f"the store {self._path} has schema version {version}, which there never was")
        if version < SCHEMA_VERSION and not read_only:
            self._transact(self._migrate)

    def _version(self) -> int:
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        return int(version)

    def _migrate(self, db: sqlite3.Connection) -> None:
        # Workers that start together queue for the lock: the version may have moved on meanwhile.
        steps = [_MIGRATIONS[version] for version in range(self._version(), SCHEMA_VERSION)]
        for view in _VIEW_NAMES:
            db.execute(f"DROP VIEW IF EXISTS {view}")
        for statement in "".join([*steps, _ALL_VIEWS]).split(";"):
            db.execute(statement)
        db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


def _estimates(rows: Iterable[tuple[str]]) -> list[Estimate]:
    """The estimates that can be read; one that an earlier version let in and this one does not is told."""
    found = []
    for (body,) in rows:
        read = guarded(lambda body=body: Estimate.model_validate_json(body))  # type: ignore[misc]
        if isinstance(read, Refused):
            log.warning("an estimate of the store is skipped: %s: %.200s", read, body)
        else:
            found.append(read)
    return found


def _note_withdrawn(db: sqlite3.Connection, station: str, end: int, before: str, now: Estimate) -> None:
    """Keep which standards of `before` (JSON) are gone `now`, in the transaction that replaces it."""
    standards = {block.standard for block in now.indices}
    gone = {block["standard"] for block in json.loads(before)["indices"]} - standards
    db.executemany(
        "INSERT OR IGNORE INTO withdrawn VALUES (?, ?, ?)", [(station, end, standard) for standard in gone]
    )
    db.executemany(
        "DELETE FROM withdrawn WHERE station = ? AND end = ? AND standard = ?",
        [(station, end, standard) for standard in standards],
    )


def _create(path: Path) -> None:
    """An empty store at `path`, there at once or not at all: workers that start together do not collide."""
    fresh = path.with_name(f"{path.name}.{os.getpid()}-{threading.get_ident()}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        db = sqlite3.connect(fresh, isolation_level=None)
        try:
            db.execute(f"PRAGMA page_size = {_PAGE_BYTES}")
            db.execute(f"PRAGMA auto_vacuum = {_INCREMENTAL}")
            db.execute("PRAGMA journal_mode = WAL")
            db.executescript(
                f"BEGIN; {_TABLES} {_ALL_VIEWS} PRAGMA application_id = {APPLICATION_ID};"
                f" PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;"
            )
        finally:
            db.close()
        with suppress(FileExistsError):  # another worker was faster: its store is as good
            os.link(fresh, path)
    except (sqlite3.Error, OSError) as error:
        raise StoreError(f"no store can be made at {path}: {error}") from error
    finally:
        fresh.unlink(missing_ok=True)


def _primary_code(error: sqlite3.Error) -> int | None:
    """SQLite's primary result code (extended codes carry it in their low byte)."""
    code: int | None = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF
