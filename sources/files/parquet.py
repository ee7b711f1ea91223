"""Parquet as tables of text. It is read in a process of its own (`parquet_child`), which may end over a file.

What a file says of its own sizes is not believed: rows are decoded a few at a time, and measured before text
is made of them. A page has to be decoded whole, though, whatever its head says.
"""

import csv
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from sources.adapters.core.translation import MAX_BYTES
from sources.errors import FileRefused
from sources.files.piece import CUT_AT, ROWS, Budget, Piece

_MOST_COLUMNS: Final = 1000
#: Rows that are decoded at a time; fewer where a text may stand for the one before it: those are longer than
#: what the file says of itself, and are decoded before their length is known.
_DECODED_ROWS: Final = 1000
_DECODED_DELTAS: Final = 64
#: In the cells of lists and objects.
_NOT_READ: Final = "a list or object"
#: No number or time has more signs.
_LONGEST_NUMBER: Final = 80


def tables(data: bytes | memoryview, where: str, budget: Budget) -> Iterator[Piece]:
    """The payloads of a Parquet file. Raises FileRefused, MemoryError; what came before counts."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(pa.BufferReader(pa.py_buffer(data))) as closed:
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
        with pq.ParquetFile(pa.BufferReader(pa.py_buffer(data)), read_dictionary=texts) as table:
            batches = table.iter_batches(
                _DECODED_DELTAS if deltas else _DECODED_ROWS,
                columns=None if len(flat) == len(schema) else flat,
            )
            yield from _tables(batches, schema.names, where, budget)
    except pa.ArrowMemoryError as error:
        raise MemoryError from error
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
        raise FileRefused("damaged", f"it cannot be read as Parquet: {error!s:.200}") from error


def _tables(batches: Iterable[Any], names: Sequence[str], where: str, budget: Budget) -> Iterator[Piece]:
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
        if longest > CUT_AT:
            raise FileRefused("too_large", f"{where} has a row of more than {CUT_AT} bytes")
        step = CUT_AT // longest
        for begin in range(0, batch.num_rows, step):
            rows = min(step, batch.num_rows - begin)
            by_name = {name: column.slice(begin, rows).to_pylist() for name, column in columns.items()}
            cells = [by_name.get(name) or [_NOT_READ] * rows for name in names]
            for row in zip(*cells, strict=True):
                writer.writerow([_cell(value) for value in row])
                if lines.size > MAX_BYTES:  # by its quotation marks, which are doubled
                    raise FileRefused("too_large", f"{where} has a row of more than {CUT_AT} bytes")
                ended += 1
                if lines.rows >= ROWS or lines.size >= CUT_AT:
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
