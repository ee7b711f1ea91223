"""A camera's readout that others teach: the stations around it, where it has no sensor of its own. Pure.

The regression is that of `camera.readout`, on hours of which a teacher says a value with its uncertainty.
What neighbours let expect of a place, n, is smoother than the air there, y = n + e: a readout of n is too
flat for y, by as much as the teacher does not know (a regression on a conditional mean; Berkson 1950). A
picture cannot tell which part of the air the neighbours know, so what it shows of n it shows of e in
proportion:

    cov(e, r) = E / V * cov(n, r),   E = var(e), V = var(n), r = the readout

and all follows from E, which the teacher states, and from how n and r were seen to move together. Beside a
teacher that knows the place well E is small and the camera says next to nothing; without its teacher it
speaks for itself. How far the place lasts from what is taught, no picture tells (`LASTING`).

What n and r have in common is measured with the readout as it was up to a day before, as in
`camera.virtual_sensor`: today's has seen the hour before.
"""

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from camera.error_moments import MARGIN, MEMORY
from camera.readout import INPUTS, TRIANGLE, Readout, inputs_of, on_line
from camera.sight import Sight
from camera.virtual_sensor import MAX_LEVERAGE, SWITCH_HOURS
from schemas.errors import ArrayError
from schemas.times import HOUR_MS

#: Part of a teacher's error variance that lasts at a place: 71 % of the error at low-cost boxes that kriging
#: was asked of is each box's own lasting difference.
LASTING: Final = 0.7
#: Error variance of a teacher (log) at which an hour counts for half of one that is known for certain.
_HALF: Final = 0.1
#: Memory of how readout and teacher move together, in hours, and the hours of no relation at all that are
#: believed beside those seen.
_COMPARED: Final = 200.0
_PRIOR: Final = 30.0
#: Such hours from which it speaks: with those before its first settled readout, some 27 with a picture.
_SPEAKS_FROM: Final = 12
#: Variance (log) of what is taught before any was seen.
_SPREAD: Final = 0.1
#: The part of what its teacher does not know that a camera sees at most. Were it more, the teacher has stated
#: too much.
_MOST: Final = 0.6
_SETTLED_MS: Final = 24 * HOUR_MS


class Lesson(NamedTuple):
    """What a teacher says of an hour: a concentration on its log scale, and the variance of its error."""

    value: float
    variance: float


class Together(NamedTuple):
    """Moments of teacher (n) and settled readout (r) over the last hours, on the log scale."""

    hours: float = 0.0
    mean_n: float = 0.0
    mean_r: float = 0.0
    var_n: float = 0.0
    var_r: float = 0.0
    cov: float = 0.0

    def after(self, n: float, r: float) -> "Together":
        """With one more hour."""
        hours = self.hours + 1.0
        share = 1.0 / min(hours, _COMPARED)
        off, apart = n - self.mean_n, r - self.mean_r
        return Together(
            hours,
            self.mean_n + share * off,
            self.mean_r + share * apart,
            (1.0 - share) * (self.var_n + share * off * off),
            (1.0 - share) * (self.var_r + share * apart * apart),
            (1.0 - share) * (self.cov + share * off * apart),
        )


class Blend(NamedTuple):
    """What teacher and camera say together: on the log scale, the variance, and the camera's share in it."""

    value: float
    variance: float
    share: float


@dataclass(frozen=True, eq=False)
class TaughtReadout:
    """State of one camera and pollutant; immutable.

    Attributes:
        t_ms: end of the last hour with a picture that it was shown.
        layout: of the camera vectors that it is learned on.
        moments: float32, as those of a virtual sensor, on the teacher's log scale.
        hours: that taught it.
        noise: mean error variance of the teacher in them.
        together: how settled readout and teacher moved together.
        lowest, highest: of what was taught.
        settled: float32, the readout as it was up to a day before; `settled_ms`: when, 0: not yet.
        strange: hours on end that came in another layout.
    """

    t_ms: int
    layout: str
    moments: NDArray[np.float32]
    hours: int
    noise: float
    together: Together
    lowest: float
    highest: float
    settled: NDArray[np.float32]
    settled_ms: int
    strange: int = 0

    def __post_init__(self) -> None:
        for name, size in (("moments", len(TRIANGLE[0])), ("settled", INPUTS + 1)):
            shape = getattr(self, name).shape
            if shape != (size,):
                raise ArrayError(f"{name} of a taught readout has shape {(size,)}, got {shape}")

    @cached_property
    def readout(self) -> Readout | None:
        """Follows from the moments, so it is not stored."""
        return Readout.of(self.moments, self.hours)


def taught(state: TaughtReadout | None, t_ms: int, sight: Sight, lesson: Lesson) -> TaughtReadout:
    """Take in an hour that ends at `t_ms`, with what the camera showed in it and what the teacher says.

    Raises ArrayError: time runs back, or numbers are not finite.
    """
    sight.check()
    if not (math.isfinite(lesson.value) and 0.0 <= lesson.variance < math.inf):
        raise ArrayError(f"a lesson is a finite value and its variance, got {lesson}")
    if state is None:
        state = _fresh(sight.layout, lesson)
    elif t_ms <= state.t_ms:
        raise ArrayError(f"hours go forward: the readout is at {state.t_ms}, the hour at {t_ms}")
    elif sight.layout != state.layout:
        if state.strange + 1 < SWITCH_HOURS:
            return replace(state, t_ms=t_ms, strange=state.strange + 1)
        state = _fresh(sight.layout, lesson)
    inputs = inputs_of(sight, state.moments)
    together = state.together
    readout = state.readout
    if state.settled_ms and readout is not None and readout.leverage(inputs) <= MAX_LEVERAGE:
        together = together.after(lesson.value, _within(state, on_line(state.settled, inputs)))
    settled, settled_ms = state.settled, state.settled_ms
    if readout is not None and t_ms - settled_ms >= _SETTLED_MS:
        settled, settled_ms = readout.line(), t_ms
    z = np.concatenate(((1.0,), inputs, (lesson.value,)))
    fresh = _HALF / (_HALF + lesson.variance) * np.outer(z, z)[TRIANGLE]
    hours = state.hours + 1
    return replace(
        state,
        t_ms=t_ms,
        moments=(state.moments.astype(np.float64) * MEMORY + fresh).astype(np.float32),
        hours=hours,
        noise=state.noise + (lesson.variance - state.noise) / min(hours, _COMPARED),
        together=together,
        lowest=min(state.lowest, lesson.value),
        highest=max(state.highest, lesson.value),
        settled=settled,
        settled_ms=settled_ms,
        strange=0,
    )


def blended(state: TaughtReadout | None, sight: Sight | None, lesson: Lesson | None) -> Blend | None:
    """What a camera that was taught says of a picture, with its teacher, or where that is silent without it.

    None where it was not taught enough, or the picture is unlike all that it was taught by.
    """
    if state is None or sight is None or sight.layout != state.layout or state.together.hours < _SPEAKS_FROM:
        return None
    sight.check()
    inputs = inputs_of(sight, state.moments)
    readout = state.readout
    if readout is None or readout.leverage(inputs) > MAX_LEVERAGE:
        return None
    value = _within(state, readout(inputs))
    hours, mean_n, mean_r, var_n, var_r, cov = state.together
    believed = hours / (hours + _PRIOR)
    var_n = believed * var_n + (1.0 - believed) * _SPREAD
    cov = believed * max(cov, 0.0)
    seen = cov * cov / (var_n * var_r) if var_r > 0.0 else 0.0  # part of n that the readout shows
    if seen <= 0.0:
        return None
    own = (1.0 - LASTING) * (state.noise if lesson is None else lesson.variance)
    # E, but no more of it than lets the camera see `_MOST` of it.
    stated = min(own, _MOST * var_n * (1.0 - seen) / seen)
    flat = 1.0 + stated / var_n
    slope = flat * cov / var_r
    if lesson is None:
        alone = mean_n + slope * (value - mean_r)
        unseen = own + var_n - flat * flat * seen * var_n
        return Blend(_within(state, alone), LASTING * state.noise + unseen, 1.0)
    apart = value - mean_r - cov / var_n * (lesson.value - mean_n)
    left = var_r * (1.0 - seen)
    gain = stated / var_n * cov / left
    known = gain * gain * left
    return Blend(lesson.value + gain * apart, lesson.variance - known, min(1.0, gain / slope))


def _fresh(layout: str, lesson: Lesson) -> TaughtReadout:
    return TaughtReadout(
        t_ms=0,
        layout=layout,
        moments=np.zeros(len(TRIANGLE[0]), dtype=np.float32),
        hours=0,
        noise=0.0,
        together=Together(),
        lowest=lesson.value,
        highest=lesson.value,
        settled=np.zeros(INPUTS + 1, dtype=np.float32),
        settled_ms=0,
    )


def _within(state: TaughtReadout, value: float) -> float:
    """No further than `MARGIN` outside of what was ever taught."""
    return min(max(value, state.lowest - MARGIN), state.highest + MARGIN)
