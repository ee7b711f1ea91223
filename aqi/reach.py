"""How far the interval of a mean over hours reaches one way (below or above), where hours were imputed.

Let w_i be the hours' weights and b_i how far their own intervals reach. By the law of propagation of
uncertainty for correlated inputs (JCGM 100:2008, 5.2.2, equation 16) the mean reaches

    sqrt(sum_ij w_i w_j b_i b_j rho_ij),    rho_ij the correlation of the errors of hours i and j.

That is an equation of standard uncertainties. It is used here for each side of a 90 % interval by itself, as
if a reach were one and the same multiple of the standard uncertainty, which holds for errors of one shape.

An hour's persistence p_i is the correlation of its error with that of an hour later. Errors are taken as a
first-order autoregressive process, whose correlation falls by that factor every hour; for hours of unlike
persistence the geometric mean is taken: rho_ij = (p_i p_j)^(|i - j| / 2). Hours of persistence 1 (a model
that never saw the station errs alike hour after hour) are wholly correlated with each other, and where all
are such, the mean reaches as far as the mean of the b_i (5.2.2, note 1).

So the result is never less than for independent errors (rho_ij = 0) and never more than for equal ones.
"""

import numpy as np

from schemas.arrays import Float64


def of_mean(weights: Float64, reach: Float64, persistence: Float64) -> Float64:
    """Reach of sum_i w_i x_i over hours in a row, in either direction of time: arrays (hours, ...) to (...).

    `weights` are not negative, `reach` is in the unit of x; hours without an interval reach 0. All sums run
    hour by hour: the same bits whatever other stations are computed beside it.

    Examples:
        Four hours of one weight, each with an interval that reaches 8 ug/m3 from it:

        >>> weights, reach = np.full(4, 0.25), np.full(4, 8.0)
        >>> float(of_mean(weights, reach, np.zeros(4)))  # errors have nothing to do with each other
        4.0
        >>> float(of_mean(weights, reach, np.ones(4)))  # they are one and the same
        8.0
        >>> round(float(of_mean(weights, reach, np.full(4, 0.5))), 3)
        5.745
    """
    parts = weights * reach
    if not parts.any():
        return ordered_sum(parts)
    square = ordered_sum(parts * parts)
    root = np.sqrt(persistence)  # no exp(): that may differ in its last bit with the shape of the batch
    faded = parts
    for apart in range(1, len(parts)):
        faded = faded * root
        square = square + 2.0 * ordered_sum(faded[apart:] * faded[:-apart])
    most: Float64 = np.minimum(np.sqrt(square), ordered_sum(parts))
    return most


def ordered_sum(values: Float64) -> Float64:
    """Sum over the first axis, row by row: a plain sum may group its terms by the shape of the batch."""
    total = np.zeros(values.shape[1:])
    for period in values:
        total += period
    return total
