"""Folders in the plain layout as people keep them: every file is read, or named."""

import gzip
import json
from pathlib import Path

import pytest

from datasets.errors import SourceError
from datasets.plain import Contents, read_plain, tables_of
from datasets.spool import Spool
from tests.datasets.test_tables import HEAD, row

NOW_MS = 1_800_000_000_000


def contents(root: Path) -> tuple[Contents, int]:
    """What is read of a folder, and how many rows."""
    with Spool(NOW_MS) as spool:
        return read_plain(root, spool), len(spool)


def table(file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    text = f"{HEAD}\n{row(1)}".encode()
    if file.suffix.lower() == ".gz":
        text = gzip.compress(text)
    file.write_bytes(text)


@pytest.mark.parametrize(
    "name",
    [
        "readings.csv", "READINGS.CSV", "readings.csv.gz", "readings/a.csv", "readings/B.CSV",
        "readings/c.csv.gz", "readings/2025/d.csv", "Readings/2025/06/e.Csv.GZ",
    ],
)  # fmt: skip
def test_a_table_is_read_in_any_spelling(tmp_path: Path, name: str) -> None:
    table(tmp_path / "readings" / "first.csv")
    table(tmp_path / name)
    found, rows = contents(tmp_path)
    assert (rows, found.problems) == (2, [])


@pytest.mark.parametrize(
    "name",
    [
        "readings-2.csv", "readings.tsv", "june.csv", "june.parquet", "readings-2/a.csv", "stations.xlsx",
        "readings/a.txt", "readings/2025/b.xlsx", "readings/c.csv.zip", "FRAMES.csv.bak",
    ],
)  # fmt: skip
def test_a_file_that_is_left_aside_is_named(tmp_path: Path, name: str) -> None:
    table(tmp_path / "readings.csv")
    table(tmp_path / name)
    found, rows = contents(tmp_path)
    [problem] = found.problems
    assert rows == 1
    assert str(tmp_path / name).startswith(problem.where)
    assert problem.what.endswith("; not sent")


def test_what_nobody_means_to_be_read_is_not_told(tmp_path: Path) -> None:
    table(tmp_path / "readings.csv")
    for name in (
        "README.md", ".hidden.csv", "images/one.jpg", "readings/_SUCCESS", "readings/.a.csv.crc",
        "readings/README", "readings/2025/notes.md",
    ):  # fmt: skip
        table(tmp_path / name)
    found, rows = contents(tmp_path)
    assert (rows, found.problems) == (1, [])


def test_of_two_lists_of_stations_one_counts_and_the_other_is_named(tmp_path: Path) -> None:
    table(tmp_path / "readings.csv")
    (tmp_path / "stations.json").write_text('[{"station": "a"}]')
    (tmp_path / "stations.csv").write_text("station\nb\n")
    found, _ = contents(tmp_path)
    assert [station.station for station in found.stations] == ["a"]
    [problem] = found.problems
    assert problem.where == str(tmp_path / "stations.csv")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_stations_in_any_encoding_of_unicode(tmp_path: Path, encoding: str) -> None:
    table(tmp_path / "readings.csv")
    listed = json.dumps([{"station": "a", "name": "Höhe"}], ensure_ascii=False)
    (tmp_path / "stations.json").write_bytes(listed.encode(encoding))
    assert [station.name for station in contents(tmp_path)[0].stations] == ["Höhe"]


def test_further_columns_of_stations_are_ignored(tmp_path: Path) -> None:
    table(tmp_path / "readings.csv")
    (tmp_path / "stations.csv").write_text("station,owner,name,note,note\na,city,Harbour,x,y\n")
    found, _ = contents(tmp_path)
    assert ([station.name for station in found.stations], found.problems) == (["Harbour"], [])


def test_what_no_table_can_hold_is_still_refused_by_name(tmp_path: Path) -> None:
    table(tmp_path / "readings.csv")
    (tmp_path / "stations.csv").write_text("station,sensors\na,main\n")
    found, _ = contents(tmp_path)
    assert "station record: sensors" in str(found.problems[0])


def nested(depth: int) -> str:
    return '[{"station": ' + "[" * depth + "]" * depth + "}]"


def test_a_station_that_is_nested_too_deeply_is_named(tmp_path: Path) -> None:
    table(tmp_path / "readings.csv")
    (tmp_path / "stations.json").write_text(nested(400))
    assert "station record" in str(contents(tmp_path)[0].problems[0])
    (tmp_path / "stations.json").write_text(nested(100_000))
    with pytest.raises(SourceError, match=r"cannot read .*stations\.json"):
        contents(tmp_path)


def test_a_single_file_that_is_no_table(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("x")
    with pytest.raises(SourceError, match=r"no table that can be read: \.csv, \.csv\.gz, \.parquet"):
        tables_of(tmp_path / "a.tsv")
    table(tmp_path / "A.CSV.GZ")
    assert contents(tmp_path / "A.CSV.GZ")[1] == 1
