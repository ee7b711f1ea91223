"""A silent sensor's own past as a witness: how long it goes on to differ from what the others say of it.

At each hour a sensor that is heard differs from what the others expect of it. That difference lasts: an hour
on it is much the same, after a day what is left is the station's mean difference of the day, after a month
little. Nor is it believed whole, for some hours, that the sensor went along with what the others say of it:
where they know little of it (its pollutant is silent everywhere, say), what it read last tells more than what
moves them. How much is left, and how much is not gone along with, is learned by regression, per pollutant,
kind of silence and age, from silences that are only pretended: shadows stand at an hour each, as a sensor
that fell silent then, and are moved on an hour after they were as old as they may be: so each age is seen at
all hours of the day.
"""

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Final, NamedTuple

import numpy as np

from network.members import Silence
from schemas.arrays import Float64, Int64
from schemas.parameters import POLLUTANTS

#: Ages of a silence (hours, the last of each class); what is older is of the last one.
AGES: Final = (1, 3, 6, 12, 24, 72, 168, 720)
#: Oldest age of each shadow, and the youngest that it is asked for. The first three are as old as the state.
SHADOWS: Final = ((24, 7), (168, 25), (720, 169), (6, 1))
#: Memory of the day's mean difference, hours.
DAY_HOURS: Final = 24.0
#: Memory of the regressions: half of it is gone after so many hours.
_HALF_LIFE: Final = 30 * 24.0
_KEPT: Final = 0.5 ** (1.0 / _HALF_LIFE)
#: Weight, in silences, of the belief that the last one halves in 6 h and a third of the day's mean stays: one
#: silence has many hours of an age, but only one last difference. Of the youngest ages it is one in hours.
_PRIOR: Final = 8.0
#: Belief, by kind of silence, of the part of the others' change that a sensor does not go along with after an
#: hour (who alone is silent does), the hours in which it halves, and the age from which on it is none: by
#: then the weather has left the sensor, too.
_STAYED: Final = np.where(np.arange(len(Silence)) == Silence.SENSOR, 0.0, 0.3)
_STAYED_HOURS: Final = 3.0
_STAYED_UNTIL: Final = 24
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
    """(pollutants, kinds, ages) what is left of the last difference and of the day's mean difference, the
    part of what the others' word has changed by since then that is not gone along with, and the part of the
    variance of the difference that remains."""

    last: Float64
    day: Float64
    stayed: Float64
    remains: Float64

    def left(self, at: tuple[Any, ...], last: Float64, day: Float64, turned: Float64) -> Float64:
        """What is left of a difference, of classes `at` (indices of the arrays): of the last one, the day's
        mean, and how much less the others say now than when it was heard last."""
        left: Float64 = self.last[at] * last + self.day[at] * day + self.stayed[at] * turned
        return left


@dataclass(frozen=True, eq=False)
class Past:
    """What was learned of the lasting of differences.

    Attributes:
        day: (kinds, d) mean difference of the last day in which the variable was heard; NaN before.
        at: (shadows,) hour, counted from the epoch, that each stands at.
        last, mean: (shadows, kinds, d) difference of that hour and mean of the day before it; NaN: not heard.
        moments: (6, pollutants, kinds, ages) forgotten sums of last², last mean, mean², last now, mean now,
            now².
        told: (shadows, kinds, d) what the others said at the hour that each shadow stands at; NaN: not known.
            Empty in a state of before.
        turned: (4, pollutants, kinds, ages) forgotten sums of turned², last turned, mean turned, turned now,
            where `turned` is how much less they say now. Empty in a state of before.
    """

    day: Float64
    at: tuple[int, ...]
    last: Float64
    mean: Float64
    moments: Float64
    told: Float64 = field(default_factory=lambda: np.zeros(0))
    turned: Float64 = field(default_factory=lambda: np.zeros(0))

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
            nothing,
            np.zeros((4, *_CLASSES)),
        )

    def completed(self) -> "Past":
        """With what a state of before lacks: its last shadow, and what the others said."""
        if self.told.size:
            return self
        nothing = np.full((len(SHADOWS), *self.day.shape), np.nan)
        kept = len(self.at)
        last, mean = nothing.copy(), nothing.copy()
        last[:kept], mean[:kept] = self.last, self.mean
        at = (*self.at, *(0,) * (len(SHADOWS) - kept))
        return replace(self, at=at, last=last, mean=mean, told=nothing, turned=np.zeros((4, *_CLASSES)))

    @cached_property
    def lasting(self) -> Lasting:
        """Follows from the moments, so it is not stored."""
        ll, lm, mm, ln, mn, nn = self.moments
        tt, lt, mt, tn = self.turned if self.turned.size else np.zeros((4, *_CLASSES))
        # In units of what the others state for it, differences are of about unit size.
        age = np.array(AGES, dtype=np.float64)
        prior = _PRIOR * _HOURS_OF_AGE
        ll, mm, nn, tt = ll + prior, mm + prior, nn + prior, tt + prior
        ln = ln + prior * np.exp2(-age / 6.0)
        mn = mn + prior / 3.0 * (1.0 - np.exp2(-age / 6.0))
        tn = tn + prior * _STAYED[:, None] * np.exp2((1.0 - age) / _STAYED_HOURS)
        # A difference neither grows by itself nor turns into its opposite; nobody runs ahead of the others,
        # nor stays behind by more than they went.
        whole = ll * mm - lm * lm
        of_turned = tt - (lt * (lt * mm - mt * lm) + mt * (mt * ll - lt * lm)) / whole
        with_turned = tn - (lt * (ln * mm - mn * lm) + mt * (mn * ll - ln * lm)) / whole
        stayed = np.where(age < _STAYED_UNTIL, np.clip(with_turned / of_turned, 0.0, 1.0), 0.0)
        ln_left, mn_left = ln - stayed * lt, mn - stayed * mt
        last = np.clip((ln_left * mm - mn_left * lm) / whole, 0.0, 1.0)
        day = np.clip((mn_left - last * lm) / mm, 0.0, 1.0)
        gained = (
            last * (2.0 * ln_left - last * ll)
            + day * (2.0 * mn_left - day * mm)
            - 2.0 * last * day * lm
            + stayed * (2.0 * tn - stayed * tt)
        )
        remains = np.clip(1.0 - gained / nn, 0.02, 1.0)
        return Lasting(last, day, stayed, remains)


class ShadowAnswer(NamedTuple):
    """What a shadow that was asked said: its age in hours, (kinds, d) what it said of the difference, and how
    far off it was."""

    age: int
    said: Float64
    error: Float64


def observed(
    past: Past, hour: int, told: Float64, difference: Float64, spread: Float64, pollutants: Int64
) -> tuple[Past, list[ShadowAnswer]]:
    """Take in an hour.

    Args:
        past: before.
        hour: counted from the epoch.
        told: (kinds, d) what the others say of what is heard; NaN where there is nothing.
        difference: (kinds, d) of what is heard from that.
        spread: (kinds, d) standard deviation that the others state for it.
        pollutants: (d,).

    Returns:
        the past after it, and what each shadow that was asked said.
    """
    past = past.completed()
    moments, turned = past.moments * _KEPT, past.turned * _KEPT
    asked: list[ShadowAnswer] = []
    of_pollutant = (np.arange(len(POLLUTANTS))[:, None] == pollutants).astype(np.float64)
    at, last, mean, told_then = list(past.at), past.last.copy(), past.mean.copy(), past.told.copy()
    lasting = past.lasting
    for number, (oldest, youngest) in enumerate(SHADOWS):
        age = hour - at[number]
        if youngest <= age <= oldest:
            kind_age = int(age_class(np.array(float(age))))
            first, day = last[number], mean[number]
            less = told_then[number] - told
            less = np.where(np.isnan(less), 0.0, less)
            said = lasting.left((pollutants, slice(None), kind_age), first.T, day.T, less.T).T
            asked.append(ShadowAnswer(age, said, difference - said))
            parts = np.stack([first, day, difference, less]) / spread
            _add(moments[..., kind_age], turned[..., kind_age], parts, of_pollutant)
        if age > oldest:
            at[number], last[number], told_then[number] = hour, difference, told
            # A difference and a mean are asked for together.
            mean[number] = np.where(np.isnan(past.day), difference, past.day)
    step = 1.0 / DAY_HOURS
    moved = np.where(np.isnan(past.day), difference, past.day + step * (difference - past.day))
    day_after = np.where(np.isnan(difference), past.day, moved)
    after = replace(
        past,
        day=day_after,
        at=tuple(at),
        last=last,
        mean=mean,
        moments=moments,
        told=told_then,
        turned=turned,
    )
    return after, asked


def _add(moments: Float64, turned: Float64, parts: Float64, of_pollutant: Float64) -> None:
    """Add the products of one hour to `moments` (6, pollutants, kinds) and `turned` (4, pollutants, kinds);
    `parts`: (4, kinds, d) of the last difference, the day's mean, the present one, and how much less is told.
    """
    usable = ~np.isnan(parts[:3].sum(axis=0))
    # Where the others' word has gone far, which is usual after hours, the whole hour counts less: what is cut
    # alone would look as if more of it stayed.
    parts = parts * np.minimum(1.0, _EXTREME / np.maximum(np.abs(parts[3]), _EXTREME))
    four = np.where(usable, np.clip(parts, -_EXTREME, _EXTREME), 0.0)
    first, second = four[[0, 0, 1, 0, 1, 2, 3, 0, 1, 3]], four[[0, 1, 1, 2, 2, 2, 3, 3, 3, 2]]
    products = np.einsum("mkd,pd->mpk", first * second, of_pollutant)
    moments += products[:6]
    turned += products[6:]
