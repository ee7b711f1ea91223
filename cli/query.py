"""`skyfuse query`: estimates from the local store, for people and for programs."""

import csv
import io
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from enum import StrEnum
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, Final, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from cli.errors import QueryError
from cli.shared.cells import index_cell, leading, pollutant_cell
from cli.shared.fitting import ANY_WIDTH, fitting, screen
from cli.shared.forecasts import forecast_json, forecast_tables, reasons
from cli.shared.foretold import nothing_then, period_rows, write_csv, write_json, write_parquet
from cli.shared.foretold import rows as foretold_rows
from cli.shared.periods import period_json, period_row, period_tables, told
from cli.shared.times import age_words, local_time, moment, zones_of
from infra.stores import replay_shown, replay_stores
from schemas.base import format_time, to_ms
from schemas.estimate import Estimate
from schemas.parameters import LABELS, POLLUTANTS, Pollutant
from settings.sections import Settings
from sinks.foretold import foretold
from sinks.retention import Left
from sinks.store import Store

#: Rows of a table on the screen when no limit is given.
SCREENFUL: Final = 40
#: A table whose newest window is older than this says so: nothing in it is of now.
_PAST: Final = timedelta(minutes=15)


class Format(StrEnum):
    """How estimates are written."""

    table = "table"
    csv = "csv"
    json = "json"
    parquet = "parquet"


#: One row per station and window, or hour or day (`period`). Concentrations in ug/m3, lo and hi are the 90 %
#: interval.
SCHEMA: Final = pa.schema(
    [
        ("station", pa.string()),
        ("start", pa.timestamp("ms", "UTC")),
        ("end", pa.timestamp("ms", "UTC")),
        ("revision", pa.int64()),
        ("standard", pa.string()),
        ("aqi", pa.int64()),
        ("category", pa.string()),
        ("status", pa.string()),
        ("dominant", pa.string()),
        ("nowcast", pa.int64()),
        ("imputed_share", pa.float64()),
        *(
            (name, kind)
            for parameter in POLLUTANTS
            for name, kind in (
                (parameter, pa.float64()),
                (f"{parameter}_kind", pa.string()),
                (f"{parameter}_lo", pa.float64()),
                (f"{parameter}_hi", pa.float64()),
                (f"{parameter}_qc", pa.int64()),
            )
        ),
        ("model_aqi", pa.float64()),
        ("sides", pa.string()),
        ("readings", pa.int64()),
        ("frames", pa.int64()),
        ("bundle", pa.string()),
        # Of hours and days that stand for windows: means above, and what else is known here.
        ("period", pa.string()),
        ("windows", pa.int64()),
        ("missed", pa.int64()),
        ("aqi_min", pa.int64()),
        ("aqi_max", pa.int64()),
        *(
            (f"{parameter}_{what}", pa.float64())
            for parameter in POLLUTANTS
            for what in ("min", "max", "imputed_share")
        ),
        # How the drift watch says that the pollutant's sensor has left its neighbours.
        *((f"{parameter}_drift", pa.string()) for parameter in POLLUTANTS),
    ]
)


def row(one: Estimate | Left) -> dict[str, Any]:
    """A row of SCHEMA, its leading index only; None where there is no value."""
    found = period_row(one) if isinstance(one, Left) else _window_row(one)
    return dict.fromkeys(SCHEMA.names) | found


def _window_row(estimate: Estimate) -> dict[str, Any]:
    index = leading(estimate)
    cells: dict[str, Any] = {
        "station": estimate.station,
        "start": estimate.window.start,
        "end": estimate.window.end,
        "revision": estimate.revision,
        "standard": index and index.standard,
        "aqi": index and index.index,
        "category": index and index.category,
        "status": index and index.status,
        "dominant": index and ",".join(index.dominant),
        "nowcast": index and index.nowcast,
        "imputed_share": index and index.imputed_share,
    }
    for parameter in POLLUTANTS:
        found = estimate.pollutants.get(parameter)
        cells |= {
            parameter: found and found.value,
            f"{parameter}_kind": found and found.kind,
            f"{parameter}_lo": found and found.lo,
            f"{parameter}_hi": found and found.hi,
            f"{parameter}_qc": found and found.qc,
            f"{parameter}_drift": (left := (estimate.drift or {}).get(parameter)) and left.kind,
        }
    return cells | {
        "model_aqi": estimate.model and estimate.model.aqi,
        "sides": estimate.sides,
        "readings": estimate.inputs.readings,
        "frames": len(estimate.inputs.frames),
        "bundle": estimate.bundle,
        "period": "window",
    }


def to_csv(estimates: Sequence[Estimate | Left]) -> bytes:
    """CSV with a header; times RFC 3339, empty where there is no value."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, SCHEMA.names, lineterminator="\n")
    writer.writeheader()
    for estimate in estimates:
        cells = row(estimate)
        writer.writerow(cells | {name: format_time(cells[name]) for name in ("start", "end")})
    return text.getvalue().encode()


def to_json(estimates: Sequence[Estimate | Left]) -> bytes:
    """A JSON array of whole estimates, one per line; hours and days have a `period`."""
    lines = [period_json(one) if isinstance(one, Left) else one.model_dump_json() for one in estimates]
    return b"[" + b",\n".join(line.encode() for line in lines) + b"]\n"


def to_parquet(estimates: Sequence[Estimate | Left]) -> bytes:
    """Parquet with SCHEMA."""
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist([row(estimate) for estimate in estimates], schema=SCHEMA), sink)
    data: bytes = sink.getvalue().to_pybytes()
    return data


#: Of a station where room is scarce.
_NAME_WIDTH: Final = 20


class _QueryColumns(NamedTuple):
    """What a table has room for."""

    pollutants: tuple[Pollutant, ...] = POLLUTANTS
    intervals: bool = True
    category: bool = True
    local: bool = True


def _layouts(estimates: Sequence[Estimate]) -> Iterator[_QueryColumns]:
    """From the widest to the narrowest: intervals and columns go, a number is never cut."""
    yield _QueryColumns()
    yield _QueryColumns(intervals=False)
    yield _QueryColumns(intervals=False, category=False)
    there = tuple(name for name in POLLUTANTS if any(name in one.pollutants for one in estimates))
    for shown in (POLLUTANTS, *(there[:count] for count in range(len(there), -1, -1))):
        yield _QueryColumns(shown, intervals=False, category=False, local=False)


def to_tables(
    estimates: Sequence[Estimate],
    *,
    with_station: bool = True,
    now: datetime | None = None,
    zones: Mapping[str, tzinfo] | None = None,
) -> Iterator[Table]:
    """The same estimates in tables from the widest to the narrowest; see `to_table`."""
    for layout in _layouts(estimates):
        yield to_table(estimates, with_station=with_station, now=now, zones=zones, layout=layout)


def to_table(
    estimates: Sequence[Estimate],
    *,
    with_station: bool = True,
    now: datetime | None = None,
    zones: Mapping[str, tzinfo] | None = None,
    layout: _QueryColumns = _QueryColumns(),
) -> Table:
    """Estimates for a person: the index in its colour, and for each pollutant what it rests on.

    `now`: how old the newest is, is said where it is of the past. `zones`: of stations whose clocks do not
    show UTC.
    """
    zones = zones or {}
    local = layout.local and any(estimate.station in zones for estimate in estimates)
    table = Table(box=None, header_style="bold", caption_justify="left", pad_edge=False, padding=(0, 2, 0, 0))
    if with_station:
        # A long name is folded before a pollutant is left out.
        table.add_column("station", overflow="fold", max_width=None if layout.category else _NAME_WIDTH)
    table.add_column("window end", no_wrap=True)
    if local:
        table.add_column("local", no_wrap=True)
    table.add_column("AQI", no_wrap=True)
    if layout.category:
        table.add_column("category", no_wrap=True)
    for parameter in layout.pollutants:
        table.add_column(LABELS[parameter], justify="right", no_wrap=True)
    # One day's windows need no date in each row where room is scarce.
    days = {estimate.window.end.date() for estimate in estimates}
    brief = not layout.category and len(days) == 1
    for estimate in estimates:
        index, end = leading(estimate), estimate.window.end
        cells: list[str | Text] = [escape(estimate.station)] if with_station else []
        cells.append(f"{end:%H:%M:%S}Z" if brief else f"{end:%Y-%m-%d %H:%M:%S}Z")
        if local:
            cells.append(local_time(end, zones.get(estimate.station)))
        cells.append(index_cell(index, end))
        if layout.category:
            cells.append(
                ""
                if index is None
                else (index.category or "-") + ("" if index.status == "valid" else f" ({index.status})")
            )
        cells += [
            pollutant_cell(estimate.pollutants.get(parameter), interval=layout.intervals)
            for parameter in layout.pollutants
        ]
        table.add_row(*cells)
    of_day = f"{min(days)}, " if brief else ""
    interval = ", with its 90 % interval" if layout.intervals else ""
    table.caption = f"{of_day}ug/m3; ~ imputed{interval}; * corrected; - no value"
    missing = [LABELS[name] for name in POLLUTANTS if name not in layout.pollutants]
    if missing:
        table.caption += f"; a wider terminal shows {', '.join(missing)}"
    newest = max((estimate.window.end for estimate in estimates), default=None)
    if now is not None and newest is not None and now - newest > _PAST:
        table.caption += f"; the newest window ended {age_words(now - newest)} ago"
    return table


def drifting(estimates: Sequence[Estimate]) -> Iterator[str]:
    """In words, the sensors that have left their neighbours by the newest window of each station."""
    newest_of = {estimate.station: estimate for estimate in estimates}  # they come oldest first
    for name, estimate in sorted(newest_of.items()):
        for left in (estimate.drift or {}).values():
            yield f"{name}: {left.reason}"


def newest(found: Sequence[Estimate | Left], limit: int | None) -> list[Estimate | Left]:
    """The newest `limit` rows, oldest first."""
    ordered = sorted(
        found, key=lambda one: one.period.stop if isinstance(one, Left) else to_ms(one.window.end)
    )
    return ordered if limit is None else ordered[-limit:]


def query(
    station: Annotated[str | None, typer.Argument(help="Only this station.")] = None,
    format: Annotated[Format, typer.Option(help="How to write the estimates.")] = Format.table,
    since: Annotated[
        str | None,
        typer.Option(help="First window end, or issue of a forecast: 2026-08-21T10:00:00Z, or an age: 6h."),
    ] = None,
    until: Annotated[
        str | None, typer.Option(help="What ended, or was issued as a forecast, before this and not at it.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help=f"The newest so many (a table: {SCREENFUL} if not given).")
    ] = None,
    output: Annotated[Path | None, typer.Option(help="Write to this file.")] = None,
    store_file: Annotated[
        Path | None, typer.Option("--store", help="Another store, such as that of a replay.")
    ] = None,
    forecast: Annotated[
        bool,
        typer.Option(
            "--forecast",
            help="The newest forecasts instead, of the next three days; with --since or --until, as csv, json"
            " or parquet, all that were issued then, and what came.",
        ),
    ] = False,
    why: Annotated[
        bool,
        typer.Option(
            "--why", help="In sentences: what the newest windows rest on, what moves the forecasts."
        ),
    ] = False,
) -> None:
    """Estimates from the local store."""
    now = datetime.now(UTC)
    settings = Settings()
    shown = None if store_file is not None else replay_shown(settings)
    if shown is not None:
        typer.echo(
            f"skyfuse: there is no live store; these are the estimates of the replay {shown}", err=True
        )
    if why:
        besides = {
            "--since": since, "--until": until, "--limit": limit, "--forecast": forecast,
            "--format": format is not Format.table,
        }  # fmt: skip
        if given := ", ".join(name for name, value in besides.items() if value):
            raise QueryError(f"--why speaks of the newest windows and forecasts alone: without {given}")
        _write(reasons(station, store_file or settings.store_path), output)
        return
    first = None if since is None else moment(since, now)
    last = None if until is None else moment(until, now)
    if first is not None and last is not None and first >= last:
        raise QueryError(
            f"--since ({format_time(first)}) is not before --until ({format_time(last)}): nothing is between"
        )
    if forecast:
        if limit:
            raise QueryError("--limit is of estimates: of forecasts, --since and --until choose")
        if (first or last) and format is Format.table:
            raise QueryError(
                "a table shows the newest forecasts alone: for those issued since or until then add"
                " --format csv (or json, parquet)"
            )
        _forecasts(station, format, output, store_file or settings.store_path, (first, last))
        return
    with Store(store_file or settings.store_path, read_only=True) as store:
        if limit is None and format is Format.table:
            limit = SCREENFUL
        with store.at_once():
            windows = store.read(station, since=first, until=last, limit=limit)
            left = store.left(station, since=first, until=last, limit=limit)
        stations = store.known_stations()
        if station is not None and station not in stations:
            known = ", ".join(stations) or "none yet"
            replays = ", ".join(map(str, replay_stores(settings)[:3]))
            others = f"; replays have stores of their own (--store FILE): {replays}" if replays else ""
            raise QueryError(
                f"the store has nothing of station {station}; stations with estimates: {known}{others}"
            )
        if not (windows or left) and (first or last):
            for one in store.read(station, limit=1):
                end = format_time(one.window.end)
                typer.echo(f"skyfuse: no window ended then; the newest ended at {end}", err=True)
        zones = zones_of(store.stations()) if format is Format.table else {}
    found = newest([*left, *windows], limit)
    periods = [one for one in found if isinstance(one, Left)]
    if periods:
        typer.echo(f"skyfuse: {told(periods)}", err=True)
    match format:
        case Format.table:
            console = screen() if output is None else Console(file=io.StringIO(), width=ANY_WIDTH)
            estimates = [one for one in found if not isinstance(one, Left)]
            alone = station is not None
            if periods:
                console.print(fitting(console, period_tables(periods, LABELS, with_station=not alone)))
            if estimates or not periods:
                tables = to_tables(estimates, with_station=not alone, now=now, zones=zones)
                console.print(fitting(console, tables))
            for line in drifting(estimates):
                console.print(line, markup=False, highlight=False, soft_wrap=True)
            if output is None:
                return
            assert isinstance(console.file, io.StringIO)
            data = console.file.getvalue().encode()
        case Format.csv:
            data = to_csv(found)
        case Format.json:
            data = to_json(found)
        case Format.parquet:
            if output is None and sys.stdout.isatty():
                raise QueryError("Parquet is not for a screen: give --output FILE")
            data = to_parquet(found)
    _write(data, output)


def _forecasts(
    station: str | None, format: Format, output: Path | None, path: Path,
    issued: tuple[datetime | None, datetime | None],
) -> None:  # fmt: skip
    """The newest forecasts, or those that were `issued` in a period."""
    since, until = (None if at is None else to_ms(at) for at in issued)
    of_period = since is not None or until is not None
    with Store(path, read_only=True) as store:
        found = store.forecasts(station)
        if not found:
            of = "" if station is None else f" of station {station}"
            raise QueryError(
                f"the store has no forecast{of}: they are made at the end of each hour of which something was"
                " measured, by a worker of their own (`skyfuse up` has one, `skyfuse replay` with forecast.up"
                " = true; docs/forecasts.md)"
            )
        if format is Format.table:
            console = screen() if output is None else Console(file=io.StringIO(), width=ANY_WIDTH)
            for one in found:
                console.print(fitting(console, forecast_tables(one)))
            if output is not None:
                assert isinstance(console.file, io.StringIO)
                _write(console.file.getvalue().encode(), output)
            return
        if format is Format.json and not of_period:
            _write(forecast_json(found), output)
            return
        if of_period:
            made = period_rows(store, [one.station for one in found], since, until)
            if (one_row := next(made, None)) is None:
                typer.echo(f"skyfuse: {nothing_then(store, found)}", err=True)
            else:
                made = chain([one_row], made)
        else:
            made = (row for one in found for row in foretold_rows(foretold(one), {}))
        write = {Format.csv: write_csv, Format.json: write_json, Format.parquet: write_parquet}[format]
        if output is None:
            if format is Format.parquet and sys.stdout.isatty():
                raise QueryError("Parquet is not for a screen: give --output FILE")
            write(made, sys.stdout.buffer)
            sys.stdout.flush()
            return
        try:
            with output.open("wb") as file:
                write(made, file)
        except OSError as error:
            raise QueryError(f"{output} cannot be written: {error}") from error


def _write(data: bytes, output: Path | None) -> None:
    if output is None:
        sys.stdout.buffer.write(data)
        sys.stdout.flush()
        return
    try:
        output.write_bytes(data)
    except OSError as error:
        raise QueryError(f"{output} cannot be written: {error}") from error
