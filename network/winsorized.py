"""What a place that has measured little is let to expect, robust against one neighbour that stands out.

Kriging believes each neighbour by its distance: beside a fire that one of them sees alone, a place that never
measured anything would be let to expect a part of it. So values are winsorized first (robust kriging: Hawkins
and Cressie 1984, Mathematical Geology 16:3): what one station shows alone counts as far as the next one shows
it, and by what the two usually differ. What two show counts whole; so does what lies nearer than all others
together, for that is a gradient.
"""

import numpy as np

from network.conditioning import BIAS, PRIOR_HOURS, bias_of
from network.members import Members
from network.newcomers import LEVEL_POWER
from schemas.arrays import Bool, Float64


def level_of_others(members: Members, near: Float64, level: Float64) -> Float64:
    """(d,) what the means of others let expect of each.

    Args:
        members: of the cell.
        near: (d, d) how much each counts (`newcomers.means_of_others`).
        level: (d,) log scale, NaN where it is not known.
    """
    there = ~np.isnan(level)
    known = np.where(there, level, 0.0)
    apart = np.full((len(known), len(known)), np.sqrt(2.0) * BIAS)
    return _told(members, near, near, known, _shown_by_two(members, known, there, apart))


def robust_mean(
    members: Members,
    conditioned: Float64,
    covariance: Float64,
    heard: Float64,
    deviation: Float64,
    there: Bool,
) -> Float64:
    """(d,) the conditional mean of what is silent, robust for those that have measured little.

    What the places let expect weighs less as a sensor was heard for longer (`conditioning.with_places`), and
    so does what it asks for.

    Args:
        members: of the cell.
        conditioned: (d, d) covariance swept on those that are there.
        covariance: (d, d) the same before.
        heard: (d,) hours.
        deviation: (d,) log scale less the mean, of those that are there.
        there: (d,) who is listened to.
    """
    deviation = np.where(there, deviation, 0.0)
    whole: Float64 = np.einsum("ij,j->i", conditioned, deviation)
    by_places = np.where(there, 0.0, PRIOR_HOURS**2 / (PRIOR_HOURS**2 + heard**2))
    own = np.diagonal(covariance) - bias_of(heard)
    apart = np.sqrt(np.maximum(own[:, None] + own - 2.0 * covariance, 0.0))
    cut = _shown_by_two(members, deviation, there, apart)
    same = ((members.pollutants[:, None] == members.pollutants) & there).astype(np.float64)
    nearness = members.nearness**LEVEL_POWER
    around = np.einsum("ik,jk->ij", nearness, same)
    near = np.where(there, nearness / np.where(around > 0.0, around, 1.0), 0.0)
    robust = _told(members, np.where(there, conditioned, 0.0), near, deviation, cut)
    result: Float64 = whole + by_places * (robust - whole)
    return result


def _shown_by_two(members: Members, values: Float64, there: Bool, apart: Float64) -> Float64:
    """(d,) values of which none is farther out than another of its pollutant lets it be.

    `apart`: (d, d) by how much two usually differ.
    """
    pairs = (members.pollutants[:, None] == members.pollutants) & there[:, None] & there
    np.fill_diagonal(pairs, False)
    highest = np.where(pairs, values + apart, -np.inf).max(axis=1, initial=-np.inf)
    lowest = np.where(pairs, values - apart, np.inf).min(axis=1, initial=np.inf)
    result: Float64 = np.where(pairs.any(axis=1), np.minimum(np.maximum(values, lowest), highest), values)
    return result


def _told(members: Members, weights: Float64, near: Float64, values: Float64, cut: Float64) -> Float64:
    """(d,) sums by weights of values that count as they are cut; whole, at one's own station, and as far as
    one is more than half of all that is near (`near`: (d, d), rows sum to 1 for each pollutant)."""
    own = members.owners[:, None] == members.owners
    whole = np.where(own, 1.0, np.clip(2.0 * near - 1.0, 0.0, 1.0))
    result: Float64 = np.einsum("ij,ij->i", weights, cut + whole * (values - cut))
    return result
