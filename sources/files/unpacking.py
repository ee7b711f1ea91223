"""A file becomes payloads of the size that adapters take: unpacked, and cut between its rows.

Nothing is written to disk, and no more than a payload is in memory at a time (of Parquet: a batch). What a
file unpacks to is counted while it is unpacked; what its own directory says of that is not believed.
"""

import csv
import gzip
import io
import json
import lzma
import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import PurePosixPath
from typing import IO, Any, Final, NamedTuple

from sources.adapters.core.translation import MAX_BYTES
from sources.errors import FileRefused

#: What one file may unpack to, and how much more that may be than the file itself where it is much.
MOST_BYTES: Final = 1024 * 1024 * 1024
_MOST_TIMES: Final = 100
_MUCH: Final = 16 * 1024 * 1024
_MOST_MEMBERS: Final = 1000
#: Rows of a payload: an adapter looks at 300,000 entries at most.
_ROWS: Final = 20_000
_CUT_AT: Final = MAX_BYTES // 2
#: It is read from its end, and so all of it is held.
_MOST_PARQUET: Final = 128 * 1024 * 1024
_MOST_COLUMNS: Final = 1000
#: Rows of Parquet that are decoded at a time; fewer where a text may stand for the one before it: those are
#: longer than what the file says of itself, and are decoded before their length is known.
_DECODED_ROWS: Final = 1000
_DECODED_DELTAS: Final = 64
#: In the cells of lists and objects.
_NOT_READ: Final = "a list or object"
#: No number or time has more signs.
_LONGEST_NUMBER: Final = 80
_PACKED: Final = (".zip", ".gz")
#: What zipfile and gzip raise over damaged files; some of it by chance.
_DAMAGE: Final = (
    zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, EOFError, OSError, ValueError, LookupError,
    OverflowError,
)  # fmt: skip
#: By the end of a name, the adapter of skyfuse's own formats.
_OWN: Final = {
    ".csv": "skyfuse-csv", ".tsv": "skyfuse-csv", ".json": "skyfuse-json", ".jsonl": "skyfuse-json",
    ".ndjson": "skyfuse-json", ".parquet": "skyfuse-csv",
}  # fmt: skip


class Piece(NamedTuple):
    """A payload of a file: where it is from, the adapter that knows it, its bytes."""

    where: str
    adapter: str
    body: bytes


class _BudgetedReader(io.RawIOBase):
    """Reads on while less has been read in all than a bomb would have."""

    def __init__(self, inner: IO[bytes], budget: "_Budget") -> None:
        self._inner = inner
        self._budget = budget

    def readable(self) -> bool:
        return True

    def readinto(self, into: Any) -> int:
        piece = self._inner.read(len(into))
        self._budget.spend(len(piece))
        into[: len(piece)] = piece
        return len(piece)


class _Budget:
    def __init__(self, packed: int) -> None:
        self._left = min(MOST_BYTES, max(_MUCH, _MOST_TIMES * packed))

    def spend(self, size: int) -> None:
        self.expect(size)
        self._left -= size

    def expect(self, size: int) -> None:
        """Whether so much may still come."""
        if size > self._left:
            raise FileRefused("bomb", "it unpacks to far more than a file of this size should")


def pieces(file: IO[bytes], name: str, size: int, adapter: str | None) -> Iterator[Piece]:
    """The payloads of a file of `size` bytes, in order.

    Args:
        file: it is read from its beginning, and must be seekable.
        name: of it; its end says what it is.
        size: bytes on disk.
        adapter: what knows it; None: one of skyfuse's own formats.

    Raises:
        FileRefused: with what is wrong with it. What came before counts.
    """
    try:
        yield from _of(file, name, name, _Budget(size), adapter)
    except _DAMAGE as error:
        raise FileRefused("damaged", f"it cannot be unpacked: {error}") from error
    except (RuntimeError, NotImplementedError) as error:  # as zipfile says that it is encrypted
        raise FileRefused("not_unpackable", f"it cannot be unpacked: {error}") from error


def _of(file: IO[bytes], name: str, where: str, budget: _Budget, adapter: str | None) -> Iterator[Piece]:
    kind = PurePosixPath(name).suffix.lower()
    if kind == ".zip":
        yield from _zipped(file, where, budget, adapter)
    elif kind == ".gz":
        inner = name[: -len(kind)]
        _no_more_packing(inner)
        with gzip.open(file) as plain:
            yield from _plain(_buffered(plain, budget), inner, where, adapter, budget)
    else:
        yield from _plain(_buffered(file, budget), name, where, adapter, budget)


def _buffered(file: Any, budget: _Budget) -> io.BufferedReader:
    return io.BufferedReader(_BudgetedReader(file, budget), 256 * 1024)


def _zipped(file: IO[bytes], where: str, budget: _Budget, adapter: str | None) -> Iterator[Piece]:
    with zipfile.ZipFile(file) as archive:
        members = [one for one in archive.infolist() if not one.is_dir()]
        if len(members) > _MOST_MEMBERS:
            raise FileRefused("bomb", f"it has {len(members)} files in it: more than {_MOST_MEMBERS}")
        for member in members:
            _expect_inside(member.filename)
        for member in members:
            path = PurePosixPath(member.filename)
            if path.name.startswith(".") or path.parts[0] == "__MACOSX":
                continue  # what a computer says of the files to itself
            _no_more_packing(member.filename, gz=False)
            with archive.open(member) as plain:
                if path.suffix.lower() == ".gz":
                    with gzip.open(plain) as inner:
                        place = f"{where}/{member.filename}"
                        yield from _plain(_buffered(inner, budget), path.name[:-3], place, adapter, budget)
                else:
                    place = f"{where}/{member.filename}"
                    yield from _plain(_buffered(plain, budget), path.name, place, adapter, budget)


def _expect_inside(name: str) -> None:
    """Nothing is written where a name says; but who names such paths means no good."""
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or name[1:2] == ":" or "\0" in name:
        raise FileRefused("outside", f"it names a path outside itself: {ascii(name)[:80]}")


def _no_more_packing(name: str, *, gz: bool = True) -> None:
    kind = PurePosixPath(name).suffix.lower()
    if kind == ".zip" or (gz and kind in _PACKED):
        raise FileRefused("packed_twice", f"a packed file in a packed one: {ascii(name)[:80]}")


def _plain(
    file: io.BufferedReader, name: str, where: str, adapter: str | None, budget: _Budget
) -> Iterator[Piece]:
    kind = PurePosixPath(name).suffix.lower()
    if kind == ".parquet":
        if adapter not in (None, "skyfuse-csv"):
            raise FileRefused("not_known", f"Parquet is read as skyfuse's own table only, not by {adapter}")
        yield from _parquet(file, where, budget)
        return
    known = adapter or _OWN.get(kind)
    if known is None:
        raise FileRefused(
            "not_known",
            f"what is {ascii(name)[:80]}? Give its folder an `adapter`, or it the right ending",
        )
    if known == "skyfuse-csv":
        yield from _rows(file, where, known, header=True)
        return
    start = file.peek(1)[:1]
    body = file.read(MAX_BYTES + 1)
    if len(body) <= MAX_BYTES:
        yield Piece(where, known, body)
    elif known == "skyfuse-json" and start == b"{" and _is_json(body.split(b"\n", 1)[0]):
        chained: Any = _Chained(body, file)
        yield from _rows(io.BufferedReader(chained, 256 * 1024), where, known, header=False)
    else:
        raise FileRefused("too_large", f"{where} is one payload of more than {MAX_BYTES} bytes: part it")


class _Chained(io.RawIOBase):
    """What was read already, and then the rest."""

    def __init__(self, first: bytes, rest: io.BufferedReader) -> None:
        self._first = io.BytesIO(first)
        self._rest = rest

    def readable(self) -> bool:
        return True

    def readinto(self, into: Any) -> int:
        piece = self._first.read(len(into)) or self._rest.read(len(into))
        into[: len(piece)] = piece
        return len(piece)


def _is_json(line: bytes) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True


def _rows(file: io.BufferedReader, where: str, adapter: str, *, header: bool) -> Iterator[Piece]:
    """Lines in payloads, each with the header before it; cut where no quoted cell is open."""
    first = _line(file, where) if header else b""
    if header and not first:
        yield Piece(where, adapter, b"")
        return
    lines: list[bytes] = []
    size, opened, number, begun = len(first), False, 1, 2
    while line := _line(file, where):
        number += 1
        lines.append(line)
        size += len(line)
        opened ^= line.count(b'"') % 2 == 1
        if not opened and (len(lines) >= _ROWS or size >= _CUT_AT):
            yield Piece(f"{where}:{begun}-{number}", adapter, first + b"".join(lines))
            lines, size, begun = [], len(first), number + 1
        elif size > MAX_BYTES:
            raise FileRefused("too_large", f"{where}: a quotation mark after line {begun} is never closed")
    if lines or begun == 2:
        place = where if begun == 2 else f"{where}:{begun}-{number}"
        yield Piece(place, adapter, first + b"".join(lines))


def _line(file: io.BufferedReader, where: str) -> bytes:
    line = file.readline(MAX_BYTES + 1)
    if len(line) > MAX_BYTES:
        raise FileRefused("too_large", f"{where} has a line of more than {MAX_BYTES} bytes")
    return line


def _parquet(file: io.BufferedReader, where: str, budget: _Budget) -> Iterator[Piece]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    data = file.read(_MOST_PARQUET + 1)
    if len(data) > _MOST_PARQUET:
        raise FileRefused("too_large", f"Parquet of more than {_MOST_PARQUET} bytes: part it")
    try:
        with pq.ParquetFile(pa.BufferReader(data)) as closed:
            metadata, schema = closed.metadata, closed.schema_arrow
        if len(set(schema.names)) < len(schema.names):
            raise FileRefused("damaged", "two of its columns have one name: which one counts?")
        if metadata.num_columns > _MOST_COLUMNS:
            raise FileRefused("bomb", f"it has {metadata.num_columns} columns: more than {_MOST_COLUMNS}")
        groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
        # What it says of itself: that its texts are kept once, however often they stand, it does not say.
        budget.expect(sum(group.total_byte_size for group in groups))
        deltas = {
            group.column(number).path_in_schema
            for group in groups
            for number in range(group.num_columns)
            if "DELTA_BYTE_ARRAY" in group.column(number).encodings
        }
        flat = [field.name for field in schema if not pa.types.is_nested(field.type)]
        # A text is kept once for all rows that have it.
        texts = [field.name for field in schema if _is_text(field.type) and field.name not in deltas]
        with pq.ParquetFile(pa.BufferReader(data), read_dictionary=texts) as table:
            batches = table.iter_batches(
                _DECODED_DELTAS if deltas else _DECODED_ROWS,
                columns=None if len(flat) == len(schema) else flat,
            )
            yield from _tables(batches, schema.names, where, budget)
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
        raise FileRefused("damaged", f"it cannot be read as Parquet: {error!s:.200}") from error


def _tables(batches: Iterable[Any], names: Sequence[str], where: str, budget: _Budget) -> Iterator[Piece]:
    """Batches as tables of text. What is longer than it may be is known before text is made of it.

    A column of lists or objects is in no batch: its cells say that they are such, and are refused by name.
    """
    first = _LinesWithHeader()
    csv.writer(first).writerow(names)
    lines = _LinesWithHeader(first)
    writer = csv.writer(lines)
    begun = ended = 1
    for batch in batches:
        columns = dict(zip(batch.schema.names, batch.columns, strict=True))
        sizes = [_text_size(column) for column in batch.columns]
        budget.spend(sum(total for total, _ in sizes) + batch.num_rows * (len(names) + 1))
        longest = sum(most for _, most in sizes) + len(names) + 1
        if longest > _CUT_AT:
            raise FileRefused("too_large", f"{where} has a row of more than {_CUT_AT} bytes")
        step = _CUT_AT // longest
        for begin in range(0, batch.num_rows, step):
            rows = min(step, batch.num_rows - begin)
            by_name = {name: column.slice(begin, rows).to_pylist() for name, column in columns.items()}
            cells = [by_name.get(name) or [_NOT_READ] * rows for name in names]
            for row in zip(*cells, strict=True):
                writer.writerow([_cell(value) for value in row])
                if lines.size > MAX_BYTES:  # by its quotation marks, which are doubled
                    raise FileRefused("too_large", f"{where} has a row of more than {_CUT_AT} bytes")
                ended += 1
                if lines.rows >= _ROWS or lines.size >= _CUT_AT:
                    yield Piece(f"{where}:{begun}-{ended - 1}", "skyfuse-csv", lines.body())
                    lines = _LinesWithHeader(first)
                    writer, begun = csv.writer(lines), ended
    if lines.rows or ended == 1:
        place = f"{where}:{begun}-{ended - 1}" if lines.rows else where
        yield Piece(place, "skyfuse-csv", lines.body())


class _LinesWithHeader:
    """What csv writes to: rows as bytes, after the line that names the columns."""

    def __init__(self, first: "_LinesWithHeader | None" = None) -> None:
        self._lines = [] if first is None else [first.body()]
        self.size = sum(map(len, self._lines))
        self.rows = 0

    def write(self, text: str) -> None:
        """One row."""
        line = text.encode(errors="replace")
        self._lines.append(line)
        self.size += len(line)
        self.rows += 1

    def body(self) -> bytes:
        """All of it."""
        return b"".join(self._lines)


def _is_text(kind: Any) -> bool:
    import pyarrow as pa

    return any(
        test(kind)
        for test in (
            pa.types.is_string, pa.types.is_large_string, pa.types.is_binary, pa.types.is_large_binary
        )
    )  # fmt: skip


def _text_size(column: Any) -> tuple[int, int]:
    """Bytes of a column's cells, of all and of the longest, without making text of any."""
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = column.type
    if pa.types.is_dictionary(kind) and (
        _is_text(kind.value_type) or pa.types.is_fixed_size_binary(kind.value_type)
    ):
        lengths = pc.binary_length(column.dictionary).take(column.indices)
    elif _is_text(kind) or pa.types.is_fixed_size_binary(kind):
        lengths = pc.binary_length(column)
    elif pa.types.is_string_view(kind) or pa.types.is_binary_view(kind):
        raise FileRefused("damaged", "it cannot be read as Parquet: its texts are kept as views")
    else:
        return _LONGEST_NUMBER * len(column), _LONGEST_NUMBER
    # In 64 bits: of 32 a few thousand long cells are more than there is room for.
    lengths = lengths.cast(pa.int64())
    return pc.sum(lengths).as_py() or 0, pc.max(lengths).as_py() or 0


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return value.isoformat() if hasattr(value, "isoformat") else str(value)
