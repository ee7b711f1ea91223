"""How a sensor left its neighbours: it slides, is stuck, or changed at once by a factor, a constant, a unit.

A slide and a sudden change are told apart by which of them explains the days better. A factor and a constant
are told apart within the days: a constant is the same at a high level as at a low one.
"""

import math
from typing import Final, NamedTuple

import numpy as np

from aqi.units import MOLAR_MASS, micrograms_per_ppb
from network.drift_scores import FittedAge
from network.drift_sums import LEAST_HOURS, Sum
from schemas.arrays import Bool, Float64
from schemas.estimate import DriftKind
from schemas.parameters import Pollutant

#: Days of nothing but one value that say that a sensor is stuck, and the hours that each has.
_STUCK_DAYS: Final = 2
_STUCK_HOURS: Final = 18
#: Relative variance that the neighbours show meanwhile, and the part of it that a stuck one shows at most.
_MOVING: Final = 0.02
_STILL: Final = 0.01
#: Days that a slide takes at least.
_LEAST_SLIDE: Final = 5
#: Independent pieces of evidence in a day's hours, and the log likelihood ratio that is enough.
_PIECES: Final = 3.0
_ENOUGH: Final = 2.0
#: Celsius at which a gas that is taken for a mass is weighed; 20 or 25 are within the tolerance.
_CELSIUS: Final = 25.0
#: How near (log) a factor has to be to that of a unit, and to that of a thousand.
_NEAR_UNIT: Final = 0.12
_NEAR_THOUSAND: Final = 0.5
#: Least factor of a unit that is told from a scale error (log).
_TELLING: Final = 0.3


class Fit(NamedTuple):
    """A sensor's departure as each kind would have it.

    `stuck`: whether it is. `scale`, `offset`: what a sudden change comes to as a factor, or in ug/m3.
    `scale_over_offset`: log likelihood ratio of the two.
    """

    ramp: FittedAge
    step: FittedAge
    stuck: bool
    scale: float
    offset: float
    scale_over_offset: float

    def age_of(self, kind: DriftKind) -> int:
        """Days since it began."""
        if kind == "stuck":
            return _STUCK_DAYS
        return self.ramp.age if kind == "slide" else self.step.age

    @property
    def share(self) -> float:
        """By how much too much is read now, by the form that explains it better."""
        return self.share_of("slide" if self.slides else "scale")

    def share_of(self, kind: DriftKind) -> float:
        """The same of a kind."""
        if kind == "slide":
            return math.expm1(min(self.ramp.gain * self.ramp.age, 20.0))
        return self.scale - 1.0

    @property
    def slides(self) -> bool:
        """Whether it is a slide rather than a sudden change."""
        return self.ramp.age >= _LEAST_SLIDE and abs(self.ramp.score) > abs(self.step.score)


def is_stuck(days: Float64) -> Bool:
    """(d,) whether sensors show one value while their neighbours move.

    `days`: (DAYS, sums, d), newest first.
    """
    newest = days[:_STUCK_DAYS]
    total = newest.sum(axis=0)
    weight = np.where(total[Sum.W] > 0.0, total[Sum.W], 1.0)
    mean_x, mean_y = total[Sum.WX] / weight, total[Sum.WY] / weight
    of_x = np.maximum(total[Sum.WXX] / weight - mean_x**2, 0.0)
    of_y = np.maximum(total[Sum.WYY] / weight - mean_y**2, 0.0)
    # In units of the scale's own variance.
    per = total[Sum.W] / np.maximum(newest[:, Sum.HOURS].sum(axis=0), 1.0)
    heard = (newest[:, Sum.HOURS] >= _STUCK_HOURS).all(axis=0)
    # Beside their means: in another unit a sensor moves as much as its neighbours do.
    result: Bool = heard & (of_x * per > _MOVING) & (of_y * mean_x**2 <= _STILL * of_x * mean_y**2)
    return result


def moves_again(days: Float64) -> Bool:
    """(d,) whether sensors that were stuck are not any more; `days` as above."""
    newest = days[:_STUCK_DAYS]
    weight = np.where(newest[:, Sum.W] > 0.0, newest[:, Sum.W], 1.0)
    mean = newest[:, Sum.WY] / weight
    own = newest[:, Sum.WYY] / weight - mean**2
    heard = newest[:, Sum.HOURS] >= _STUCK_HOURS
    moving: Bool = heard & (own > _STILL * _MOVING * mean**2) & (mean > 0.0)
    result: Bool = np.logical_and.reduce(moving, axis=0)
    return result


def fit_of(days: Float64, ramp: FittedAge, step: FittedAge, *, stuck: bool) -> Fit:
    """What the days since a departure say; `days`: (DAYS, sums) of one sensor, newest first."""
    since = days[: max(step.age - 1, 2)]  # the day on which it began is of both
    since = since[since[:, Sum.HOURS] >= LEAST_HOURS]
    total = since.sum(axis=0)
    w, wx, wy, wxx, wxy, wyy = (
        float(total[one]) for one in (Sum.W, Sum.WX, Sum.WY, Sum.WXX, Sum.WXY, Sum.WYY)
    )
    if not len(since) or wxx <= 0.0 or w <= 0.0:
        return Fit(ramp, step, stuck, math.exp(step.gain), 0.0, 0.0)
    scale = max(wxy / wxx, 0.0)
    offset = (wy - wx) / w
    left_scale = max(wyy - wxy**2 / wxx, 1e-12)
    left_offset = max(wyy - 2.0 * wxy + wxx - w * offset**2, 1e-12)
    told = 0.5 * _PIECES * len(since) * math.log(left_offset / left_scale)
    return Fit(ramp, step, stuck, scale, offset, told)


def kind_of(fit: Fit, pollutant: Pollutant) -> DriftKind:
    """The kind that explains a departure best."""
    if fit.stuck:
        return "stuck"
    if unit_factor(fit.scale, pollutant) is not None:
        return "unit"
    if fit.slides:
        return "slide"
    if abs(fit.scale_over_offset) < _ENOUGH:
        return "step"
    return "scale" if fit.scale_over_offset > 0.0 else "offset"


def unit_factor(scale: float, pollutant: Pollutant) -> float | None:
    """The factor between two units that a scale is, of a pollutant; None: it is none."""
    factors = [1e3, 1e-3]
    if pollutant in MOLAR_MASS:
        per_ppb = micrograms_per_ppb(pollutant, _CELSIUS)
        factors += [per_ppb, 1.0 / per_ppb, 1e3 * per_ppb, 1e-3 / per_ppb, 1e3 / per_ppb, 1e-3 * per_ppb]
    for factor in factors:
        size = abs(math.log(factor))
        near = _NEAR_THOUSAND if size > 5.0 else _NEAR_UNIT
        if size > _TELLING and scale > 0.0 and abs(math.log(scale / factor)) < near:
            return factor
    return None
