"""Quantiles that hold where a station stands: each moved by what its own forecasts missed, as their hours
come.

Conformal by quantile tracking (Angelopoulos, Candes and Tibshirani 2023, "Conformal PID control for time
series prediction", the P part): an offset goes up by its rate times its level when the outcome was above the
quantile, down by the rest when it was not; offsets are in widths of the forecast as it was made. State is
seven numbers for each station, horizon and pollutant, whatever the time.

What is said three days ahead is judged three days late, and offsets have moved on since. By half an outcome
is held against the quantile that was published, which is what has to hold in the long run but swings where
steps are large, and by half against the one that the offsets of now would have published, which stands still
but holds too little.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from forecast.models import moved
from forecast.panel import QUANTILES
from schemas.arrays import Float32

#: How fast the outermost offsets follow, for each hour that passes; further ahead than `_DAY_LONG` hours
#: less: what is foretold a day ahead is wrong for a day on end, and who follows each of its hours runs
#: after it. The outermost never less than `_SLOWEST`: a winter comes within weeks.
RATE: Final = 0.006
_DAY_LONG: Final = 0.1 / RATE
_SLOWEST: Final = 0.003
#: A forecast that is made seldom learns in one step what the hours between would have taught, up to this.
_MOST: Final = 0.03
#: How fast each quantile follows beside the outermost. Few hours tell where the middle is.
_FOLLOWS: Final = np.array([1, 1, 2 / 3, 1 / 3, 2 / 3, 1, 1], np.float32)
#: How much of an outcome is held against what was published.
_PUBLISHED: Final = np.float32(0.5)
#: Largest number of half precision, in which what was said is kept until its hour comes.
HALF: Final = 65_000.0
#: No offset goes further: a sensor that broke does not make forecasts endless.
FURTHEST: Final = 3.0


@dataclass
class Calibration:
    """Offsets (stations, horizons, pollutants, 7), 0 at the start."""

    offsets: Float32

    @staticmethod
    def new(stations: int, horizons: int, pollutants: int) -> "Calibration":
        return Calibration(np.zeros((stations, horizons, pollutants, len(QUANTILES)), np.float32))

    def applied(self, said: Float32) -> Float32:
        """`said` (stations, horizons, pollutants, 8) as this station would have it: never crossing."""
        return moved(said, self.offsets)

    def learn(
        self, place: int, said: Float32, published: NDArray[np.float16], outcome: Float32, rates: Float32
    ) -> None:
        """What was said for an hour that has come, before calibration (stations, pollutants, 8), its
        quantiles as they were published (stations, pollutants, 7), and its outcome (stations, pollutants),
        NaN where nothing was measured. `place` is that of the horizon among the horizons, `rates` are its.
        """
        offsets = self.offsets[:, place]
        width = said[..., 6:7] - said[..., :1]
        levels = np.array(QUANTILES, np.float32)
        above_now = outcome[..., None] > said[..., :-1] + offsets * width
        above_then = outcome[..., None] > published
        above = _PUBLISHED * above_then + (1 - _PUBLISHED) * above_now
        step = (levels - 1 + above) * rates
        known = np.isfinite(outcome)[..., None]
        self.offsets[:, place] = np.clip(
            offsets + np.where(known, step, np.float32(0.0)), -FURTHEST, FURTHEST
        )


def as_published(said: Float32) -> NDArray[np.float16]:
    """The quantiles (..., 7) of what was published (..., 8), as they are kept until their hour comes."""
    return np.minimum(said[..., : len(QUANTILES)], HALF).astype(np.float16)


def rate(horizon: int, step: int = 1) -> float:
    """How fast offsets follow forecasts that are made every `step` hours for `horizon` hours ahead.

    Examples:
        >>> [round(rate(hours), 4) for hours in (1, 24, 72)]
        [0.006, 0.0042, 0.0014]
        >>> rate(24, 5) == 5 * rate(24)
        True
    """
    return min(RATE * min(1.0, _DAY_LONG / horizon) * step, _MOST)


def rates(horizon: int, step: int = 1) -> Float32:
    """How fast each quantile's offset follows (7,)."""
    slowest = np.where(_FOLLOWS < 1, 0.0, min(_SLOWEST * step, _MOST))
    found: Float32 = np.maximum(_FOLLOWS * rate(horizon, step), slowest).astype(np.float32)
    return found


def calibrated(said: Float32, truth: Float32, horizons: tuple[int, ...], step: int) -> Float32:
    """Forecasts in order of their origins, `step` hours apart, each calibrated by those whose hours had
    come.

    `said` (stations, origins, horizons, pollutants, 8), `truth` (stations, origins, horizons, pollutants).
    """
    state = Calibration.new(said.shape[0], said.shape[2], said.shape[3])
    out = np.empty_like(said)
    for origin in range(said.shape[1]):
        for place, horizon in enumerate(horizons):
            # The latest origin whose hour, this far ahead, has come by now; each is learned from once.
            come = origin - -(-horizon // step)
            if come >= 0:
                state.learn(
                    place, said[:, come, place], as_published(out[:, come, place]), truth[:, come, place],
                    rates(horizon, step),
                )  # fmt: skip
        out[:, origin] = state.applied(said[:, origin])
    return out
