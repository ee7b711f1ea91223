"""What real sensors send, and what has to come out of it: twins, scalings, humidity, noise, fill values."""

import math
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aqi.flags import CHANNELS, FAIL, FILL_VALUE, GOOD, PARTICLES, SPIKE, SUSPECT, UNIT, Verdict
from aqi.known_names import check_station
from fusion.sensors.choice import NEAR, nearer
from fusion.sensors.means import SensorMean, chosen
from fusion.sensors.window import Objections
from schemas.base import to_ms
from schemas.errors import Refused
from schemas.estimate import Estimate, MissingPollutant, PollutantEstimate
from schemas.parameters import POLLUTANTS, Pollutant
from schemas.reading import LIMITS
from schemas.station import Sensor, Station
from tests.fusion.town import DAY, HOUR, MINUTE, SECOND, Town, reading, value

Values = Callable[[int], Sequence[dict[str, Any]]]
BARKJOHN = Station(
    station="s", sensors=(Sensor(sensor="main", parameters=("pm25",), correction="barkjohn-2021"),)
)


def windows(
    values: Values, minutes: int = 10, station: Station | None = None, second: int = 5, every: int = 1
) -> list[Estimate]:
    """The estimates of a station that says `values(minute)` every minute."""
    town = Town({} if station is None else {"s": station})
    town.hear(
        reading("s", DAY + minute * MINUTE + second * SECOND, *values(minute))
        for minute in range(0, minutes, every)
        if values(minute)
    )
    town.until(DAY + minutes * MINUTE + 30 * SECOND)
    assert not town.refused
    return town.of("s")


def said(estimates: Sequence[Estimate], parameter: str = "pm25") -> list[float | None]:
    """Values that were not imputed."""
    found: list[float | None] = []
    for one in estimates:
        pollutant = one.pollutants.get(parameter)  # type: ignore[call-overload]
        known = pollutant is not None and pollutant.kind != "imputed"
        found.append(round(pollutant.value, 2) if known else None)
    return found


def last(estimates: Sequence[Estimate], parameter: Pollutant = "pm25") -> PollutantEstimate:
    return estimates[-1].pollutants[parameter]


def lost(estimates: Sequence[Estimate], parameter: str = "pm25") -> PollutantEstimate | MissingPollutant:
    """What is said of a pollutant whose readings could not be used."""
    one = estimates[-1]
    assert said(estimates, parameter)[-1] is None
    return one.pollutants.get(parameter) or one.missing[parameter]  # type: ignore[call-overload, index]


# -- twins -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("apart", [0, 1, 10, 50])
@pytest.mark.parametrize("names", [("value_a", "value_b"), ("atm_a", "atm_b"), ("cf_1_a", "cf_1_b")])
@pytest.mark.parametrize("dead", [0, 1])
def test_twins_are_compared_over_the_window_and_a_dead_one_is_left_out(
    apart: int, names: tuple[str, str], dead: int
) -> None:
    town = Town()
    for minute in range(10):
        for place, name in enumerate(names):
            at = DAY + minute * MINUTE + (5 + place * apart) * SECOND
            number = 0.0 if place == dead else 60.0 + 0.1 * minute
            town.hear([reading("s", at, value("pm25", number, channel=name))])
    town.until(DAY + 11 * MINUTE)
    for minute, one in enumerate(town.of("s")):
        pm25 = one.pollutants["pm25"]
        assert pm25.value == pytest.approx(60.0 + 0.1 * minute)
        assert pm25.qc_tests & CHANNELS
        assert list(pm25.refused) == [f"main/{names[dead]}"]
        assert "shows nothing" in pm25.refused[f"main/{names[dead]}"]


@pytest.mark.parametrize("parameter", ["pm25", "pm10", "no2", "co", "o3", "so2"])
def test_sensors_of_one_station_are_compared_like_twins(parameter: Pollutant) -> None:
    level = 60.0 if parameter != "co" else 900.0

    def both(minute: int) -> list[dict[str, Any]]:
        return [value(parameter, level + minute, sensor="a"), value(parameter, 0.0, sensor="b")]

    estimates = windows(both)
    assert said(estimates, parameter) == [level + minute for minute in range(10)]
    assert list(last(estimates, parameter).refused) == ["b"]
    assert last(estimates, parameter).sensors == ("a",)


def test_of_two_that_disagree_the_past_tells_which() -> None:
    """B goes astray after an hour of agreement: a spider, twelve times the air."""

    def both(minute: int) -> list[dict[str, Any]]:
        air = 20.0 + 0.3 * (minute % 7)
        astray = 12.0 if minute >= 60 else 1.02
        return [value("pm25", air, channel="atm_a"), value("pm25", air * astray, channel="atm_b")]

    estimates = windows(both, 90)
    assert all(number is not None and number < 25 for number in said(estimates))
    told = last(estimates).refused["main/atm_b"]
    assert re.search(r"that one is nearer to the 2\d(\.\d)? ug/m3 of before they disagreed$", told), told
    assert not re.search(r"\d{4}|\.\d\d", told), "no sensor tells so many digits"


def test_without_any_ground_neither_is_taken_and_both_are_told() -> None:
    estimates = windows(
        lambda minute: [value("no2", 40.0 + minute, sensor="a"), value("no2", 130.0 + minute, sensor="b")], 3
    )
    assert said(estimates, "no2") == [None] * 3
    missing = estimates[-1].missing["no2"]
    assert (missing.qc, missing.qc_tests & CHANNELS, missing.n) == (4, CHANNELS, 2)
    assert missing.raw == pytest.approx(87.0)
    assert missing.refused == {"a and b": "disagree (42 and 132 ug/m3), and nothing tells which is right"}


def test_of_three_the_one_that_stands_apart_is_left_out() -> None:
    estimates = windows(
        lambda minute: [
            value("pm25", number + minute, sensor=name)
            for name, number in (("a", 20.0), ("b", 22.0), ("c", 90.0))
        ]
    )
    assert said(estimates) == [21.0 + minute for minute in range(10)]
    assert list(last(estimates).refused) == ["c"]


def test_a_sensor_that_fails_from_its_first_day_is_seen() -> None:
    estimates = windows(lambda _: [value("co", 350.0, "ppm")])
    missing = estimates[-1].missing["co"]
    assert missing.qc == 4
    assert missing.qc_tests & 1
    assert missing.raw == pytest.approx(350 * 1145, rel=0.01)
    assert "co" not in estimates[-1].pollutants


# -- scalings ----------------------------------------------------------------------------------------------


def test_scalings_are_alternatives_and_never_averaged() -> None:
    estimates = windows(lambda _: [value("pm25", 80.0, channel="cf_1"), value("pm25", 53.0, channel="atm")])
    assert set(said(estimates)) == {53.0}


@pytest.mark.parametrize(("channel", "expected"), [("cf_1", 80.0), ("atm", 53.0)])
def test_the_record_says_which_scaling_is_taken(channel: str, expected: float) -> None:
    station = Station(station="s", sensors=(Sensor(sensor="main", parameters=("pm25",), channel=channel),))
    estimates = windows(
        lambda _: [value("pm25", 80.0, channel="cf_1"), value("pm25", 53.0, channel="atm")], station=station
    )
    assert set(said(estimates)) == {expected}


def test_a_scaling_that_drops_out_is_not_replaced_by_another_in_silence() -> None:
    def one(minute: int) -> list[dict[str, Any]]:
        both = [value("pm25", 80.0 + minute / 10, channel="cf_1"), value("pm25", 53.0, channel="atm")]
        return both[: 1 if minute >= 30 else 2]

    estimates = windows(one, 60)
    assert set(said(estimates)) == {53.0, None}
    refused = lost(estimates).refused
    assert refused == {"main": "of this sensor is taken channel atm; it sends cf_1"}


@pytest.mark.parametrize("every", [10, 30, 60, 150])
@pytest.mark.parametrize(
    ("first", "second", "taken"),
    [("cf_1", "atm", "atm"), ("atm", "cf_1", "atm"), ("zeta", "alpha", "zeta"), ("cf_1_a", "atm_b", "atm_b")],
)
def test_scalings_that_come_in_turns_are_one_from_the_second_reading_on(
    every: int, first: str, second: str, taken: str
) -> None:
    """Nothing is final yet that could be remembered; what comes first alone, nobody can know."""
    town = Town()
    for number in range(40 * 60 // every):
        name = (first, second)[number % 2]
        at = DAY + 5 * SECOND + number * every * SECOND
        level = (53.0 if name == taken else 80.0) + 0.01 * (number % 5)
        town.hear([reading("s", at, value("pm25", level, channel=name))])
    town.until(DAY + 41 * MINUTE)
    both = DAY + (5 + every) * SECOND
    values = [
        value
        for one, value in zip(town.of("s"), said(town.of("s")), strict=True)
        if to_ms(one.window.end) > both
    ]
    assert {None if number is None else round(number) for number in values} in ({53}, {53, None})
    assert len([number for number in values if number is not None]) >= 15


def test_a_correction_that_does_not_take_what_is_sent_says_so() -> None:
    estimates = windows(
        lambda _: [value("pm25", 53.0, channel="atm"), value("relativehumidity", 50.0, "%")], 3, BARKJOHN
    )
    assert said(estimates) == [None] * 3
    assert lost(estimates).refused == {"main": "barkjohn-2021 takes channel cf_1; it sends atm"}


# -- humidity under a correction ---------------------------------------------------------------------------


def corrected(humidity: float) -> float:
    return round(0.524 * 80 - 0.0862 * humidity + 5.75, 2)


@pytest.mark.parametrize(
    ("humidity", "taken"), [(100.0, 100.0), (101.7, 100.0), (118.0, 100.0), (65.0, 65.0)]
)
def test_a_saturated_humidity_is_100_percent(humidity: float, taken: float) -> None:
    estimates = windows(
        lambda _: [value("pm25", 80.0, channel="cf_1"), value("relativehumidity", humidity, "%")], 5, BARKJOHN
    )
    assert set(said(estimates)) == {corrected(taken)}


@pytest.mark.parametrize("every", [2, 5, 14])
def test_a_humidity_of_some_minutes_ago_serves(every: int) -> None:
    def one(minute: int) -> list[dict[str, Any]]:
        damp = [value("relativehumidity", 65.0, "%")] if minute % every == 0 else []
        return [value("pm25", 80.0, channel="cf_1"), *damp]

    assert set(said(windows(one, 30, BARKJOHN))) == {corrected(65.0)}


def test_without_humidity_there_is_no_value_rather_than_a_raw_one() -> None:
    def one(minute: int) -> list[dict[str, Any]]:
        damp = [value("relativehumidity", 65.0, "%")] if minute < 5 else []
        return [value("pm25", 80.0 + 0.01 * minute, channel="cf_1"), *damp]

    estimates = windows(one, 40, BARKJOHN)
    values = said(estimates)
    assert 80.0 not in {None if number is None else round(number) for number in values}
    assert values[19] is not None
    assert values[21:] == [None] * 19
    assert lost(estimates).raw == pytest.approx(80.39)
    assert "needs a relative humidity" in lost(estimates).refused["main"]


@pytest.mark.parametrize("other", [0.0, 20.0, 99.0])
def test_a_stuck_second_humidity_sensor_does_not_count_for_the_first(other: float) -> None:
    said_each_minute = [
        value("pm25", 80.0, channel="cf_1"),
        value("relativehumidity", 65.0, "%"),
        value("relativehumidity", other, "%", sensor="second"),
    ]
    assert set(said(windows(lambda _: said_each_minute, 5, BARKJOHN))) == {corrected(65.0)}


def test_weather_alone_makes_no_window_of_its_own_afterwards() -> None:
    both = [value("pm25", 80.0, channel="cf_1"), value("relativehumidity", 65.0, "%")]
    estimates = windows(lambda minute: both if minute < 3 else [], 20, BARKJOHN)
    assert len(estimates) == 3


# -- noise, fill values, doubts ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parameter", "unit", "mean", "spread"),
    [
        ("pm25", "ug/m3", 1.0, 2.0),
        ("pm10", "ug/m3", 2.0, 3.0),
        ("no2", "ppb", 0.4, 1.0),
        ("so2", "ppb", 0.2, 1.0),
        ("o3", "ppb", 0.5, 1.5),
        ("co", "ppm", 0.02, 0.05),
    ],
)
def test_noise_around_zero_is_data(parameter: Pollutant, unit: str, mean: float, spread: float) -> None:
    dice = np.random.default_rng(8)
    drawn = [round(float(number), 3) for number in dice.normal(mean, spread, 240)]
    estimates = windows(lambda minute: [value(parameter, drawn[minute], unit)], 240)
    values = [number for number in said(estimates, parameter) if number is not None]
    assert len(values) == 240
    assert min(values) < 0
    factor = {"no2": 1.88, "so2": 2.62, "o3": 1.96, "co": 1145.0}.get(parameter, 1.0)
    assert math.fsum(values) / 240 == pytest.approx(sum(drawn) / 240 * factor, rel=0.01, abs=0.01)
    assert {one.pollutants[parameter].qc for one in estimates} == {1}


@pytest.mark.parametrize(
    ("model", "fills", "parameter", "number"),
    [
        ("sds011", (), "pm25", 999.9),
        ("SDS011", (), "pm10", 1999.9),
        ("bam-1020", (), "pm25", 985.0),
        ("airgradient", (), "pm25", 3661.0),
        ("", (777.0,), "no2", 777.0),
        ("", (), "pm10", 6553.5),
    ],
)
def test_fill_values_are_no_measurements(
    model: str, fills: tuple[float, ...], parameter: Any, number: float
) -> None:
    station = Station(
        station="s", sensors=(Sensor(sensor="main", parameters=(parameter,), model=model, fill_values=fills),)
    )
    estimates = windows(
        lambda minute: [value(parameter, number if minute >= 5 else 30.0 + minute)], 10, station
    )
    assert said(estimates, parameter) == [30.0 + minute for minute in range(5)] + [None] * 5
    assert lost(estimates, parameter).qc_tests & FILL_VALUE
    assert "no value" in lost(estimates, parameter).refused["main/value"]


def test_a_number_that_is_only_near_a_fill_value_counts() -> None:
    station = Station(station="s", sensors=(Sensor(sensor="main", parameters=("pm25",), model="sds011"),))
    assert said(windows(lambda _: [value("pm25", 999.8)], 1, station)) == [999.8]


def test_pm25_above_pm10_is_flagged() -> None:
    [swapped] = windows(lambda _: [value("pm25", 60.0), value("pm10", 20.0)], 1)
    assert {swapped.pollutants[name].qc_tests for name in ("pm25", "pm10")} == {PARTICLES}
    assert swapped.pollutants["pm25"].qc == 3
    [right] = windows(lambda _: [value("pm25", 20.0), value("pm10", 20.5)], 1)
    assert right.pollutants["pm25"].qc_tests == 0


@pytest.mark.parametrize(
    ("number", "unit", "doubted"),
    [(0.4, "ug/m3", True), (0.4, "mg/m3", False), (0.4, "ppm", False), (0.4, "ppb", True)],
)
def test_carbon_monoxide_in_the_wrong_unit_is_doubted(number: float, unit: str, doubted: bool) -> None:
    [one] = windows(lambda _: [value("co", number, unit)], 1)
    assert bool(one.pollutants["co"].qc_tests & UNIT) == doubted


# -- whatever is sent --------------------------------------------------------------------------------------

sent = st.lists(
    st.tuples(
        st.integers(0, 40),
        st.sampled_from([*POLLUTANTS, "relativehumidity"]),
        st.floats(-0.1, 1.0),
        st.sampled_from(["main", "b"]),
        st.sampled_from(["value", "value_a", "value_b", "atm", "cf_1_b"]),
        st.sampled_from([0, 60, 145, 600]),
    ),
    min_size=1,
    max_size=25,
)


@given(sent, st.sampled_from([None, BARKJOHN]))
@settings(max_examples=30, deadline=None)
def test_whatever_is_sent_comes_out_within_limits_and_explained(
    messages: list[tuple[int, str, float, str, str, int]], station: Station | None
) -> None:
    town = Town({} if station is None else {"s": station})
    for minute, parameter, share, sensor, channel, period in sorted(messages):
        low, high = LIMITS[parameter]
        number = share * high if share >= 0 else share / 0.1 * -low
        unit = "%" if parameter == "relativehumidity" else "ug/m3"
        more = {"period": period} if period else {}
        sent = value(parameter, number, unit, sensor=sensor, channel=channel)
        town.hear([reading("s", DAY + HOUR + minute * MINUTE, sent, **more)])
    town.until(DAY + 4 * HOUR)
    for one in town.of("s"):
        assert not one.pollutants.keys() & one.missing.keys()
        for name, pollutant in one.pollutants.items():
            assert math.isfinite(pollutant.value)
            if pollutant.kind == "measured":
                assert LIMITS[name][0] - 1e-6 <= pollutant.value <= LIMITS[name][1] + 1e-6
        for lost in one.missing.values():
            assert lost.refused or lost.qc == 4


@given(st.floats(-10, 5000), st.floats(-10, 5000), st.floats(0, 5000))
def test_the_nearer_of_two_is_near_and_the_same_whatever_the_order(
    one: float, other: float, known: float
) -> None:
    choice = nearer(one, other, known)
    turned = nearer(other, one, known)
    assert (choice is None) == (turned is None)
    if choice is not None:
        assert turned == 1 - choice
        kept = (one, other)[choice]
        assert abs(math.log((max(kept, 0) + 5) / (known + 5))) <= NEAR


@pytest.mark.parametrize(
    ("one", "other", "known", "choice"),
    [
        # Distances are factors, of values with 5 ug/m3 added: of 20, 45 and 7.5 are 2 away.
        (44.9, 300.0, 20.0, 0),
        (45.2, 300.0, 20.0, None),
        (300.0, 7.6, 20.0, 1),
        (300.0, 7.4, 20.0, None),
        # The other one has to be 1.5 times further away.
        (20.0, 32.4, 20.0, None),
        (20.0, 32.6, 20.0, 0),
        (20.0, 11.7, 20.0, None),
        (11.6, 20.0, 20.0, 1),
        # About zero all is near.
        (0.0, 2.4, 0.0, None),
        (-3.0, 2.6, -1.0, 0),
        (20.0, 20.0, 20.0, None),
    ],
)
def test_which_of_two_is_nearer_to_what_is_known(
    one: float, other: float, known: float, choice: int | None
) -> None:
    assert nearer(one, other, known) == choice
    turned = None if choice is None else 1 - choice
    assert nearer(other, one, known) == turned


# -- what is told of what failed ---------------------------------------------------------------------------


def test_what_quality_control_said_is_kept_beside_the_comparison_of_sensors() -> None:
    """A is higher than air often is, B is dead: A is kept, and that it is so high is still told."""

    def both(minute: int) -> list[dict[str, Any]]:
        return [value("pm25", 1200.0 + minute, sensor="a"), value("pm25", 0.0, sensor="b")]

    beside = last(windows(both, 3))
    alone = last(windows(lambda minute: both(minute)[:1], 3))
    assert (alone.qc, alone.qc_tests & CHANNELS) == (3, 0)
    assert alone.qc_tests
    assert (beside.value, beside.qc, beside.qc_tests) == (1202.0, 3, alone.qc_tests | CHANNELS)


@pytest.mark.parametrize("proven", [True, False])
def test_one_that_is_chosen_keeps_what_quality_control_said_of_it(proven: bool) -> None:
    doubted = SensorMean(40.0, 40.0, Verdict(SUSPECT, SPIKE), 3, 0, "mean", 60_000)
    assert chosen(doubted, proven).verdict == Verdict(SUSPECT, SPIKE | CHANNELS)
    good = doubted._replace(verdict=Verdict(GOOD, 0))
    assert chosen(good, proven).verdict == Verdict(GOOD if proven else SUSPECT, CHANNELS)


def test_what_fails_a_comparison_keeps_what_quality_control_said_of_it() -> None:
    objections = Objections()
    doubted = SensorMean(40.0, 40.0, Verdict(SUSPECT, SPIKE), 3, 0, "mean", 60_000)
    objections.fail("pm25", "main/a", doubted, CHANNELS)
    assert objections.failed == {
        "pm25": [("main", doubted._replace(verdict=Verdict(FAIL, SPIKE | CHANNELS)))]
    }


def test_a_value_that_could_not_be_corrected_is_not_good() -> None:
    estimates = windows(lambda minute: [value("pm25", 80.0 + minute, channel="cf_1")], 3, BARKJOHN)
    assert (lost(estimates).qc, lost(estimates).raw) == (3, 82.0)


SDS011 = Station(
    station="s",
    sensors=tuple(Sensor(sensor=name, parameters=("pm25",), model="sds011") for name in ("main", "second")),
)


def test_an_imputed_value_tells_why_the_measured_one_was_left_out() -> None:
    estimates = windows(lambda minute: [value("pm10", 30.0 + minute), value("pm25", 999.9)], 3, SDS011)
    pm25 = last(estimates)
    assert (pm25.kind, pm25.qc, pm25.qc_tests, pm25.raw) == ("imputed", 4, FILL_VALUE, 999.9)


def test_a_measured_value_tells_which_tests_another_sensors_readings_failed() -> None:
    estimates = windows(
        lambda minute: [value("pm25", 12.0 + minute), value("pm25", 999.9, sensor="second")], 3, SDS011
    )
    pm25 = last(estimates)
    assert (pm25.kind, pm25.value, pm25.qc, pm25.sensors) == ("measured", 14.0, 1, ("main",))
    assert pm25.qc_tests & FILL_VALUE


def test_noise_below_zero_is_not_a_dead_twin() -> None:
    dice = np.random.default_rng(2)
    noise = dice.normal(0.5, 1.0, 180)

    def both(minute: int) -> list[dict[str, Any]]:
        air = float(noise[minute])
        other = air + 0.1 if minute < 60 else 60.0 + 0.1 * (minute % 4)
        return [value("pm25", air, channel="value_a"), value("pm25", other, channel="value_b")]

    values = [number for number in said(windows(both, 180)) if number is not None]
    assert max(values) < 5.0
    assert len(values) == 180


def test_two_that_agree_outweigh_two_dead_ones() -> None:
    numbers = {"a": 60.0, "b": 61.0, "c": 0.0, "d": 0.0}
    estimates = windows(
        lambda minute: [
            value("pm25", n + (minute % 3 if n else 0), sensor=name) for name, n in numbers.items()
        ]
    )
    assert said(estimates)[0] == 60.5
    assert set(last(estimates).refused) == {"c", "d"}


def test_three_that_all_disagree_are_missing_and_told() -> None:
    numbers = {"a": 10.0, "b": 60.0, "c": 300.0}
    estimates = windows(lambda _: [value("pm25", n, sensor=name) for name, n in numbers.items()], 2)
    missing = lost(estimates)
    assert (missing.qc, missing.qc_tests & CHANNELS) == (4, CHANNELS)
    assert missing.refused == {
        "a and b and c": "disagree (10 and 60 and 300 ug/m3), and nothing tells which is right"
    }


def test_a_twin_that_was_left_out_does_not_speak_alone() -> None:
    def both(minute: int) -> list[dict[str, Any]]:
        dead = value("pm25", 0.0, channel="value_b")
        return [value("pm25", 60.0 + minute, channel="value_a"), dead] if minute < 30 else [dead]

    estimates = windows(both, 60)
    assert said(estimates)[31:] == [None] * 29
    assert "left out when there was another" in lost(estimates).refused["main/value_b"]


def test_the_past_does_not_vouch_for_itself() -> None:
    """A clogged twin at 20 beside 200: the past supports it for three hours, marked; then neither."""

    def both(minute: int) -> list[dict[str, Any]]:
        wander = 0.2 * (minute % 5)
        air = 20.0 if minute < 30 else 200.0
        return [value("pm25", air + wander, channel="atm_a"), value("pm25", 20.0 + wander, channel="atm_b")]

    estimates = windows(both, 30 + 5 * 60)
    disputed = [one.pollutants["pm25"] for one in estimates[31:200]]
    assert {pm25.qc for pm25 in disputed} == {3}
    assert said(estimates)[220:] == [None] * len(said(estimates)[220:])


@pytest.mark.parametrize("stuck", [101.7, 99.9, 1.0, 0.0])
def test_of_two_humidities_one_at_the_end_of_its_scale_counts_least(stuck: float) -> None:
    said_each_minute = [
        value("pm25", 80.0, channel="cf_1"),
        value("relativehumidity", 65.0, "%", sensor="t1"),
        value("relativehumidity", stuck, "%", sensor="t2"),
    ]
    assert set(said(windows(lambda _: said_each_minute, 20, BARKJOHN))) == {corrected(65.0)}


def test_a_declared_period_leaves_the_humidity_its_quarter_of_an_hour() -> None:
    town = Town({"s": BARKJOHN})
    for minute in range(60):
        damp = [value("relativehumidity", 65.0, "%")] if minute % 5 == 0 else []
        at = DAY + minute * MINUTE + 5 * SECOND
        town.hear([reading("s", at, value("pm25", 80.0 + minute / 100, channel="cf_1"), *damp, period=60)])
    town.until(DAY + 59 * MINUTE)
    kinds = [one.pollutants["pm25"].kind for one in town.of("s")[1:] if "pm25" in one.pollutants]
    assert kinds == ["corrected"] * len(kinds)
    assert len(kinds) > 50


@pytest.mark.parametrize("correction", ["linear:slope=1,offset=-100", "linear:slope=10,offset=0"])
def test_a_correction_keeps_the_limits_of_a_measurement(correction: str) -> None:
    sensor = Sensor(sensor="main", parameters=("pm25",), correction=correction)
    level = 5.0 if "-100" in correction else 3000.0
    estimates = windows(
        lambda minute: [value("pm25", level + minute)], 3, Station(station="s", sensors=(sensor,))
    )
    assert "beyond" in lost(estimates).refused["main"]


def test_fill_values_of_humidity() -> None:
    damp = Sensor(sensor="main", parameters=("relativehumidity",), fill_values=(110.0,))
    station = Station(station="s", sensors=(*BARKJOHN.sensors, damp))
    both = [value("pm25", 80.0, channel="cf_1"), value("relativehumidity", 110.0, "%")]
    assert set(said(windows(lambda _: both, 3, station))) == {None}


def test_a_model_that_nobody_knows_is_refused_with_what_is_known() -> None:
    sensor = Sensor(sensor="main", parameters=("pm25",), model="bam-1021")
    with pytest.raises(Refused, match=r"known are airgradient, bam1020.*fill_values"):
        check_station(Station(station="s", sensors=(sensor,)))
    known = sensor.model_copy(update={"model": "BAM 1020"})
    check_station(Station(station="s", sensors=(known,)))
