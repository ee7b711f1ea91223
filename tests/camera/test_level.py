"""The filtered level against the textbook's Kalman filter in matrices, and the shares of what carries it."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from camera.error_moments import ErrorMoments, low, sensor_variance
from camera.level import FilteredLevel, advanced, deviation, with_camera, with_global, with_sensor
from camera.readout import ReadoutValue
from schemas.times import HOUR_MS

ERRORS = ErrorMoments(
    mean=2.5, walk=0.02, camera=0.3, global_count=24.0, global_mean=3.0, global_var=0.25, global_cov=0.3,
    global_level=2.8, global_level_var=0.5, lowest=0.5, highest=5.0,
)  # fmt: skip
LEVEL = FilteredLevel(t_ms=0.0, x=3.2, c=-0.2, pxx=0.4, pxc=-0.1, pcc=0.3, last=0.5, camera=0.3, overall=0.2)
Array = NDArray[np.float64]


def _state(level: FilteredLevel) -> tuple[Array, Array]:
    covariance = np.array([[level.pxx, level.pxc], [level.pxc, level.pcc]])
    return np.array([level.x, level.c]), covariance


def _observed(
    level: FilteredLevel, row: tuple[float, float], value: float, noise: float
) -> tuple[Array, Array]:
    """The textbook's update for value = row . (x, c) + noise, in Joseph's form."""
    (mean, covariance), h = _state(level), np.array(row)
    gain = covariance @ h / (h @ covariance @ h + noise)
    left = np.eye(2) - np.outer(gain, h)
    return mean + gain * (value - h @ mean), left @ covariance @ left.T + noise * np.outer(gain, gain)


def _same(level: FilteredLevel, expected: tuple[Array, Array]) -> None:
    for found, wanted in zip(_state(level), expected, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-9)


def _shares(level: FilteredLevel) -> tuple[float, float, float]:
    return level.last, level.camera, level.overall


def test_time_takes_the_level_back_to_its_mean_in_a_week_and_the_camera_s_error_in_half_a_day() -> None:
    later = advanced(LEVEL, 6 * HOUR_MS, ERRORS)
    keep = np.diag([math.exp(-6 / 168), math.exp(-6 / 12)])
    (mean, covariance), rest = _state(LEVEL), np.array([2.5, 0.0])
    # At rest: the variance of a walk that reverts, and that of the half of a camera's error that lasts.
    still = np.diag([0.02 * 168 / 2, 0.3 * 0.5])
    _same(later, (rest + keep @ (mean - rest), keep @ (covariance - still) @ keep + still))
    kept = math.exp(-6 / 168)
    assert _shares(later) == pytest.approx((1 - 0.5 * kept, 0.3 * kept, 0.2 * kept))
    assert later.t_ms == 6 * HOUR_MS
    for at in (0.0, -1.0):
        assert advanced(LEVEL, at, ERRORS) == LEVEL


@given(st.floats(0.01, 500), st.floats(0.01, 500))
def test_two_steps_of_time_are_one(first: float, second: float) -> None:
    once = advanced(LEVEL, (first + second) * HOUR_MS, ERRORS)
    twice = advanced(advanced(LEVEL, first * HOUR_MS, ERRORS), (first + second) * HOUR_MS, ERRORS)
    for found, wanted in zip(_state(twice), _state(once), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-9)
    assert _shares(twice) == pytest.approx(_shares(once), abs=1e-9)


def test_a_picture_shows_the_level_and_the_camera_s_lasting_error() -> None:
    seen = ReadoutValue(3.6, 1.7, True)
    noise = 0.3 * 0.5 * 1.7 * low(3.6)
    moved = with_camera(LEVEL, seen, ERRORS)
    _same(moved, _observed(LEVEL, (1.0, 1.0), 3.6, noise))
    gain = (0.4 - 0.1) / (0.4 - 0.2 + 0.3 + noise)
    left = 1 - gain
    assert _shares(moved) == pytest.approx((0.5 * left, 0.3 * left + gain, 0.2 * left))
    assert moved.camera_ms == 0.0
    assert with_camera(LEVEL, seen._replace(usable=False), ERRORS) == LEVEL
    assert with_camera(LEVEL, None, ERRORS) == LEVEL


@pytest.mark.parametrize(
    ("minutes", "worth"), [(1, 60), (30, 2), (59, 60 / 59), (60, 1), (61, 1), (600, 1), (0, 1000), (-5, 1000)]
)
def test_an_hour_of_pictures_is_worth_one(minutes: int, worth: float) -> None:
    level = replace(LEVEL, t_ms=minutes * 60_000.0, camera_ms=0.0)
    moved = with_camera(level, ReadoutValue(3.6, 1.0, True), ERRORS)
    _same(moved, _observed(level, (1.0, 1.0), 3.6, 0.3 * 0.5 * low(3.6) * worth))
    assert moved.camera_ms == level.t_ms


def test_the_global_head_is_heard_through_its_fit_to_the_recent_hours() -> None:
    fit = 0.3**2 / (0.25 * 0.5)
    observed = 2.8 + (3.4 - 3.0) * 0.5 / 0.3
    noise = 0.5 * (1 - fit) / fit
    moved = with_global(LEVEL, 3.4, ERRORS)
    _same(moved, _observed(LEVEL, (1.0, 0.0), observed, noise))
    gain = 0.4 / (0.4 + noise)
    left = 1 - gain
    assert _shares(moved) == pytest.approx((0.5 * left, 0.3 * left, 0.2 * left + gain))
    assert moved.overall_ms == 0.0
    # Twelve hours of it are worth one observation.
    level = replace(LEVEL, t_ms=3.0 * HOUR_MS, overall_ms=0.0)
    _same(with_global(level, 3.4, ERRORS), _observed(level, (1.0, 0.0), observed, 4 * noise))


@pytest.mark.parametrize(
    ("errors", "heard"),
    [
        (replace(ERRORS, global_count=23.9), False),
        (replace(ERRORS, global_cov=0.5001 * math.sqrt(0.125)), True),
        (replace(ERRORS, global_cov=0.4999 * math.sqrt(0.125)), False),
        (replace(ERRORS, global_cov=-0.3), False),
        (replace(ERRORS, global_var=0.0), False),
    ],
)
def test_a_head_that_does_not_follow_the_sensor_is_not_heard(errors: ErrorMoments, heard: bool) -> None:
    assert (with_global(LEVEL, 3.4, errors) != LEVEL) == heard
    assert with_global(LEVEL, None, errors) == LEVEL


def test_a_measured_value_carries_the_level_from_there_on() -> None:
    moved = with_sensor(LEVEL, 3.9, 7.0)
    _same(moved, _observed(LEVEL, (1.0, 0.0), 3.9, sensor_variance(3.9)))
    assert (_shares(moved), moved.sensor_ms, moved.t_ms) == ((1.0, 0.0, 0.0), 7.0, 0.0)


def test_a_deviation_is_of_the_level_and_of_the_sensor_that_would_read_it() -> None:
    assert deviation(LEVEL) == pytest.approx(math.sqrt(0.4 + sensor_variance(3.2)))
