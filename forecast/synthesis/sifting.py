"""Histories made harder to trace back, after DataSifter (Marino et al. 2019, J Stat Comput Simul 89:249).

Values are taken out and guessed again, and hours change places with hours that are alike; the level says how
many. Names and places of stations go at every level but the lowest.
"""

from dataclasses import replace
from enum import StrEnum
from typing import Final, NamedTuple

import numpy as np

from forecast.panel import Panel
from schemas.parameters import POLLUTANTS

_P: Final = len(POLLUTANTS)


class SiftLevel(StrEnum):
    """How hard it is to trace a made history back."""

    none = "none"
    light = "light"
    medium = "medium"
    heavy = "heavy"


class _Sieve(NamedTuple):
    """Share of values that are guessed again, of hours that change places, and spread of a value's noise as
    a part of it.
    """

    guessed: float
    swapped: float
    noise: float


_SIEVES: Final[dict[SiftLevel, _Sieve]] = {
    SiftLevel.none: _Sieve(0.0, 0.0, 0.0),
    SiftLevel.light: _Sieve(0.1, 0.1, 0.02),
    SiftLevel.medium: _Sieve(0.25, 0.3, 0.05),
    SiftLevel.heavy: _Sieve(0.5, 0.6, 0.1),
}
#: Days over which an hour changes places: the same hour of the day, so that rhythms stay.
_DAYS: Final = 3


def sifted(panel: Panel, level: SiftLevel, seed: int) -> Panel:
    """The panel after the sieve of `level`; gaps stay gaps."""
    sieve = _SIEVES[level]
    if level == SiftLevel.none:
        return panel
    random = np.random.default_rng(seed)
    values = panel.values.copy()
    stations, hours, _ = values.shape
    for row in range(stations):
        level_now = np.log1p(np.maximum(values[row, :, :_P], 0.0))
        # Of the same hour on the next days the one that is most alike.
        for hour in np.flatnonzero(random.random(hours) < sieve.swapped / 2):
            others = [hour + 24 * day for day in range(1, _DAYS + 1) if hour + 24 * day < hours]
            if not others:
                continue
            off = np.abs(level_now[others] - level_now[hour])
            known = np.isfinite(off)
            if not known.any():
                continue
            apart = np.where(known, off, 0.0).sum(1) / np.maximum(known.sum(1), 1)
            apart = np.where(known.any(1), apart, np.inf)
            other = others[int(np.argmin(apart))]
            values[row, [hour, other]] = values[row, [other, hour]]
    lost = random.random(values.shape) < sieve.guessed
    before, after = np.roll(values, 1, axis=1), np.roll(values, -1, axis=1)
    guess = (before + after) / 2
    guess[:, [0, -1]] = np.nan
    values = np.where(lost & np.isfinite(guess) & np.isfinite(values), guess, values)
    noise = np.exp(sieve.noise * random.standard_normal(values[..., :_P].shape))
    values[..., :_P] *= noise
    names = tuple(f"s{place + 1:02d}" for place in range(stations))
    kept = np.where(np.isnan(panel.values), np.nan, values).astype(np.float32)
    return replace(panel, stations=names, values=kept)
