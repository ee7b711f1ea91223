"""Means over the hours before an origin, and of the weather over those to come.

Hours are added one after the other in a fixed order, so that an hour's means are the same bits among others.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np

from schemas.arrays import Float32

#: Hours back of means.
MEANS: Final = (3, 6, 12, 24, 48, 72, 168)
#: Stations whose hours are averaged together: what fits into a processor's cache.
_FEW: Final = 16


class Trailing(NamedTuple):
    """Means, extremes and spread of the last so many hours; NaN where none of them was measured."""

    means: dict[int, Float32]
    low: Float32
    high: Float32
    spread: Float32
    share: Float32

    def only(self, rows: Sequence[int]) -> "Trailing":
        """Of some of the stations."""
        means = {hours: mean[rows] for hours, mean in self.means.items()}
        return Trailing(means, *(part[rows] for part in self[1:]))


def windows(series: Float32) -> Trailing:
    """Of the hours up to and with each; low, high, spread and share measured are of the last 24."""
    parts = [_windows(series[row : row + _FEW]) for row in range(0, max(len(series), 1), _FEW)]
    return Trailing(
        {hours: np.concatenate([part.means[hours] for part in parts]) for hours in MEANS},
        *(np.concatenate(some) for some in zip(*(part[1:] for part in parts), strict=True)),
    )


def _windows(series: Float32) -> Trailing:
    known = ~np.isnan(series)
    values = np.where(known, series, np.float32(0.0)).astype(np.float64)
    total, squares, count = (np.zeros(series.shape, np.float64) for _ in range(3))
    low, high = np.full(series.shape, np.inf, np.float32), np.full(series.shape, -np.inf, np.float32)
    means: dict[int, Float32] = {}
    spread = share = np.zeros(series.shape, np.float32)
    for hours in range(max(MEANS)):
        now, then = slice(hours, None), slice(None, max(series.shape[1] - hours, 0))
        total[:, now] += values[:, then]
        count[:, now] += known[:, then]
        if hours < 24:
            squares[:, now] += values[:, then] ** 2
            for far, of in ((low, np.fmin), (high, np.fmax)):
                of(far[:, now], series[:, then], out=far[:, now])
        if hours + 1 in MEANS:
            with np.errstate(invalid="ignore", divide="ignore"):
                means[hours + 1] = (total / count).astype(np.float32)
                if hours + 1 == 24:
                    variance = squares / count - (total / count) ** 2
                    spread = np.sqrt(np.maximum(variance, 0.0)).astype(np.float32)
                    share = (count / 24).astype(np.float32)
    low = np.where(np.isinf(low), np.float32(np.nan), low)
    high = np.where(np.isinf(high), np.float32(np.nan), high)
    return Trailing(means, low, high, spread, share)


def coming(weather: Float32, hours: int, horizons: Sequence[int]) -> dict[int, Float32]:
    """For each horizon the weather at that hour, its mean until then and its mean over the last six hours
    before: (stations, hours, 3 * channels). `weather` (stations, hours + 72, channels) begins with the
    panel's first hour.
    """
    parts = [
        _coming(weather[row : row + _FEW], hours, horizons) for row in range(0, max(len(weather), 1), _FEW)
    ]
    return {horizon: np.concatenate([part[horizon] for part in parts]) for horizon in horizons}


def _coming(weather: Float32, hours: int, horizons: Sequence[int]) -> dict[int, Float32]:
    known = ~np.isnan(weather)
    values = np.where(known, weather, np.float32(0.0)).astype(np.float64)
    total = np.zeros((weather.shape[0], hours, weather.shape[2]), np.float64)
    count = np.zeros_like(total)
    found: dict[int, Float32] = {}
    for horizon in range(1, max(horizons) + 1):
        then = slice(horizon, horizon + hours)
        total += values[:, then]
        count += known[:, then]
        if horizon in horizons:
            near, near_count = np.zeros_like(total), np.zeros_like(total)
            for step in range(max(horizon - 5, 1), horizon + 1):
                near += values[:, step : step + hours]
                near_count += known[:, step : step + hours]
            with np.errstate(invalid="ignore", divide="ignore"):
                means = [(total / count).astype(np.float32), (near / near_count).astype(np.float32)]
            found[horizon] = np.concatenate([weather[:, then], *means], axis=-1)
    return found
