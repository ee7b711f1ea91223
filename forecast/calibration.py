"""Quantiles that hold where a station stands: each moved by what its own forecasts missed, as their hours
come.

Conformal by quantile tracking (Angelopoulos, Candes and Tibshirani 2023, "Conformal PID control for time
series prediction", the P part): an offset goes up by its rate times its level when the outcome was above the
quantile, down by the rest when it was not; offsets are in widths of the forecast as it was made. State is
seven numbers for each station, horizon and pollutant, whatever the time.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from forecast.models import moved
from forecast.panel import QUANTILES
from schemas.arrays import Float32

#: How fast the outermost offsets follow, for each hour that passes; further ahead than `_DAY_LONG` hours
#: less: what is foretold a day ahead is wrong for a day on end, and who follows each of its hours runs
#: after it.
RATE: Final = 0.006
_DAY_LONG: Final = 0.1 / RATE
#: A forecast that is made seldom learns in one step what the hours between would have taught, up to this.
_MOST: Final = 0.03
#: How fast each quantile follows beside the outermost. Few hours tell where the middle is.
_FOLLOWS: Final = np.array([1, 1, 2 / 3, 1 / 3, 2 / 3, 1, 1], np.float32)
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

    def learn(self, place: int, said: Float32, outcome: Float32, rate: float) -> None:
        """What was said, before calibration, for an hour that has come (stations, pollutants, 8), and its
        outcome (stations, pollutants), NaN where nothing was measured. `place` is that of the horizon among
        the horizons.
        """
        offsets = self.offsets[:, place]
        width = said[..., 6:7] - said[..., :1]
        levels = np.array(QUANTILES, np.float32)
        above = outcome[..., None] > said[..., :-1] + offsets * width
        step = np.where(above, levels, levels - np.float32(1.0)) * _FOLLOWS * np.float32(rate)
        known = np.isfinite(outcome)[..., None]
        self.offsets[:, place] = np.clip(
            offsets + np.where(known, step, np.float32(0.0)), -FURTHEST, FURTHEST
        )


def rate(horizon: int, step: int = 1) -> float:
    """How fast offsets follow forecasts that are made every `step` hours for `horizon` hours ahead.

    Examples:
        >>> [round(rate(hours), 4) for hours in (1, 24, 72)]
        [0.006, 0.0042, 0.0014]
        >>> rate(24, 5) == 5 * rate(24)
        True
    """
    return min(RATE * min(1.0, _DAY_LONG / horizon) * step, _MOST)


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
                state.learn(place, said[:, come, place], truth[:, come, place], rate(horizon, step))
        out[:, origin] = state.applied(said[:, origin])
    return out
