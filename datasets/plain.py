"""The plain layout of docs/data-layout.md: stations, readings as CSV or Parquet, a list of frames."""

import json
from pathlib import Path
from typing import Any, Final, NamedTuple
from zoneinfo import ZoneInfo

from pydantic import ValidationError
from pydantic_core import to_json

from datasets.errors import SourceError
from datasets.events import FrameRow, Problem, ReadingRow
from datasets.pictures import inside
from datasets.spool import Spool
from datasets.tables import csv_rows, parquet_rows
from schemas.base import first_error
from schemas.duration import parse_duration
from schemas.station import Station

_READING_COLUMNS: Final = ("station", "time", "parameter", "value", "unit")
_READING_OPTIONS: Final = ("sensor", "channel", "period", "stamp")
_FRAME_COLUMNS: Final = ("station", "time", "path")
_FRAME_OPTIONS: Final = ("camera", "id")


class Contents(NamedTuple):
    """What a folder holds besides the events, which are in the spool."""

    stations: list[Station]
    problems: list[Problem]
    blanks: int  #: empty value cells: no measurement, nothing sent


def read_plain(root: Path, spool: Spool, zone: ZoneInfo | None = None) -> Contents:
    """Read a whole folder, or one of its tables, into `spool`; `zone`: of times that state none.

    Raises SourceError where a file cannot be read as what it is.
    """
    tables, frames = tables_of(root)
    problems: list[Problem] = []
    # A table alone may lie anywhere: what lies beside it are not its stations.
    records = [] if root.is_file() else _stations(root, problems)
    blanks = 0
    for table in tables:
        spool.begin()
        rows = csv_rows if table.suffix == ".csv" else parquet_rows
        for where, row in rows(table, _READING_COLUMNS, _READING_OPTIONS, problems, zone):
            value = row["value"]
            if value is None or value == "":
                blanks += 1
                continue
            spool.add(
                ReadingRow(
                    row["station"], row["time"], row["parameter"], _number(value), row["unit"],
                    row.get("sensor") or None, row.get("channel") or None,
                    _period(row.get("period")), row.get("stamp") or None, where=where,
                )
            )  # fmt: skip
    if frames is not None:
        spool.begin()
        for where, row in csv_rows(frames, _FRAME_COLUMNS, _FRAME_OPTIONS, problems, zone):
            file = inside(frames.parent, row["path"])
            if isinstance(file, str):
                problems.append(Problem(where, f"{file}; not sent"))
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


def tables_of(root: Path) -> tuple[list[Path], Path | None]:
    """The tables of readings, and that of frames, of a folder or a single table. Raises SourceError."""
    if root.is_file():
        return ([], root) if root.name == "frames.csv" else ([root], None)
    if not root.is_dir():
        raise SourceError(f"{root} is no folder and no file; docs/data-layout.md says what can be read")
    tables, listed = _tables(root), root / "frames.csv"
    frames = listed if listed.is_file() else None
    if not tables and frames is None:
        raise SourceError(
            f"{root} holds neither readings (readings.csv, readings.parquet, readings/) nor frames.csv; "
            "docs/data-layout.md says what can be read"
        )
    return tables, frames


def _tables(root: Path) -> list[Path]:
    found = [root / "readings.csv", root / "readings.parquet"]
    if (root / "readings").is_dir():
        found += sorted(file for file in (root / "readings").iterdir() if file.suffix in (".csv", ".parquet"))
    return [table for table in found if table.is_file()]


def _period(cell: Any) -> int | str | None:
    """A period as it goes into a message, in seconds: what is none stays text, for the pipeline to refuse."""
    if cell is None or cell == "":
        return None
    try:
        seconds = parse_duration(cell).total_seconds()
    except ValueError:
        return str(cell)
    return int(seconds) if seconds.is_integer() else str(cell)


def _number(cell: Any) -> float | str:
    """A value cell as it goes into a message: what is no number stays text, for the pipeline to refuse."""
    if isinstance(cell, str):
        try:
            # float() takes digits with underscores; no data file means that.
            return cell if "_" in cell else float(cell)
        except ValueError:
            return cell
    return float(cell)


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
        for where, row in csv_rows(as_csv, ("station",), None, problems):
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
