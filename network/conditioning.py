"""What a cell's conditioning goes by: a covariance with the sensors' noise, and places for those never heard.

It is swept on all variables once, and from there undone for those that are silent in an hour.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np

from network.members import Members, Silence
from network.sweep import LEAST, swept, unswept
from schemas.arrays import Bool, Float64, Int64

#: Part of each variance that is taken for the sensor's own noise.
NOISE: Final = 0.0015
#: Standard deviation (log scale) of a sensor's lasting difference from its neighbours, before it was heard.
BIAS: Final = 0.25
#: Hours after which half of that is known.
BIAS_HOURS: Final = 24.0
#: Hours heard at which what the places let expect weighs as much as what was heard; it goes by the square.
PRIOR_HOURS: Final = 36.0
#: Standard deviation (log scale) before anything is known.
FIRST_SPREAD: Final = 0.5
#: Conditioned covariances that are remembered until the next one settles.
_REMEMBERED: Final = 6
#: Of variances that no rounding has spoilt: one that is left is no larger than it was, but for so much.
_ROUNDED: Final = 1.0 - 1e-6


class Conditioning:
    """What conditioning goes by.

    Attributes:
        covariance: (d, d).
        swept: the same swept on all variables.
    """

    def __init__(self, covariance: Float64, order: Sequence[int]) -> None:
        self.covariance = covariance
        self.swept = swept(covariance, order)
        self._order = tuple(order)
        self._known: dict[bytes, Float64] = {}

    def given(self, heard: Bool) -> Float64:
        """The covariance swept on what is heard; kept, for the same sensors are silent for hours."""
        key = heard.tobytes()
        found = self._known.pop(key, None)
        if found is None:
            found = self._swept_on(heard)
        self._known[key] = found
        while len(self._known) > _REMEMBERED:
            del self._known[next(iter(self._known))]
        return found

    def _swept_on(self, heard: Bool) -> Float64:
        """Undone from the one that is swept on all; anew where rounding has left no covariance."""
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            found = unswept(self.swept, np.flatnonzero(~heard).tolist())
        own, now = np.diagonal(self.covariance), np.diagonal(found)
        sound = np.where(heard, -now * own >= _ROUNDED, (now > 0.0) & (now * _ROUNDED <= own))
        if np.isfinite(found).all() and sound.all():
            return found
        found = swept(self.covariance, [k for k in self._order if heard[k]])
        # What is silent may be explained by all of its variance but the least part, too.
        explained = np.where(heard, 0.0, own - np.diagonal(found))
        most = (1.0 - LEAST) * own
        over = explained > most
        part = np.where(over, np.sqrt(most / np.where(over, explained, 1.0)), 1.0)
        found = part[:, None] * found * part
        silent = np.flatnonzero(~heard)
        found[silent, silent] = np.clip((own - part**2 * explained)[silent], LEAST * own[silent], own[silent])
        return found


def unheard_in(members: Members, alike: Float64, known: Bool) -> Float64:
    """(d, d) correlations with those never heard, as the places have it: by kriging from those that are."""
    kriged = _kriging(members, known)
    among = np.where(known[:, None] & known, alike, 0.0)
    weights = np.where(~known[:, None] & known, kriged, 0.0)
    across = np.einsum("ik,kj->ij", weights, among)
    inner = np.einsum("ik,jk->ij", across, weights)
    rest = np.where(~known[:, None] & ~known, kriged, 0.0)
    result: Float64 = across + across.T + inner + rest
    own = np.sqrt(np.where(known, 1.0, np.maximum(np.diagonal(result), LEAST)))
    result /= own[:, None] * own
    result[~known, ~known] = 1.0  # rounding may have left less than nothing to kriging among twins
    return result


def _kriging(members: Members, known: Bool) -> Float64:
    """(d, d) the prior swept on those that are known: weights of the known for the others."""
    return swept(members.prior + NOISE * np.eye(len(members)), np.flatnonzero(known).tolist())


def bias_of(heard: Float64) -> Float64:
    """(d,) variance that is taken for each one's lasting difference after so many hours heard."""
    result: Float64 = BIAS**2 / (1.0 + heard / BIAS_HOURS)
    return result


def with_bias(covariance: Float64, heard: Float64) -> Float64:
    """(d, d) with the sensors' noise and what is not known of their lasting differences."""
    d = len(heard)
    own = np.diagonal(covariance)
    result = covariance.copy()
    result[np.arange(d), np.arange(d)] = own * (1.0 + NOISE) + bias_of(heard)
    return result


class MixedCovariance(NamedTuple):
    """(d, d) each.

    Attributes:
        completed: what was learned, with those never heard as the places have it.
        mixed: the same with what the places let expect of all.
        believed: part of that.
    """

    completed: Float64
    mixed: Float64
    believed: float


def with_places(members: Members, covariance: Float64, since: Float64, most_hours: float) -> MixedCovariance:
    """What was learned, with what the places let expect: less of that as the cell grows old.

    Args:
        members: of the cell.
        covariance: (d, d) learned.
        since: (d,) hours since each was heard first, 0: never.
        most_hours: hours that it remembers.
    """
    pollutants, known = members.pollutants, since > 0.0
    own, weight = np.diagonal(covariance), np.minimum(since, most_hours)
    # The spread of a variable that is new: of its pollutant at the others.
    same = (pollutants[:, None] == pollutants) * weight
    first = PRIOR_HOURS * FIRST_SPREAD**2
    typical = (np.einsum("ij,j->i", same, own) + first) / (same.sum(axis=1) + PRIOR_HOURS)
    spread = np.sqrt((weight * own + PRIOR_HOURS * typical) / (weight + PRIOR_HOURS))
    scale = spread[:, None] * spread
    believed = PRIOR_HOURS**2 / (PRIOR_HOURS**2 + float(weight.max(initial=0.0)) ** 2)
    if not known.all():
        alike = covariance / np.sqrt(np.where(known, own, 1.0)[:, None] * np.where(known, own, 1.0))
        covariance = np.where(known[:, None] & known, covariance, unheard_in(members, alike, known) * scale)
    return MixedCovariance(
        covariance, (1.0 - believed) * covariance + believed * members.prior * scale, believed
    )


def _pulled(conditioned: Float64, deviation: Float64, heard: Bool) -> tuple[Float64, Float64]:
    """(d,) of a precision among those heard, its product with their deviations and its diagonal; 0 and 1 of
    the others."""
    precision = np.where(heard[:, None] & heard, -conditioned, 0.0)
    pull = np.einsum("ij,j->i", precision, np.where(heard, deviation, 0.0))
    return pull, np.where(heard, -np.diagonal(conditioned), 1.0)


def strangeness_of(conditioned: Float64, deviation: Float64, trusted: Bool, size: Float64) -> Float64:
    """(d,) deviations by which all others contradict each that is trusted; 0 of the others.

    Args:
        conditioned: (d, d) covariance swept on those that are trusted.
        deviation: (d,) from the mean.
        trusted: (d,).
        size: (kinds, d) of the errors (`network.intervals`).
    """
    pull, own = _pulled(conditioned, deviation, trusted)
    score: Float64 = np.where(trusted, np.abs(pull) / np.sqrt(own * size[Silence.SENSOR]), 0.0)
    return score


def unusual(conditioned: Float64, deviation: Float64, trusted: Bool) -> Float64:
    """(d,) squared size of what is heard beside each, in deviations: in a usual hour as much as are heard;
    arguments as for `strangeness_of`.
    """
    pull, own = _pulled(conditioned, deviation, trusted)
    whole = np.where(trusted, pull * deviation, 0.0).sum()
    left: Float64 = np.maximum(whole - pull**2 / own, 0.0)
    return left


def shares_of(covariance: Float64, owners: Int64, weights: Float64, lasting: Float64) -> Float64:
    """(3, d) how much other stations, the own other pollutants and the own past explain of each.

    What is heard explains sum_j w_j C_ij of the variance of i, which splits by j; of what it leaves, the past
    explains `lasting`. A variable that only sharpens another one may explain less than nothing: that is 0.

    Args:
        covariance: (d, d).
        owners: (d,) whose each is.
        weights: (d, d) of what is heard for each that is silent.
        lasting: (d,).
    """
    same = owners[:, None] == owners
    told = weights * covariance
    by_others = np.maximum(np.where(same, 0.0, told).sum(axis=1), 0.0)
    by_own = np.maximum(np.where(same, told, 0.0).sum(axis=1), 0.0)
    left = np.maximum(np.diagonal(covariance) - told.sum(axis=1), 0.0)
    parts = np.stack([by_others, by_own, lasting * left])
    whole = parts.sum(axis=0)
    shares: Float64 = np.where(whole > 0.0, parts / np.where(whole > 0.0, whole, 1.0), 0.0)
    return shares
