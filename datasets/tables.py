"""Rows of CSV and Parquet files by the names of their columns; what is no row is reported with its line."""

import csv
import gzip
import zlib
from collections import Counter
from collections.abc import Collection, Iterator
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final
from zoneinfo import ZoneInfo

from datasets.errors import SourceError
from datasets.events import Problem, in_zone, stated_time
from schemas.base import format_time

if TYPE_CHECKING:
    import pyarrow as pa

_PARQUET_BATCH: Final = 10_000
#: Columns of Parquet that hold no names.
_NO_NAMES: Final = ("time", "value", "period")
#: (file and line, cells by column)
TableRows = Iterator[tuple[str, dict[str, Any]]]


def csv_rows(
    file: Path,
    needed: Collection[str],
    optional: Collection[str] | None,
    problems: list[Problem],
    zone: ZoneInfo | None = None,
) -> TableRows:
    """Each row that has all `needed` columns; the others become problems.

    `optional`: further columns that are read (None: every one). `zone`: of times that have none. Raises
    SourceError where the file cannot be read, lacks a column, or has one of those that are read twice.
    """
    try:
        # A byte that is not UTF-8 spoils its row, not the file.
        with _opened(file) as handle:
            lines = _Lines(handle)
            rows = csv.reader(lines, skipinitialspace=True)
            header = _header(file, rows, lines)
            _require(file, header, needed, optional)
            while True:
                lines.record.clear()
                first = rows.line_num + 1
                where = f"{file}:{first}"
                try:
                    cells = next(rows)
                except StopIteration:
                    return
                except csv.Error as error:
                    swallowed = len(lines.record) - 1
                    problem = _too_large(first, swallowed) if swallowed else f"{error}"
                    problems.append(Problem(where, f"{problem}; not sent"))
                    continue
                if not cells:
                    continue
                row: dict[str, Any] | str = _row(header, cells, needed)
                if len(lines.record) > 1 and _unclosed(lines.record, len(header)):
                    row = _not_closed(first, len(lines.record) - 1)
                if not isinstance(row, str) and "time" in row:
                    row = _timed(row, stated_time(row["time"]), zone)
                if isinstance(row, str):
                    problems.append(Problem(where, f"{row}; not sent"))
                    continue
                yield where, row
    except (OSError, EOFError, zlib.error) as error:
        raise SourceError(f"cannot read {file}: {error}") from error


def _opened(file: Path) -> IO[str]:
    if file.suffix.lower() == ".gz":
        return gzip.open(file, "rt", newline="", encoding="utf-8-sig", errors="surrogateescape")
    return file.open(newline="", encoding="utf-8-sig", errors="surrogateescape")


class _Lines:
    """A file's lines, and those that the record being read was made of (a cell's size limits them)."""

    def __init__(self, lines: Iterator[str]) -> None:
        self._lines = lines
        self.record: list[str] = []

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = next(self._lines)
        self.record.append(line)
        return line


def _header(file: Path, rows: Iterator[list[str]], lines: _Lines) -> list[str]:
    try:
        header = next(rows, [])
    except csv.Error as error:
        raise SourceError(
            f"{file}:1: the header line cannot be read: {error}. The first line names the columns; is every"
            " quote in it closed? (docs/data-layout.md)"
        ) from error
    if len(lines.record) > 1 and _unclosed(lines.record, len(header)):
        raise SourceError(f"{file}:1: {_not_closed(1, len(lines.record) - 1)}")
    return [name.strip() for name in header]


def _row(header: list[str], cells: list[str], needed: Collection[str]) -> dict[str, Any] | str:
    """Cells by column, or why no message can be made of them."""
    if len(cells) > len(header):
        return f"{len(cells) - len(header)} cells more than the header has columns"
    row = dict(zip(header, cells, strict=False))
    missing = [name for name in needed if name not in row]
    if missing:
        return f"the row ends before column {missing[0]}"
    for name, cell in row.items():
        try:
            cell.encode()
        except UnicodeEncodeError:
            return f"column {name} is not UTF-8"
    return {name: cell.strip() for name, cell in row.items()}


def _timed(row: dict[str, Any], stated: str | int, zone: ZoneInfo | None) -> dict[str, Any] | str:
    """The row with the time that it states, or why that is none in the zone."""
    try:
        return row | {"time": stated if zone is None else in_zone(stated, zone)}
    except ValueError as error:
        return str(error)


def _unclosed(record: list[str], columns: int) -> bool:
    """Whether the lines of one record hang together only because a quote is not closed where it should be.

    A cell may have several lines; then the quotes are right, and none of its lines is a row of its own.
    """
    try:
        list(csv.reader(record, skipinitialspace=True, strict=True))
    except csv.Error:
        return True
    return any(len(cells) >= columns for cells in csv.reader(line.replace('"', "") for line in record[1:]))


def _not_closed(first: int, swallowed: int) -> str:
    return (
        f"a quote that opens in line {first} is not closed there: the {swallowed} lines after it, to line"
        f" {first + swallowed}, were read as part of it. Close it, or take it out"
    )


def _too_large(first: int, swallowed: int) -> str:
    limit = csv.field_size_limit()
    return f"{_not_closed(first, swallowed)} (one cell of more than {limit} characters)"


def parquet_rows(
    file: Path,
    needed: Collection[str],
    optional: Collection[str] | None,
    problems: list[Problem],
    zone: ZoneInfo | None = None,
) -> TableRows:
    """As `csv_rows`."""
    # Only those who replay Parquet pay for loading it.
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(file) as table:
            header = list(table.schema_arrow.names)
            _require(file, header, needed, optional)
            columns = [name for name in header if name in needed or optional is None or name in optional]
            _require_zones(file, table.schema_arrow, columns)
            number = 0
            for batch in table.iter_batches(_PARQUET_BATCH, columns=columns):
                cells = [_cells(batch.column(name)) for name in columns]
                for values in zip(*cells, strict=True):
                    number += 1
                    where = f"{file}, row {number}"
                    row = _parquet_row(dict(zip(columns, values, strict=True)), needed, zone)
                    if isinstance(row, str):
                        problems.append(Problem(where, f"{row}; not sent"))
                    else:
                        yield where, row
    except (OSError, pa.ArrowException) as error:
        raise SourceError(f"cannot read {file} as Parquet: {error}") from error


def _require_zones(file: Path, schema: "pa.Schema", columns: Collection[str]) -> None:
    """Raise SourceError where a column of times has a zone that nobody knows."""
    import pyarrow as pa

    for name in columns:
        kind = schema.field(name).type
        if not pa.types.is_timestamp(kind) or kind.tz is None:
            continue
        try:
            pa.scalar(0, pa.timestamp("s", tz=kind.tz)).as_py()
        except Exception as error:  # which one depends on the zone's spelling and on the packages installed
            raise SourceError(
                f"{file}: column {name} has times of the zone {kind.tz!r}, which does not exist: write them"
                " in UTC or in an IANA zone such as Europe/Berlin"
            ) from error


class _Unreadable(str):
    """A cell that Python has no value for, and why."""

    __slots__ = ()


def _cells(column: "pa.Array") -> list[Any]:
    """A column's cells as Python has them; `_Unreadable` where it has none (a date after the year 9999)."""
    import pyarrow as pa

    if pa.types.is_timestamp(column.type) and column.type.unit == "ns":
        # Python's times end at the microsecond, the pipeline's at the millisecond.
        column = column.cast(pa.timestamp("us", tz=column.type.tz), safe=False)
    try:
        cells: list[Any] = column.to_pylist()
        return cells
    except (ValueError, OverflowError):
        return [_cell(scalar) for scalar in column]


def _cell(scalar: "pa.Scalar") -> Any:
    try:
        return scalar.as_py()
    except (ValueError, OverflowError) as error:
        return _Unreadable(error)


def _parquet_row(
    cells: dict[str, Any], needed: Collection[str], zone: ZoneInfo | None
) -> dict[str, Any] | str:
    """A row as CSV would have it, or why no message can be made of it.

    Names may be numbers there (the ids of many networks are) or bytes; a value is a number, or text.
    """
    row: dict[str, Any] = {}
    for name, cell in cells.items():
        if isinstance(cell, _Unreadable):
            return f"column {name} cannot be read: {cell}"
        if isinstance(cell, bytes):
            try:
                cell = cell.decode()
            except UnicodeDecodeError:
                return f"column {name} holds bytes that are no UTF-8"
        if cell is None:
            if name in needed and name != "value":
                return f"column {name} is null"
        elif name not in _NO_NAMES:
            if isinstance(cell, float) and cell.is_integer():
                cell = int(cell)  # whole numbers beside an empty cell, as data frames keep them
            if isinstance(cell, bool) or not isinstance(cell, int | str):
                return f"column {name} holds {cell!r:.80}: a name is text or a whole number"
            cell = str(cell)
        elif name == "value" and (
            isinstance(cell, bool) or not isinstance(cell, int | float | Decimal | str)
        ):
            return f"column value holds {cell!r:.80}, which is no number"
        row[name] = cell
    return _timed(row, _parquet_time(row["time"]), zone)


def _parquet_time(time: Any) -> str | int:
    if isinstance(time, datetime):
        # Without a zone it stays without one: nobody guesses.
        try:
            return time.isoformat() if time.tzinfo is None else format_time(time)
        except OverflowError:
            return str(time)
    return time if isinstance(time, int) and not isinstance(time, bool) else stated_time(str(time))


def _require(
    file: Path, header: list[str], needed: Collection[str], optional: Collection[str] | None
) -> None:
    """Raise SourceError where a column is missing, or one that is read stands there twice."""
    missing = [name for name in needed if name not in header]
    if missing:
        raise SourceError(
            f"{file}: column(s) {', '.join(missing)} missing; found: {', '.join(header) or 'none'} "
            "(docs/data-layout.md)"
        )
    for name, times in Counter(header).items():
        if times > 1 and (name if optional is None else name in needed or name in optional):
            at = " and ".join(str(place) for place, other in enumerate(header, start=1) if other == name)
            raise SourceError(
                f"{file}:1: column {name} is there {times} times (columns {at}): which of them counts?"
                " Take out or rename the others"
            )
