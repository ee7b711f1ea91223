"""What is asked of the local store: windows, hours, stations, what they are made of. Each a little SQL."""

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Final, NamedTuple

from schemas.annotation import Annotation
from schemas.base import from_ms, to_ms
from schemas.errors import Refused
from schemas.estimate import Estimate
from schemas.forecast import Forecast
from schemas.parameters import Pollutant
from schemas.station import Station, stored_station
from schemas.times import DAY_MS
from sinks import foretold
from sinks import retention as kept_for
from sinks.aggregates import Period
from sinks.foretold import Foretold
from sinks.retention import Left
from sinks.store_file import StoreFile
from sinks.tally import Tally
from streams.boundary import guarded

log = logging.getLogger(__name__)

#: The stations of a table whose key begins with them, without looking at all its rows.
_STATIONS: Final = (
    "WITH RECURSIVE one(station) AS (SELECT min(station) FROM {table} UNION ALL"
    " SELECT (SELECT min(t.station) FROM {table} t WHERE t.station > one.station) FROM one"
    " WHERE one.station IS NOT NULL) SELECT station FROM one WHERE station IS NOT NULL"
)


class ConcentrationRow(NamedTuple):
    """One pollutant of a window: its end (ms), ug/m3, kind, interval, flag; None where it has none."""

    end: int
    value: float | None
    kind: str | None
    lo: float | None
    hi: float | None
    qc: int | None


class IndexRow(NamedTuple):
    """An index of a window: its end (ms), points, status, interval, share imputed."""

    end: int
    points: int | None
    status: str
    lo: int | None
    hi: int | None
    imputed_share: float


class FlagCounts(NamedTuple):
    """What windows were made of: how many, the ends of the first and the last (ms), values of each kind."""

    windows: int
    first: int | None
    last: int | None
    imputed: int
    missing: int
    measured: dict[int, int]  #: measured values by QARTOD flag


class StoreQuestions:
    """The questions to a store's file."""

    def __init__(self, file: StoreFile) -> None:
        self._file = file

    def annotations(self) -> list[Annotation]:
        """Every annotation, by station and time."""
        if not self._file.has("annotation"):
            return []
        found = [
            Annotation.model_validate_json(body)
            for (body,) in self._file.select("SELECT body FROM annotation")
        ]
        return sorted(found, key=lambda one: (one.station, one.since, one.id))

    def forecasts(self, station: str | None = None) -> list[Forecast]:
        """The newest forecast of each station, or of one, by station."""
        if not self._file.has("forecast"):
            return []
        one, of = ("", ()) if station is None else (" WHERE station = ?", (station,))
        rows = self._file.select(f"SELECT body FROM forecast{one} ORDER BY station", of)
        return [Forecast.model_validate_json(body) for (body,) in rows]

    def foretold(self, station: str, since: int | None, until: int | None) -> Iterator[Foretold]:
        """What was foretold at a station in forecasts issued in [since, until) (ms), oldest first; a day of
        them at a time.
        """
        if not self._file.has("foretold"):
            return
        ((first, last),) = self._file.select(
            "SELECT min(issued), max(issued) FROM foretold WHERE station = ? AND issued >= ? AND issued < ?",
            (station, -(2**62) if since is None else since, 2**62 if until is None else until),
        )
        if first is None:
            return
        for start in range(first, last + 1, DAY_MS):
            rows = self._file.select(
                "SELECT body FROM foretold WHERE station = ? AND issued >= ? AND issued < ? ORDER BY issued",
                (station, start, min(start + DAY_MS, last + 1)),
            )
            yield from foretold.read(rows)

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
        if not self._file.has("daily"):
            return []
        with self._file.reading() as db:
            return kept_for.left(
                db, station, None if since is None else to_ms(since),
                None if until is None else to_ms(until),
                -1 if limit is None else limit,
            )  # fmt: skip

    def tally(self, period: Period) -> Tally | None:
        """The newest revisions of a period's windows; None where those that have left cannot be told."""
        with self._file.reading() as db:
            left = kept_for.left_of(db, period)
        if left is None:
            return None
        return left.plus(Tally.of(self.windows_of(period), self.withdrawn_in(period)))

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """What is read inside is of one moment: nothing leaves meanwhile, or both as window and as hour."""
        self._file.select("BEGIN")
        try:
            yield
        finally:
            self._file.select("COMMIT")

    def known_stations(self) -> list[str]:
        """Every station of which there is a window, an hour or a day."""
        tables = ["estimate", *(name for name in ("daily",) if self._file.has(name))]
        return sorted(
            {name for table in tables for (name,) in self._file.select(_STATIONS.format(table=table))}
        )

    def span(self, station: str) -> tuple[int, int] | None:
        """The ends (ms) of a station's first and last window; None where it has none."""
        ((first, last),) = self._file.select(
            "SELECT min(end), max(end) FROM estimate WHERE station = ?", (station,)
        )
        return None if first is None else (first, last)

    def due(self, watermark: int) -> list[Period]:
        """Periods that end at or before `watermark` (ms) and have to be computed anew, oldest first."""
        rows = self._file.select(
            "SELECT kind, station, start, stop FROM due WHERE stop <= ? ORDER BY stop, station, kind",
            (watermark,),
        )
        return [Period(*row) for row in rows]

    def windows_of(self, period: Period) -> list[Estimate]:
        """The newest revisions of the windows of a period, oldest first."""
        rows = self._file.select(
            "SELECT body FROM estimate WHERE station = ? AND end > ? AND end <= ? ORDER BY end",
            (period.station, period.start, period.stop),
        )
        return _estimates(rows)

    def withdrawn_in(self, period: Period) -> list[str]:
        """Standards withdrawn from windows of a period."""
        rows = self._file.select(
            "SELECT DISTINCT standard FROM withdrawn WHERE station = ? AND end > ? AND end <= ?",
            (period.station, period.start, period.stop),
        )
        return [standard for (standard,) in rows]

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
        rows = self._file.select(
            f"SELECT body FROM estimate WHERE {' AND '.join(conditions)}"
            " ORDER BY end DESC, station DESC LIMIT ?",
            values,
        )
        return _estimates(reversed(rows))

    def concentrations(
        self, station: str, parameter: Pollutant, since: int, until: int
    ) -> list[ConcentrationRow]:
        """One pollutant of the windows that end in [since, until) (ms), oldest first."""
        path = f"$.pollutants.{parameter}."
        names = ("value", "kind", "lo", "hi", "qc")
        columns = ", ".join(f"json_extract(body, '{path}{name}')" for name in names)
        return [
            ConcentrationRow(*row)
            for row in self._file.select(
                f"SELECT end, {columns} FROM estimate WHERE station = ? AND end >= ? AND end < ?"
                " ORDER BY end",
                (station, since, until),
            )
        ]

    def indices(self, station: str, standard: str, since: int, until: int) -> list[IndexRow]:
        """An index by one standard of the windows that end in [since, until) (ms), oldest first."""
        names = ("index", "status", "lo", "hi", "imputed_share")
        columns = ", ".join(f"j.value ->> '{name}'" for name in names)
        return [
            IndexRow(*row)
            for row in self._file.select(
                f"SELECT end, {columns} FROM estimate, json_each(body, '$.indices') j WHERE station = ?"
                " AND end >= ? AND end < ? AND j.value ->> 'standard' = ? ORDER BY end",
                (station, since, until, standard),
            )
        ]

    def flags(self, station: str, since: int) -> FlagCounts:
        """What the windows of a station that end at or after `since` (ms) were made of."""
        rows = self._file.select(
            "SELECT j.value ->> 'kind', j.value ->> 'qc', count(*) FROM estimate,"
            " json_each(body, '$.pollutants') j WHERE station = ? AND end >= ? GROUP BY 1, 2",
            (station, since),
        )
        ((windows, first, last, missing),) = self._file.select(
            "SELECT count(*), min(end), max(end), coalesce(sum((SELECT count(*) FROM json_each(body,"
            " '$.missing'))), 0) FROM estimate WHERE station = ? AND end >= ?",
            (station, since),
        )
        flags: dict[int, int] = {}
        imputed = 0
        for kind, flag, count in rows:
            if kind == "imputed":
                imputed += count
            else:
                flags[flag] = flags.get(flag, 0) + count
        return FlagCounts(windows, first, last, imputed, missing, flags)

    def latest(self) -> list[Estimate]:
        """The newest window of each station, by station."""
        rows = self._file.select(
            f"SELECT e.body FROM ({_STATIONS.format(table='estimate')}) newest JOIN estimate e ON"
            " e.station = newest.station AND e.end = (SELECT max(end) FROM estimate WHERE station ="
            " newest.station) ORDER BY e.station"
        )
        return _estimates(rows)

    def ends(self, station: str, count: int) -> list[datetime]:
        """When the last windows of a station ended, newest first."""
        rows = self._file.select(
            "SELECT end FROM estimate WHERE station = ? ORDER BY end DESC LIMIT ?", (station, count)
        )
        return [from_ms(end) for (end,) in rows]

    def stations(self) -> dict[str, Station]:
        """The newest record of each station, by id; what cannot be read any more is left out, and told."""
        found = {}
        for name, body in self._file.select("SELECT station, body FROM station ORDER BY station"):
            kept = guarded(lambda body=body: stored_station(body))  # type: ignore[misc]
            if isinstance(kept, Refused):
                log.warning("the store's record of station %s is skipped: %s", name, kept)
                continue
            found[name], left_out = kept
            for words in left_out:
                log.warning("the store's record of station %s needs mending: %s", name, words)
        return found


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
