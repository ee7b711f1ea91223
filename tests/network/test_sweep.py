"""The sweep operator against numpy's solver."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from network.sweep import LEAST, inverse, reconciled, swept, unswept


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


def test_what_contradicts_nothing_stays() -> None:
    matrix = covariance(6, 1)
    assert reconciled(matrix, range(6), np.array([3, 3, 3, 1, 1, 0])) is matrix


@given(st.integers(0, 10**6), st.integers(2, 4))
def test_what_young_ones_have_in_common_gives_way_and_not_what_ties_them_to_their_elders(
    seed: int, count: int
) -> None:
    """Oracle: the elders' rows stay; of two young ones, what they have in common beside their elders is at
    most 98 parts of a hundred of what these leave.
    """
    random = np.random.default_rng(seed)
    true = covariance(5 + count, seed)
    elders, young = np.arange(5), np.arange(5, 5 + count)
    matrix = true.copy()
    noise = np.triu(random.normal(0.0, 2.0, (count, count)), 1)
    matrix[np.ix_(young, young)] += noise + noise.T
    found = reconciled(matrix, range(5 + count), np.array([4] * 5 + [1] * count))
    np.testing.assert_allclose(found[:, elders], true[:, elders], atol=1e-9)
    np.testing.assert_allclose(np.diagonal(found), np.diagonal(true), atol=1e-9)
    assert np.linalg.eigvalsh(found).min() > 0.0
    weights = np.linalg.solve(true[np.ix_(elders, elders)], true[np.ix_(elders, young)])
    asked, left = (
        one[np.ix_(young, young)] - true[np.ix_(young, elders)] @ weights for one in (matrix, found)
    )
    most = np.sqrt(0.98 * left[1, 1] * left[0, 0])
    assert left[0, 1] == pytest.approx(np.clip(asked[0, 1], -most, most), abs=1e-8)


@given(st.integers(0, 10**6))
def test_a_variable_that_its_elders_explain_too_well_is_tied_to_them_less(seed: int) -> None:
    random = np.random.default_rng(seed)
    matrix = covariance(5, seed)
    too_much = random.normal(0.0, 3.0, 4)
    matrix[4, :4] = matrix[:4, 4] = too_much
    found = reconciled(matrix, range(5), np.array([2, 2, 2, 2, 0]))
    explained = too_much @ np.linalg.solve(matrix[:4, :4], too_much)
    part = min(1.0, np.sqrt((1.0 - 2.0 * LEAST) * matrix[4, 4] / explained))
    np.testing.assert_allclose(found[4, :4], part * too_much, atol=1e-8)
