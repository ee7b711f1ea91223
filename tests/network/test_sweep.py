"""The sweep operator against numpy's solver."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from network.sweep import inverse, swept, unswept


def covariance(d: int, seed: int) -> np.ndarray:
    factor = np.random.default_rng(seed).normal(size=(d, d + 3))
    result: np.ndarray = factor @ factor.T / d + 0.05 * np.eye(d)
    return result


@given(st.integers(1, 9), st.integers(0, 10**6), st.data())
def test_a_sweep_holds_regression_and_conditional_covariance(d: int, seed: int, data: st.DataObject) -> None:
    matrix = covariance(d, seed)
    heard = data.draw(st.lists(st.integers(0, d - 1), unique=True))
    silent = [k for k in range(d) if k not in heard]
    got = swept(matrix, heard)
    inner = np.linalg.inv(matrix[np.ix_(heard, heard)])
    regression = matrix[np.ix_(silent, heard)] @ inner
    np.testing.assert_allclose(got[np.ix_(heard, heard)], -inner, atol=1e-8, rtol=1e-7)
    np.testing.assert_allclose(got[np.ix_(silent, heard)], regression, atol=1e-8, rtol=1e-7)
    np.testing.assert_allclose(
        got[np.ix_(silent, silent)],
        matrix[np.ix_(silent, silent)] - regression @ matrix[np.ix_(heard, silent)],
        atol=1e-8, rtol=1e-7,
    )  # fmt: skip
    np.testing.assert_allclose(unswept(got, heard), matrix, atol=1e-7)
    everything = swept(matrix, range(d))
    np.testing.assert_allclose(unswept(everything, silent), got, atol=1e-7, rtol=1e-6)


@given(st.integers(1, 6), st.integers(0, 10**6))
def test_small_ones_are_inverted_side_by_side(d: int, seed: int) -> None:
    both = np.stack([covariance(d, seed), covariance(d, seed + 1)])
    np.testing.assert_allclose(inverse(both), np.linalg.inv(both), atol=1e-8, rtol=1e-7)


@pytest.mark.parametrize("seed", range(20))
def test_what_is_no_covariance_is_swept_as_one(seed: int) -> None:
    """Three pairs that contradict each other: no variance is negative, no weight is without bound."""
    random = np.random.default_rng(seed)
    matrix = np.eye(6) + 0.0
    corner = random.uniform(-0.99, 0.99, (6, 6))
    matrix += np.tril(corner, -1) + np.tril(corner, -1).T
    got = swept(matrix, range(6))
    assert (np.diagonal(got) < 0).all()
    assert np.abs(got).max() < 1e6
    for silent in range(6):
        assert 0.0 < unswept(got, [silent])[silent, silent] <= 1.0 + 1e-9
