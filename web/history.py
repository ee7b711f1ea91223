"""The past, in threads of its own: from the local store, and where they are in InfluxDB series from there."""

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, Protocol, TypeVar

from schemas.annotation import Annotation
from schemas.base import from_ms
from schemas.estimate import Estimate
from schemas.forecast import Forecast
from schemas.parameters import Pollutant
from sinks.retention import Left
from sinks.store import Store
from sinks.store_questions import FlagCounts
from streams.errors import StoreError
from web.errors import RequestProblem
from web.thinning import SeriesPoint

_STATUS: Final = {"valid": 0, "indicative": 1, "insufficient": 2}
_T = TypeVar("_T")


class SeriesHistory(Protocol):
    """Series and quality of the past. Each may raise RequestProblem: they cannot be told now."""

    def concentrations(self, station: str, parameter: Pollutant, since: int, until: int) -> list[SeriesPoint]:
        """A pollutant's windows, and what is left of those before (ms, [since, until)); oldest first."""

    def indices(self, station: str, standard: str, since: int, until: int) -> list[SeriesPoint]:
        """An index, likewise."""

    def flags(self, stations: Sequence[str], since: int) -> dict[str, FlagCounts]:
        """What the stations' windows since then (ms) were made of."""

    def apart(self) -> "SeriesHistory":
        """The same over connections of its own, to be closed by who asked: who reads long delays no other."""

    def close(self) -> None:
        """Let go of what is open."""


class StoreHistory:
    """Reads the store at `path`, which need not be there yet, or may be made anew."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._store: Store | None = None
        self._file: object = None

    def concentrations(self, station: str, parameter: Pollutant, since: int, until: int) -> list[SeriesPoint]:
        """A pollutant's windows, and what is left of those before (ms, [since, until)); oldest first."""

        def read(store: Store) -> list[SeriesPoint]:
            windows = [
                SeriesPoint(
                    row.end,
                    row.value,
                    float(row.kind == "imputed"),
                    row.lo,
                    row.hi,
                    row.value,
                    row.value,
                    row.qc,
                    corrected=row.kind == "corrected",
                )
                for row in store.concentrations(station, parameter, since, until)
            ]
            return [*_left_of(store, station, since, until, windows, parameter), *windows]

        return self._ask(read)

    def indices(self, station: str, standard: str, since: int, until: int) -> list[SeriesPoint]:
        """An index, likewise; measured, imputed or partly so by its input."""

        def read(store: Store) -> list[SeriesPoint]:
            windows = [
                SeriesPoint(
                    row.end, row.points, row.imputed_share, row.lo, row.hi, row.points, row.points,
                    _STATUS.get(row.status),
                )
                for row in store.indices(station, standard, since, until)
            ]  # fmt: skip
            return [*_left_of(store, station, since, until, windows, None, standard), *windows]

        return self._ask(read)

    def estimate(self, station: str, at_ms: int) -> Estimate | None:
        """The newest window that ended at `at_ms` or before, within a day."""
        day = 86_400_000

        def read(store: Store) -> Estimate | None:
            found = store.read(station, since=from_ms(at_ms - day), until=from_ms(at_ms + 1), limit=1)
            return found[0] if found else None

        return self._ask(read)

    def forecast(self, station: str) -> Forecast | None:
        """The newest forecast."""
        return self._ask(lambda store: next(iter(store.forecasts(station)), None))

    def annotations(self) -> list[Annotation]:
        """What people said of the data, by station and time."""
        return self._ask(lambda store: store.annotations())

    def flags(self, stations: Sequence[str], since: int) -> dict[str, FlagCounts]:
        """What the stations' windows since then (ms) were made of."""
        return self._ask(lambda store: {station: store.flags(station, since) for station in stations})

    def apart(self) -> "StoreHistory":
        """The same over a connection of its own."""
        return StoreHistory(self._path)

    def _ask(self, read: Callable[[Store], _T]) -> _T:
        with self._lock:
            try:
                found = self._path.stat()
                file = found.st_dev, found.st_ino
                if self._store is None or file != self._file:
                    self._close()
                    self._store, self._file = Store(self._path, read_only=True), file
                return read(self._store)
            except FileNotFoundError:
                raise RequestProblem(
                    503, "no_history", "there is no history yet: the sink has stored nothing", 5
                ) from None
            except StoreError as error:
                self._close()
                raise RequestProblem(
                    503, "no_history", f"the history cannot be read now: {error}", 5
                ) from error

    def _close(self) -> None:
        if self._store is not None:
            self._store.close()
        self._store = None

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._close()


def _left_of(
    store: Store, station: str, since: int, until: int, windows: Sequence[SeriesPoint],
    parameter: Pollutant | None, standard: str = "",
) -> list[SeriesPoint]:  # fmt: skip
    """Hours and days of windows that have left, before the first that is there."""
    end = windows[0].at if windows else until
    found = store.left(station, since=from_ms(since), until=from_ms(end)) if end > since else []
    points = [
        _concentration(one, parameter) if parameter is not None else _index(one, standard) for one in found
    ]
    return [point for point in points if point is not None and since <= point.at < end]


def _concentration(one: Left, parameter: Pollutant) -> SeriesPoint | None:
    tally = one.tally.pollutants.get(parameter)
    if tally is None or tally.mean is None:
        return None
    return SeriesPoint(
        one.period.stop, tally.mean, tally.imputed_share, None, None, tally.least, tally.greatest, None,
        one.period.stop - one.period.start, tally.imputed_share <= 0.5 and tally.corrected > tally.measured,
    )  # fmt: skip


def _index(one: Left, standard: str) -> SeriesPoint | None:
    tally = one.tally.indices.get(standard)
    if tally is None or tally.mean is None:
        return None
    return SeriesPoint(
        one.period.stop, tally.mean, tally.imputed_share, None, None, tally.least, tally.greatest, None,
        one.period.stop - one.period.start,
    )  # fmt: skip
