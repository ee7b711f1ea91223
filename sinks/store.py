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

Here is what is written; what is asked (`store_questions`), the file, its schema, what leaves and how are
modules beside it.
"""

import json
import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from schemas.annotation import Annotation
from schemas.base import format_time, from_ms, to_ms
from schemas.estimate import Estimate
from schemas.forecast import Forecast
from schemas.station import Station
from schemas.times import HOUR_MS, end_of
from sinks import foretold
from sinks import retention as kept_for
from sinks.aggregates import Period, periods_of
from sinks.pace import Pace, pace_of
from sinks.retention import Retention
from sinks.store_file import StoreFile
from sinks.store_questions import StoreQuestions
from sinks.store_schema import ANNOTATIONS, FORECASTS
from sinks.tidying import Tidying, free_space
from streams import metrics
from streams.patience import Patience

log = logging.getLogger(__name__)


class _Kept(NamedTuple):
    """The highest revision of a window seen before this one, and whether this one counts."""

    seen: int
    counts: bool


class ToldForecast(NamedTuple):
    """A forecast, and when the next newer one was issued (ms), which speaks of all hours after it.

    `until` is None where it is the newest.
    """

    forecast: Forecast
    until: int | None


class Withdrawn(NamedTuple):
    """An estimate without an index by standards by which an earlier revision had one."""

    estimate: Estimate
    standards: list[str]


class Store(StoreQuestions):
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
        free_space: Callable[[Path], int] = free_space,
    ) -> None:
        self._aggregates = aggregates
        self._retention = retention or Retention()
        self._clock = clock
        super().__init__(
            StoreFile(
                path,
                read_only=read_only,
                patience=patience or Patience.until(threading.Event()),
                on_full=self.tidy,
            )
        )
        self._tidying = Tidying(self._file, self._retention, self._now, free_space)
        try:
            self._file.bring_up_to_date()
            self._zones = {name: record.timezone for name, record in self.stations().items()}
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def write(self, estimates: Sequence[Estimate]) -> list[Estimate]:
        """Keep the highest revision of each (station, window), durably; blocks while the disk is full.

        An equal revision replaces the kept one (after a new bundle it may differ; otherwise it is the same
        bytes and nothing is written). Returns those that are not older than what is kept now, in order: a
        second sink writes these. Raises WaitStopped, StoreError.

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
            horizon = kept_for.horizon(db, now)
            for estimate, (station, end, revision, body) in zip(estimates, rows, strict=True):
                if end <= now:
                    horizon = max(horizon, end)
                seen, counts = self._keep(db, estimate, end, body, horizon)
                newest[station, end] = max(revision, seen)
                if not counts:
                    beyond.append((station, end))
            return newest, beyond

        newest, beyond = self._file.transact(upsert)
        if beyond:
            self._warn_beyond(beyond)
        return [
            estimate
            for estimate, (station, end, revision, _) in zip(estimates, rows, strict=True)
            if revision >= newest[station, end]
        ]

    def _keep(self, db: sqlite3.Connection, estimate: Estimate, end: int, body: str, horizon: int) -> _Kept:
        """Keep one window, unless it is known.

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
                return _Kept(seen, revision <= seen)
        if kept is None:
            db.execute("INSERT INTO estimate VALUES (?, ?, ?, ?)", (station, end, revision, body))
        elif revision > kept[0] or (revision == kept[0] and body != kept[1]):
            db.execute(
                "UPDATE estimate SET revision = ?, body = ? WHERE station = ? AND end = ?",
                (revision, body, station, end),
            )
            _note_withdrawn(db, station, end, kept[1], estimate)
        else:
            return _Kept(kept[0], True)
        if over:
            kept_for.let_be_revised(db, station, end, horizon)
        if self._aggregates:
            periods = periods_of(station, end, self._zones.get(station, "UTC"))
            db.executemany("INSERT OR IGNORE INTO due VALUES (?, ?, ?, ?)", periods)
        return _Kept(0 if kept is None else kept[0], True)

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

    def _warn_beyond(self, beyond: Sequence[tuple[str, int]]) -> None:
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
        self._tidying.tidy(windows, seconds)

    def withdrawn(self, estimates: Sequence[Estimate]) -> list[Withdrawn]:
        """Those of `estimates` that have no index by a standard by which an earlier revision had one.

        Another sink has points of these standards to overwrite.
        """
        with self._file.reading() as db:
            if db.execute("SELECT 1 FROM withdrawn LIMIT 1").fetchone() is None:
                return []
            found = []
            for estimate in estimates:
                rows = db.execute(
                    "SELECT standard FROM withdrawn WHERE station = ? AND end = ? ORDER BY standard",
                    (estimate.station, to_ms(estimate.window.end)),
                ).fetchall()
                if rows:
                    found.append(Withdrawn(estimate, [standard for (standard,) in rows]))
            return found

    def write_stations(self, stations: Sequence[Station]) -> None:
        """Keep the newest record of each station. Raises WaitStopped, StoreError."""
        rows = [(station.station, station.model_dump_json()) for station in stations]
        if rows:
            self._file.transact(
                lambda db: db.executemany(
                    "INSERT INTO station (station, body) VALUES (?, ?)"
                    " ON CONFLICT (station) DO UPDATE SET body = excluded.body",
                    rows,
                )
            )
            self._zones |= {station.station: station.timezone for station in stations}

    def write_annotations(self, annotations: Sequence[Annotation]) -> None:
        """Keep the newest of each annotation. Raises WaitStopped, StoreError."""
        rows = [(one.id, one.station, one.model_dump_json()) for one in annotations]
        if not rows:
            return

        def upsert(db: sqlite3.Connection) -> None:
            db.execute(ANNOTATIONS)
            db.executemany(
                "INSERT INTO annotation VALUES (?, ?, ?) ON CONFLICT (id) DO UPDATE SET body = excluded.body",
                rows,
            )

        self._file.transact(upsert)

    def write_forecasts(self, forecasts: Sequence[Forecast]) -> list[ToldForecast]:
        """Keep the newest of each station whole, and of all some hours (`foretold`); gives all, older ones
        first. Raises WaitStopped, StoreError.
        """
        ordered = sorted(forecasts, key=_rank)
        newest = {one.station: one for one in ordered}
        if not newest:
            return []

        def upsert(db: sqlite3.Connection) -> dict[str, tuple[int, int]]:
            db.execute(FORECASTS)
            foretold.keep(db, ordered)
            kept = {}
            for one in newest.values():
                before = db.execute(
                    "SELECT issued, revision FROM forecast WHERE station = ?", (one.station,)
                ).fetchone()
                if before is None or _rank(one) >= before:
                    db.execute(
                        "INSERT OR REPLACE INTO forecast VALUES (?, ?, ?, ?)",
                        (one.station, *_rank(one), one.model_dump_json()),
                    )
                kept[one.station] = before or _rank(one)
            return kept

        newer = {station: [rank] for station, rank in self._file.transact(upsert).items()}
        told = []
        for one in reversed(ordered):
            ranks = newer[one.station]
            later = [issued for issued, revision in ranks if (issued, revision) > _rank(one)]
            told.append(ToldForecast(one, min(later, default=None)))
            ranks.append(_rank(one))
        return told[::-1]

    def pace(self) -> Pace:
        """How fast the store grows, judged by its newest day."""
        return pace_of(self._file, self._now())

    def computed(self, periods: Sequence[Period]) -> None:
        """The aggregates of `periods` are written; nothing is due until one of their windows changes."""
        if periods:
            self._file.transact(
                lambda db: db.executemany(
                    "DELETE FROM due WHERE kind = ? AND station = ? AND start = ? AND stop = ?", periods
                )
            )


def _rank(forecast: Forecast) -> tuple[int, int]:
    return to_ms(forecast.issued_at), forecast.revision


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
