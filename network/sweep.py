"""Conditioning of Gaussians by the sweep operator (Goodnight 1979, The American Statistician 33:149).

A covariance S swept on a set H of its variables holds, in one symmetric matrix, all that conditioning on H
asks for: minus the inverse of S_HH, the regression of the others on H, and their conditional covariance.
Sweeping is undone variable by variable, so that of an all-swept matrix a few silent ones cost little.
"""

from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from schemas.arrays import Float64

#: Least part of a variable's variance that all others together may leave unexplained.
LEAST: Final = 1e-3
#: Most that others of its own age may explain of what a variable's elders leave of its variance.
_OF_ONE_AGE: Final = 0.98


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


def reconciled(matrix: Float64, variables: Sequence[int], ages: NDArray[np.int64]) -> Float64:
    """The covariance nearest to `matrix` (d, d) that does not say of any variable more than all of it.

    What is known of a variable and its elders stays, wherever that is possible: where it and others of its
    age are contradicted, it is what these have in common beside their elders that is less. (As `swept` has
    it, the variable would be taken for unlike its elders, too.)

    Args:
        matrix: symmetric, of variables each of which by itself may be true.
        variables: all of them, the eldest first.
        ages: (d,) how old each is, in steps: equal ones are of one age.
    """
    own = np.diagonal(matrix)
    result, found = matrix.copy(), matrix.copy()
    by_elders, told = np.zeros_like(matrix), np.zeros(len(matrix))
    before, less = -1, []
    for place, k in enumerate(variables):
        if before < 0 or ages[k] != ages[before]:
            elders = np.array(variables[:place], dtype=np.int64)
            by_elders = np.zeros_like(matrix)
            by_elders[elders] = result[elders]
            told = own - np.diagonal(result)
        before = k
        explained = own[k] - result[k, k]
        of_elders = min((1.0 - 2.0 * LEAST) * own[k], told[k])
        most = of_elders + (_OF_ONE_AGE if len(elders) else 1.0) * (own[k] - of_elders)
        most = min(most, (1.0 - LEAST) * own[k])
        column = result[:, k].copy()
        if explained > most:
            tied = np.sqrt(of_elders / told[k]) if told[k] > 0.0 else 1.0
            more = np.sqrt((most - of_elders) / (explained - told[k])) if explained > told[k] else 0.0
            column = tied * by_elders[:, k] + more * (column - by_elders[:, k])
            explained = of_elders + more**2 * max(explained - told[k], 0.0)
            found[k, elders], found[elders, k] = tied * found[k, elders], tied * found[elders, k]
            less.append((k, np.setdiff1d(np.arange(len(matrix)), [*elders.tolist(), k])))
        _pivoted(result, k, np.asarray(own[k] - explained), column, 1.0)
    if not less:
        return matrix
    # What has changed alone is taken from where it was swept: the rest is as it was, without its rounding.
    result = unswept(result, variables)
    for k, others in less:
        found[k, others], found[others, k] = result[k, others], result[others, k]
    return found


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
