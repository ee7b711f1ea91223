"""The scale on which concentrations of a region are alike."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from network.scale import OFFSETS, from_log, to_log
from schemas.parameters import POLLUTANTS

concentrations = st.floats(0.0, 1e5)
places = st.integers(0, len(POLLUTANTS) - 1)


@given(st.lists(st.tuples(concentrations, places), min_size=1, max_size=8))
def test_there_and_back_is_the_same(drawn: list[tuple[float, int]]) -> None:
    values, pollutants = np.array([value for value, _ in drawn]), np.array([place for _, place in drawn])
    np.testing.assert_allclose(from_log(to_log(values, pollutants), pollutants), values, rtol=1e-9, atol=1e-9)


@given(concentrations, concentrations, places)
def test_more_is_more(one: float, other: float, place: int) -> None:
    at = np.array([place, place])
    first, second = to_log(np.array([one, other]), at)
    assert (first < second) == (one < other) or abs(one - other) < 1e-9 * max(one, other, 1.0)


@given(st.floats(-100.0, 0.0), st.floats(-50.0, 50.0), places)
def test_nothing_is_below_nothing(value: float, log: float, place: int) -> None:
    at = np.array([place])
    assert to_log(np.array([value]), at) == np.log(OFFSETS[POLLUTANTS[place]])
    back = from_log(np.array([log]), at)
    assert back >= 0
    assert np.isfinite(back).all()


def test_what_is_not_known_stays_so() -> None:
    at = np.array([0])
    assert np.isnan(to_log(np.array([np.nan]), at)).all()
    assert np.isnan(from_log(np.array([np.nan]), at)).all()
