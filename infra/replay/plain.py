"""The plain layout of docs/data-layout.md: stations, readings as CSV or Parquet, a list of frames."""

import csv
import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

from pydantic import ValidationError
from pydantic_core import to_json

from infra.errors import SourceError
from infra.replay.events import FrameRow, Problem, ReadingRow, stated_time
from infra.replay.spool import Spool
from schemas.base import first_error, format_time
from schemas.station import Station

_READING_COLUMNS: Final = ("station", "time", "parameter", "value", "unit")
_FRAME_COLUMNS: Final = ("station", "time", "path")
_PARQUET_BATCH: Final = 10_000


class Contents(NamedTuple):
    """What a folder holds besides the events, which are in the spool."""

    stations: list[Station]
    problems: list[Problem]
    blanks: int  #: empty value cells: no measurement, nothing sent


def read_plain(root: Path, spool: Spool) -> Contents:
    """Read a whole folder, or one of its tables, into `spool`.

    Raises SourceError where a file cannot be read as what it is.
    """
    alone = root.is_file()
    if alone and root.name == "frames.csv":
        tables, frames = [], root
    elif alone:
        tables, frames = [root], None
    elif root.is_dir():
        tables, listed = _tables(root), root / "frames.csv"
        frames = listed if listed.is_file() else None
        if not tables and frames is None:
            raise SourceError(
                f"{root} holds neither readings (readings.csv, readings.parquet, readings/) nor frames.csv; "
                "docs/data-layout.md says what can be read"
            )
    else:
        raise SourceError(f"{root} is no folder and no file; docs/data-layout.md says what can be read")
    problems: list[Problem] = []
    # A table alone may lie anywhere: what lies beside it are not its stations.
    records = [] if alone else _stations(root, problems)
    blanks = 0
    for table in tables:
        spool.begin()
        rows = _csv_rows if table.suffix == ".csv" else _parquet_rows
        for where, row in rows(table, _READING_COLUMNS, problems):
            value = row["value"]
            if value is None or value == "":
                blanks += 1
                continue
            spool.add(
                ReadingRow(
                    row["station"], row["time"], row["parameter"], _number(value), row["unit"],
                    row.get("sensor") or None, row.get("channel") or None,
                    where,
                )
            )  # fmt: skip
    if frames is not None:
        spool.begin()
        for where, row in _csv_rows(frames, _FRAME_COLUMNS, problems):
            file = frames.parent / row["path"]
            if not row["path"] or not file.is_file():
                problems.append(
                    Problem(where, f"frame {row['path'] or '(no path)'} does not exist; not sent")
                )
                continue
            spool.add(
                FrameRow(
                    row["station"],
                    row["time"],
                    row.get("camera") or "main",
                    str(file),
                    row.get("id") or row["path"],
                    where,
                )
            )
    return Contents(records, problems, blanks)


def _tables(root: Path) -> list[Path]:
    found = [root / "readings.csv", root / "readings.parquet"]
    if (root / "readings").is_dir():
        found += sorted(file for file in (root / "readings").iterdir() if file.suffix in (".csv", ".parquet"))
    return [table for table in found if table.is_file()]


def _number(cell: Any) -> float | str:
    """A value cell as it goes into a message: what is no number stays text, for the pipeline to refuse."""
    if isinstance(cell, str):
        try:
            # float() takes digits with underscores; no data file means that.
            return cell if "_" in cell else float(cell)
        except ValueError:
            return cell
    return float(cell)


def _csv_rows(
    file: Path, needed: tuple[str, ...], problems: list[Problem]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """(file:line, cells by column) of each row that has all needed columns; the others become problems."""
    try:
        # A byte that is not UTF-8 spoils its row, not the file.
        with file.open(newline="", encoding="utf-8-sig", errors="surrogateescape") as handle:
            rows = csv.DictReader(handle, skipinitialspace=True)
            header = [name.strip() for name in rows.fieldnames or []]
            rows.fieldnames = header
            _require(file, header, needed)
            while True:
                try:
                    row = next(rows)
                except StopIteration:
                    return
                except csv.Error as error:
                    problems.append(Problem(f"{file}:{rows.line_num}", f"{error}; not sent"))
                    continue
                where = f"{file}:{rows.line_num}"
                problem = _unusable(row, needed)
                if problem is not None:
                    problems.append(Problem(where, f"{problem}; not sent"))
                    continue
                cells = {name: cell.strip() for name, cell in row.items() if cell is not None}
                if "time" in cells:
                    cells["time"] = stated_time(cells["time"])
                yield where, cells
    except OSError as error:
        raise SourceError(f"cannot read {file}: {error}") from error


def _unusable(row: dict[Any, Any], needed: tuple[str, ...]) -> str | None:
    """Why no message can be made of a CSV row, or None."""
    if None in row:
        return f"{len(row[None])} cells more than the header has columns"
    missing = [name for name in needed if row[name] is None]
    if missing:
        return f"the row ends before column {missing[0]}"
    for name, cell in row.items():
        try:
            (cell or "").encode()
        except UnicodeEncodeError:
            return f"column {name} is not UTF-8"
    return None


def _parquet_rows(
    file: Path, needed: tuple[str, ...], problems: list[Problem]
) -> Iterator[tuple[str, dict[str, Any]]]:
    # Only those who replay Parquet pay for loading it.
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(file) as table:
            header = list(table.schema_arrow.names)
            _require(file, header, needed)
            columns = [name for name in (*needed, "sensor", "channel") if name in header]
            number = 0
            for batch in table.iter_batches(_PARQUET_BATCH, columns=columns):
                for row in batch.to_pylist():
                    number += 1
                    where = f"{file}, row {number}"
                    missing = [name for name in needed if row[name] is None and name != "value"]
                    if missing:
                        problems.append(Problem(where, f"column {missing[0]} is null; not sent"))
                        continue
                    time = row["time"]
                    if isinstance(time, datetime):
                        # Without a zone it stays without one: the pipeline refuses to guess.
                        row["time"] = time.isoformat() if time.tzinfo is None else format_time(time)
                    elif not isinstance(time, int):
                        row["time"] = stated_time(str(time))
                    yield where, row
    except (OSError, pa.ArrowException) as error:
        raise SourceError(f"cannot read {file} as Parquet: {error}") from error


def _require(file: Path, header: list[str], needed: tuple[str, ...]) -> None:
    missing = [name for name in needed if name not in header]
    if missing:
        raise SourceError(
            f"{file}: column(s) {', '.join(missing)} missing; found: {', '.join(header) or 'none'} "
            "(docs/data-layout.md)"
        )


def _stations(root: Path, problems: list[Problem]) -> list[Station]:
    """Station records of stations.json or stations.csv; neither is needed."""
    found: list[tuple[str, Any]] = []
    as_json, as_csv = root / "stations.json", root / "stations.csv"
    if as_json.is_file():
        try:
            listed = json.loads(as_json.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise SourceError(f"cannot read {as_json}: {error}") from error
        if not isinstance(listed, list):
            raise SourceError(f"{as_json} holds no list of station records")
        found += [(f"{as_json}, station {number}", record) for number, record in enumerate(listed, start=1)]
    elif as_csv.is_file():
        for where, row in _csv_rows(as_csv, ("station",), problems):
            found.append((where, _from_cells(row)))
    records = []
    for where, plain in found:
        try:
            records.append(Station.model_validate_json(to_json(plain)))
        except ValidationError as error:
            _, message = first_error(error)
            problems.append(Problem(where, f"station record: {message}; not sent"))
    return records


def _from_cells(row: dict[str, str]) -> dict[str, Any]:
    plain: dict[str, Any] = {name: cell for name, cell in row.items() if cell}
    for name in ("latitude", "longitude"):
        if name in plain:
            plain[name] = _number(plain[name])
    if "standards" in plain:
        plain["standards"] = plain["standards"].split()
    if "cameras" in plain:
        plain["cameras"] = [{"camera": camera} for camera in plain["cameras"].split()]
    return plain
