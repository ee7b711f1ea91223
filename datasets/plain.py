"""The plain layout of docs/data-layout.md: stations, readings as CSV or Parquet, a list of frames."""

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple
from zoneinfo import ZoneInfo

from pydantic import ValidationError
from pydantic_core import to_json

from datasets.errors import SourceError
from datasets.events import FrameRow, Problem, ReadingRow
from datasets.pictures import inside
from datasets.spool import Spool
from datasets.tables import TableRows, csv_rows, parquet_rows
from schemas.base import first_error
from schemas.duration import parse_duration
from schemas.station import Station

_READING_COLUMNS: Final = ("station", "time", "parameter", "value", "unit")
_READING_OPTIONS: Final = ("sensor", "channel", "period", "stamp")
_FRAME_COLUMNS: Final = ("station", "time", "path")
_FRAME_OPTIONS: Final = ("camera", "id")
#: What reads a table, by the end of its name.
_READERS: Final[Mapping[str, Callable[..., TableRows]]] = {
    ".csv": csv_rows, ".csv.gz": csv_rows, ".parquet": parquet_rows,
}  # fmt: skip
_CSV: Final = (".csv", ".csv.gz")


class Tables(NamedTuple):
    """The tables of a folder. `aside`: files that may hold rows and are not read, and why."""

    readings: list[Path]
    frames: Path | None
    aside: list[Problem]


class Contents(NamedTuple):
    """What a folder holds besides the events, which are in the spool."""

    stations: list[Station]
    problems: list[Problem]
    blanks: int  #: empty value cells: no measurement, nothing sent


def read_plain(root: Path, spool: Spool, zone: ZoneInfo | None = None) -> Contents:
    """Read a whole folder, or one of its tables, into `spool`; `zone`: of times that state none.

    Raises SourceError where a file cannot be read as what it is.
    """
    tables, frames, problems = tables_of(root)
    # A table alone may lie anywhere: what lies beside it are not its stations.
    records = [] if root.is_file() else _stations(root, problems)
    blanks = 0
    for table in tables:
        spool.begin()
        for where, row in _READERS[_ending(table)](table, _READING_COLUMNS, _READING_OPTIONS, problems, zone):
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


def tables_of(root: Path) -> Tables:
    """The tables of readings and frames, of a folder or a single table. Raises SourceError."""
    if root.is_file():
        if root.name.lower() in _names("frames", _CSV):
            return Tables([], root, [])
        if not _ending(root):
            raise SourceError(f"{root} is no table that can be read: {_KINDS} (docs/data-layout.md)")
        return Tables([root], None, [])
    if not root.is_dir():
        raise SourceError(f"{root} is no folder and no file; docs/data-layout.md says what can be read")
    tables = _files(root, "readings", _READERS)
    aside: list[Problem] = []
    for folder in (entry for entry in sorted(root.iterdir()) if entry.name.lower() == "readings"):
        for file in sorted(folder.rglob("*")) if folder.is_dir() else []:
            hidden = any(part.startswith((".", "_")) for part in file.relative_to(folder).parts)
            note = file.stem.lower() == "readme" or file.suffix.lower() == ".md"
            if not file.is_file() or hidden or note:
                continue
            if _ending(file):
                tables.append(file)
            else:
                aside.append(Problem(str(file), f"is no table that is read ({_KINDS}); not sent"))
    frames = _files(root, "frames", _CSV)
    if not tables and not frames:
        raise SourceError(
            f"{root} holds neither readings (readings.csv, readings.parquet, readings/) nor frames.csv; "
            "docs/data-layout.md says what can be read"
        )
    # The weather is read by `skyfuse forecast` alone.
    known = {
        *tables,
        *frames[:1],
        *_files(root, "stations", (".json", *_CSV)),
        *_files(root, "weather", _CSV),
    }
    aside += [
        Problem(str(entry), "is not read under this name (readings.csv, readings/, frames.csv); not sent")
        for entry in sorted(root.iterdir())
        if entry not in known and _may_hold_rows(entry)
    ]
    return Tables(tables, frames[0] if frames else None, aside)


_KINDS: Final = ", ".join(_READERS)


def _ending(file: Path) -> str:
    """The end of a table's name, as `_READERS` has it; empty where it is none. Capitals do not matter."""
    return next((ending for ending in _READERS if file.name.lower().endswith(ending)), "")


def _may_hold_rows(entry: Path) -> bool:
    """Whether somebody may have meant a file or folder of the root to be read."""
    name = entry.name.lower()
    if entry.is_dir():
        return name.startswith("readings") and name != "readings"
    named = name.startswith(("readings", "frames", "stations"))
    return named or (bool(_ending(entry)) and not name.startswith((".", "_")))


def _names(stem: str, endings: Iterable[str]) -> list[str]:
    return [stem + ending for ending in endings]


def _files(root: Path, stem: str, endings: Iterable[str]) -> list[Path]:
    """Files of a folder that are called so, in order of the endings."""
    named = {name: place for place, name in enumerate(_names(stem, endings))}
    found = [file for file in sorted(root.iterdir()) if file.name.lower() in named and file.is_file()]
    return sorted(found, key=lambda file: named[file.name.lower()])


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
    tables = _files(root, "stations", (".json", *_CSV))
    if not tables:
        return []
    table, *others = tables
    problems += [Problem(str(other), f"{table.name} has the stations; not sent") for other in others]
    found: list[tuple[str, Any]] = []
    if _ending(table):
        for where, row in csv_rows(table, ("station",), tuple(Station.model_fields), problems):
            found.append((where, _from_cells(row)))
    else:
        try:
            listed = json.loads(table.read_bytes())  # of bytes it takes any encoding of Unicode, and its mark
        except (OSError, ValueError, RecursionError) as error:
            raise SourceError(f"cannot read {table}: {error}") from error
        if not isinstance(listed, list):
            raise SourceError(f"{table} holds no list of station records")
        found += [(f"{table}, station {number}", record) for number, record in enumerate(listed, start=1)]
    records = []
    for where, plain in found:
        try:
            records.append(Station.model_validate_json(to_json(plain)))
        except ValidationError as error:
            message = first_error(error).message
            problems.append(Problem(where, f"station record: {message}; not sent"))
        except ValueError as error:  # nested too deeply, or text that is none
            problems.append(Problem(where, f"station record: {error}; not sent"))
    return records


def _from_cells(row: dict[str, str]) -> dict[str, Any]:
    plain: dict[str, Any] = {
        name: cell for name, cell in row.items() if cell and name in Station.model_fields
    }
    for name in ("latitude", "longitude"):
        if name in plain:
            plain[name] = _number(plain[name])
    if "standards" in plain:
        plain["standards"] = plain["standards"].split()
    if "cameras" in plain:
        plain["cameras"] = [{"camera": camera} for camera in plain["cameras"].split()]
    return plain
