"""Conditioning of Gaussians by the sweep operator (Goodnight 1979, The American Statistician 33:149).

A covariance S swept on a set H of its variables holds, in one symmetric matrix, all that conditioning on H
asks for: minus the inverse of S_HH, the regression of the others on H, and their conditional covariance.
Sweeping is undone variable by variable, so that of an all-swept matrix a few silent ones cost little.
"""

from collections.abc import Iterable
from typing import Final

import numpy as np

from schemas.arrays import Float64

#: Least part of a variable's variance that all others together may leave unexplained.
LEAST: Final = 1e-3


def swept(matrix: Float64, variables: Iterable[int]) -> Float64:
    """A copy of `matrix` (..., d, d), symmetric, swept on `variables` in their order.

    Where it is no covariance (what is known of two pairs contradicts what is known of the third), the later
    variable's covariances are scaled down, the more the less they can be: the swept matrix is always that of
    a covariance, and its weights stay of the size of the data.
    """
    result = matrix.copy()
    own = np.einsum("...ii->...i", matrix).copy()
    for k in variables:
        explained = own[..., k] - result[..., k, k]
        most = (1.0 - LEAST) * own[..., k]
        part = np.where(explained > most, most / np.where(explained > most, explained, 1.0), 1.0)
        pivot = own[..., k] - part**2 * explained
        column = result[..., :, k] * part[..., None]
        _pivoted(result, k, pivot, column, 1.0)
    return result


def unswept(matrix: Float64, variables: Iterable[int]) -> Float64:
    """Inverse of `swept` on `variables`: they are no longer conditioned on."""
    result = matrix.copy()
    for k in variables:
        pivot = np.minimum(result[..., k, k], -1e-300)
        column = result[..., :, k].copy()
        _pivoted(result, k, pivot, column, -1.0)
    return result


def _pivoted(matrix: Float64, k: int, pivot: Float64, column: Float64, sign: float) -> None:
    row = column / pivot[..., None]
    matrix -= column[..., :, None] * row[..., None, :]
    matrix[..., :, k] = sign * row
    matrix[..., k, :] = sign * row
    matrix[..., k, k] = -1.0 / pivot


def inverse(matrix: Float64) -> Float64:
    """Inverse of symmetric positive definite matrices (..., d, d), small ones."""
    return -swept(matrix, range(matrix.shape[-1]))
