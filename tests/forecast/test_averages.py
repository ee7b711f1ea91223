"""Means over hours: beside the plainest way to take them, whatever the stations around."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forecast.averages import MEANS, coming, windows
from forecast.panel import HORIZON
from schemas.arrays import Float32


def measured(stations: int, hours: int, seed: int) -> Float32:
    random = np.random.default_rng(seed)
    values = random.gamma(2.0, 20.0, (stations, hours, 2)).astype(np.float32)
    values[random.random(values.shape) < random.choice([0.0, 0.3, 0.95])] = np.nan
    return values


@given(st.integers(1, 40), st.integers(1, 200), st.integers(0, 1000))
@settings(max_examples=30, deadline=None)
def test_means_extremes_and_spread_are_those_of_the_hours_until_then(
    stations: int, hours: int, seed: int
) -> None:
    series = measured(stations, hours, seed)
    found = windows(series)
    row, hour = seed % stations, seed % hours
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a mean of nothing
        for back in MEANS:
            until = series[row, max(hour - back + 1, 0) : hour + 1].astype(np.float64)
            want = np.nanmean(until, axis=0)
            assert found.means[back][row, hour] == pytest.approx(want, rel=1e-6, nan_ok=True)
        day = series[row, max(hour - 23, 0) : hour + 1].astype(np.float64)
        assert found.low[row, hour] == pytest.approx(np.nanmin(day, axis=0), nan_ok=True)
        assert found.high[row, hour] == pytest.approx(np.nanmax(day, axis=0), nan_ok=True)
        assert found.spread[row, hour] == pytest.approx(np.nanstd(day, axis=0), abs=1e-3, nan_ok=True)
        assert found.share[row, hour] == pytest.approx((~np.isnan(day)).sum(axis=0) / 24)


@given(st.integers(1, 40), st.integers(1, 30), st.integers(0, 1000))
@settings(max_examples=30, deadline=None)
def test_the_weather_to_come_is_averaged_until_its_hour(stations: int, hours: int, seed: int) -> None:
    weather = measured(stations, hours + HORIZON, seed)
    found = coming(weather, hours, (1, 4, 6, 9, 72))
    row, hour = seed % stations, seed % hours
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        for horizon, columns in found.items():
            then = weather[row, hour + 1 : hour + horizon + 1].astype(np.float64)
            want = np.concatenate([then[-1], np.nanmean(then, axis=0), np.nanmean(then[-6:], axis=0)])
            assert columns[row, hour] == pytest.approx(want, rel=1e-6, nan_ok=True)


def test_a_station_has_the_same_bits_alone_and_among_others() -> None:
    series = measured(37, 100, 3)
    together, weather = windows(series), coming(series, 100 - HORIZON, (6, 72))
    for row in (0, 15, 16, 36):
        alone, its_own = windows(series[[row]]), together.only([row])
        assert all(alone.means[back].tobytes() == its_own.means[back].tobytes() for back in MEANS)
        assert [part.tobytes() for part in alone[1:]] == [part.tobytes() for part in its_own[1:]]
        for horizon, columns in coming(series[[row]], 100 - HORIZON, (6, 72)).items():
            assert columns.tobytes() == weather[horizon][[row]].tobytes()
