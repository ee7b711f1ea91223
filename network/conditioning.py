"""What a cell's conditioning goes by: a covariance with the sensors' noise, and places for those never heard.

It is swept on all variables once, and from there undone for those that are silent in an hour.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np

from network.members import Members
from network.sweep import LEAST, swept, unswept
from schemas.arrays import Bool, Float64

#: Part of each variance that is taken for the sensor's own noise.
NOISE: Final = 0.0015
#: Standard deviation (log scale) of a sensor's lasting difference from its neighbours, before it was heard.
BIAS: Final = 0.25
#: Hours after which half of that is known.
BIAS_HOURS: Final = 24.0
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
