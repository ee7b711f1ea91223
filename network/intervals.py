"""Intervals that hold nine times in ten: corrections of the stated deviation, all learned from errors.

The *size* of a variable's errors beside what is stated for them, per kind of silence, moves over weeks. How
large they are *now* beside that, at all sensors of the pollutant that are heard, moves over hours: while the
others are told badly (fireworks, a front), so is the one that is silent. The *threshold*, per pollutant, kind
and age of the silence, moves with every outcome as in `camera.conformal` (quantile tracking, Angelopoulos,
Candes and Tibshirani 2023): it follows weather, for which the size is slow.
"""

from dataclasses import dataclass, field
from typing import Final

import numpy as np

from camera.conformal import START
from network.members import Silence
from network.past import AGES
from schemas.arrays import Bool, Float64, Int64
from schemas.parameters import POLLUTANTS

#: Share of misses that is meant.
ALPHA: Final = 0.1
#: Step of a threshold on the log scale for one outcome; those of one hour count together.
STEP: Final = 0.02
#: Outcomes of an hour count for no more than so many: stations miss together.
_TOGETHER: Final = 4.0
_BOUNDS: Final = (0.3, 8.0)
#: Memory of the sizes, hours, and the weight of the belief that what is stated is right.
_SIZE_HOURS: Final = 14 * 24.0
_SIZE_PRIOR: Final = 24.0
#: Errors after which half of what is believed of a new sensor's doubt gives way to what they show. Those of a
#: day are of one weather, so it takes three.
_SEEN_FROM: Final = 72.0
#: What errors are now: half of it is forgotten after six hours; and its bounds.
_NOW_GAIN: Final = 1.0 - 0.5 ** (1.0 / 6.0)
_NOW_BOUNDS: Final = (0.2, 6.0)
#: Memory of the share of intervals that held, in outcomes.
_ROLLING: Final = 500.0
#: Intervals checked from which the share of them that held is told: fewer say nothing of nine in ten.
_TOLD_FROM: Final = 30.0
#: (kinds, ages of `network.past.AGES`) how much larger the errors of a real silence are than those of the
#: pretended ones that the intervals learn from: who only pretends goes on to teach, and a region moves on
#: without who is silent; without a pollutant that several measured and nobody does any more it moves farther.
#: Seen at eight stations of Beijing, June 2013 to March 2015 (docs/network.md).
OF_REAL_SILENCE: Final = np.where(
    np.arange(len(Silence))[:, None] == Silence.POLLUTANT,
    (1.04, 1.04, 1.04, 1.04, 1.04, 1.13, 1.19, 1.25),
    (1.04, 1.04, 1.04, 1.04, 1.04, 1.06, 1.08, 1.10),
)
#: Squared score beyond which an error says no more about the size.
_EXTREME: Final = 25.0


@dataclass(frozen=True, eq=False)
class Intervals:
    """What is known of the errors.

    Attributes:
        size: (kinds, d) mean squared error over what is stated.
        count: (kinds, d) errors that it rests on.
        threshold: (pollutants, kinds, ages) score within which nine of ten lie.
        rolling: the same, share of intervals that held, over about the last 500; what is meant, before any.
        checked: the same, how many were.
        now: (pollutants, kinds) mean squared error of the last hours over `size`; 1 where nobody tells.
    """

    size: Float64
    count: Float64
    threshold: Float64
    rolling: Float64
    checked: Float64
    now: Float64 = field(default_factory=lambda: np.ones((len(POLLUTANTS), len(Silence))))

    @property
    def reach(self) -> Float64:
        """(pollutants, kinds, ages) deviations, of the variable's own size, within which nine of ten lie."""
        return self.threshold * _followed(self.now)[:, :, None]

    @property
    def held(self) -> Float64:
        """(pollutants, kinds, ages) share of intervals that held lately; NaN while too few were checked."""
        return np.where(self.checked >= _TOLD_FROM, self.rolling, np.nan)

    @property
    def believed(self) -> Float64:
        """(kinds, d) part of each one's doubt that is not seen from errors but believed."""
        return _SEEN_FROM / (self.count + _SEEN_FROM)

    @classmethod
    def fresh(cls, d: int) -> "Intervals":
        """Of a cell of `d` variables, before anything was heard."""
        classes = (len(POLLUTANTS), len(Silence), len(AGES))
        return cls(
            np.ones((len(Silence), d)),
            np.zeros((len(Silence), d)),
            np.full(classes, START),
            np.full(classes, 1.0 - ALPHA),
            np.zeros(classes),
        )


def _followed(now: Float64) -> Float64:
    """(pollutants, kinds) factor of the deviations: on the log scale half of what errors are now, for the
    sensors do not err alike.
    """
    factor: Float64 = np.sqrt(np.sqrt(now))
    return factor


def _faded(size: Float64, count: Float64, known: Bool, of_pollutant: Float64) -> tuple[Float64, Float64]:
    """(kinds, d) sizes after an hour: of who is silent they fade into what they are at the others of its
    pollutant, and what they rest on goes with them."""
    others = np.einsum("kd,pd->kp", known.astype(np.float64), of_pollutant)
    sums = np.einsum("kd,pd->kp", np.where(known, size, 0.0), of_pollutant)
    usual = np.einsum("kp,pd->kd", sums / np.maximum(others, 1.0), of_pollutant)
    some = np.einsum("kp,pd->kd", others, of_pollutant) > 0.0
    gone = np.where(~known & some & (count > 0.0), 1.0 / _SIZE_HOURS, 0.0)
    return size + gone * (usual - size), (1.0 - gone) * count


def checked(intervals: Intervals, asked: list[tuple[int, Float64, Float64]], pollutants: Int64) -> Intervals:
    """Take in an hour's errors: age class, (kinds, d) error and (kinds, d) stated deviation; NaN: none."""
    size, count = intervals.size.copy(), intervals.count.copy()
    threshold, rolling, seen = (
        intervals.threshold.copy(), intervals.rolling.copy(), intervals.checked.copy(),
    )  # fmt: skip
    of_pollutant = (np.arange(len(POLLUTANTS))[:, None] == pollutants).astype(np.float64)
    followed = _followed(intervals.now)[pollutants].T
    squares, of_now = np.zeros(intervals.now.shape), np.zeros(intervals.now.shape)
    for age, error, stated in asked:
        known = ~np.isnan(error)
        square = np.where(known, np.minimum((error / stated) ** 2, _EXTREME), 0.0)
        relative = square / intervals.size
        score = np.sqrt(relative) / followed
        missed = np.where(known, score > threshold[pollutants, :, age].T, False)
        outcomes = np.einsum("kd,pd->pk", known.astype(np.float64), of_pollutant)
        misses = np.einsum("kd,pd->pk", missed.astype(np.float64), of_pollutant)
        share = misses / np.maximum(outcomes, 1.0)
        weight = np.minimum(outcomes, _TOGETHER)
        moved = threshold[:, :, age] * np.exp(STEP * weight * (share - ALPHA))
        threshold[:, :, age] = np.clip(moved, *_BOUNDS)
        seen[:, :, age] += outcomes
        gain = np.minimum(outcomes / np.maximum(np.minimum(seen[:, :, age], _ROLLING), 1.0), 1.0)
        rolling[:, :, age] += gain * (1.0 - share - rolling[:, :, age])
        squares += np.einsum("kd,pd->pk", relative, of_pollutant)
        of_now += outcomes
        count += known
        gain_of_size = np.where(known, 1.0 / np.minimum(count + _SIZE_PRIOR, _SIZE_HOURS), 0.0)
        size += gain_of_size * (square - size)
    if asked:
        known = np.any([~np.isnan(error) for _, error, _ in asked], axis=0)
        size, count = _faded(size, count, known, of_pollutant)
    told = np.where(of_now > 0.0, squares / np.maximum(of_now, 1.0), 1.0)
    now = np.clip(intervals.now + _NOW_GAIN * (told - intervals.now), *_NOW_BOUNDS)
    return Intervals(size, count, threshold, rolling, seen, now)
