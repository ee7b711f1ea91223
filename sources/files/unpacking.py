"""A file becomes payloads of the size that adapters take: unpacked, and cut between its rows.

Nothing is written to disk, and no more than a payload is in memory at a time (Parquet is read by a process
of its own, which has a GiB). What a file unpacks to is counted while it is unpacked; what its own directory
says of that is not believed.
"""

import contextlib
import gzip
import io
import json
import lzma
import os
import signal
import struct
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import IO, Any, Final

from sources.adapters.core.translation import MAX_BYTES
from sources.errors import FileRefused
from sources.files.piece import CUT_AT, ROWS, Budget, Piece, Unread

_MOST_MEMBERS: Final = 1000
#: It is read from its end, and so all of it is held.
_MOST_PARQUET: Final = 128 * 1024 * 1024
_COPIED: Final = 1024 * 1024
#: A Parquet file begins and ends so.
_PARQUET: Final = b"PAR1"
#: Of the process that reads it: memory that is asked for, and given back, as it is needed; one thread.
_CHILD_ENV: Final = {"ARROW_DEFAULT_MEMORY_POOL": "system", "MALLOC_ARENA_MAX": "1", "OMP_NUM_THREADS": "1"}
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


class _BudgetedReader(io.RawIOBase):
    """Reads on while less has been read in all than a bomb would have."""

    def __init__(self, inner: IO[bytes], budget: Budget) -> None:
        self._inner = inner
        self._budget = budget

    def readable(self) -> bool:
        return True

    def readinto(self, into: Any) -> int:
        piece = self._inner.read(len(into))
        self._budget.spend(len(piece))
        into[: len(piece)] = piece
        return len(piece)


def pieces(file: IO[bytes], name: str, size: int, adapter: str | None) -> Iterator[Piece | Unread]:
    """The payloads of a file of `size` bytes, in order; of an archive what cannot be read in between.

    Args:
        file: it is read from its beginning, and must be seekable.
        name: of it; its end says what it is.
        size: bytes on disk.
        adapter: what knows it; None: one of skyfuse's own formats.

    Raises:
        FileRefused: with what is wrong with it. What came before counts.
    """
    try:
        yield from _of(file, name, name, Budget.of_file(size), adapter)
    except _DAMAGE as error:
        raise FileRefused("damaged", f"it cannot be unpacked: {error}") from error
    except (RuntimeError, NotImplementedError) as error:  # as zipfile says that it is encrypted
        raise FileRefused("not_unpackable", f"it cannot be unpacked: {error}") from error


def _of(
    file: IO[bytes], name: str, where: str, budget: Budget, adapter: str | None
) -> Iterator[Piece | Unread]:
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


def _buffered(file: Any, budget: Budget) -> io.BufferedReader:
    return io.BufferedReader(_BudgetedReader(file, budget), 256 * 1024)


def _zipped(file: IO[bytes], where: str, budget: Budget, adapter: str | None) -> Iterator[Piece | Unread]:
    with zipfile.ZipFile(file) as archive:
        members = [one for one in archive.infolist() if not one.is_dir()]
        if len(members) > _MOST_MEMBERS:
            raise FileRefused("bomb", f"it has {len(members)} files in it: more than {_MOST_MEMBERS}")
        for member in members:
            _expect_inside(member.filename)
            _no_more_packing(member.filename, gz=False)
        for member in members:
            path = PurePosixPath(member.filename)
            if path.name.startswith(".") or path.parts[0] == "__MACOSX":
                continue  # what a computer says of the files to itself
            place = f"{where}/{member.filename}"
            try:
                yield from _member(archive, member, place, budget, adapter)
            except FileRefused as error:
                if error.code == "bomb":
                    raise
                yield Unread(place, error)
            except _DAMAGE as error:
                yield Unread(place, FileRefused("damaged", f"it cannot be unpacked: {error}"))


def _member(
    archive: zipfile.ZipFile, member: zipfile.ZipInfo, place: str, budget: Budget, adapter: str | None
) -> Iterator[Piece]:
    name = PurePosixPath(member.filename).name
    with archive.open(member) as plain:
        if name.lower().endswith(".gz"):
            with gzip.open(plain) as inner:
                yield from _plain(_buffered(inner, budget), name[:-3], place, adapter, budget)
        else:
            yield from _plain(_buffered(plain, budget), name, place, adapter, budget)


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
    file: io.BufferedReader, name: str, where: str, adapter: str | None, budget: Budget
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
        if not opened and (len(lines) >= ROWS or size >= CUT_AT):
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


def _parquet(file: io.BufferedReader, where: str, budget: Budget) -> Iterator[Piece]:
    """Its tables, read by a process of its own: how much a page unpacks to is seen when it has."""
    with os.fdopen(os.memfd_create("parquet"), "w+b") as copy:
        while part := file.read(_COPIED):
            copy.write(part)
            if copy.tell() > _MOST_PARQUET:
                raise FileRefused("too_large", f"Parquet of more than {_MOST_PARQUET} bytes: part it")
        copy.flush()
        if not _is_parquet(copy):
            raise FileRefused("damaged", "it cannot be read as Parquet: it neither begins nor ends as such")
        with subprocess.Popen(
            [sys.executable, "-m", "sources.files.parquet_child", str(copy.fileno())],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            pass_fds=[copy.fileno()], env={**os.environ, **_CHILD_ENV},
        ) as child:  # fmt: skip
            try:
                yield from _told(child, where, budget)
            finally:
                child.kill()


def _is_parquet(file: IO[bytes]) -> bool:
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - len(_PARQUET)))
    ends = file.read() == _PARQUET
    file.seek(0)
    return ends and file.read(len(_PARQUET)) == _PARQUET


def _told(child: "subprocess.Popen[bytes]", where: str, budget: Budget) -> Iterator[Piece]:
    """What the process tells: a line of JSON, and a payload's bytes where it says so."""
    assert child.stdin is not None
    assert child.stdout is not None
    with contextlib.suppress(OSError):  # it is gone, which the empty line tells
        child.stdin.write(json.dumps({"where": where, "left": budget.left}).encode())
        child.stdin.close()
    while line := child.stdout.readline():
        told = json.loads(line)
        if "refused" in told:
            raise FileRefused(*told["refused"])
        budget.left = told["left"]
        if "size" not in told:
            return
        body = child.stdout.read(told["size"])
        if len(body) == told["size"]:
            yield Piece(told["where"], "skyfuse-csv", body)
    ended = child.wait()
    name = signal.Signals(-ended).name if ended < 0 else f"{ended}"
    raise FileRefused("bomb", f"the process that read it ended over it ({name}): it takes too much to read")
