"""What sensors let expect of their own kind: exact, and deaf to where they stood lately."""

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from network.cell import Cell, estimate, fresh, learned
from network.kin import among_kin, by_others
from network.sweep import swept
from schemas.arrays import Float64
from schemas.parameters import POLLUTANTS
from schemas.state import pack, unpack
from tests.network.cities import city, end, members
from tests.network.test_sweep import covariance

CALM = 12 * 24
TOWN = members(4, ("pm25", "pm10", "no2"))
AIR = city(TOWN, CALM + 10 * 24, seed=5)


@given(st.integers(2, 8), st.integers(0, 10**6), st.data())
def test_the_others_say_what_they_would_without_it(d: int, seed: int, data: st.DataObject) -> None:
    matrix = covariance(d, seed)
    heard = np.array(data.draw(st.lists(st.booleans(), min_size=d, max_size=d)))
    deviation = np.random.default_rng(seed).normal(size=d)
    mean, variance = by_others(swept(matrix, np.flatnonzero(heard).tolist()), deviation, heard)
    for one in range(d):
        rest = [k for k in np.flatnonzero(heard).tolist() if k != one]
        weights = np.linalg.solve(matrix[np.ix_(rest, rest)], matrix[rest, one])
        assert mean[one] == pytest.approx(float(weights @ deviation[rest]), abs=1e-7)
        assert variance[one] == pytest.approx(float(matrix[one, one] - weights @ matrix[rest, one]), rel=1e-6)


def test_other_kinds_tell_nothing_and_a_mean_is_no_covariance() -> None:
    pollutants = np.array([POLLUTANTS.index(name) for name in ("pm25", "pm10", "no2", "pm25", "no2")])
    moving = covariance(5, 7)
    stood = np.array([0.5, -0.2, 0.1, 0.4, 0.3])
    kin = among_kin(moving + np.outer(stood, stood), stood, pollutants, np.arange(5))
    np.testing.assert_allclose(
        kin.covariance[np.ix_([0, 1, 3], [0, 1, 3])], moving[np.ix_([0, 1, 3], [0, 1, 3])]
    )
    assert not kin.covariance[np.ix_([0, 1, 3], [2, 4])].any()
    assert kin.covariance[2, 4] == pytest.approx(moving[2, 4])


def through(cell: Cell, air: Float64, first: int) -> Cell:
    for hour, values in enumerate(air, first + 1):
        cell = learned(cell, end(hour), values)
    return cell


@pytest.fixture(scope="module")
def calm() -> Cell:
    return through(fresh(TOWN), AIR[:CALM], 0)


def test_what_the_others_let_expect_is_what_their_kind_does(calm: Cell) -> None:
    """Another gas moves the estimate of what is silent, and not what a sensor is watched by."""
    values = AIR[CALM].copy()
    one = estimate(calm, end(CALM + 1), values)
    values[TOWN.pollutants == POLLUTANTS.index("no2")] *= 1.3
    other = estimate(calm, end(CALM + 1), values)
    particles = TOWN.pollutants <= POLLUTANTS.index("pm10")
    np.testing.assert_array_equal(one.others[particles], other.others[particles])
    assert (one.others[~particles] != other.others[~particles]).any()
    assert (one.value[particles] != other.value[particles]).any()


def test_where_a_sensor_stands_for_weeks_is_no_covariance(calm: Cell) -> None:
    high = AIR[CALM:].copy()
    high[:, 0] *= 1.5
    after = through(calm, high, CALM)
    usual = through(calm, AIR[CALM:], CALM)
    assert after.settled_lately[0] - usual.settled_lately[0] > 0.05
    beside = [after.settled_lately[index] - usual.settled_lately[index] for index in range(3, 9, 3)]
    assert np.abs(beside).max() < 0.02
    stood = np.outer(after.settled_lately, after.settled_lately)
    same = after.kin.covariance != 0.0
    np.testing.assert_allclose(
        after.kin.covariance[same], (after.settled_covariance - stood)[same], atol=1e-12
    )


def test_a_state_of_before_goes_on(calm: Cell) -> None:
    """Where it stood lately is not known of it: nothing is taken off until it settles again."""
    plain = msgspec.msgpack.decode(pack(calm))
    del plain["lately"], plain["settled_lately"]
    old = unpack(Cell, msgspec.msgpack.encode(plain))
    assert np.isfinite(estimate(old, end(CALM + 1), AIR[CALM]).others).all()
    after = through(old, AIR[CALM : CALM + 30], CALM)
    assert after.lately.shape == after.settled_lately.shape == (len(TOWN),)
    assert (after.covariance == through(calm, AIR[CALM : CALM + 30], CALM).covariance).all()
