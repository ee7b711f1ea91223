"""The newest revision of published windows, on disk: days of a city's estimates need no memory."""

import sqlite3
import tempfile
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Self

from backfill.windows import Span
from schemas.base import to_ms
from schemas.estimate import Estimate


class Published:
    """A context manager. `about`: per station the times (ms) about which windows are kept.

    Those that end at most `before` ms before one of them, or `after` behind it.
    """

    def __init__(self, about: Mapping[str, Iterable[int]], before: int, after: int) -> None:
        self._spans = {station: _merged(times, before, after) for station, times in about.items()}
        self._folder = tempfile.TemporaryDirectory(prefix="skyfuse-published-")
        self._base = sqlite3.connect(Path(self._folder.name) / "published.sqlite", isolation_level=None)
        self._base.executescript(
            "PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF;"
            " CREATE TABLE estimate (station TEXT, end INTEGER, revision INTEGER, body TEXT,"
            " PRIMARY KEY (station, end)) WITHOUT ROWID; BEGIN;"
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._base.close()
        self._folder.cleanup()

    @property
    def stations(self) -> Sequence[str]:
        """Of which windows are kept."""
        return sorted(self._spans)

    def add(self, estimate: Estimate) -> None:
        """Keep it if its time is asked for and no higher revision is known."""
        end = to_ms(estimate.window.end)
        spans = self._spans.get(estimate.station, ())
        place = bisect_right(spans, (end, 2**62)) - 1
        if place < 0 or end > spans[place][1]:
            return
        self._base.execute(
            "INSERT INTO estimate VALUES (?, ?, ?, ?) ON CONFLICT (station, end) DO UPDATE SET"
            " revision = excluded.revision, body = excluded.body WHERE excluded.revision >= revision",
            (estimate.station, end, estimate.revision, estimate.model_dump_json()),
        )

    def windows(self, station: str) -> Iterator[Estimate]:
        """A station's, in order of time."""
        rows = self._base.execute("SELECT body FROM estimate WHERE station = ? ORDER BY end", (station,))
        for (body,) in rows:
            yield Estimate.model_validate_json(body)


def _merged(times: Iterable[int], before: int, after: int) -> list[Span]:
    """Spans about the times, those that overlap as one."""
    spans: list[Span] = []
    for at in sorted(times):
        if spans and at - before <= spans[-1].until:
            spans[-1] = Span(spans[-1].since, at + after)
        else:
            spans.append(Span(at - before, at + after))
    return spans
