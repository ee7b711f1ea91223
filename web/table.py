"""A station's windows as a table to download: read and sent a day of a pollutant at a time."""

import asyncio
import csv
import io
import threading
from collections.abc import AsyncIterator, Callable, Generator, Iterator, Mapping
from typing import Final

from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from schemas.base import format_time, from_ms
from schemas.parameters import POLLUTANTS, Pollutant
from schemas.times import HOUR_MS
from web.history import SeriesHistory
from web.thinning import SeriesPoint

#: Tables that are downloaded at once.
AT_ONCE: Final = 2
COLUMNS: Final = ("station", "time", "parameter", "value", "unit", "kind", "lo", "hi", "qc", "span_s")
#: A portion is what lies within so many ms.
_PORTION_MS: Final = 24 * HOUR_MS
#: Seconds that a download may take: who takes none of it keeps others from theirs.
_LONGEST_S: Final = 600.0


class StationTable:
    """A table that is being read, from a history of its own."""

    def __init__(self, history: SeriesHistory, station: str, since: int, until: int) -> None:
        self._lock = threading.Lock()
        self._history = history
        self._portions = _portions(history, station, since, until)

    def more(self) -> str | None:
        """The next rows; None: that was all. Raises RequestProblem."""
        with self._lock:
            return next(self._portions, None)

    def close(self) -> None:
        """Let go of the history, when what is being read has been."""
        with self._lock:
            self._portions.close()
            self._history.close()


class Download(StreamingResponse):
    """The answer that sends a table; `ended` is called once, however it ends."""

    def __init__(
        self, table: StationTable, first: str | None, headers: Mapping[str, str], ended: Callable[[], None]
    ) -> None:
        super().__init__(_sent(table, first), headers=headers, media_type="text/csv")
        self._ended = ended

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        try:
            async with asyncio.timeout(_LONGEST_S):
                await super().__call__(scope, receive, send)
        finally:
            self._ended()


async def _sent(table: StationTable, portion: str | None) -> AsyncIterator[str]:
    while portion is not None:
        yield portion
        portion = await asyncio.to_thread(table.more)


def _portions(history: SeriesHistory, station: str, since: int, until: int) -> Generator[str, None, None]:
    head = _written([COLUMNS])
    for name in POLLUTANTS:
        finest = 2
        for start in range(since, until, _PORTION_MS):
            points = history.concentrations(station, name, start, min(start + _PORTION_MS, until))
            # Days, then hours, then windows: after the finer, a coarser one would tell the same again.
            told = [point for point in points if _coarseness(point) <= finest]
            finest = min([finest, *map(_coarseness, told)])
            rows = head + _written(_rows(station, name, told))
            head = ""
            if rows:
                yield rows


def _coarseness(point: SeriesPoint) -> int:
    return 0 if point.span_ms == 0 else 1 if point.span_ms <= HOUR_MS else 2


def _rows(station: str, name: Pollutant, points: list[SeriesPoint]) -> Iterator[tuple[object, ...]]:
    for point in points:
        if point.value is None:
            continue
        kind = "corrected" if point.corrected and point.kind == "measured" else point.kind
        ends = ("" if end is None else f"{end:.3f}" for end in (point.lo, point.hi))
        yield (
            station, format_time(from_ms(point.at)), name, f"{point.value:.3f}", "ug/m3", kind, *ends,
            "" if point.grade is None else point.grade, point.span_ms // 1000,
        )  # fmt: skip


def _written(rows: Iterator[tuple[object, ...]] | list[tuple[str, ...]]) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(rows)
    return out.getvalue()
