"""What the drift watch keeps of a day of a sensor beside what its neighbours let expect."""

from enum import IntEnum
from typing import Final

import numpy as np

from schemas.arrays import Float64

#: Hours without which a day says nothing.
LEAST_HOURS: Final = 12


class Sum(IntEnum):
    """What is kept of a day. x: what is expected, y: what is read, ug/m3; w = 1 / (offset + x)²."""

    HOURS = 0
    PULL = 1  #: sum of a r: r the difference on the log scale, a = x / (offset + x) its slope by the gain
    LEVER = 2  #: sum of a²
    APART = 3  #: sum of r
    SQUARES = 4  #: sum of r²
    W = 5
    WX = 6
    WY = 7
    WXX = 8
    WXY = 9
    WYY = 10
    LOUD = 11  #: the day's noise, as a multiple of the usual


def sums_of(x: Float64, y: Float64, offset: Float64, reach: Float64) -> Float64:
    """(sums, d) of an hour.

    Args:
        x: (d,) what is expected, ug/m3.
        y: (d,) what is read.
        offset: (d,) of the log scale.
        reach: (d,) difference on it beyond which an hour counts no more.
    """
    apart = np.clip(np.log((offset + y) / (offset + x)), -reach, reach)
    slope = x / (offset + x)
    weight = 1.0 / (offset + x) ** 2
    return np.stack([
        np.ones(len(x)), slope * apart, slope * slope, apart, apart * apart,
        weight, weight * x, weight * y, weight * x * x, weight * x * y, weight * y * y, np.zeros(len(x)),
    ])  # fmt: skip
