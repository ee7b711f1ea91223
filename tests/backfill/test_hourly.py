"""A folder hour by hour is what `skyfuse replay` makes of it: twins, dead sensors, scalings, corrections."""

import csv
import json
import math
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from backfill.hourly import read_folder
from cli.main import app
from infra.connect import environment
from schemas.base import format_time, from_ms, to_ms
from schemas.parameters import POLLUTANTS
from schemas.times import HOUR_MS
from settings.sections import Settings
from sinks.store import Store

START = 1_748_764_800_000  # 2025-06-01 08:00 UTC
HOURS = 30
SENSORS = [
    {"sensor": "twins", "parameters": ["pm25"], "correction": "barkjohn-2021"},
    {"sensor": "gases", "parameters": ["no2"], "period": 3600},
]


def air(hour: float) -> float:
    return 40 + 25 * math.sin(hour / 4)


def write_town(root: Path) -> None:
    """A day of a PurpleAir whose second channel dies, of scalings side by side, doubtful values, ppb."""
    dice = random.Random(8)
    rows = []

    def row(
        station: str, at: float, parameter: str, value: float, unit: str, sensor: str, channel: str
    ) -> None:
        moment = format_time(from_ms(round(START + at * HOUR_MS)))
        rows.append((station, moment, parameter, f"{value:.3f}", unit, sensor, channel))

    for number in range(12 * HOURS):
        hour = number / 12 + 0.01
        level = air(hour) * dice.uniform(0.95, 1.05)
        row("pa", hour, "pm25", level, "ug/m3", "twins", "cf_1_a")
        row("pa", hour, "pm25", 0.0 if hour > 12 else level * 1.03, "ug/m3", "twins", "cf_1_b")
        row("pa", hour, "relativehumidity", 55 + hour / 2, "%", "twins", "value")
        # A factory's scaling beside the one for outdoor air: one counts, never their mean.
        row("scales", hour, "pm25", level * 1.5, "ug/m3", "plantower", "cf_1")
        row("scales", hour, "pm25", level, "ug/m3", "plantower", "atm")
        if number % 12 == 6:
            broken = number // 12 % 10 == 4
            row("scales", hour, "pm10", 6553.5 if broken else 1.6 * level, "ug/m3", "plantower", "value")
    for hour in range(1, HOURS):  # means, stamped with the end of their hour
        row("pa", hour, "no2", 10 + hour / 10, "ppb", "gases", "value")
    root.mkdir()
    head = ("station", "time", "parameter", "value", "unit", "sensor", "channel")
    with (root / "readings.csv").open("w", newline="") as out:
        csv.writer(out).writerows([head, *rows])
    (root / "stations.json").write_text(json.dumps([{"station": "pa", "sensors": SENSORS}]))


def test_twins_scalings_and_corrections_count_as_in_the_stream(tmp_path: Path) -> None:
    write_town(tmp_path / "town")
    found, problems = read_folder(tmp_path / "town")
    for end, value in found["pa"].means["pm25"].items():
        hour = (end - START) / HOUR_MS - 0.5
        # The published formula of Barkjohn and others (2021) for the mean of both channels.
        corrected = 0.524 * air(hour) - 0.0862 * found["pa"].means["relativehumidity"][end] + 5.75
        assert value == pytest.approx(corrected, abs=0.05 * corrected), "a dead twin halves nothing"
    assert len(found["pa"].means["pm25"]) == HOURS
    for end, value in found["scales"].means["pm25"].items():
        assert value == pytest.approx(air((end - START) / HOUR_MS - 0.5), rel=0.05), "one scaling of two"
    assert len(found["scales"].means["pm10"]) == HOURS - 3
    assert min(found["pa"].means["no2"]) == START + HOUR_MS, "stamped with its end"
    assert any("twins/cf_1_b" in problem for problem in problems)
    assert sum("sign for no value" in problem for problem in problems) == 3


@pytest.mark.broker
@pytest.mark.slow
def test_hours_are_those_of_a_replay(
    kafka_settings: Callable[..., Settings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_town(tmp_path / "town")
    for name, text in environment(kafka_settings(partitions=1)).items():
        monkeypatch.setenv(name, text)
    monkeypatch.setenv("SKYFUSE_KAFKA__PARTITIONS", "1")
    monkeypatch.setenv("SKYFUSE_WINDOW__SIZE", "1h")
    made = CliRunner().invoke(
        app, ["replay", str(tmp_path / "town"), "--store", str(tmp_path / "made.sqlite")]
    )
    assert made.exit_code == 0, made.output
    with Store(tmp_path / "made.sqlite", read_only=True) as store:
        estimates = store.read(limit=10_000)
    found, _ = read_folder(tmp_path / "town")
    hours = {START + hour * HOUR_MS for hour in range(1, HOURS + 1)}
    for station in ("pa", "scales"):
        for name in POLLUTANTS:
            replayed = {
                end: one.pollutants[name].value
                for one in estimates
                if one.station == station
                and (end := to_ms(one.window.end)) in hours
                and name in one.pollutants
                and one.pollutants[name].kind != "imputed"
            }
            assert found[station].means.get(name, {}) == replayed, (station, name)


@pytest.mark.parametrize(
    ("standards", "celsius"),
    [("us-epa-2024", 25), ("eaqi-2025", 20), ("eaqi-2025 us-epa-2024", 20), ("us-epa eaqi-2025", 25)],
)
def test_gases_are_of_the_temperature_of_the_leading_standard(
    tmp_path: Path, standards: str, celsius: int
) -> None:
    (tmp_path / "stations.csv").write_text(f"station,standards\nhill,{standards}\n")
    begins, ends = (format_time(from_ms(START + halves * HOUR_MS // 2)) for halves in (1, 3))
    (tmp_path / "readings.csv").write_text(
        f"station,time,parameter,value,unit\nhill,{begins},no2,10,ppb\nhill,{ends},no2,10,ppb\n"
    )
    history, problems = read_folder(tmp_path)
    assert not problems
    assert history["hill"].record.standards == tuple(standards.split())
    litres = 22.414 * (273.15 + celsius) / 273.15  # of a mole, at 1013.25 hPa
    assert next(iter(history["hill"].means["no2"].values())) == pytest.approx(10 * 46.0055 / litres, rel=1e-3)
