"""Quantiles that hold where a station stands: each moved by what its own forecasts missed, as their hours
come.

Conformal by quantile tracking (Angelopoulos, Candes and Tibshirani 2023, "Conformal PID control for time
series prediction", the P part): an offset goes up by `RATE` times its level when the outcome was above the
quantile, down by the rest when it was not; offsets are in widths of the forecast as it was made. State is
seven numbers for each station, horizon and pollutant, whatever the time.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from forecast.models import moved
from forecast.panel import QUANTILES
from schemas.arrays import Float32

#: How fast an offset follows: half a year of hours moves it by some tenths, a bad week by a few hundredths.
RATE: Final = 0.01
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

    def learn(self, horizon: int, said: Float32, outcome: Float32) -> None:
        """What was said, before calibration, for an hour that has come (stations, pollutants, 8), and its
        outcome (stations, pollutants), NaN where nothing was measured. `horizon` is its place among the
        horizons.
        """
        offsets = self.offsets[:, horizon]
        width = said[..., 6:7] - said[..., :1]
        levels = np.array(QUANTILES, np.float32)
        above = outcome[..., None] > said[..., :-1] + offsets * width
        step = np.where(above, levels, levels - np.float32(1.0)) * np.float32(RATE)
        known = np.isfinite(outcome)[..., None]
        self.offsets[:, horizon] = np.clip(
            offsets + np.where(known, step, np.float32(0.0)), -FURTHEST, FURTHEST
        )


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
                state.learn(place, said[:, come, place], truth[:, come, place])
        out[:, origin] = state.applied(said[:, origin])
    return out
