"""What sensors let expect of their own kind by how they move together, and not by where they stood lately.

A covariance that is learned from all that is heard learns within weeks what is wrong with a sensor, too: of
one that slides by a per cent a day, what all others let expect has followed four tenths of the way after
three weeks, and there is little left to see. Two things keep it from that. The covariance is taken about the
mean of its own last weeks, so that what a slide adds is mean and not covariance. And only sensors of one
family are asked: each further variable is one more by which a slide can be explained away. So measured, a
sensor is expected a little less well hour by hour, and as well by the day; three quarters of a slide are left
after three weeks (docs/network.md).
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from network.conditioning import Conditioning
from schemas.arrays import Bool, Float64
from schemas.parameters import POLLUTANTS, Pollutant

#: Pollutants that tell of each other here, by number: particles, and each gas for itself.
_FAMILIES: Final[dict[Pollutant, int]] = {"pm25": 0, "pm10": 0, "no2": 1, "so2": 2, "co": 3, "o3": 4}
_FAMILY: Final = np.array([_FAMILIES[name] for name in POLLUTANTS])

#: Part of a variance about the long mean that the mean of the same weeks may be.
_MOST_MEAN: Final = 0.9


def among_kin(
    covariance: Float64, lately: Float64, pollutants: NDArray[np.int64], order: NDArray[np.int64]
) -> Conditioning:
    """What conditioning on one's own kind goes by.

    Args:
        covariance: (d, d) about the long mean.
        lately: (d,) mean of the same weeks, less the long one.
        pollutants: (d,) places in `POLLUTANTS`.
        order: (d,) in which the variables are swept.
    """
    family = _FAMILY[pollutants]
    # Of a new one the two are not of the same hours: some of its variance is left all the same.
    most = np.sqrt(_MOST_MEAN * np.diagonal(covariance))
    lately = np.clip(lately, -most, most)
    return Conditioning(
        np.where(family[:, None] == family, covariance - lately[:, None] * lately, 0.0), order.tolist()
    )


def by_others(conditioned: Float64, deviation: Float64, trusted: Bool) -> tuple[Float64, Float64]:
    """(d,) what the others that are trusted let expect of each, and the variance of that.

    Args:
        conditioned: (d, d) covariance swept on those that are trusted.
        deviation: (d,) of those from the mean; of others it does not count.
        trusted: (d,).
    """
    told = np.where(trusted, deviation, 0.0)
    precision = np.where(trusted, -np.diagonal(conditioned), 1.0)
    pull = np.einsum("ij,j->i", np.where(trusted[:, None] & trusted, -conditioned, 0.0), told)
    mean = np.where(trusted, told - pull / precision, np.einsum("ij,j->i", conditioned, told))
    return mean, np.where(trusted, 1.0 / precision, np.diagonal(conditioned))
