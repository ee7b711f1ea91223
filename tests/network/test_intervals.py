"""Intervals that hold nine times in ten: what they learn from errors."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from network.intervals import _BOUNDS, ALPHA, Intervals, checked
from network.members import Silence
from network.past import AGES
from schemas.arrays import Float64

D = 8
POLLUTANTS_OF = np.array([0, 0, 0, 0, 2, 2, 2, 2])
AGE = 2


def errors(random: np.random.Generator, scale: float, kind: Silence = Silence.STATION) -> Float64:
    """(kinds, d) of one kind."""
    found = np.full((len(Silence), D), np.nan)
    found[kind] = random.normal(0, scale, D)
    return found


@pytest.mark.parametrize("scale", [0.5, 1.0, 2.5])
def test_nine_of_ten_hold_however_wrong_the_stated_deviation_is(scale: float) -> None:
    random, intervals = np.random.default_rng(4), Intervals.fresh(D)
    stated = np.ones((len(Silence), D))
    held = []
    for hour in range(3000):
        error = errors(random, scale)
        if hour >= 1000:
            reach = np.sqrt(intervals.size) * intervals.reach[POLLUTANTS_OF, :, AGE].T
            held.append(np.abs(error[Silence.STATION]) <= reach[Silence.STATION])
        intervals = checked(intervals, [(AGE, error, stated)], POLLUTANTS_OF)
    assert np.mean(held) == pytest.approx(1 - ALPHA, abs=0.015)
    assert intervals.size[Silence.STATION].mean() == pytest.approx(scale**2, rel=0.25)
    assert intervals.rolling[0, Silence.STATION, AGE] == pytest.approx(1 - ALPHA, abs=0.05)


def test_what_held_is_told_where_enough_were_checked_and_of_these_alone() -> None:
    random, intervals = np.random.default_rng(6), Intervals.fresh(D)
    assert np.isnan(intervals.held).all()
    for _ in range(8):  # four variables of a pollutant each time
        assert np.isnan(intervals.held[0, Silence.STATION, AGE])
        intervals = checked(
            intervals, [(AGE, errors(random, 1.0), np.ones((len(Silence), D)))], POLLUTANTS_OF
        )
    held = np.argwhere(~np.isnan(intervals.held)).tolist()
    assert held == [[0, Silence.STATION, AGE], [2, Silence.STATION, AGE]]
    assert intervals.held[0, Silence.STATION, AGE] == intervals.rolling[0, Silence.STATION, AGE]


def test_what_was_not_asked_is_not_moved() -> None:
    before = Intervals.fresh(D)
    after = checked(before, [(AGE, errors(np.random.default_rng(1), 9.0), np.ones((6, D)))], POLLUTANTS_OF)
    others = [kind for kind in Silence if kind is not Silence.STATION]
    np.testing.assert_array_equal(after.size[others], before.size[others])
    np.testing.assert_array_equal(after.threshold[:, others], before.threshold[:, others])
    ages = [age for age in range(len(AGES)) if age != AGE]
    np.testing.assert_array_equal(after.threshold[:, :, ages], before.threshold[:, :, ages])
    np.testing.assert_array_equal(after.threshold[[1, 3, 4, 5]], before.threshold[[1, 3, 4, 5]])
    np.testing.assert_array_equal(after.now[:, others], before.now[:, others])
    np.testing.assert_array_equal(after.now[[1, 3, 4, 5]], before.now[[1, 3, 4, 5]])
    assert (after.threshold[[0, 2], Silence.STATION, AGE] > before.threshold[0, 0, AGE]).all()
    assert (after.count[Silence.STATION] == 1).all()
    # And what came in is as it was.
    np.testing.assert_array_equal(before.size, Intervals.fresh(D).size)


def test_an_hour_without_errors_changes_nothing() -> None:
    before = Intervals.fresh(D)
    nothing = np.full((len(Silence), D), np.nan)
    after = checked(before, [(AGE, nothing, np.ones_like(nothing))], POLLUTANTS_OF)
    for name in ("size", "count", "threshold", "rolling", "checked", "now"):
        np.testing.assert_array_equal(getattr(after, name), getattr(before, name))


def test_while_the_others_are_told_badly_the_interval_of_who_is_silent_is_wider_for_hours() -> None:
    """Of its own pollutant and kind; who is silent has no errors, and the size is slow."""
    random, intervals = np.random.default_rng(5), Intervals.fresh(D)
    stated, reaches = np.ones((len(Silence), D)), []
    for hour in range(1000):
        error = errors(random, 3.0 if 900 <= hour < 906 else 1.0)
        error[:, [0, 4]] = np.nan
        error[:, 5:] = (
            error[:, 5:] if hour < 900 else np.nan
        )  # from then on nobody tells of the other pollutant
        intervals = checked(intervals, [(AGE, error, stated)], POLLUTANTS_OF)
        reaches.append(intervals.reach * np.sqrt(intervals.size[Silence.STATION, 0]))
    before, during, after = reaches[899], reaches[905], reaches[960]
    place = (0, Silence.STATION, AGE)
    assert during[place] > 1.25 * before[place]
    assert after[place] < 1.15 * before[place]
    assert during[0, Silence.SENSOR, AGE] < 1.1 * before[0, Silence.SENSOR, AGE]
    assert intervals.now[2, Silence.STATION] == pytest.approx(1.0, abs=0.01)
    assert intervals.now[0, Silence.STATION] != pytest.approx(1.0, abs=0.001)


@given(st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=60))
def test_whatever_comes_the_bounds_hold(scores: list[float]) -> None:
    intervals = Intervals.fresh(D)
    for score in scores:
        error = np.full((len(Silence), D), score)
        intervals = checked(intervals, [(AGE, error, np.ones_like(error))], POLLUTANTS_OF)
    assert (intervals.threshold >= _BOUNDS[0]).all()
    assert (intervals.threshold <= _BOUNDS[1]).all()
    assert (intervals.size > 0).all()
    assert (intervals.size <= 25.0).all()
    assert (intervals.now > 0).all()
    assert (intervals.reach <= 2.0 * _BOUNDS[1]).all()
    assert ((intervals.rolling >= 0) & (intervals.rolling <= 1)).all()


def test_many_at_once_move_no_more_than_a_few() -> None:
    """Stations miss together: a hundred misses of one hour are no hundred misses."""
    moved = []
    for d in (4, 100):
        intervals, error = Intervals.fresh(d), np.full((len(Silence), d), 9.0)
        after = checked(intervals, [(AGE, error, np.ones_like(error))], np.zeros(d, dtype=np.int64))
        moved.append(after.threshold[0, 0, AGE])
    assert moved[0] == moved[1] > Intervals.fresh(1).threshold[0, 0, AGE]


def test_what_errors_a_silent_one_had_fades_into_those_of_its_pollutant() -> None:
    """What was never heard stays as it is believed, and so does what nobody tells of."""
    random, intervals = np.random.default_rng(7), Intervals.fresh(D)
    stated = np.ones((len(Silence), D))
    silent, never, others = 0, 1, [2, 3]
    for hour in range(14 * 24 + 30 * 24):
        error = errors(random, 1.0)
        error[:, never] = np.nan
        error[:, silent] *= 3.0
        if hour >= 14 * 24:
            error[:, silent] = np.nan
            error[:, 4:] = np.nan
        elif hour == 14 * 24 - 1:
            before = intervals
        intervals = checked(intervals, [(AGE, error, stated)], POLLUTANTS_OF)
    kind = Silence.STATION
    usual = intervals.size[kind, others].mean()
    assert before.size[kind, silent] > 4.0
    assert intervals.size[kind, silent] == pytest.approx(
        usual, abs=0.25 * (before.size[kind, silent] - usual)
    )
    assert intervals.believed[kind, silent] > 2.0 * before.believed[kind, silent]
    assert intervals.size[kind, never] == 1.0
    np.testing.assert_allclose(intervals.size[kind, 4:], before.size[kind, 4:], rtol=0.1)
    assert (intervals.size[Silence.HALF] == 1.0).all()
