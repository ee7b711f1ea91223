"""What files unpack to: all rows once, whatever they are packed in; bombs and paths outside are refused."""

import csv
import gzip
import io
import json
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sources.adapters.core.translation import MAX_BYTES
from sources.errors import FileRefused
from sources.files import parquet, unpacking
from sources.files.piece import Budget, Piece, Unread
from sources.files.unpacking import pieces

HEADER = "time,station,parameter,value,unit\n"


def _pieces(data: bytes, name: str, adapter: str | None = None) -> list[Piece]:
    """Raises what a part of it is refused for."""
    found = []
    for piece in pieces(io.BytesIO(data), name, len(data), adapter):
        if isinstance(piece, Unread):
            raise piece.error
        found.append(piece)
    return found


def _zip(*members: tuple[str, bytes]) -> bytes:
    output = io.BytesIO()
    with zipfile.ZipFile(output, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return output.getvalue()


def _code(data: bytes, name: str, adapter: str | None = None) -> str:
    with pytest.raises(FileRefused) as caught:
        _pieces(data, name, adapter)
    return caught.value.code


def _outcome(data: bytes, name: str) -> tuple[list[Piece], str]:
    """Its pieces, or why there are none."""
    try:
        return _pieces(data, name), ""
    except FileRefused as error:
        return [], error.code


@given(
    st.lists(
        st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\r\0")), min_size=2, max_size=3)
    ),
    st.integers(1, 5),
)
def test_every_row_is_in_one_piece(rows: Sequence[Sequence[str]], most: int) -> None:
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n", quoting=csv.QUOTE_ALL)
    writer.writerow(["a", "b", "c"])
    writer.writerows(rows)
    data = table.getvalue().encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(unpacking, "ROWS", most)
        for name, packed in (
            ("x.csv", data),
            ("x.CSV.gz", gzip.compress(data)),
            ("x.zip", _zip(("x.csv", data))),
        ):
            found = []
            for piece in _pieces(packed, name):
                text = io.StringIO(piece.body.decode(), newline="")
                [head, *body] = list(csv.reader(text))
                assert head == ["a", "b", "c"]
                found += body
            assert found == [list(row) for row in rows]


def test_a_table_of_parquet_is_read_with_its_times() -> None:
    table = pa.table(
        {
            "time": pa.array([datetime(2026, 8, 21, 10, tzinfo=UTC)] * 2, pa.timestamp("ms", "UTC")),
            "station": ["roof", "roof"], "parameter": ["pm25", "pm10"], "value": [12.5, None],
            "unit": ["ug/m3"] * 2,
        }
    )  # fmt: skip
    output = io.BytesIO()
    pq.write_table(table, output)
    [piece] = _pieces(output.getvalue(), "a.parquet")
    assert piece.adapter == "skyfuse-csv"
    assert piece.body.decode().splitlines()[1:] == [
        "2026-08-21T10:00:00+00:00,roof,pm25,12.5,ug/m3", "2026-08-21T10:00:00+00:00,roof,pm10,,ug/m3",
    ]  # fmt: skip
    assert _code(b"PAR1 no parquet PAR1", "a.parquet") == "damaged"
    assert _code(output.getvalue(), "a.parquet", "cpcb") == "not_known"


def test_the_adapter_is_that_of_the_folder_or_by_the_ending() -> None:
    assert _pieces(b"{}", "a.json") == [Piece("a.json", "skyfuse-json", b"{}")]
    assert _pieces(b"{}", "a.json", "airgradient") == [Piece("a.json", "airgradient", b"{}")]
    assert _pieces(b"x", "HourlyData_2026082110.dat", "airnow")[0].adapter == "airnow"
    assert _code(b"x", "HourlyData_2026082110.dat") == "not_known"
    members = [
        ("a.json", b"{}"),
        ("__MACOSX/._a", b"x"),
        (".DS_Store", b"x"),
        ("b/c.json.gz", gzip.compress(b"[]")),
    ]
    assert [piece.where for piece in _pieces(_zip(*members), "z.zip")] == [
        "z.zip/a.json",
        "z.zip/b/c.json.gz",
    ]


def test_large_messages_are_cut_between_lines() -> None:
    line = b'{"station": "roof", "values": []}\n'
    data = line * (2 * MAX_BYTES // len(line))
    found = _pieces(data, "a.jsonl")
    assert len(found) > 2
    assert b"".join(piece.body for piece in found) == data
    assert _code(b"[" + b"1," * MAX_BYTES, "a.json") == "too_large"
    assert _code(b"a" * (MAX_BYTES + 2), "a.csv") == "too_large"
    assert _code(b'a\n"' + b"\n" * (MAX_BYTES + 2), "a.csv") == "too_large"


@pytest.mark.parametrize(
    "name",
    ["../up.csv", "/etc/passwd", "a/../../b.csv", "..\\up.csv", "C:\\a.csv", "C:a.csv", "\\\\host\\a.csv"],
)
def test_a_path_outside_spoils_the_archive(name: str) -> None:
    assert _code(_zip(("a.csv", HEADER.encode()), (name, b"x")), "a.zip") == "outside"


@given(st.text(min_size=1, max_size=40))
def test_no_name_in_an_archive_breaks_it(name: str) -> None:
    try:
        data = _zip((name, b"{}"))
    except (ValueError, LookupError):  # zipfile cannot write it
        return
    found, code = _outcome(data, "a.zip")
    assert code in ("outside", "not_known", "packed_twice", "damaged", "")
    assert all(piece.body == b"{}" for piece in found)


def test_what_cannot_be_read_in_an_archive_leaves_the_rest() -> None:
    torn = gzip.compress(HEADER.encode() * 500)[:-30]
    members = ("readme.txt", b"x"), ("a.csv", HEADER.encode()), ("t.csv.gz", torn), ("b.json", b"{}")
    data = _zip(*members)
    found = list(pieces(io.BytesIO(data), "a.zip", len(data), None))
    assert [one.error.code for one in found if isinstance(one, Unread)] == ["not_known", "damaged"]
    assert [one.where for one in found] == [f"a.zip/{name}" for name, _ in members]


def test_bombs_are_refused() -> None:
    zeros = bytes(200_000_000)
    assert _code(_zip(("a.csv", zeros)), "a.zip") in ("bomb", "too_large")
    lines = b"a,b\n" * 50_000_000
    assert _code(gzip.compress(lines, 9), "a.csv.gz") == "bomb"
    assert _code(_zip(*((f"{number}.json", b"{}") for number in range(1001))), "a.zip") == "bomb"
    assert _code(_zip(("b.zip", _zip(("a.csv", b"x")))), "a.zip") == "packed_twice"
    assert _code(gzip.compress(_zip(("a.csv", b"x"))), "a.zip.gz") == "packed_twice"


def _parquet(columns: dict[str, Any], **how: Any) -> bytes:
    output = io.BytesIO()
    pq.write_table(pa.table(columns), output, compression="zstd", **how)
    return output.getvalue()


@pytest.mark.parametrize(
    "how",
    [
        {"use_dictionary": True},
        {"use_dictionary": True, "store_schema": False},
        {"use_dictionary": False, "column_encoding": {"unit": "PLAIN"}},
        {"use_dictionary": False, "column_encoding": {"unit": "DELTA_BYTE_ARRAY"}},
    ],
)
def test_a_text_that_is_kept_once_for_many_rows_is_a_bomb_by_what_it_unpacks_to(how: dict[str, Any]) -> None:
    rows, text = 20_000, "u" * 40_960
    data = _parquet({"unit": pa.repeat(text, 1).take(pa.array([0] * rows))}, **how)
    pool = pa.default_memory_pool()
    before, made = pool.bytes_allocated(), 0
    pile = parquet.tables(data, "a.parquet", Budget.of_file(len(data)))

    def unpack() -> None:
        nonlocal made
        for piece in pile:
            made += len(piece.body)
            assert len(piece.body) <= MAX_BYTES
            assert pool.bytes_allocated() - before < 100_000_000

    with pytest.raises(FileRefused) as caught:
        unpack()
    assert caught.value.code == "bomb"
    assert made <= 16 * 1024 * 1024


def test_rows_without_text_are_counted_too_and_lists_are_not_read() -> None:
    rows = 3_000_000
    assert (
        _code(_parquet({"a": pa.nulls(rows, pa.int8()), "b": pa.nulls(rows, pa.int8())}), "a.parquet")
        == "bomb"
    )
    lists = pa.repeat(pa.scalar(["u" * 40_960] * 10), 10)
    [piece] = _pieces(_parquet({"time": ["x"] * 10, "more": lists}), "a.parquet")
    assert piece.body.decode().splitlines()[:2] == ["time,more", "x,a list or object"]


@given(
    st.lists(
        st.tuples(
            st.text(st.characters(codec="utf-8", exclude_characters="\r\0")), st.none() | st.integers(0, 9)
        )
    ),
    st.sampled_from(["PLAIN", "DELTA_BYTE_ARRAY", None]),
    st.integers(1, 5),
)
def test_every_row_of_parquet_is_in_one_piece(
    rows: Sequence[tuple[str, int | None]], encoding: str | None, most: int
) -> None:
    how: dict[str, Any] = {}
    if encoding is not None:
        how = {"use_dictionary": False, "column_encoding": {"a": encoding}}
    columns = {
        "a": pa.array([a for a, _ in rows], pa.string()), "b": pa.array([b for _, b in rows], pa.int64())
    }  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parquet, "ROWS", most)
        patch.setattr(parquet, "_DECODED_ROWS", 2)
        patch.setattr(parquet, "_DECODED_DELTAS", 3)
        patch.setattr(parquet, "CUT_AT", 1000)
        found = [
            list(csv.reader(io.StringIO(one.body.decode(), newline="")))
            for one in parquet.tables(_parquet(columns, **how), "a.parquet", Budget(10**9))
        ]
    assert all(head == ["a", "b"] and len(body) <= most for head, *body in found)
    assert [row for _, *body in found for row in body] == [[a, "" if b is None else str(b)] for a, b in rows]


CHILD = (
    "import sys; from sources.files import parquet_child; parquet_child._MEMORY = {} * 2**20;"
    " parquet_child.main()"
)


def _asked(data: bytes, memory: int) -> list[Any]:
    """What the process tells that has so many MiB: the lines, without what comes with them."""
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.flush()
        done = subprocess.run(
            [sys.executable, "-c", CHILD.format(memory), str(file.fileno())],
            input=b'{"where": "a.parquet", "left": 1000000000}', stdout=subprocess.PIPE,
            pass_fds=[file.fileno()], env={**os.environ, **unpacking._CHILD_ENV}, check=True,
        )  # fmt: skip
    told = []
    rest = done.stdout
    while rest:
        line, _, rest = rest.partition(b"\n")
        told.append(json.loads(line))
        rest = rest[told[-1].get("size", 0) :]
    return told


def test_a_page_that_is_more_than_the_process_may_have_ends_nothing() -> None:
    """It is decoded whole, and only then is known how much it is."""
    size = 100_000_000
    offsets, text = (
        pa.py_buffer(array) for array in (np.array([0, size], np.int32), np.zeros(size, np.uint8))
    )
    column = pa.Array.from_buffers(pa.string(), 1, [None, offsets, text])
    data = _parquet({"unit": column}, use_dictionary=False, write_statistics=False)
    assert len(data) < 10_000
    [told] = _asked(data, 320)
    assert told["refused"][0] == "bomb"
    assert "MiB of memory" in told["refused"][1]
    [told] = _asked(data, 1024)  # it has room, and is measured
    assert told["refused"][0] == "too_large"


def test_a_process_that_ends_over_a_file_ends_the_file_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    data = _parquet({"a": pa.array(["x"])})
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(FileRefused, match=r"ended over it \(1\)") as caught:
        _pieces(data, "a.parquet")
    assert caught.value.code == "bomb"
    monkeypatch.undo()
    [piece] = _pieces(_zip(("a.parquet", data)), "a.zip")
    assert piece.where == "a.zip/a.parquet:1-1"


@given(st.binary(max_size=200), st.sampled_from(["a.zip", "a.csv.gz", "a.parquet", "a.json", "a.csv"]))
def test_no_bytes_break_it(data: bytes, name: str) -> None:
    assert _outcome(data, name)[1] in ("", "damaged")


@given(st.data())
def test_a_damaged_archive_is_refused_in_words(draw: st.DataObject) -> None:
    good = bytearray(_zip(("a.json", b'{"a": 1}' * 20), ("b.json.gz", gzip.compress(b"[]" * 20))))
    for _ in range(draw.draw(st.integers(1, 4))):
        good[draw.draw(st.integers(0, len(good) - 1))] ^= draw.draw(st.integers(1, 255))
    code = _outcome(bytes(good), "a.zip")[1]
    assert code in ("", "damaged", "not_unpackable", "not_known", "outside", "packed_twice", "bomb")
