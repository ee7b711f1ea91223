"""What is in doubt for hours is told, and makes no valid index: wrong units, lost zeros, zeros that stand."""

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from aqi.flags import FAIL, SUSPECT, UNIT, ZERO
from aqi.zero import ZeroLevel
from fusion.conclusion import nothing_known
from fusion.intake import Intake
from fusion.sensors.memory import SensorMemory
from fusion.stored import STATION, StationState
from schemas.estimate import Estimate, IndexBlock
from schemas.station import Sensor, Station
from tests.fusion.town import DAY, HOUR, MINUTE, RULES, Town, reading, value

Values = Callable[[random.Random, int], list[dict[str, Any]]]


def day(values: Values, station: Station | None = None, hours: int = 22, every: int = 5) -> list[Estimate]:
    """The estimates of quarters of an hour of a station that speaks every few minutes."""
    town = Town({} if station is None else {"s": station}, replace(RULES, size=15 * MINUTE))
    dice = random.Random(5)
    town.hear(
        reading("s", DAY + minute * MINUTE + 5_000, *values(dice, minute))
        for minute in range(0, hours * 60, every)
    )
    town.until(DAY + hours * HOUR + HOUR)
    assert not town.refused
    return [one for one in town.of("s") if one.inputs.readings]


def index(one: Estimate) -> IndexBlock:
    return one.indices[0]


@pytest.mark.parametrize(
    ("parameter", "number", "unit"),
    [
        ("pm25", 0.035, "ug/m3"), ("pm10", 0.08, "ug/m3"), ("o3", 0.06, "ppb"), ("no2", 0.06, "ppb"),
        ("so2", 0.06, "ppb"), ("co", 0.0006, "mg/m3"), ("co", 0.0004, "ppm"), ("o3", 0.12, "ug/m3"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("wanders", [0.0, 0.3])
def test_a_series_in_the_wrong_unit_is_doubted_and_makes_no_valid_index(
    parameter: str, number: float, unit: str, wanders: float
) -> None:
    last = day(
        lambda dice, _: [value(parameter, round(number * (1 + wanders * dice.uniform(-1, 1)), 7), unit)]
    )[-1]
    found = last.pollutants[parameter]  # type: ignore[index]
    assert (found.kind, found.qc, found.qc_tests & UNIT) == ("measured", SUSPECT, UNIT)
    assert index(last).status == "indicative"
    assert "is its unit right?" in index(last).reason


def test_beside_a_pollutant_in_the_right_unit_it_is_not_hidden() -> None:
    last = day(lambda dice, _: [value("pm25", 0.035), value("o3", dice.uniform(60, 70))])[-1]
    assert (index(last).dominant, index(last).status) == (("o3",), "indicative")
    assert "pm25 of 0.035 ug/m3" in index(last).reason


@pytest.mark.parametrize(
    ("parameter", "mean", "spread", "unit"),
    [
        ("pm25", 1.0, 2.0, "ug/m3"),
        ("no2", 0.4, 1.0, "ppb"),
        ("so2", 0.1, 0.3, "ppb"),
        ("pm25", 0.5, 0.1, "ug/m3"),
    ],
)
def test_clean_air_is_valid(parameter: str, mean: float, spread: float, unit: str) -> None:
    estimates = day(lambda dice, _: [value(parameter, round(dice.gauss(mean, spread), 3), unit)])
    assert {one.pollutants[parameter].qc for one in estimates} == {1}  # type: ignore[index]
    assert (index(estimates[-1]).status, "in doubt" in index(estimates[-1]).reason) == ("valid", False)


OFFSET = Station(
    station="s",
    sensors=(Sensor(sensor="main", parameters=("pm25",), correction="linear:slope=1,offset=-14"),),
)


@pytest.mark.parametrize(
    ("parameter", "number", "station"),
    [
        ("pm25", -9.0, None), ("pm25", -14.0, None), ("pm25", -5.0, None), ("pm25", 3.0, OFFSET),
        ("pm10", -10.0, None), ("no2", -9.0, None), ("so2", -9.5, None), ("co", -280.0, None),
        ("o3", -9.0, None),
    ],
)  # fmt: skip
def test_a_mean_far_below_zero_is_no_clean_air(
    parameter: str, number: float, station: Station | None
) -> None:
    estimates = day(lambda dice, _: [value(parameter, round(dice.gauss(number, 0.4), 2))], station, hours=6)
    last = estimates[-1]
    found: Any = last.pollutants.get(parameter) or last.missing[parameter]  # type: ignore[call-overload, index]
    assert (found.qc, found.qc_tests & ZERO) == (FAIL, ZERO)
    assert "its zero (or its correction) is off" in found.refused["main"]
    assert parameter not in last.pollutants or found.kind == "imputed"
    assert index(last).status != "valid"


def test_a_correction_that_mends_the_zero_does() -> None:
    station = Station(
        station="s",
        sensors=(Sensor(sensor="main", parameters=("pm25",), correction="linear:slope=1,offset=9"),),
    )
    last = day(lambda dice, _: [value("pm25", round(dice.gauss(-9, 1), 2))], station, hours=4)[-1]
    assert (last.pollutants["pm25"].kind, last.pollutants["pm25"].qc) == ("corrected", 1)


def test_of_two_sensors_the_one_with_its_zero_speaks() -> None:
    last = day(
        lambda dice, _: [value("pm25", -9.0 + dice.random()), value("pm25", 3.0, sensor="b")], hours=4
    )[-1]
    assert last.pollutants["pm25"].sensors == ("b",)
    assert "zero" in last.pollutants["pm25"].refused["main"]


def test_a_zero_that_stands_still_is_told_and_leads_no_valid_index() -> None:
    last = day(lambda *_: [value("pm25", 0.0)])[-1]
    assert (index(last).index, index(last).status) == (0, "indicative")
    assert "pm25 has stood still at 0 ug/m3 for hours" in index(last).reason
    beside = day(lambda dice, _: [value("so2", 0.0), value("pm25", round(dice.uniform(8, 12), 1))])[-1]
    assert index(beside).status == "valid", "a network of whole ppb shows no SO2 for days"
    assert "so2 has stood still" in index(beside).reason


def test_where_the_zero_lies_is_stored() -> None:
    memory = SensorMemory(zeros={("main", "pm25"): ZeroLevel(-3.5, 1, 2, 3)})
    stored = STATION.encode(StationState.of(Intake(memory), nothing_known(None)))
    assert STATION.decode(stored).intake().sensors == memory
