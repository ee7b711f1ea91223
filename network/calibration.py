"""What would bring a sensor back to its neighbours: slope and offset of a linear correction, with intervals.

What is read is regressed on what the others let expect, y = s x + o, over the days in question, an hour by
the inverse square of its level. What is expected is the mean of the truth given the others, so the truth
scatters about it and not the other way round (Berkson 1950, J. Am. Stat. Assoc. 45:164): s and o are not
biased by that, and the correction is their inverse. Two things are not in such a line:

- Until it was named the region listened to the sensor, and took part of what is wrong for its usual mean:
  that part does not show any more, and is added.
- How sure they are is counted in days, not in hours: hours of a day err together, and a day errs with the one
  before it. Besides, a sound sensor wanders for weeks, by about what its single days differ by, and more days
  do not tell that from a fault.
"""

import math
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np

from network.cell import MEAN_HOURS
from network.drift import Departure, DriftWatch, departed, noise_of
from network.drift_scores import LASTING
from network.drift_sums import LEAST_HOURS, Sum
from network.members import Variable
from schemas.arrays import Float64
from schemas.parameters import POLLUTANTS, Pollutant

#: Days of a slide that are taken: it was less before.
_OF_SLIDE: Final = 7
#: Days of a sensor that has not left.
_USUAL: Final = 30
#: Days without which nothing is suggested.
LEAST_DAYS: Final = 5
#: By how much the variance of a mean of days is larger than if they were independent: a day keeps LASTING.
_TOGETHER: Final = (1.0 + LASTING) / (1.0 - LASTING)
#: Deviations of a 90 % interval of a Gaussian; of few days Student's is wider by (1 + _WIDER / days).
_NINETY: Final = 1.645
_WIDER: Final = 1.7
#: Part of a departure that the region takes for usual in a day: half in the mean's half-life, in the mean of
#: the day and in that of the hour of the day.
_LEARNED_A_DAY: Final = 2.0 * math.log(2.0) * 24.0 / MEAN_HOURS
#: How unsure that part is, as a share of it; and by how many of a day's deviations a sound sensor wanders.
_LEARNED_UNSURE: Final = 0.5
_WANDERS: Final = 0.75


class Interval90(NamedTuple):
    """A number and its 90 % interval."""

    value: float
    lo: float
    hi: float


class DayPoint(NamedTuple):
    """A day for a plot: its number from the epoch, what was read and what was expected (ug/m3)."""

    day: int
    read: float
    expected: float


@dataclass(frozen=True)
class Suggestion:
    """A correction: slope * value + offset (ug/m3).

    Attributes:
        station, pollutant: whose.
        departure: how the sensor has left; None: it has not.
        slope, offset: of the correction.
        days, hours: that it rests on.
        stations: others of the pollutant in the region.
        points: all days that are kept, the oldest first.
    """

    station: str
    pollutant: Pollutant
    departure: Departure | None
    slope: Interval90
    offset: Interval90
    days: int
    hours: int
    stations: int
    points: tuple[DayPoint, ...]

    @property
    def correction(self) -> str:
        """Id of the correction (`aqi.correction`), to four digits."""
        return (
            f"linear:slope={float(f'{self.slope.value:.4g}')!r},offset={float(f'{self.offset.value:.4g}')!r}"
        )


def suggestion(watch: DriftWatch, station: str, pollutant: Pollutant) -> Suggestion | str:
    """What would correct a sensor, or in words why nothing is suggested."""
    variable = Variable(station, pollutant)
    if variable not in watch.variables:
        return "its region does not know it"
    index = watch.variables.index(variable)
    known = departed(watch, station).get(pollutant)
    if known is not None and known.kind == "stuck":
        return "it is stuck: no correction helps, it wants to be looked at"
    others = {
        one.station
        for column, one in enumerate(watch.variables)
        if one.pollutant == pollutant and one.station != station and watch.days[0, Sum.HOURS, column] > 0
    }
    if not others:
        return "no other station of its region measures it now: nobody tells by how much it is off"
    kept = watch.days[:, :, index].astype(np.float64)
    numbers = watch.day - 1 - np.arange(len(kept))
    usable = kept[:, Sum.HOURS] >= LEAST_HOURS
    first = watch.day - _USUAL
    if known is not None:
        first = max(known.since + 1, watch.day - _OF_SLIDE) if known.kind == "slide" else known.since + 1
    taken = kept[usable & (numbers >= first)]
    if len(taken) < LEAST_DAYS:
        since = "" if known is None else " since it left"
        return f"{len(taken)} whole days of it beside others are known{since}; {LEAST_DAYS} are needed"
    with_slope = known is None or known.kind != "offset"
    with_offset = known is None or known.kind == "step"
    wander = _WANDERS * float(noise_of(watch)[index])
    fitted = _fitted(taken, _seen(known, watch.day), wander, with_slope=with_slope, with_offset=with_offset)
    if fitted is None:
        return "it follows its neighbours too little: no line takes it back to them"
    slope, offset = fitted
    shown = np.flatnonzero(usable)[::-1]
    points = [
        DayPoint(
            int(numbers[row]),
            float(kept[row, Sum.WY] / kept[row, Sum.W]),
            float(kept[row, Sum.WX] / kept[row, Sum.W]),
        )
        for row in shown.tolist()
        if kept[row, Sum.W] > 0.0
    ]
    hours = int(taken[:, Sum.HOURS].sum())
    return Suggestion(station, pollutant, known, slope, offset, len(taken), hours, len(others), tuple(points))


def watched_pollutants(watch: DriftWatch, station: str) -> list[Pollutant]:
    """Pollutants of a station that the watch has heard."""
    heard = watch.days[:, Sum.HOURS].sum(axis=0)
    found = {
        one.pollutant
        for column, one in enumerate(watch.variables)
        if one.station == station and heard[column] > 0
    }
    return [name for name in POLLUTANTS if name in found]


def _seen(known: Departure | None, day: int) -> float:
    """The part of a departure that shows beside what the region had learned before it was named.

    Of a change at once some is learned each day. Of a slide likewise, of what it was by then; it goes on.
    """
    if known is None:
        return 1.0
    heard = max(known.named - known.since + 1, 1)
    if known.kind == "slide":
        gone = max(day - known.since - _OF_SLIDE / 2.0, heard)
        return max(1.0 - _LEARNED_A_DAY * heard**2 / (2.0 * gone), 0.5)
    return max(math.exp(-_LEARNED_A_DAY * heard), 0.5)


def _fitted(
    days: Float64, seen: float, wander: float, *, with_slope: bool, with_offset: bool
) -> tuple[Interval90, Interval90] | None:
    """Slope and offset of the correction by the days (days, sums); None: there is no such line.

    `seen`: part of the departure that shows. `wander`: deviation (log) of what lasts of a sound sensor.
    """
    w, wx, wy, wxx, wxy = (days[:, one] for one in (Sum.W, Sum.WX, Sum.WY, Sum.WXX, Sum.WXY))
    if not with_slope:
        matrix = np.array([[w.sum()]])
        target = np.array([(wy - wx).sum()])
    elif not with_offset:
        matrix = np.array([[wxx.sum()]])
        target = np.array([wxy.sum()])
    else:
        matrix = np.array([[wxx.sum(), wx.sum()], [wx.sum(), w.sum()]])
        target = np.array([wxy.sum(), wy.sum()])
    determinant = float(matrix[0, 0] * matrix[-1, -1] - matrix[0, -1] ** 2) if len(matrix) == 2 else 1.0
    if matrix[0, 0] <= 0.0 or determinant <= 1e-9 * matrix[0, 0] * matrix[-1, -1]:
        return None
    inverse = _inverse(matrix)
    found = np.einsum("ij,j->i", inverse, target)
    scale = float(found[0]) if with_slope else 1.0
    shift = float(found[-1]) if with_offset or not with_slope else 0.0
    if scale <= 0.0:
        return None
    # What each day leaves, along each coefficient.
    along_scale = wxy - scale * wxx - shift * wx
    along_shift = wy - scale * wx - shift * w
    left = (
        np.stack([one for one, is_in in ((along_scale, with_slope), (along_shift, with_offset)) if is_in])
        if with_slope
        else along_shift[None]
    )
    count = len(days)
    spread = np.einsum("id,jd->ij", left, left) * _TOGETHER * count / max(count - len(left), 1)
    variance = np.einsum("ij,jk,kl->il", inverse, spread, inverse)
    full = np.zeros((2, 2))
    rows = [row for row, is_in in ((0, with_slope), (1, with_offset or not with_slope)) if is_in]
    full[np.ix_(rows, rows)] = variance
    # What was learned before does not show; how a sound sensor wanders is a factor, of what is expected if
    # only an offset is looked for.
    unsure = _LEARNED_UNSURE * (1.0 - seen) / seen
    full /= seen**2
    full[1, 1] += (unsure * shift) ** 2
    if with_slope:
        full[0, 0] += scale**2 * (wander**2 + (unsure * math.log(scale)) ** 2)
    else:
        full[1, 1] += (wander * float(wx.sum() / w.sum())) ** 2
    scale, shift = scale ** (1.0 / seen), shift / seen
    reach = _NINETY * (1.0 + _WIDER / count)
    # x = y / s - o / s, to first order.
    by_scale = np.array([-1.0 / scale**2, 0.0])
    by_shift = np.array([shift / scale**2, -1.0 / scale])
    slope, offset = 1.0 / scale, -shift / scale

    def interval(value: float, gradient: Float64) -> Interval90:
        deviation = math.sqrt(max(float(np.einsum("i,ij,j->", gradient, full, gradient)), 0.0))
        return Interval90(value, value - reach * deviation, value + reach * deviation)

    return interval(slope, by_scale), interval(offset, by_shift)


def _inverse(matrix: Float64) -> Float64:
    """Of one or two rows."""
    if len(matrix) == 1:
        return 1.0 / matrix
    determinant = matrix[0, 0] * matrix[1, 1] - matrix[0, 1] ** 2
    result: Float64 = np.array([[matrix[1, 1], -matrix[0, 1]], [-matrix[0, 1], matrix[0, 0]]]) / determinant
    return result
