"""A folder's forecasts scored: through the command, on weather and readings as people have them."""

import json
import math
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from cli.main import app
from forecast.evaluation import HORIZONS, erring, evaluate
from forecast.folder import read_panel
from forecast.models import ForecastInputs, Origins, Persistence
from forecast.panel import CHANNELS, Panel
from schemas.arrays import Float32
from schemas.base import format_time, from_ms

LATE = 1_900_000_000_000


def stated(hour: int) -> str:
    return format_time(datetime.fromtimestamp(hour * 3600, UTC))


def write(folder: Path, hours: int) -> None:
    begins = 1_700_000_000_000 // 3_600_000
    rows = ["station,time,parameter,value,unit"]
    sky = ["station,time,temperature,windspeed,winddirection"]
    for hour in range(begins, begins + hours):
        stamp = stated(hour)
        for k, station in enumerate(("a", "b")):
            rows.append(f"{station},{stamp},pm25,{30 + 20 * math.sin(hour / 7) + k:.2f},ug/m3")
            rows.append(f"{station},{stamp},no2,{20 + k},ppb")
            sky.append(f"{station},{stamp},{10 + k},2.0,270")
    rows.append(f"a,{stated(begins)},pm10,abc,ug/m3")
    (folder / "readings.csv").write_text("\n".join(rows) + "\n")
    (folder / "weather.csv").write_text("\n".join(sky) + "\n")


def test_a_folder_becomes_a_panel(tmp_path: Path) -> None:
    write(tmp_path, 30)
    panel, problems = read_panel(tmp_path, LATE)
    assert panel.stations == ("a", "b")
    assert panel.hours == 30
    of = {name: panel.values[1, 3, place] for place, name in enumerate(CHANNELS)}
    assert of["no2"] == pytest.approx(21 * 1.88, rel=0.01)  # ppb at 25 degrees
    assert of["temperature"] == 11
    assert of["wind_east"] == pytest.approx(2.0)  # a west wind blows towards the east
    assert of["wind_north"] == pytest.approx(0.0, abs=1e-5)
    assert len(problems) == 1
    assert "readings.csv:122" in problems[0]


def test_what_is_no_id_of_a_station_is_named_and_left_out(tmp_path: Path) -> None:
    """The stream would refuse it, too."""
    (tmp_path / "readings.csv").write_text(
        "station,time,parameter,value,unit\n"
        "hill,2016-01-01T00:10:00Z,pm25,10,ug/m3\na/b,2016-01-01T00:10:00Z,pm25,10,ug/m3\n"
    )
    (tmp_path / "weather.csv").write_text(
        "station,time,temperature\nhill,2016-01-01T00:10:00Z,4\ncafé,2016-01-01T00:10:00Z,4\n"
    )
    panel, problems = read_panel(tmp_path, LATE)
    assert panel.stations == ("hill",)
    assert len(problems) == 2
    assert "readings.csv:3: station 'a/b': " in problems[0]
    assert "weather.csv:3: station 'café': " in problems[1]


def test_noise_below_zero_belongs_into_an_hours_mean_which_is_not_below_it(tmp_path: Path) -> None:
    begins, (first, second) = 1_700_000_400_000, ((-1, 3), (-4, 2))
    rows = [
        f"a,{format_time(from_ms(begins + hour * 3_600_000 + place * 60_000))},pm25,{value},ug/m3"
        for hour, values in enumerate((first, second))
        for place, value in enumerate(values)
    ]
    (tmp_path / "readings.csv").write_text("station,time,parameter,value,unit\n" + "\n".join(rows) + "\n")
    panel, problems = read_panel(tmp_path, LATE)
    assert problems == []
    assert panel.values[0, :, 0].tolist() == [1.0, 0.0]


@pytest.mark.parametrize(
    ("table", "record", "hour"),
    [
        (",", {"period": 3600}, -1),  # as the station's record has it
        (",", {"period": 3600, "stamp": "begins"}, 0),
        ("3600,", {"period": 600}, -1),  # the row's own word goes before
        ("600,begins", {"period": 3600}, 0),
        (",", {}, 0),
    ],
)
def test_a_mean_counts_in_the_hour_in_which_it_began(
    tmp_path: Path, table: str, record: dict[str, object], hour: int
) -> None:
    begins = 1_700_000_400_000 // 3_600_000 * 3_600_000
    head = "station,time,parameter,value,unit,period,stamp"
    row = f"a,{format_time(from_ms(begins))},pm25,9,ug/m3,{table}"
    (tmp_path / "readings.csv").write_text(f"{head}\n{row}\n")
    sensor = {"sensor": "main", "parameters": ["pm25"], **record}
    (tmp_path / "stations.json").write_text(json.dumps([{"station": "a", "sensors": [sensor]}]))
    panel, problems = read_panel(tmp_path, LATE)
    assert problems == []
    assert panel.begins == begins // 3_600_000 + hour


def test_a_wind_that_turns_within_the_hour_is_the_mean_of_its_vectors(tmp_path: Path) -> None:
    """A gale from the west and a breath from the east: as in the stream, from sensors and from a table."""
    begins = 1_700_000_400_000 // 3_600_000 * 3_600_000
    head, sky = ["station,time,parameter,value,unit"], ["station,time,windspeed,winddirection"]
    for minute, speed, direction in ((5, 9.0, 270), (35, 1.0, 90)):
        at = format_time(from_ms(begins + minute * 60_000))
        head += [f"a,{at},winddirection,{direction},deg", f"a,{at},windspeed,{speed},m/s"]
        head.append(f"a,{at},pm25,9,ug/m3")
        sky.append(f"b,{at},{speed},{direction}")
        head.append(f"b,{at},pm25,9,ug/m3")
    # A direction alone is no wind.
    head.append(f"a,{format_time(from_ms(begins + 50 * 60_000))},winddirection,90,deg")
    (tmp_path / "readings.csv").write_text("\n".join(head) + "\n")
    (tmp_path / "weather.csv").write_text("\n".join(sky) + "\n")
    panel, problems = read_panel(tmp_path, LATE)
    assert problems == []
    for station in panel.values[:, 0]:
        found = dict(zip(CHANNELS, station.tolist(), strict=True))
        assert found["wind_speed"] == pytest.approx(5.0)
        assert found["wind_east"] == pytest.approx(4.0)  # the mean speed times the mean direction would be 0
        assert found["wind_north"] == pytest.approx(0.0, abs=1e-5)


def test_scores_follow_their_formulas() -> None:
    values = np.full((1, 600, len(CHANNELS)), np.nan, np.float32)
    values[0, :, 0] = np.arange(600) % 2 * 10
    floor = Persistence(np.zeros((144, 6, 8), np.float32), (1.0,) * 6)
    scores = evaluate(Panel(("s",), 0, (0.0,), values), [floor], 0, 1, None, lambda *_: None)
    by = {score.horizon: score for score in scores if score.model == "persistence"}
    assert set(by) == set(HORIZONS)
    assert by[1].mae.value == pytest.approx(10)
    assert by[1].rmse.value == pytest.approx(10)
    assert by[6].mae.value == 0
    assert by[1].skill == 0
    assert by[1].count == 599
    # 600 hours from 1970 on lie in one quarter; persistence without a width holds where nothing changes.
    assert list(by[6].quarters) == ["1970-Q1"]
    assert by[6].quarters["1970-Q1"].outcomes == 594
    assert by[6].quarter_range == (1.0, 1.0)


def test_skill_s_range_is_of_the_same_weeks_for_both() -> None:
    """Half as wrong as persistence in each week, weeks however different: half as wrong in every draw."""

    class Halfway:
        name = "halfway"

        def predict(self, inputs: ForecastInputs, origins: Origins, horizons: Sequence[int]) -> Float32:
            last, then = (
                np.pad(inputs.panel.values[..., :6], ((0, 0), (0, 72), (0, 0)), constant_values=np.nan)[
                    :, origins[:, None] + np.array([ahead])
                ]
                for ahead in (np.zeros(len(horizons), int), horizons)
            )
            return np.repeat(((last + then) / 2)[..., None], 8, axis=-1).astype(np.float32)

    values = np.full((1, 168 * 8, len(CHANNELS)), np.nan, np.float32)
    week = np.arange(168 * 8) // 168
    values[0, :, 0] = 100 + np.arange(168 * 8) % 2 * (10 + 20 * (week % 3))
    floor = Persistence(np.zeros((144, 6, 8), np.float32), (1.0,) * 6)
    scores = evaluate(Panel(("s",), 0, (0.0,), values), [floor, Halfway()], 0, 1, None, lambda *_: None)
    by = {score.model: score for score in scores if score.horizon == 1}
    assert by["persistence"].mae.high > 1.2 * by["persistence"].mae.low
    assert by["persistence"].skill_range == (0, 0)
    low, high = by["halfway"].skill_range
    assert low <= by["halfway"].skill <= high
    assert high - low < 0.1
    assert by["halfway"].skill == pytest.approx(0.5, abs=0.1)


def test_coverage_is_told_by_the_quarter_in_which_an_hour_ends() -> None:
    values = np.full((1, 1000, len(CHANNELS)), np.nan, np.float32)
    # New year 2000 begins after 500 hours: then a value that stays becomes one that nobody could foretell.
    begins = 10_957 * 24 - 500
    values[0, :, 0] = np.where(np.arange(1000) < 500, 10.0, np.arange(1000) % 7 * 100.0)
    floor = Persistence(np.zeros((144, 6, 8), np.float32), (1.0,) * 6)
    first, *_ = evaluate(Panel(("s",), begins, (0.0,), values), [floor], 0, 1, None, lambda *_: None)
    assert {name: one.outcomes for name, one in first.quarters.items()} == {"1999-Q4": 499, "2000-Q1": 500}
    assert first.quarters["1999-Q4"].coverage == 1.0
    assert first.quarters["2000-Q1"].coverage < 0.5
    assert first.quarter_range == (first.quarters["2000-Q1"].coverage, 1.0)
    assert first.as_json()["quarters"]["1999-Q4"] == {"outcomes": 499, "coverage": 1.0}


def test_the_command_scores_every_model(tmp_path: Path) -> None:
    write(tmp_path, 24 * 14)
    result = CliRunner().invoke(
        app, ["forecast", "evaluate", str(tmp_path), "--every", "24", "--weather", "observed", "--json"]
    )
    assert result.exit_code == 0, result.output
    scores = json.loads(result.stdout)["scores"]
    assert {"persistence", "climatology", "trees", "cnn-lstm", "mix", "local", "published"} <= {
        s["model"] for s in scores
    }
    assert {s["pollutant"] for s in scores} == {"pm25", "no2"}
    shown = CliRunner().invoke(
        app, ["forecast", "evaluate", str(tmp_path), "--every", "24", "--weather", "observed"]
    )
    assert "perfect forecast" in shown.stdout
    erring_too = CliRunner().invoke(
        app, ["forecast", "evaluate", str(tmp_path), "--every", "24", "--weather", "erring"]
    )
    assert "made errors" in erring_too.stdout
    seldom = CliRunner().invoke(app, ["forecast", "evaluate", str(tmp_path), "--every", "48"])
    assert "24 forecasts of a pollutant that came true are needed" in str(seldom.exception)
    assert re.search(r"forecast every 48 h \(--every\), make \d+ at each station", str(seldom.exception))


def test_a_forecast_of_the_weather_errs_as_much_as_real_ones_for_hours_and_for_all_stations() -> None:
    weather = np.zeros((2, 20_000, 7), np.float32)
    weather[..., 5:] = 10.0
    weather[1, 5] = np.nan
    found = erring(weather)
    assert np.isnan(found[1, 5]).all()
    assert np.isfinite(np.delete(found, 5, axis=1)).all()
    off = np.delete(found - weather, 5, axis=1)
    for channel, size in enumerate((2.0, 2.5, 1.5, 1.2, 1.2)):
        assert off[..., channel].std() == pytest.approx(size, rel=0.15)
        assert off[..., channel].mean() == pytest.approx(0, abs=0.3)
        assert np.corrcoef(off[0, 1:, channel], off[0, :-1, channel])[0, 1] > 0.9
    np.testing.assert_array_equal(off[0], off[1])
    assert (found[0, :, 6] == 0).mean() == pytest.approx(0.3, abs=0.05)
    np.testing.assert_array_equal(erring(weather), found)
