"""Which model speaks: at each station, for each pollutant and horizon, the one that did best there lately.

All models foretell each hour, and each is scored by its median when the hour has come, whether it spoke or
not. The last one speaks unless another has done clearly better, the clearer the fewer the hours. None ever
leaves: the simple ones are the floor.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from forecast.calibration import HALF
from forecast.models import ANCHORS
from forecast.running import FADES, PLACES, place_of_hour
from schemas.arrays import Float32, Float64, Int64
from schemas.parameters import POLLUTANTS

_P: Final = len(POLLUTANTS)
_A: Final = len(ANCHORS)
#: What another model's mean absolute error has to be of the last one's, at most, by the hours (older ones
#: counting less) that have come true: of one day, three, a week; of longer, the further ahead, since what is
#: foretold a day ahead is wrong for a day on end (`_ALIKE_H`). A day may be a strange one, so it has to be
#: plain that the last one was trained for other air; and the best of many is always a little lucky. The last
#: one learns what a little is worth itself (`forecast.local`): less than a fifth is left to it.
_BETTER: Final = ((23.0, 0.5), (68.0, 0.7), (150.0, 0.8))
#: So many hours further ahead it takes as long again.
_ALIKE_H: Final = 24.0


@dataclass
class Contest:
    """Of one station.

    Attributes:
        models: their names; the last one speaks unless another does better.
        made: (places,) hour (since 1970) at whose end it was said; 0: never.
        medians: (places, pollutants, models) what each said, before calibration.
        errors: (anchors, pollutants, models) faded sums of |outcome - median|.
        hours: (anchors, pollutants) faded counts of them.
        scored: (pollutants,) hour of the last outcome.
    """

    models: tuple[str, ...] = ()
    made: Int64 = field(default_factory=lambda: np.zeros(PLACES, np.int64))
    medians: NDArray[np.float16] = field(default_factory=lambda: np.zeros((PLACES, _P, 0), np.float16))
    errors: Float64 = field(default_factory=lambda: np.zeros((_A, _P, 0)))
    hours: Float64 = field(default_factory=lambda: np.zeros((_A, _P)))
    scored: Int64 = field(default_factory=lambda: np.zeros(_P, np.int64))

    @staticmethod
    def of(models: Sequence[str]) -> "Contest":
        """Nothing said yet."""
        count = len(models)
        return Contest(
            tuple(models),
            medians=np.zeros((PLACES, _P, count), np.float16),
            errors=np.zeros((_A, _P, count)),
        )

    def come(self, hour: int, outcome: Float32) -> None:
        """`hour` has passed with `outcome` (pollutants,), NaN where nothing was measured. It counts once."""
        fresh = np.isfinite(outcome) & (self.scored != hour)
        if not fresh.any():
            return
        self.scored[fresh] = hour
        known = np.where(fresh, outcome, np.float32(np.nan))
        for place, anchor in enumerate(ANCHORS):
            at = place_of_hour(place, hour - anchor)
            if self.made[at] == hour - anchor:
                self.errors[place], self.hours[place] = counted(
                    self.errors[place], self.hours[place], self.medians[at], known
                )

    def say(self, hour: int, medians: Float32) -> None:
        """Keep what each said at the end of `hour`: (anchors, pollutants, models)."""
        for place in range(_A):
            at = place_of_hour(place, hour)
            self.made[at] = hour
            self.medians[at] = as_kept(medians[place])

    def joined_by(self, name: str) -> "Contest":
        """With one model more, which speaks from now on unless another does better: it has been as the last
        one until now.
        """
        return replace(
            self, models=(*self.models, name),
            medians=np.concatenate([self.medians, self.medians[..., -1:]], axis=-1),
            errors=np.concatenate([self.errors, self.errors[..., -1:]], axis=-1),
        )  # fmt: skip

    def mean_errors(self, anchor: int, pollutant: int) -> dict[str, float]:
        """Each model's mean absolute error, ug/m3, by the places of an anchor and a pollutant."""
        hours = float(self.hours[anchor, pollutant])
        if not hours:
            return {}
        errors = (self.errors[anchor, pollutant] / hours).tolist()
        return dict(zip(self.models, errors, strict=True))

    def leaders(self) -> Int64:
        """(anchors, pollutants): the place of the model that speaks."""
        return leaders(self.errors, self.hours, np.array(ANCHORS)[:, None])


def as_kept(medians: Float32) -> NDArray[np.float16]:
    """As they are kept until their hour comes."""
    return np.minimum(medians, HALF).astype(np.float16)


def counted(
    errors: Float64, hours: Float64, medians: NDArray[np.float16], outcome: Float32, step: int = 1
) -> tuple[Float64, Float64]:
    """Sums of errors (..., pollutants, models) and `hours` (..., pollutants) with one outcome more (...,
    pollutants), NaN where there is none, of forecasts that are made every `step` hours.
    """
    known = np.isfinite(outcome)
    fades = np.where(known, FADES**step, 1.0)
    missed = np.abs(medians.astype(np.float64) - np.where(known, outcome, np.float32(0.0))[..., None])
    counts = np.where(known, float(step), 0.0)
    return errors * fades[..., None] + missed * counts[..., None], hours * fades + counts


def leaders(errors: Float64, hours: Float64, ahead: Int64) -> Int64:
    """The place of the model that speaks (...), of sums of absolute errors (..., models) over `hours` (...)
    of forecasts so many hours `ahead` (...).

    Examples:
        Where the last of three models errs by 10 ug/m3, one that errs by 7.5 speaks after a week, one that
        errs by 4 after a day, where they look one hour ahead; three days ahead after four days:

        >>> soon, late = np.array(1), np.array(72)
        >>> leaders(np.array([4000.0, 3000.0, 4000.0]), np.array(400.0), soon).item()
        1
        >>> leaders(np.array([400.0, 300.0, 400.0]), np.array(40.0), soon).item()
        2
        >>> leaders(np.array([400.0, 160.0, 400.0]), np.array(40.0), soon).item()
        1
        >>> leaders(np.array([400.0, 160.0, 400.0]), np.array(40.0), late).item()
        2
    """
    usual = errors.shape[-1] - 1
    best = errors.argmin(axis=-1)
    enough, hours = np.zeros(hours.shape), hours / (1 + ahead / _ALIKE_H)
    for since, share in _BETTER:
        enough = np.where(hours >= since, share, enough)
    found: Int64 = np.where(errors.min(axis=-1) < enough * errors[..., usual], best, usual)
    return found
