"""Weather as services publish it: units, zones, whose hour the rain is, and what is no weather."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from datasets.errors import SourceError
from schemas.base import format_time
from sources.weather import OPEN_METEO, open_meteo, open_meteo_query, read_weather_file

NOW = datetime(2026, 6, 1, 12, 20, tzinfo=UTC)
#: As the service answers, in the units that it uses if nobody asks for others.
ANSWER: dict[str, Any] = {
    "latitude": 52.52, "longitude": 13.41, "elevation": 38.0, "utc_offset_seconds": 7200,
    "timezone": "Europe/Berlin",
    "hourly_units": {
        "time": "iso8601", "temperature_2m": "°C", "dew_point_2m": "°C", "surface_pressure": "hPa",
        "wind_speed_10m": "km/h", "wind_direction_10m": "°", "precipitation": "mm",
        "boundary_layer_height": "m",
    },
    "hourly": {
        "time": ["2026-06-01T14:00", "2026-06-01T15:00", "2026-06-01T16:00"],
        "temperature_2m": [20.5, 21.0, None], "dew_point_2m": [10.0, 10.5, 11.0],
        "surface_pressure": [1002.1, 1002.0, 1001.8], "wind_speed_10m": [3.6, 7.2, 36.0],
        "wind_direction_10m": [270, 280, 290], "precipitation": [0.1, 0.7, 0.0],
        "boundary_layer_height": [900.0, 1000.0, 1100.0],
    },
}  # fmt: skip


def test_an_answer_of_open_meteo() -> None:
    found = open_meteo(json.dumps(ANSWER).encode(), "s", NOW)
    assert (found.station, found.issued_at, found.latitude) == ("s", NOW, 52.52)
    assert [format_time(hour.valid_at) for hour in found.hours] == [
        "2026-06-01T12:00:00Z", "2026-06-01T13:00:00Z", "2026-06-01T14:00:00Z",
    ]  # fmt: skip
    first, second, third = found.hours
    assert (first.temperature, first.wind_speed, second.wind_speed) == (20.5, 1.0, 2.0)
    assert (first.rain, second.rain, third.rain) == (0.7, 0.0, None), "it is told at the hour's end"
    assert (third.temperature, third.boundary_layer) == (None, 1100.0)


def test_other_units_and_seconds() -> None:
    answer = {
        "hourly_units": {"temperature_2m": "°F", "wind_speed_10m": "kn", "precipitation": "inch"},
        "hourly": {
            "time": [1780315200, 1780318800], "temperature_2m": [50.0, 59.0],
            "wind_speed_10m": [10.0, 0.0], "precipitation": [0.0, 1.0],
        },
    }  # fmt: skip
    first = open_meteo(json.dumps(answer).encode(), "s", NOW).hours[0]
    assert first.temperature == pytest.approx(10.0)
    assert first.wind_speed == pytest.approx(5.14444)
    assert first.rain == pytest.approx(25.4)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"{", "no answer of Open-Meteo's form"),
        (b"[" * 100_000, "no answer of Open-Meteo's form"),
        (b"[]", "no answer of Open-Meteo's form"),
        (b'{"hourly":{"time":[]}}', "hours"),
        (b'{"error":true,"reason":"Daily limit exceeded"}', "Daily limit exceeded"),
        (b'{"hourly":{"time":["2026-06-01T14:00"],"temperature_2m":[1,2]}}', "has 2 values for 1 times"),
        (b'{"hourly":{"time":["2026-06-01T14:00"],"temperature_2m":[999]}}', "temperature"),
        (
            b'{"hourly_units":{"wind_speed_10m":"furlong"},"hourly":{"time":["2026-06-01T14:00"],'
            b'"wind_speed_10m":[1]}}',
            "'furlong'",
        ),
    ],
)
def test_what_is_no_weather_is_explained(body: bytes, words: str) -> None:
    with pytest.raises(SourceError, match=words):
        open_meteo(body, "s", NOW)


def test_the_service_is_asked_for_what_is_used() -> None:
    asked = parse_qs(urlsplit(open_meteo_query(OPEN_METEO, 52.5, 13.4)).query)
    assert set(ANSWER["hourly"]) - {"time"} == set(asked["hourly"][0].split(","))
    assert asked["latitude"] == ["52.5000"]
    assert "&latitude" in open_meteo_query("http://here/?key=x", 1.0, 2.0)


def test_a_table_is_known_when_its_hours_are_over(tmp_path: Path) -> None:
    table = tmp_path / "weather.csv"
    table.write_text(
        "station,time,temperature,windspeed,winddirection,rain\n"
        "a,2026-06-01T10:00:00Z,12.5,3,90,\n"
        "b,2026-06-01T10:00:00Z,,,,0\n"
        "a,2026-06-01T11:00:00Z,warm,,,\n"
        "a,never,1,,,\n"
        "a,2026-06-01T09:00:00Z,,,,\n"
        "a,2026-06-01T12:00:00Z,1,,,\n"
    )
    problems: list[str] = []
    found = list(read_weather_file(table, [], NOW, NOW, problems))
    assert [(one.station, format_time(one.issued_at)) for one in found] == [
        ("a", "2026-06-01T11:00:00Z"), ("b", "2026-06-01T11:00:00Z"),
    ]  # fmt: skip
    assert (found[0].hours[0].wind_speed, found[0].hours[0].rain) == (3.0, None)
    assert [one.partition("weather.csv:")[2].partition(": ")[::2] for one in problems] == [
        ("4", "temperature: 'warm' is no number; leave the cell empty where there is none"),
        ("5", problems[1].partition(": ")[2]),
        ("6", "it has none of temperature, dewpoint, pressure, windspeed, winddirection, rain"),
        ("7", "2026-06-01T12:00:00Z: that hour is not over, so nobody has observed it"),
    ]
    assert [one.station for one in read_weather_file(table, ["b"], NOW, NOW, [])] == ["b"]
    with pytest.raises(SourceError, match="names no station"):
        list(read_weather_file(tmp_path / "x.json", [], NOW, NOW, []))


def test_a_file_that_is_no_text_is_named_and_not_printed(tmp_path: Path) -> None:
    file = tmp_path / "answer.json"
    file.write_bytes(bytes(range(256)) * 400)
    with pytest.raises(SourceError, match=r"answer\.json: weather for s: .*is no answer") as told:
        list(read_weather_file(file, ["s"], NOW, NOW, []))
    assert len(str(told.value)) < 500
