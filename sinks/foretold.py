"""What was foretold, for as long as windows are kept: of each forecast the hours ahead that are judged.

A whole forecast has 72 hours of eight numbers for each pollutant; of those that newer ones have overtaken 13
hours are kept, which is a sixth of it (3 kB). The newest one of a station is kept whole beside them.
"""

import sqlite3
import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from schemas.base import Record, StationId, UtcTime, to_ms
from schemas.forecast import FORECAST_HOURS, Forecast, IndexForecast
from schemas.parameters import Pollutant

#: Hours ahead of which forecasts that newer ones have overtaken are kept.
KEPT_HOURS: Final = (1, 2, 3, 4, 6, 9, 12, 18, 24, 36, 48, 60, 72)

#: Made where it is missing, with no new schema version: a skyfuse of before does not look at it.
TABLE: Final = (
    """
CREATE TABLE IF NOT EXISTS foretold (
    station  TEXT NOT NULL,
    issued   INTEGER NOT NULL,  -- ms since the epoch
    revision INTEGER NOT NULL,
    body     BLOB NOT NULL,     -- some hours of the forecast, JSON, deflated
    PRIMARY KEY (station, issued)
)
""",
    "CREATE INDEX IF NOT EXISTS foretold_by_time ON foretold (issued)",
)


class PollutantHours(Record):
    """One pollutant, ug/m3; lists are by hour, of the forecast's `hours`."""

    mean: tuple[float, ...]
    quantiles: tuple[tuple[float, ...], ...]
    imputed_share: float


class IndexHours(Record):
    """The index by one standard, likewise; lists of `probabilities` and `membership` are by category."""

    standard: str
    index: tuple[int | None, ...]
    lo: tuple[int | None, ...]
    hi: tuple[int | None, ...]
    categories: tuple[str, ...]
    probabilities: tuple[tuple[float, ...], ...]
    membership: tuple[tuple[float, ...], ...] = ()


class Foretold(Record):
    """A forecast at some `hours` ahead."""

    station: StationId
    issued_at: UtcTime
    revision: int
    model: str
    weather_issued_at: UtcTime | None = None
    history_h: int | None = None
    hours: tuple[int, ...]
    pollutants: dict[Pollutant, PollutantHours]
    indices: tuple[IndexHours, ...]


def foretold(forecast: Forecast, hours: Sequence[int] = range(1, FORECAST_HOURS + 1)) -> Foretold:
    """Some hours ahead of a forecast; all of them unless given."""
    places = [hour - 1 for hour in hours]

    def some(series: Sequence[float]) -> tuple[float, ...]:
        return tuple(series[place] for place in places)

    return Foretold(
        station=forecast.station, issued_at=forecast.issued_at, revision=forecast.revision,
        model=forecast.model, weather_issued_at=forecast.weather_issued_at, history_h=forecast.history_h,
        hours=tuple(hours),
        pollutants={
            name: PollutantHours(
                mean=some(one.mean), quantiles=tuple(map(some, one.quantiles)),
                imputed_share=one.imputed_share,
            )
            for name, one in forecast.pollutants.items()
        },
        indices=tuple(_index(one, places) for one in forecast.indices),
    )  # fmt: skip


def _index(one: IndexForecast, places: Sequence[int]) -> IndexHours:
    index, lo, hi = (
        tuple(series[place] for place in places) for series in (one.index, one.lo, one.hi)
    )  # fmt: skip
    probabilities, membership = (
        tuple(tuple(series[place] for place in places) for series in rows)
        for rows in (one.probabilities, one.membership)
    )
    return IndexHours(
        standard=one.standard, index=index, lo=lo, hi=hi, categories=one.categories,
        probabilities=probabilities, membership=membership,
    )  # fmt: skip


def keep(db: sqlite3.Connection, forecasts: Iterable[Forecast]) -> None:
    """Keep the highest revision of each (station, issued_at), in a transaction of the caller's."""
    for statement in TABLE:
        db.execute(statement)
    db.executemany(
        "INSERT INTO foretold VALUES (?, ?, ?, ?) ON CONFLICT (station, issued) DO UPDATE SET"
        " revision = excluded.revision, body = excluded.body WHERE excluded.revision >= revision",
        (
            (
                one.station, to_ms(one.issued_at), one.revision,
                zlib.compress(foretold(one, KEPT_HOURS).model_dump_json().encode()),
            )
            for one in forecasts
        ),
    )  # fmt: skip


def expire(db: sqlite3.Connection, cutoff: int, limit: int) -> int:
    """Let go of up to `limit` that were issued at `cutoff` (ms) or before; gives how many."""
    if db.execute("SELECT 1 FROM sqlite_master WHERE name = 'foretold'").fetchone() is None:
        return 0
    return db.execute(
        "DELETE FROM foretold WHERE rowid IN (SELECT rowid FROM foretold WHERE issued <= ? ORDER BY issued"
        " LIMIT ?)",
        (cutoff, limit),
    ).rowcount


def read(rows: Iterable[tuple[bytes]]) -> Iterator[Foretold]:
    """The forecasts in the bodies of rows."""
    for (body,) in rows:
        yield Foretold.model_validate_json(zlib.decompress(body))
