"""Tables as people and loggers write them: every row is read or named with its line."""

import csv
import gzip
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from datasets.errors import SourceError
from datasets.events import Problem, in_zone
from datasets.places import Places, origin_places, origin_text
from datasets.tables import csv_rows, parquet_rows
from schemas.base import parse_time

HEAD = "station,time,parameter,value,unit"
NEEDED = ("station", "time", "parameter", "value", "unit")
OPTIONAL = ("sensor", "channel")
LIMIT = csv.field_size_limit()


def read(file: Path, text: str, zone: ZoneInfo | None = None) -> tuple[list[tuple[str, str]], list[str]]:
    """(line, value) of the rows, and the problems without the path."""
    file.write_bytes(text.encode())
    problems: list[Problem] = []
    rows = csv_rows(file, NEEDED, OPTIONAL, problems, zone)
    found = [(where.rpartition(":")[2], row["value"]) for where, row in rows]
    return found, [str(problem).removeprefix(f"{file}:") for problem in problems]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "r.csv"


def row(value: object, more: str = "") -> str:
    return f"a,2026-01-01T00:00:00Z,pm25,{value},ug/m3{more}\n"


@pytest.mark.parametrize("twice", ["value", "unit", "sensor", "time"])
def test_a_column_that_is_there_twice_is_refused(file: Path, twice: str) -> None:
    with pytest.raises(SourceError, match=rf"{file}:1: column {twice} is there 2 times \(columns \d and 7\)"):
        read(file, f"{HEAD},sensor,{twice}\n{row(20, ',x,99')}")


def test_columns_that_nobody_reads_may_be_there_twice(file: Path) -> None:
    assert read(file, f"{HEAD},,,note,note\n{row(20, ',,,x,y')}") == ([("2", "20")], [])


def test_a_column_that_is_there_twice_in_parquet(tmp_path: Path) -> None:
    columns = [pa.array(["a"])] * 6
    pq.write_table(pa.Table.from_arrays(columns, names=[*NEEDED, "value"]), tmp_path / "r.parquet")
    with pytest.raises(SourceError, match="column value is there 2 times"):
        list(parquet_rows(tmp_path / "r.parquet", NEEDED, OPTIONAL, []))


def parquet(file: Path, **columns: pa.Array) -> tuple[list[dict[str, object]], list[str]]:
    """Rows of a table of one row each, with other columns than the usual, and the problems."""
    count = len(next(iter(columns.values())))
    usual = {
        "station": pa.array(["a"] * count),
        "time": pa.array([1_700_000_000_000] * count),
        "parameter": pa.array(["pm25"] * count),
        "value": pa.array([1.0] * count),
        "unit": pa.array(["ug/m3"] * count),
    }
    pq.write_table(pa.table({**usual, **columns}), file)
    problems: list[Problem] = []
    rows = [row for _, row in parquet_rows(file, NEEDED, (*OPTIONAL, "period"), problems)]
    return rows, [str(problem).removeprefix(f"{file}, ") for problem in problems]


@pytest.mark.parametrize("name", ["station", "parameter", "unit", "sensor", "channel"])
@pytest.mark.parametrize(
    ("cells", "text"),
    [
        (pa.array([12, 3]), ["12", "3"]),
        (pa.array([12.0, 3.0]), ["12", "3"]),
        (pa.array([b"x", b"y"]), ["x", "y"]),
        (pa.array(["x", "y"]).dictionary_encode(), ["x", "y"]),
        (pa.array(["x", "y"], pa.large_string()), ["x", "y"]),
    ],
)
def test_names_in_parquet_may_be_numbers_or_bytes(
    tmp_path: Path, name: str, cells: pa.Array, text: list[str]
) -> None:
    rows, problems = parquet(tmp_path / "r.parquet", **{name: cells})
    assert ([row[name] for row in rows], problems) == (text, [])


@pytest.mark.parametrize(
    ("name", "cells", "why"),
    [
        ("station", pa.array([1.5]), "column station holds 1.5: a name is text or a whole number"),
        ("station", pa.array([True]), "a name is text"),
        ("sensor", pa.array([["a"]]), "a name is text"),
        ("station", pa.array([b"\xff"]), "column station holds bytes that are no UTF-8"),
        ("station", pa.array([None], pa.int64()), "column station is null"),
        ("value", pa.array([[1.0]]), "column value holds [1.0], which is no number"),
        ("value", pa.array([True]), "which is no number"),
        ("value", pa.array([{"a": 1}]), "which is no number"),
        ("value", pa.array([0], pa.timestamp("ns")), "which is no number"),
        ("value", pa.array([b"\xff"]), "no UTF-8"),
        ("time", pa.array([2**62], pa.timestamp("us", tz="UTC")), "column time cannot be read"),
        ("time", pa.array([2**62], pa.timestamp("ms")), "column time cannot be read"),
    ],
)
def test_a_cell_of_parquet_that_is_no_such_thing_is_a_named_row(
    tmp_path: Path, name: str, cells: pa.Array, why: str
) -> None:
    rows, [problem] = parquet(tmp_path / "r.parquet", **{name: cells})
    assert rows == []
    assert problem.startswith("row 1: ")
    assert why in problem
    assert problem.endswith("; not sent")


def test_one_bad_date_costs_its_own_row_only(tmp_path: Path) -> None:
    times = pa.array([1_700_000_000_000_000, 2**62, None], pa.timestamp("us", tz="UTC"))
    rows, problems = parquet(tmp_path / "r.parquet", time=times)
    assert [row["time"] for row in rows] == ["2023-11-14T22:13:20Z"]
    assert [problem.partition(":")[0] for problem in problems] == ["row 2", "row 3"]


def test_nanoseconds_are_cut(tmp_path: Path) -> None:
    times = pa.array([1_700_000_000_123_456_789], pa.timestamp("ns", tz="Europe/Berlin"))
    [row], problems = parquet(tmp_path / "r.parquet", time=times)
    assert (row["time"], problems) == ("2023-11-14T22:13:20.123Z", [])


@pytest.mark.parametrize("zone", ["Europe/Milan", "no zone", "+99:99", ""])
def test_a_zone_that_nobody_knows_is_refused(tmp_path: Path, zone: str) -> None:
    times = pa.array([0], pa.timestamp("us", tz=zone or "Mars/Olympus"))
    with pytest.raises(SourceError, match=r"column time has times of the zone .* does not exist"):
        parquet(tmp_path / "r.parquet", time=times)


def test_a_table_may_be_compressed_and_a_torn_one_is_a_sentence(tmp_path: Path) -> None:
    data = gzip.compress(f"{HEAD}\n{row(20)}{row(21)}".encode(), mtime=0)
    file = tmp_path / "r.csv.gz"
    file.write_bytes(data)
    assert [line["value"] for _, line in csv_rows(file, NEEDED, OPTIONAL, [])] == ["20", "21"]
    for broken in (data[:-9], b"no gzip", data[:20] + b"\0\0\0" + data[23:]):
        file.write_bytes(broken)
        with pytest.raises(SourceError, match=r"cannot read .*r\.csv\.gz"):
            list(csv_rows(file, NEEDED, OPTIONAL, []))


def test_a_header_that_cannot_be_read_is_a_sentence(file: Path) -> None:
    with pytest.raises(SourceError, match=rf"{file}:1: the header line cannot be read: field larger"):
        read(file, f"{HEAD},{'x' * (LIMIT + 1)}\n{row(1)}")
    with pytest.raises(SourceError, match=r"r.csv:1: a quote that opens in line 1 .* the 2 lines after it"):
        read(file, f'{HEAD},"note\n{row(1)}{row(2)}')


def test_a_huge_cell_is_told_at_its_line(file: Path) -> None:
    rows, problems = read(file, f"{HEAD}\n{row(1)}{row('9' * (LIMIT + 1))}{row(3)}")
    assert rows == [("2", "1"), ("4", "3")]
    assert problems == ["3: field larger than field limit (131072); not sent"]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_quote_that_is_never_closed_says_what_it_swallowed(file: Path, end: str) -> None:
    text = f'{HEAD}\n{row(1)}a,"2026-01-01T00:01:00Z,pm25,2,ug/m3\n{row(3)}{row(4)}'
    rows, problems = read(file, text.replace("\n", end))
    assert rows == [("2", "1")]
    [problem] = problems
    assert problem.startswith(
        "3: a quote that opens in line 3 is not closed there: the 2 lines after it, to line 5,"
    )


def test_a_quote_that_closes_in_another_row_says_what_it_swallowed(file: Path) -> None:
    swallowing = f'{row(2, ",")[:-1]}"oops\n{row(3, ",fine")}{row(4, ",")[:-1]}"ok"\n'
    rows, problems = read(file, f"{HEAD},note\n{row(1, ',good')}{swallowing}{row(5, ',good')}")
    assert rows == [("2", "1"), ("6", "5")]
    [problem] = problems
    assert problem.startswith(
        "3: a quote that opens in line 3 is not closed there: the 2 lines after it, to line 5,"
    )


def test_rows_in_a_well_quoted_cell_are_swallowed_rows(file: Path) -> None:
    swallowing = f'{row(2, ",")[:-1]}"oops\n{row(3, ",fine")}{row(4, ",")[:-1]}"\n'
    rows, problems = read(file, f"{HEAD},note\n{swallowing}{row(5, ',good')}")
    assert rows == [("5", "5")]
    [problem] = problems
    assert problem.startswith("2: a quote that opens in line 2 is not closed there: the 2 lines after it,")


def test_a_quote_that_swallows_all_there_is_room_for_says_so(file: Path) -> None:
    many = "".join(row(n) for n in range(5000))
    rows, problems = read(file, f'{HEAD}\na,"2026-01-01T00:00:00Z,pm25,0,ug/m3\n{many}')
    assert problems[0].startswith("2: a quote that opens in line 2 is not closed there: the 3")
    assert "(one cell of more than 131072 characters); not sent" in problems[0]
    swallowed = int(problems[0].partition("the ")[2].split()[0])
    assert len(rows) == 5000 - swallowed


def test_a_cell_of_several_lines_is_no_fault(file: Path) -> None:
    text = f'{HEAD},note\n{row(1, ",")[:-1]}"one, and ""two""\nthree"\n{row(2, ",x")}'
    assert read(file, text) == ([("2", "1"), ("4", "2")], [])


# -- times without a zone --------------------------------------------------------------------------------

ZONES = ("Asia/Kolkata", "Europe/Berlin", "America/Havana", "Australia/Lord_Howe", "Asia/Kathmandu", "UTC")


@given(
    st.datetimes(datetime(2005, 1, 1), datetime(2035, 1, 1)).map(lambda t: t.replace(microsecond=0)),  # noqa: DTZ001
    st.sampled_from(ZONES),
)
@example(datetime(2026, 4, 5, 1, 45), "Australia/Lord_Howe")  # noqa: DTZ001  half an hour, twice
@example(datetime(2026, 3, 29, 2, 0), "Europe/Berlin")  # noqa: DTZ001  never
def test_a_time_of_a_zone_is_the_only_moment_that_had_it_or_is_refused(local: datetime, name: str) -> None:
    zone = ZoneInfo(name)
    # The oracle looks at every moment of the two days around.
    near = local.replace(tzinfo=UTC)
    steps = (near + timedelta(minutes=15 * n) for n in range(-96, 97))
    moments = [at for at in steps if at.astimezone(zone).replace(tzinfo=None) == local]
    try:
        found = [parse_time(in_zone(local.isoformat(" "), zone))]
        refused = ""
    except ValueError as error:
        found, refused = [], str(error)
    assert found == (moments if len(moments) == 1 else [])
    assert ("was twice" in refused, "there was no" in refused) == (len(moments) == 2, not moments)


@pytest.mark.parametrize(
    ("stated", "means"),
    [
        ("2026-03-29 01:59", "2026-03-29T00:59:00Z"), ("2026-03-29T03:00:00", "2026-03-29T01:00:00Z"),
        ("2026-03-29 02:30", "there was no 2026-03-29 02:30 in Europe/Berlin"),
        ("2026-10-25 02:30", r"was twice .* 2026-10-25T02:30\+02:00 or 2026-10-25T02:30\+01:00"),
        ("2026-10-25", "is a day without a time"), ("2026-02-30 10:00", "is no time: day is out of range"),
        ("2026-10-25T02:30:00+01:00", "2026-10-25T02:30:00+01:00"), (1_790_000_000_000, 1_790_000_000_000),
        ("25-10-2026 10:00", "25-10-2026 10:00"),
    ],
)  # fmt: skip
def test_clock_changes_are_refused_by_name_and_a_stated_zone_stays(
    stated: str | int, means: str | int
) -> None:
    berlin = ZoneInfo("Europe/Berlin")
    try:
        assert in_zone(stated, berlin) == means
    except ValueError as error:
        with pytest.raises(ValueError, match=str(means)):
            raise error


def test_the_zone_of_a_table(file: Path) -> None:
    text = f"{HEAD}\na,2026-03-29 01:30,pm25,1,ug/m3\na,2026-03-29 02:30,pm25,2,ug/m3\n"
    rows, problems = read(file, text, ZoneInfo("Europe/Berlin"))
    assert rows == [("2", "1")]
    assert problems == [
        "3: there was no 2026-03-29 02:30 in Europe/Berlin: clocks were put forward over it; not sent"
    ]
    assert read(file, text)[0] == [("2", "1"), ("3", "2")], (
        "without a zone nobody guesses: the pipeline refuses"
    )


# -- places ------------------------------------------------------------------------------------------------

_names = st.sampled_from(["a.csv:", "b/7.csv:", "c.parquet, row ", "ü:"])


@given(st.lists(st.tuples(_names, st.integers(0, 10**6))))
def test_places_of_a_message_come_back(pairs: list[tuple[str, int]]) -> None:
    together = sorted(pairs, key=lambda pair: pair[0])
    places = [f"{file}{line}" for file, line in together]
    assert origin_places(origin_text(places)) == places
    assert origin_places(origin_text(["labels.csv, st at noonZ"] * 2)) == ["labels.csv, st at noonZ"] * 2


def told(lines: Iterable[int], most: int = 40) -> str:
    places = Places()
    for line in lines:
        places.add(f"r.csv:{line}")
    return places.text(most)


@given(st.sets(st.integers(1, 60), min_size=1))
def test_lines_in_a_row_are_told_as_one(lines: set[int]) -> None:
    text = told(lines, most=100).removeprefix("r.csv:")
    spans = [[int(end) for end in part.split("-")] for part in text.split(", ")]
    assert [n for span in spans for n in range(span[0], span[-1] + 1)] == sorted(lines)
    assert all(later[0] > earlier[-1] + 1 for earlier, later in pairwise(spans))


def test_very_many_places_are_cut_short() -> None:
    assert told([1, 3, 5], most=2) == "r.csv:1, 3, and more"
