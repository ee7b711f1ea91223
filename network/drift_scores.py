"""How well a departure of each age explains a sensor's days: one that grows, or a change at once.

The difference of a day is a share of that of the day before it and something new (an autoregression), about a
lasting bias that is small. A departure of unknown size is fitted beside that bias by weighted least squares;
how many deviations it is from none goes by the noise that is left without it, as in Student's t: the noise of
days in which a sensor slides is not that of the sensor.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np

from network.drift_sums import LEAST_HOURS, Sum
from schemas.arrays import Bool, Float32, Float64

#: Days that are kept, and looked back on.
DAYS: Final = 90
#: Ages in days of a departure that are looked at; and of one that is to be told apart from another.
AGES: Final = (2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 17, 20, 24, 28, 34, 40, 50)
ALL_AGES: Final = tuple(range(2, 61))
#: How much of a day's difference is left the next day.
LASTING: Final = 0.4
#: Deviations by which a day may leave the median of three: where it is asked whether a sensor has left, and
#: where it is asked how: the first day tells that.
LONE: Final = 1.25
FIRST_DAY: Final = 30.0
#: Standard deviation of what lasts of a sensor's difference all along.
_BIAS: Final = 0.02
#: Days after which one counts half for the noise, deviations beyond which a day counts no more for it, what
#: the mean size of a Gaussian is to be taken times for its deviation, and the least that is believed.
_NOISE_DAYS: Final = 60.0
_STRANGE: Final = 3.0
_OF_MEAN_SIZE: Final = 1.25
_LEAST_NOISE: Final = 0.3


class FittedAge(NamedTuple):
    """The best departure of a form: deviations from none, age in days, and gain (log; of a ramp a day's)."""

    score: float
    age: int
    gain: float


class Days(NamedTuple):
    """(DAYS, d) of the kept days, the oldest first: differences and their slopes by the gain, in units of
    the day's loudness, and whether there is any."""

    difference: Float64
    slope: Float64
    there: Bool


def days_of(kept: Float32, noise: Float64, lone: float) -> Days:
    """The days of sensors.

    Args:
        kept: (DAYS, sums, d), the newest first.
        noise: (d,) of a day.
        lone: deviations by which a day may leave the median of three.
    """
    days = kept[::-1].astype(np.float64)
    hours, lever = days[:, Sum.HOURS], days[:, Sum.LEVER]
    there = (hours >= LEAST_HOURS) & (lever > 0.0)
    loud = np.where(there, days[:, Sum.LOUD], 1.0)
    scale = np.sqrt(np.where(there, lever * hours, 1.0)) * loud
    difference = np.where(there, days[:, Sum.PULL] / scale, 0.0)
    slope = np.where(there, np.sqrt(lever / np.where(there, hours, 1.0)) / loud, 0.0)
    # A day on its own moves nothing: it is cut where it is far from the median of the last three.
    before = np.concatenate([np.zeros_like(difference[:2]), difference])
    middle = np.median(np.stack([before[:-2], before[1:-1], before[2:]]), axis=0)
    reach = lone * noise
    return Days(np.where(there, np.clip(difference, middle - reach, middle + reach), 0.0), slope, there)


class AgeScores(NamedTuple):
    """(ages, d) of departures of each age: deviations from none, signed, and the gain (log) that fits: of one
    that grows, of a day. `ages`: these."""

    score: Float64
    gain: Float64
    ages: tuple[int, ...]

    def best(self) -> FittedAge:
        """The age that explains the first sensor best."""
        age = int(np.abs(self.score[:, 0]).argmax())
        return FittedAge(float(self.score[age, 0]), self.ages[age], float(self.gain[age, 0]))


def scores_of(days: Days, noise: Float64, ages: Sequence[int], *, growing: bool) -> AgeScores:
    """How well a departure of each age explains the days; `growing`: a ramp, else a change at once."""
    age = np.arange(DAYS)[::-1]
    shapes = np.stack(
        [np.where(age < one, one - age if growing else 1, 0).astype(np.float64) for one in ages]
    )
    difference = _whitened(days.difference, days.there) / noise
    bias = _whitened(days.slope, days.there) / noise
    shape = _whitened(shapes[:, :, None] * days.slope, days.there) / noise
    bias_bias = np.einsum("td,td->d", bias, bias) + 1.0 / _BIAS**2
    bias_difference = np.einsum("td,td->d", bias, difference)
    across = np.einsum("atd,td->ad", shape, bias)
    own = np.maximum(np.einsum("atd,atd->ad", shape, shape) - across**2 / bias_bias, 1e-9)
    told = np.einsum("atd,td->ad", shape, difference) - across * bias_difference / bias_bias
    gain = told / own
    lasting = (bias_difference - gain * across) / bias_bias
    left = np.abs(difference - gain[:, None] * shape - lasting[:, None] * bias)
    weight = np.where(days.there, 0.5 ** (age[:, None] / _NOISE_DAYS), 0.0)
    size = np.einsum("atd,td->ad", np.minimum(left, _STRANGE), weight) / np.maximum(weight.sum(axis=0), 1e-9)
    return AgeScores(told / np.sqrt(own) / np.maximum(_OF_MEAN_SIZE * size, _LEAST_NOISE), gain, tuple(ages))


def _whitened(series: Float64, there: Bool) -> Float64:
    """(..., DAYS, d) less what lasts of the day before it."""
    before = np.zeros_like(series)
    before[..., 1:, :] = series[..., :-1, :]
    after_one = np.zeros_like(there)
    after_one[1:] = there[:-1]
    weight = np.where(there, np.where(after_one, 1.0, np.sqrt(1.0 - LASTING**2)), 0.0)
    result: Float64 = weight * (series - LASTING * np.where(after_one, before, 0.0))
    return result
