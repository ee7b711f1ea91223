"""Tables and views of the local store, their versions; how a file of an earlier one is brought up to date."""

import os
import sqlite3
import threading
from contextlib import suppress
from pathlib import Path
from typing import Final

from schemas.parameters import POLLUTANTS
from schemas.times import HOUR_MS
from sinks import retention as kept_for
from streams.errors import StoreError

SCHEMA_VERSION: Final = 4
#: "SkyF": lets `file` and us tell this file from any other SQLite database.
APPLICATION_ID: Final = 0x536B7946
#: Of a new store. An estimate has up to 2.4 kB: a page of SQLite's 4 kB would hold one, and be half empty.
_PAGE_BYTES: Final = 8192
#: The mode of SQLite's auto_vacuum in which the end of a file is cut off when we say so.
INCREMENTAL: Final = 2

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
WITH parameter(parameter) AS (VALUES {",".join(f"('{name}')" for name in POLLUTANTS)})
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
    {", ".join(f"j.value ->> '$.subindices.{name}' AS sub_{name}" for name in POLLUTANTS)},
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
    {len(POLLUTANTS)} - (SELECT count(*) FROM json_each(e.body, '$.pollutants')) AS missing,
    e.body ->> '$.model.aqi' AS model_aqi, e.body ->> '$.model.lo' AS model_lo,
    e.body ->> '$.model.hi' AS model_hi, e.revision, e.body ->> 'bundle' AS bundle
FROM estimate e;
"""  # fmt: skip


def _views_of(kind: str, start: str) -> str:
    """Views of the tallies of hours or days, whose beginning is `start`."""
    return f"""
CREATE VIEW aq_{kind} AS
WITH parameter(parameter) AS (VALUES {",".join(f"('{name}')" for name in POLLUTANTS)})
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
ANNOTATIONS: Final = """
CREATE TABLE IF NOT EXISTS annotation (
    id      TEXT PRIMARY KEY,
    station TEXT NOT NULL,
    body    TEXT NOT NULL      -- the annotation, JSON
);
"""

#: Likewise.
FORECASTS: Final = """
CREATE TABLE IF NOT EXISTS forecast (
    station  TEXT PRIMARY KEY,
    issued   INTEGER NOT NULL,  -- ms since the epoch
    revision INTEGER NOT NULL,
    body     TEXT NOT NULL      -- the newest forecast, JSON
);
"""


def create(path: Path) -> None:
    """An empty store at `path`, there at once or not at all: workers that start together do not collide."""
    fresh = path.with_name(f"{path.name}.{os.getpid()}-{threading.get_ident()}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        db = sqlite3.connect(fresh, isolation_level=None)
        try:
            db.execute(f"PRAGMA page_size = {_PAGE_BYTES}")
            db.execute(f"PRAGMA auto_vacuum = {INCREMENTAL}")
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


def version_of(db: sqlite3.Connection) -> int:
    """The schema version of a store."""
    (version,) = db.execute("PRAGMA user_version").fetchone()
    return int(version)


def check(db: sqlite3.Connection, path: Path) -> int:
    """The schema version of the store at `path`. Raises StoreError where this code cannot read it."""
    version = version_of(db)
    (application,) = db.execute("PRAGMA application_id").fetchone()
    if application != APPLICATION_ID:
        raise StoreError(f"{path} is a SQLite file, but not a skyfuse store: move it away")
    if version > SCHEMA_VERSION:
        raise StoreError(
            f"the store {path} has schema version {version}, and this skyfuse reads up to"
            f" {SCHEMA_VERSION}: start the newer skyfuse that made it (nothing was changed or deleted)"
        )
    if version < min(_MIGRATIONS):
        raise StoreError(f"the store {path} has schema version {version}, which there never was")
    return version


def migrate(db: sqlite3.Connection) -> None:
    """Bring a store of an earlier version up to date, in the caller's transaction."""
    # Workers that start together queue for the lock: the version may have moved on meanwhile.
    steps = [_MIGRATIONS[version] for version in range(version_of(db), SCHEMA_VERSION)]
    for view in _VIEW_NAMES:
        db.execute(f"DROP VIEW IF EXISTS {view}")
    for statement in "".join([*steps, _ALL_VIEWS]).split(";"):
        db.execute(statement)
    db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
