"""Forecasts as rows: one for each hour that is foretold and each pollutant, and one for each index; beside
them what came.
"""

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import IO, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from forecast.history import stored_hours
from forecast.panel import crps
from schemas.arrays import Float32
from schemas.base import format_time, from_ms, to_ms
from schemas.forecast import FORECAST_HOURS, FORECAST_LEVELS, Forecast
from schemas.parameters import POLLUTANTS
from schemas.times import HOUR_MS
from sinks.foretold import Foretold, IndexHours
from sinks.store import Store

_NAMES: Final = tuple(f"p{round(100 * level):02d}" for level in FORECAST_LEVELS)
#: Concentrations in ug/m3, indices in points of their standard. Columns up to `model` were there first, and
#: programs may count columns.
FORETOLD: Final = pa.schema(
    [
        ("station", pa.string()),
        ("issued_at", pa.timestamp("ms", "UTC")),
        ("revision", pa.int64()),
        ("hours_ahead", pa.int64()),
        ("end", pa.timestamp("ms", "UTC")),
        ("parameter", pa.string()),
        *((name, pa.float64()) for name in ("mean", *_NAMES)),
        ("model", pa.string()),
        ("imputed_share", pa.float64()),
        ("history_h", pa.int64()),
        ("weather_issued_at", pa.timestamp("ms", "UTC")),
        ("standard", pa.string()),
        ("index", pa.int64()),
        ("index_lo", pa.int64()),
        ("index_hi", pa.int64()),
        ("probabilities", pa.string()),
        ("membership", pa.string()),
        ("measured", pa.float64()),
        ("crps", pa.float64()),
    ]
)
_TIMES: Final = tuple(field.name for field in FORETOLD if pa.types.is_timestamp(field.type))
#: Rows of a portion that is written at once: some megabytes.
_PORTION: Final = 20_000

#: What was measured in hours (since 1970), ug/m3: (pollutants, ...).
Outcomes = Mapping[int, Float32]


def rows(forecast: Foretold, outcomes: Outcomes) -> Iterator[dict[str, Any]]:
    """Of one forecast, in the order of hours; what a row does not speak of is left out."""
    issued = to_ms(forecast.issued_at)
    of_all = {
        "station": forecast.station, "issued_at": forecast.issued_at, "revision": forecast.revision,
        "model": forecast.model, "history_h": forecast.history_h,
        "weather_issued_at": forecast.weather_issued_at,
    }  # fmt: skip
    for place, ahead in enumerate(forecast.hours):
        end = issued + ahead * HOUR_MS
        of_hour = of_all | {"hours_ahead": ahead, "end": from_ms(end)}
        came = outcomes.get(end // HOUR_MS - 1)
        for name, said in forecast.pollutants.items():
            quantiles = [level[place] for level in said.quantiles]
            yield (
                of_hour
                | {"parameter": name, "mean": said.mean[place], "imputed_share": said.imputed_share}
                | dict(zip(_NAMES, quantiles, strict=True))
                | _scored(quantiles, None if came is None else float(came[POLLUTANTS.index(name)]))
            )
        for index in forecast.indices:
            yield of_hour | _index_cells(index, place)


def _scored(quantiles: list[float], came: float | None) -> dict[str, float]:
    """What was measured, and twice the mean pinball of the quantiles; nothing where nothing was."""
    if came is None or not np.isfinite(came):
        return {}
    return {"measured": round(came, 4), "crps": round(float(crps(np.array(quantiles), np.array(came))), 4)}


def _index_cells(index: IndexHours, place: int) -> dict[str, Any]:
    def told(of: Iterable[tuple[float, ...]]) -> str:
        some = ((name, row[place]) for name, row in zip(index.categories, of, strict=False))
        return ",".join(f"{name}:{share:.4g}" for name, share in some if share)

    return {
        "standard": index.standard, "index": index.index[place], "index_lo": index.lo[place],
        "index_hi": index.hi[place], "probabilities": told(index.probabilities),
        "membership": told(index.membership),
    }  # fmt: skip


def period_rows(
    store: Store, stations: Iterable[str], since: int | None, until: int | None
) -> Iterator[dict[str, Any]]:
    """The rows of what was foretold in forecasts issued in [since, until) (ms), by station and time; one
    station's hours and a day of its forecasts are in memory.
    """
    for station in stations:
        first = None if since is None else since // HOUR_MS
        last = None if until is None else until // HOUR_MS + FORECAST_HOURS
        outcomes = stored_hours(store, station, first, last)
        for forecast in store.foretold(station, since, until):
            yield from rows(forecast, outcomes)


def nothing_then(store: Store, newest: Sequence[Forecast]) -> str:
    """That no forecast of some stations, whose `newest` these are, was issued in a period, and when some
    were.
    """
    oldest = [one.issued_at for new in newest for one in islice(store.foretold(new.station, None, None), 1)]
    last = format_time(max(one.issued_at for one in newest))
    kept = f"those kept were issued from {format_time(min(oldest))} to" if oldest else "the newest was issued"
    return f"no forecast was issued then; {kept} {last} (--until leaves out its own hour)"


def write_csv(found: Iterable[Mapping[str, Any]], to: IO[bytes]) -> None:
    """CSV with a header; times RFC 3339, empty where there is no value."""

    def lines(some: list[dict[str, Any]]) -> bytes:
        text = io.StringIO(newline="")
        csv.DictWriter(text, FORETOLD.names, lineterminator="\n").writerows(map(_plain, some))
        return text.getvalue().encode()

    to.write((",".join(FORETOLD.names) + "\n").encode())
    _write(found, lambda some: to.write(lines(some)))


def write_json(found: Iterable[Mapping[str, Any]], to: IO[bytes]) -> None:
    """A JSON array, a row on each line; what a row does not speak of is left out."""
    between = b"["

    def one(some: list[dict[str, Any]]) -> None:
        nonlocal between
        for row in some:
            known = {name: value for name, value in _plain(row).items() if value not in (None, "")}
            to.write(between + json.dumps(known, ensure_ascii=False).encode())
            between = b",\n"

    _write(found, one)
    to.write(b"]\n" if between != b"[" else b"[]\n")


def write_parquet(found: Iterable[Mapping[str, Any]], to: IO[bytes]) -> None:
    """Parquet with `FORETOLD`."""
    with pq.ParquetWriter(to, FORETOLD) as writer:
        _write(found, lambda some: writer.write_table(pa.Table.from_pylist(some, schema=FORETOLD)))


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    return {**row, **{name: format_time(row[name]) for name in _TIMES if row.get(name) is not None}}


def _write(found: Iterable[Mapping[str, Any]], write: Callable[[list[dict[str, Any]]], object]) -> None:
    """Hand the rows over in portions."""
    portion: list[dict[str, Any]] = []
    for row in found:
        portion.append(dict(row))
        if len(portion) >= _PORTION:
            write(portion)
            portion = []
    if portion:
        write(portion)
