"""What sensors let expect of their own kind: exact, and deaf to where they stood lately."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from network.cell import Cell, estimate, fresh, learned
from network.kin import among_kin, by_others
from network.sweep import swept
from schemas.arrays import Float64
from schemas.parameters import POLLUTANTS
from tests.network.cities import city, end, members
from tests.network.test_sweep import covariance

CALM, SLIDING = 45 * 24, 24 * 24
TOWN = members(5, ("pm25", "pm10", "no2", "so2"))
AIR = city(TOWN, CALM + SLIDING, seed=5)


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
    np.testing.assert_allclose(kin.covariance[np.ix_([0, 1, 3], [0, 1, 3])], moving[np.ix_([0, 1, 3], [0, 1, 3])])
    assert not kin.covariance[np.ix_([0, 1, 3], [2, 4])].any()
    assert kin.covariance[2, 4] == pytest.approx(moving[2, 4])


def through(cell: Cell, air: Float64, first: int) -> tuple[Cell, Float64]:
    """The cell after some hours, and (hours,) how far the first sensor was from what the others let expect."""
    apart = []
    for hour, values in enumerate(air, first + 1):
        said = estimate(cell, end(hour), values)
        apart.append(float(np.log((20.0 + values[0]) / (20.0 + said.others[0]))))
        cell = learned(cell, end(hour), values)
    return cell, np.array(apart)


def test_most_of_a_slide_is_left_to_see_after_weeks() -> None:
    """A region that learns from a sensor that slides by 1 % a day: at the end of three weeks and a half, two
    thirds of it still stand out. What all others let expect by where they stood had followed farther."""
    calm, _ = through(fresh(TOWN), AIR[:CALM], 0)
    _, before = through(calm, AIR[CALM:], CALM)
    sliding = AIR[CALM:].copy()
    sliding[:, 0] *= 1.01 ** (np.arange(SLIDING) / 24.0)
    _, after = through(calm, sliding, CALM)
    made = np.log((20.0 + sliding[:, 0]) / (20.0 + AIR[CALM:, 0]))
    seen = float((after - before)[-72:].mean() / made[-72:].mean())
    print(seen)
    assert 0.65 < seen < 1.1
