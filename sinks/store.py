"""The local store: one SQLite file that holds the newest revision of every window, whole.

The estimate is kept as its JSON; the views `aq`, `aqi` and `station_state` show the same points that go to
InfluxDB (docs/outputs.md), computed from it, so a revision replaces all of them at once.

Durability: WAL with ``synchronous=FULL``. A sink acknowledges after `write`, and then the broker may forget;
with NORMAL a power cut could take back commits whose offsets have already moved. FULL costs one fsync per
batch, not per estimate. Readers (``skyfuse query``, the web page) never block the writer and are not blocked.
Several workers of one machine may write the same file: they queue for the lock.
"""

import json
import logging
import os
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeVar

from schemas.annotation import Annotation
from schemas.base import from_ms, to_ms
from schemas.errors import Refused
from schemas.estimate import Estimate
from schemas.parameters import PARAMETERS
from schemas.station import Station, stored_station
from sinks.aggregates import Period, periods_of
from sinks.patience import Patience
from streams.boundary import guarded
from streams.errors import StoreError

log = logging.getLogger(__name__)

SCHEMA_VERSION: Final = 3
#: "SkyF": lets `file` and us tell this file from any other SQLite database.
APPLICATION_ID: Final = 0x536B7946
_LOCK_WAIT_S: Final = 10.0
#: Conditions of the disk or of another process that pass: waited for. Anything else is an error.
_PASSING: Final = frozenset(
    {sqlite3.SQLITE_FULL, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_IOERR}
)

_T = TypeVar("_T")

_TABLES: Final = """
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
_VIEW_NAMES: Final = ("aq", "aqi", "station_state")
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
}


#: Made where it is missing, with no new schema version: a skyfuse of before does not look at it.
_ANNOTATIONS: Final = """
CREATE TABLE IF NOT EXISTS annotation (
    id      TEXT PRIMARY KEY,
    station TEXT NOT NULL,
    body    TEXT NOT NULL      -- the annotation, JSON
);
"""


class Store:
    """The store at `path`, made if it is missing. `read_only`: as a reader beside the running workers.

    `aggregates`: note for every window that changes which hour and day have to be computed anew (`due`).

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
    ) -> None:
        self._path = path
        self._patience = patience or Patience.until(threading.Event())
        self._lock = threading.Lock()
        self._aggregates = aggregates
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
        """
        rows = [
            (estimate.station, to_ms(estimate.window.end), estimate.revision, estimate.model_dump_json())
            for estimate in estimates
        ]
        if not rows:
            return []

        def upsert(db: sqlite3.Connection) -> dict[tuple[str, int], int]:
            newest: dict[tuple[str, int], int] = {}
            for estimate, (station, end, revision, body) in zip(estimates, rows, strict=True):
                kept = db.execute(
                    "SELECT revision, body FROM estimate WHERE station = ? AND end = ?", (station, end)
                ).fetchone()
                newest[station, end] = revision if kept is None else max(revision, kept[0])
                if kept is None:
                    db.execute("INSERT INTO estimate VALUES (?, ?, ?, ?)", (station, end, revision, body))
                elif revision > kept[0] or (revision == kept[0] and body != kept[1]):
                    db.execute(
                        "UPDATE estimate SET revision = ?, body = ? WHERE station = ? AND end = ?",
                        (revision, body, station, end),
                    )
                    _note_withdrawn(db, station, end, kept[1], estimate)
                else:
                    continue
                if self._aggregates:
                    periods = periods_of(station, end, self._zones.get(station, "UTC"))
                    db.executemany("INSERT OR IGNORE INTO due VALUES (?, ?, ?, ?)", periods)
            return newest

        newest = self._transact(upsert)
        return [
            estimate
            for estimate, (station, end, revision, _) in zip(estimates, rows, strict=True)
            if revision >= newest[station, end]
        ]

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
        if not self._select("SELECT 1 FROM sqlite_master WHERE name = 'annotation'"):
            return []
        found = [
            Annotation.model_validate_json(body) for (body,) in self._select("SELECT body FROM annotation")
        ]
        return sorted(found, key=lambda one: (one.station, one.since, one.id))

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
            "SELECT e.body FROM (SELECT station, max(end) AS end FROM estimate GROUP BY station) newest"
            " JOIN estimate e USING (station, end) ORDER BY e.station"
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
        for statement in "".join([*steps, _VIEWS]).split(";"):
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
            db.execute("PRAGMA journal_mode = WAL")
            db.executescript(
                f"BEGIN; {_TABLES} {_VIEWS} PRAGMA application_id = {APPLICATION_ID};"
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
