"""One window's readings, without a stream: which of them stand, what they carry, and what is remembered."""

import math
from collections.abc import Sequence
from typing import Any

import pytest

from aqi.flags import FILL_VALUE, UNIT
from aqi.quality import SensorState
from aqi.quality_defaults import defaults
from fusion.sensors.measured import Readings
from fusion.sensors.memory import PAST_MS, Level, SensorMemory, SensorScale
from fusion.sensors.read import read
from schemas.reading import Quantity
from schemas.station import Sensor, Station
from streams.cadences import SCALING_KEPT_MS
from streams.join import Item

MINUTE, HOUR = 60_000, 3_600_000
START = 1_750_248_000_000
END = START + MINUTE
BARKJOHN = Station(
    station="s", sensors=(Sensor(sensor="main", parameters=("pm25",), correction="barkjohn-2021"),)
)


def said(value: float, at: int = 5_000, lent: bool = False, parameter: str = "pm25", **more: Any) -> Item:
    """A reading `at` ms after the window's start. `lent`: one that stands for an hour before and after."""
    time = START + at
    unit = {"relativehumidity": "%"}.get(parameter, "ug/m3")
    payload = Quantity(
        parameter, value, more.get("unit", unit), more.get("sensor", "main"), more.get("channel", "value")
    )
    period = (time - HOUR, time + HOUR) if lent else (0, 0)
    return Item(
        "s", time, time, (payload.sensor, parameter, payload.channel, time), value, payload, 0, *period
    )


def told(
    items: Sequence[Item], memory: SensorMemory | None = None, station: Station | None = None, after: int = 0
) -> tuple[Readings, SensorMemory]:
    """Of the window that begins `after` ms later."""
    known = SensorMemory() if memory is None else memory
    return read(items, START + after, END + after, station, known, defaults(), 25.0)


def pm25(readings: Readings) -> float | None:
    found = readings.measured.get("pm25")
    return None if found is None else round(found.value, 6)


# -- which stand -------------------------------------------------------------------------------------------


def test_the_windows_own_readings_count_alone() -> None:
    readings, _ = told([said(10.0), said(14.0, 50_000), said(99.0, -5_000, True), said(99.0, 65_000, True)])
    assert pm25(readings) == 12.0


def test_of_means_that_have_ended_since_the_earliest_is_the_windows() -> None:
    later = [said(30.0, 70_000 + HOUR, True), said(20.0, 70_000, True), said(10.0, -5_000, True)]
    assert pm25(told(later)[0]) == 20.0
    assert pm25(told([said(20.0, 60_000, True), said(10.0, -5_000, True)])[0]) == 20.0, "from its end on"


def test_of_those_before_the_newest_still_stands() -> None:
    assert pm25(told([said(10.0, -70_000, True), said(20.0, -5_000, True)])[0]) == 20.0


def test_a_reading_that_stands_for_another_window_carries_its_verdict_and_moves_no_memory() -> None:
    first, memory = told([said(1200.0)])
    assert first.measured["pm25"].flag == 3
    second, after = told([said(1200.0, 5_000, True)], memory, after=MINUTE)
    assert (second.measured["pm25"].flag, second.measured["pm25"].tests) == (3, first.measured["pm25"].tests)
    assert after.series == memory.series


def test_one_that_was_doubted_for_its_jump_stays_doubted_in_the_windows_it_stands_for() -> None:
    _, memory = told([said(20.0)])
    jumped, memory = told([said(300.0, MINUTE)], memory, after=MINUTE)
    assert (jumped.measured["pm25"].flag, jumped.measured["pm25"].tests != 0) == (3, True)
    lent, _ = told([said(300.0, MINUTE, True)], memory, after=2 * MINUTE)
    assert lent.measured["pm25"].flag == 3


def test_an_older_reading_is_not_judged_by_what_came_after_it() -> None:
    _, memory = told([said(20.0, 50_000)])
    readings, _ = told([said(300.0, -HOUR + 2 * MINUTE, True)], memory, after=MINUTE)
    assert (readings.measured["pm25"].flag, readings.measured["pm25"].tests) == (1, 0)


# -- scalings ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("known", "away", "sent", "taken"),
    [
        ("atm", MINUTE, ("cf_1",), None),
        ("atm", SCALING_KEPT_MS, ("cf_1",), None),
        ("atm", SCALING_KEPT_MS + MINUTE, ("cf_1",), "cf_1"),
        ("cf_1", MINUTE, ("cf_1", "own"), "cf_1"),
        ("own", MINUTE, ("aaa", "own"), "own"),
        ("own", SCALING_KEPT_MS + MINUTE, ("aaa", "own"), "own"),
        ("own", SCALING_KEPT_MS + MINUTE, ("aaa",), "aaa"),
        ("cf_1", MINUTE, ("atm", "cf_1"), "atm"),
    ],
)
def test_a_scaling_is_kept_for_a_day(known: str, away: int, sent: Sequence[str], taken: str | None) -> None:
    levels = {"atm": 53.0, "cf_1": 80.0, "own": 60.0, "aaa": 40.0}
    memory = SensorMemory(scales={("main", "pm25"): SensorScale(known, END - away)})
    readings, after = told([said(levels[name], channel=name) for name in sent], memory)
    assert pm25(readings) == (None if taken is None else levels[taken])
    assert after.scales["main", "pm25"] == (
        SensorScale(known, END - away) if taken is None else SensorScale(taken, END)
    )


# -- those that disagree -----------------------------------------------------------------------------------


def two(one: float, other: float) -> list[Item]:
    return [said(one, sensor="a"), said(other, sensor="b")]


def test_one_that_shows_nothing_is_dead() -> None:
    assert pm25(told(two(60.0, 0.0))[0]) == pm25(told(two(0.0, 60.0))[0]) == 60.0
    assert pm25(told(two(60.0, -1.0))[0]) is None, "noise below zero is no sign of death"


def test_one_that_quality_control_doubts_is_left_out() -> None:
    readings, _ = told(two(60.0, 1200.0))
    assert (pm25(readings), "doubts it" in readings.refused["pm25"]["b"]) == (60.0, True)


@pytest.mark.parametrize(("age", "kept"), [(PAST_MS, 20.0), (PAST_MS + 1, None)])
def test_what_was_measured_long_ago_says_nothing_of_which_is_true(age: int, kept: float | None) -> None:
    memory = SensorMemory(levels={"pm25": Level(20.0, END - age)})
    assert pm25(told(two(20.0, 90.0), memory)[0]) == kept


def test_what_only_one_said_a_moment_before_the_other_spoke_says_nothing_either() -> None:
    memory = SensorMemory(levels={"pm25": Level(20.0, END - MINUTE, begun=END - 2 * MINUTE)})
    assert pm25(told(two(20.0, 90.0), memory)[0]) is None


def test_of_what_was_doubted_nothing_is_remembered() -> None:
    assert "pm25" not in told([said(1200.0)])[1].levels
    assert told([said(60.0)])[1].levels["pm25"] == Level(60.0, END, begun=END)


# -- humidity ----------------------------------------------------------------------------------------------


def corrected(humidity: float) -> float:
    return round(0.524 * 80 - 0.0862 * humidity + 5.75, 6)


@pytest.mark.parametrize(
    ("damp", "taken"),
    [
        ({"main": 60.0, "b": 70.0}, 60.0),
        ({"b": 60.0, "c": 80.0}, 70.0),
        ({"b": 60.0, "c": 81.0}, 80.0 + 1.0),
        ({"b": 20.0, "c": 60.0, "d": 70.0}, 60.0),
        ({"b": 99.0}, 99.0),
    ],
)
def test_the_humidity_is_the_sensors_own_or_what_the_others_agree_on(
    damp: dict[str, float], taken: float
) -> None:
    """Of two that are further apart than 20 % the one nearer to the last that was agreed on (79 %)."""
    items = [said(80.0, channel="cf_1")]
    items += [said(percent, parameter="relativehumidity", sensor=name) for name, percent in damp.items()]
    memory = SensorMemory(levels={"relativehumidity": Level(79.0, END - MINUTE)})
    assert pm25(told(items, memory, BARKJOHN)[0]) == corrected(taken)


def test_fog_may_stand_still_and_other_humidity_may_not() -> None:
    def after_hours(hours: int, percent: float) -> float | None:
        memory = SensorMemory()
        for hour in range(hours + 1):
            at = said(percent, hour * HOUR, parameter="relativehumidity")
            readings, memory = told(
                [at, said(80.0 if hour == hours else 70.0 + hour % 2, hour * HOUR, channel="cf_1")],
                memory,
                BARKJOHN,
                hour * HOUR,
            )
        return pm25(readings)

    assert after_hours(25, 99.0) == corrected(99.0)
    # A sensor that knows whole numbers only may say the same for a night.
    assert after_hours(9, 98.0) == corrected(98.0)
    assert after_hours(25, 98.0) is None


# -- fill values and units ---------------------------------------------------------------------------------


def of_type(model: str, *own: float) -> Station:
    sensor = Sensor(sensor="main", parameters=("pm25", "no2"), model=model, fill_values=own)
    return Station(station="s", sensors=(sensor,))


@pytest.mark.parametrize("model", ["sds011", "SDS011", "Sds011"])
def test_a_fill_value_is_known_by_the_type_in_any_case(model: str) -> None:
    readings, _ = told([said(999.9)], None, of_type(model))
    assert (pm25(readings), readings.failed["pm25"].tests) == (None, FILL_VALUE)


def test_fill_values_of_a_record_and_of_any_sensor() -> None:
    assert pm25(told([said(777.0)], None, of_type("", 777.0))[0]) is None
    assert pm25(told([said(777.0)], None, of_type(""))[0]) == 777.0
    for parameter, fills in defaults().fill_values["any"].items():
        readings, _ = told([said(fills[0], parameter=parameter)])
        assert readings.failed[parameter].tests == FILL_VALUE


def test_a_fill_value_is_one_as_the_sensor_sends_it() -> None:
    """777 ppb are not 777 ug/m3."""
    sent = said(777.0, parameter="no2", unit="ppb")
    assert told([sent], None, of_type("", 777.0))[0].failed["no2"].tests == FILL_VALUE
    canonical = told([sent], None, of_type(""))[0].measured["no2"].value
    assert "no2" in told([sent], None, of_type("", round(canonical, 6)))[0].measured


@pytest.mark.parametrize(
    ("parameter", "number", "unit"),
    [
        ("no2", 6553.5, "ug/m3"), ("no2", 0.9999, "ppm"), ("no2", 655.35, "ppb"),
        ("o3", 3276.7, "ug/m3"), ("o3", 999.9, "ppb"), ("o3", 327.67, "ug/m3"), ("o3", 0.9999, "mg/m3"),
        ("so2", 9999.0, "ug/m3"), ("so2", 6553.5, "ug/m3"), ("so2", 3276.7, "ppb"), ("so2", 9.999, "mg/m3"),
        ("co", 65535.0, "ppb"), ("co", 65535.0, "ug/m3"), ("co", 65.535, "ppm"), ("co", 6553.5, "ppb"),
        ("pm25", 3276.8, "ug/m3"), ("pm25", 655.35, "ug/m3"), ("pm25", 3.2767, "mg/m3"),
        ("pm10", 327.67, "ug/m3"), ("pm10", 9.8765, "mg/m3"),
    ],
)  # fmt: skip
def test_a_frame_of_ones_is_no_measurement_of_any_sensor(parameter: str, number: float, unit: str) -> None:
    is_fill = number != 9.8765
    readings, _ = told([said(number, parameter=parameter, unit=unit)])
    assert (parameter in readings.measured) == (not is_fill)
    assert not is_fill or readings.failed[parameter].tests == FILL_VALUE


@pytest.mark.parametrize(
    ("parameter", "number"), [("co", 655.35), ("co", 999.9), ("pm25", 999.9), ("pm25", 999.0), ("no2", 327.6)]
)
def test_what_real_air_may_have_is_a_measurement(parameter: str, number: float) -> None:
    assert parameter in told([said(number, parameter=parameter)])[0].measured


@pytest.mark.parametrize(
    ("model", "own", "number"), [("bam1020", (), 0.985), ("", (999.9,), 0.9999), ("SPS30", (), 1.0)]
)
def test_a_fill_value_that_a_gateway_has_scaled(model: str, own: tuple[float, ...], number: float) -> None:
    station = of_type(model, *own)
    assert pm25(told([said(number, unit="mg/m3")], None, station)[0]) is None
    assert pm25(told([said(number, unit="ug/m3")], None, station)[0]) == number, "clean air"


def test_a_unit_that_is_doubted_is_told() -> None:
    for rule in defaults().units:
        low = rule.lowest or 1.0
        for number, doubted in ((0.9 * rule.lowest, True), (1.1 * low, False), (1.1 * rule.high, True)):
            if 0.0 < number < math.inf:
                readings, _ = told([said(number, parameter=rule.parameter, unit=rule.unit)])
                found = readings.measured[rule.parameter]
                assert (found.flag, found.tests) == ((3, UNIT) if doubted else (1, 0))


@pytest.mark.parametrize(
    ("number", "unit"), [(120.0, "mg/m3"), (101.0, "mg/m3"), (105.0, "ppm"), (300.0, "ppm")]
)
def test_carbon_monoxide_that_no_air_has_fails(number: float, unit: str) -> None:
    readings, _ = told([said(number, parameter="co", unit=unit)])
    assert "co" not in readings.measured
    assert readings.failed["co"].tests & UNIT
    assert "is its unit right?" in readings.refused["co"]["main/value"]


def test_states_of_a_sensor_without_channels_are_taken_over() -> None:
    """Up to version 5 a sensor's channels shared one."""
    _, memory = told([said(20.0)])
    state: SensorState = memory.series["main", "pm25", "value"]
    old = SensorMemory({("main", "pm25", ""): state})
    assert told([said(300.0, MINUTE)], old, after=MINUTE)[0].measured["pm25"].flag == 3
    assert set(told([said(300.0, MINUTE)], old, after=MINUTE)[1].series) == {("main", "pm25", "value")}
