"""A silent sensor's own past as a witness: how long it goes on to differ from what the others say of it.

At each hour a sensor that is heard differs from what the others expect of it. That difference lasts: an hour
on it is much the same, after a day what is left is the station's mean difference of the day, after a month
little. How much is left is learned by regression, per pollutant, kind of silence and age, from silences that
are only pretended: three shadows stand at an hour each, as a sensor that fell silent then, and are moved on
an hour after they were as old as they may be: so each age is seen at all hours of the day.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final, NamedTuple

import numpy as np

from network.members import Silence
from schemas.arrays import Float64, Int64
from schemas.parameters import POLLUTANTS

#: Ages of a silence (hours, the last of each class); what is older is of the last one.
AGES: Final = (1, 3, 6, 12, 24, 72, 168, 720)
#: Oldest age of each shadow, and the youngest that it is asked for.
SHADOWS: Final = ((24, 1), (168, 25), (720, 169))
#: Memory of the day's mean difference, hours.
DAY_HOURS: Final = 24.0
#: Memory of the regressions: half of it is gone after so many hours.
_HALF_LIFE: Final = 30 * 24.0
_KEPT: Final = 0.5 ** (1.0 / _HALF_LIFE)
#: Weight, in silences, of the belief that the last one halves in 6 h and a third of the day's mean stays: one
#: silence has many hours of an age, but only one last difference. Of the youngest ages it is one in hours.
_PRIOR: Final = 8.0
_LEAST_HOURS: Final = 4.0
#: Of each age, hours that a silence is of it.
_HOURS_OF_AGE: Final = np.maximum(np.diff(np.array((0, *AGES))), _LEAST_HOURS)
#: Stated deviations beyond which a difference tells no more: an hour of fireworks is no rule of what lasts.
_EXTREME: Final = 4.0
_CLASSES: Final = (len(POLLUTANTS), len(Silence), len(AGES))


def age_class(hours: Float64) -> Int64:
    """The class of an age in hours."""
    found: Int64 = np.minimum(np.searchsorted(np.array(AGES), hours), len(AGES) - 1).astype(np.int64)
    return found


class Lasting(NamedTuple):
    """(pollutants, kinds, ages) what is left of the last difference and of the day's mean difference, and the
    part of the variance of the difference that remains."""

    last: Float64
    day: Float64
    remains: Float64


@dataclass(frozen=True, eq=False)
class Past:
    """What was learned of the lasting of differences.

    Attributes:
        day: (kinds, d) mean difference of the last day in which the variable was heard; NaN before.
        at: (shadows,) hour, counted from the epoch, that each stands at.
        last, mean: (shadows, kinds, d) difference of that hour and mean of the day before it; NaN: not heard.
        moments: (6, pollutants, kinds, ages) forgotten sums of last², last mean, mean², last now, mean now,
            now².
    """

    day: Float64
    at: tuple[int, ...]
    last: Float64
    mean: Float64
    moments: Float64

    @classmethod
    def fresh(cls, d: int) -> "Past":
        """Of a cell of `d` variables, before anything was heard."""
        nothing = np.full((len(SHADOWS), len(Silence), d), np.nan)
        return cls(
            np.full((len(Silence), d), np.nan),
            (0,) * len(SHADOWS),
            nothing,
            nothing,
            np.zeros((6, *_CLASSES)),
        )

    @cached_property
    def lasting(self) -> Lasting:
        """Follows from the moments, so it is not stored."""
        ll, lm, mm, ln, mn, nn = self.moments
        # In units of what the others state for it, differences are of about unit size.
        age = np.array(AGES, dtype=np.float64)
        prior = _PRIOR * _HOURS_OF_AGE
        ll, mm, nn = ll + prior, mm + prior, nn + prior
        ln = ln + prior * np.exp2(-age / 6.0)
        mn = mn + prior / 3.0 * (1.0 - np.exp2(-age / 6.0))
        whole = ll * mm - lm * lm
        # A difference neither grows by itself nor turns into its opposite.
        last = np.clip((ln * mm - mn * lm) / whole, 0.0, 1.0)
        day = np.clip((mn - last * lm) / mm, 0.0, 1.0)
        gained = last * (2.0 * ln - last * ll) + day * (2.0 * mn - day * mm) - 2.0 * last * day * lm
        remains = np.clip(1.0 - gained / nn, 0.02, 1.0)
        return Lasting(last, day, remains)


class ShadowAnswer(NamedTuple):
    """What a shadow that was asked said: its age in hours, (kinds, d) what it said of the difference, and how
    far off it was."""

    age: int
    said: Float64
    error: Float64


def observed(
    past: Past, hour: int, difference: Float64, spread: Float64, pollutants: Int64
) -> tuple[Past, list[ShadowAnswer]]:
    """Take in an hour.

    Args:
        past: before.
        hour: counted from the epoch.
        difference: (kinds, d) of what is heard from what the others say; NaN where there is none.
        spread: (kinds, d) standard deviation that the others state for it.
        pollutants: (d,).

    Returns:
        the past after it, and what each shadow that was asked said.
    """
    moments = past.moments * _KEPT
    asked: list[ShadowAnswer] = []
    of_pollutant = (np.arange(len(POLLUTANTS))[:, None] == pollutants).astype(np.float64)
    at, last, mean = list(past.at), past.last.copy(), past.mean.copy()
    lasting = past.lasting
    for number, (oldest, youngest) in enumerate(SHADOWS):
        age = hour - at[number]
        if youngest <= age <= oldest:
            kind_age = int(age_class(np.array(float(age))))
            first, day = last[number], mean[number]
            said = (
                lasting.last[pollutants, :, kind_age].T * first + lasting.day[pollutants, :, kind_age].T * day
            )
            asked.append(ShadowAnswer(age, said, difference - said))
            _add(moments[..., kind_age], first / spread, day / spread, difference / spread, of_pollutant)
        if age > oldest:
            at[number], last[number], mean[number] = hour, difference, past.day
            # A difference and a mean are asked for together.
            mean[number] = np.where(np.isnan(past.day), difference, past.day)
    step = 1.0 / DAY_HOURS
    moved = np.where(np.isnan(past.day), difference, past.day + step * (difference - past.day))
    day_after = np.where(np.isnan(difference), past.day, moved)
    return replace(past, day=day_after, at=tuple(at), last=last, mean=mean, moments=moments), asked


def _add(moments: Float64, last: Float64, mean: Float64, now: Float64, of_pollutant: Float64) -> None:
    """Add the products of one hour to `moments` (6, pollutants, kinds)."""
    usable = ~np.isnan(last * mean * now)
    three = np.where(usable, np.clip(np.stack([last, mean, now]), -_EXTREME, _EXTREME), 0.0)
    first, second = three[[0, 0, 1, 0, 1, 2]], three[[0, 1, 1, 2, 2, 2]]
    moments += np.einsum("mkd,pd->mpk", first * second, of_pollutant)
