"""The india-nepal layout: groups, blanks, conflicts, times; and the solar hour."""

import csv
import math
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from camera.sun import solar_hour
from datasets.errors import LayoutError
from datasets.groups import INDIA_NEPAL_SITES, india_nepal

HEADER = [
    *("Location", "Filename", "Year", "Month", "Day", "Hour", "AQI"),
    *("PM2.5", "PM10", "O3", "CO", "SO2", "NO2", "AQI_Class"),
]
REAL = Path(__file__).parents[2].parent / "shared" / "data" / "india-nepal"


def write(folder: Path, rows: list[list[str]], header: list[str] = HEADER) -> Path:
    with (folder / "labels.csv").open("w", newline="") as handle:
        csv.writer(handle).writerows([header, *rows])
    return folder


def test_groups_come_in_time_order_with_their_frames_and_reading(tmp_path: Path) -> None:
    write(
        tmp_path,
        [
            [
                "ITO, Delhi",
                "b.jpg",
                "2023",
                "2",
                "7",
                "14:00",
                "449",
                "337",
                "198",
                "23",
                "24",
                "13",
                "57",
                "f",
            ],
            [
                "Biratnagar, Nepal",
                "n.jpg",
                "2023",
                "2",
                "7",
                "14:10",
                "101",
                "33",
                "48",
                "68",
                ".25",
                "",
                "NA",
                "c",
            ],
            [
                "ITO, Delhi",
                "a.jpg",
                "2023",
                "2",
                "7",
                "14:00",
                "449",
                "337",
                "198",
                "23",
                "24",
                "13",
                "57",
                "f",
            ],
        ],
    )
    nepal, delhi = india_nepal(tmp_path)
    # 14:10 in Nepal (+5:45) is 8:25 UTC, five minutes before 14:00 in India (+5:30).
    assert nepal.time.astimezone(UTC) == datetime(2023, 2, 7, 8, 25, tzinfo=UTC)
    assert delhi.time.astimezone(UTC) == datetime(2023, 2, 7, 8, 30, tzinfo=UTC)
    assert [path.name for path in delhi.frames] == ["a.jpg", "b.jpg"]
    assert delhi.readings == (337, 198, 57, 13, 24, 23)
    assert delhi.aqi == 449
    assert nepal.readings[:2] == (33, 48)
    assert math.isnan(nepal.readings[2])
    assert math.isnan(nepal.readings[3])
    assert nepal.readings[4:] == (0.25, 68)


def test_two_readings_of_one_moment_are_averaged_over_what_is_there(tmp_path: Path) -> None:
    write(
        tmp_path,
        [
            ["Mumbai", "a.jpg", "2023", "2", "3", "8:30", "136", "76", "137", "", "228", "3", "23", "c"],
            ["Mumbai", "b.jpg", "2023", "2", "3", "8:30", "136", "76", "137", "", "228", "3", "23", "c"],
            ["Mumbai", "c.jpg", "2023", "2", "3", "8:30", "111", "54", "111", "39", "319", "", "29", "c"],
        ],
    )
    (group,) = india_nepal(tmp_path)
    assert group.readings == (65, 124, 26, 3, 273.5, 39)
    assert group.aqi == 123.5


@pytest.mark.parametrize("location", ["Faridabad", "New Industrial Town, Faridabad", "faridabad NIT"])
def test_a_site_is_known_by_its_place_word(tmp_path: Path, location: str) -> None:
    write(tmp_path, [[location, "a.jpg", "2023", "2", "3", "8.30", "1", "1", "1", "1", "1", "1", "1", "a"]])
    (group,) = india_nepal(tmp_path)
    assert group.site.station == "faridabad"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({0: "Atlantis"}, "labels.csv:2: Location 'Atlantis'"),
        ({5: "25:00"}, "labels.csv:2: .*no date and hour"),
        ({7: "many"}, r"labels.csv:2, column PM2.5: 'many' is not a number"),
        ({7: "inf"}, "not finite"),
    ],
)
def test_a_broken_row_is_named(tmp_path: Path, change: dict[int, str], message: str) -> None:
    row = ["Mumbai", "a.jpg", "2023", "2", "3", "8:30", "136", "76", "137", "1", "228", "3", "23", "c"]
    write(tmp_path, [[change.get(index, cell) for index, cell in enumerate(row)]])
    with pytest.raises(LayoutError, match=message):
        list(india_nepal(tmp_path))


def test_a_missing_table_or_column_is_named(tmp_path: Path) -> None:
    with pytest.raises(LayoutError, match="does not exist"):
        list(india_nepal(tmp_path))
    write(tmp_path, [], [name for name in HEADER if name != "O3"])
    with pytest.raises(LayoutError, match="O3 missing"):
        list(india_nepal(tmp_path))
    write(tmp_path, [["Mumbai", "a.jpg", "2023"]])
    with pytest.raises(LayoutError, match="fewer cells"):
        list(india_nepal(tmp_path))


@given(
    st.integers(315_532_800, 3_786_912_000),
    st.integers(-14 * 60, 14 * 60),
    st.floats(-180, 180),
)
def test_solar_hour_is_utc_shifted_by_longitude_whatever_the_zone(
    seconds_utc: int, offset: int, longitude: float
) -> None:
    aware = datetime.fromtimestamp(seconds_utc, UTC)
    hour = solar_hour(aware.astimezone(timezone(timedelta(minutes=offset))), longitude)
    expected = aware + timedelta(hours=longitude / 15)
    seconds = (expected - expected.replace(hour=0, minute=0, second=0, microsecond=0)).total_seconds()
    assert 0 <= hour < 24
    assert min(abs(hour - seconds / 3600), 24 - abs(hour - seconds / 3600)) < 1e-6
    assert math.isnan(solar_hour(aware, None))


@pytest.mark.realdata
@pytest.mark.skipif(not REAL.is_dir(), reason="../shared/data is not here")
def test_the_real_folder_reads_whole() -> None:
    groups = list(india_nepal(REAL))
    with (REAL / "labels.csv").open() as handle:
        rows = list(csv.DictReader(handle))
    assert sum(len(group.frames) for group in groups) == len({row["Filename"] for row in rows})
    keys = {(row["Location"], row["Year"], row["Month"], row["Day"], row["Hour"]) for row in rows}
    assert len(groups) == len(keys)
    assert all(frame.is_file() for group in groups for frame in group.frames)
    assert {group.site for group in groups} <= set(INDIA_NEPAL_SITES.values())
    assert [group.time for group in groups] == sorted(group.time for group in groups)
