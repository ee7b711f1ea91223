"""A sensor that falls silent was where it spoke last: from its first window on, at any size of windows."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aqi.history import History
from camera.virtual_sensor import Prediction
from fusion.intake import Intake
from fusion.learning import Air, HeadSaid, learned, virtual_estimate
from fusion.stored import STATION, StationState
from schemas.parameters import POLLUTANTS
from schemas.times import HOUR_MS

SECOND, MINUTE = 1000, 60_000
MIDNIGHT = 1_750_204_800_000
#: What the head says of any station, far from all that is measured in these tests.
BY_HEAD = HeadSaid(75.0, "pm10")


def after(values: list[float], size: int, begin: int = MIDNIGHT, name: str = "pm25") -> tuple[Air, int]:
    """What is known after windows of `size` ms with these values, and the end of the last one."""
    air, end = Air(History.empty(48)), begin
    for value in values:
        end += size
        air = learned(air, end, None, None, {name: value}, {name: BY_HEAD})
    return air, end


def said(air: Air, end: int, name: str = "pm25") -> Prediction:
    found = virtual_estimate(air, name, end, None, BY_HEAD)
    assert found is not None
    return found


@pytest.mark.parametrize("size", [10 * SECOND, MINUTE, 145 * SECOND, 10 * MINUTE, HOUR_MS])
@pytest.mark.parametrize("windows", [1, 2, 7])
def test_a_sensor_that_spoke_is_held_from_its_first_window_on(size: int, windows: int) -> None:
    """No hour has passed yet: neither the head nor nothing takes the place of what was heard."""
    for name in POLLUTANTS:
        air, end = after([20.0] * windows, size, name=name)
        soon, later = said(air, end + size, name), said(air, end + 5 * HOUR_MS, name)
        for one in (soon, later):
            assert one.method == "last"
            assert one.value == pytest.approx(20.0, rel=0.01)
            assert one.weights["global"] == 0.0
            assert one.coverage is None
        assert later.lo < soon.lo < 20.0 < soon.hi < later.hi
    assert said(*after([20.0] * 40, MINUTE)).lo > 16.0


def test_a_sensor_that_never_spoke_or_a_week_ago_is_not_held() -> None:
    air, end = after([20.0], MINUTE)
    assert virtual_estimate(air, "no2", end, None, BY_HEAD) is None
    assert virtual_estimate(air, "pm25", end + 169 * HOUR_MS, None, BY_HEAD) is None


@pytest.mark.parametrize("minutes", [60, 90, 119])
def test_once_its_hour_is_over_it_is_held_where_it_was_last_not_at_the_hour_s_mean(minutes: int) -> None:
    """A fire: from 20 to 320 in 40 minutes, when the sensor falls silent; the rest of the station goes on.

    The mean of those minutes is 108.
    """
    air, end = after([20.0 * 2 ** (minute / 10) for minute in range(41)], MINUTE)
    for minute in range(41, minutes):
        air = learned(air, MIDNIGHT + (minute + 1) * MINUTE, None, None, {"no2": 10.0}, {})
    assert said(air, end + MINUTE).value == pytest.approx(320.0, rel=0.2)
    assert said(air, MIDNIGHT + 2 * HOUR_MS).value == pytest.approx(320.0, rel=0.2)
    assert said(air, MIDNIGHT + 3 * HOUR_MS).value == pytest.approx(320.0, rel=0.2)


def test_what_is_held_is_the_same_after_a_crash() -> None:
    air, end = after([20.0, 30.0, 25.0], 10 * MINUTE)
    again = STATION.decode(STATION.encode(StationState.of(Intake(), air))).air()
    assert said(again, end + MINUTE) == said(air, end + MINUTE)


def walks(rng: np.random.Generator, stations: int, steps: int, size: int, hourly: float) -> np.ndarray:
    """(stations, steps) log levels, whose changes within an hour have that standard deviation."""
    moves = rng.normal(0.0, hourly * math.sqrt(size / HOUR_MS), (stations, steps))
    return math.log(40.0) + np.cumsum(moves, axis=1)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    size=st.sampled_from([10 * SECOND, MINUTE, 145 * SECOND, 10 * MINUTE, HOUR_MS]),
    begin=st.integers(0, 59),
    heard=st.integers(1, 150),
    hourly=st.sampled_from([0.02, 0.1, 0.25, 0.5]),
    noise=st.sampled_from([0.0, 0.05, 0.1]),
    seed=st.integers(0, 2**32),
)
def test_imputed_values_err_no_more_than_the_last_value(
    size: int, begin: int, heard: int, hourly: float, noise: float, seed: int
) -> None:
    """Over made stations, at outages from one window to three days, whatever was heard before."""
    rng, ages = np.random.default_rng(seed), [1, 2, 5, 20, 60]
    truth = walks(rng, 12, heard + max(ages), size, hourly)
    read = np.maximum(np.expm1(truth + rng.normal(0.0, noise, truth.shape)), 0.0)
    ours, last = [], []
    for levels, values in zip(truth, read, strict=True):
        air, end = after(values[:heard].tolist(), size, MIDNIGHT + begin * MINUTE)
        for age in ages:
            level = levels[heard - 1 + age]
            ours.append(math.log1p(said(air, end + age * size).value) - level)
            last.append(math.log1p(values[heard - 1]) - level)
    mine, its = (math.sqrt(np.mean(np.square(errors))) for errors in (ours, last))
    assert mine <= 1.1 * its + 0.02


def test_the_head_is_heard_only_as_it_was_compared() -> None:
    """Shown PM10 it follows this sensor; shown a picture alone, when PM10 is silent too, it says anything."""
    rng, air, end = np.random.default_rng(1), Air(History.empty(48)), MIDNIGHT
    level = 3.0
    for _ in range(24 * 8):
        end += HOUR_MS
        level += 0.2 * (3.0 - level) + rng.normal(0.0, 0.3)
        value = math.expm1(max(level, 0.1))
        air = learned(air, end, None, None, {"pm25": value}, {"pm25": HeadSaid(2.0 * value, "pm10")})
    now = end + 8 * HOUR_MS
    alone = virtual_estimate(air, "pm25", now, None, None)
    followed = virtual_estimate(air, "pm25", now, None, HeadSaid(160.0, "pm10"))
    strange = virtual_estimate(air, "pm25", now, None, HeadSaid(160.0, "image"))
    assert alone is not None
    assert followed is not None
    assert strange == alone
    assert followed.weights["global"] > 0.5
    assert followed.value == pytest.approx(80.0, rel=0.15)
    # Each set of inputs has intervals, and a coverage, of its own.
    assert followed.coverage is not None
    state = air.virtual["pm25"]
    assert {name for name, _ in state.conformal.trackers} >= {"blind pm10 3h", "blind pm10 24h"}
    hours = state.errors
    assert hours.global_shown == "pm10"
    assert hours.of_head("image").of_head("pm10") == replace(
        hours, heads=hours.of_head("image").of_head("pm10").heads
    )
