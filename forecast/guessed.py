"""What a station does not measure: forecasts go by what its camera, or its region, lets expect. Pure.

Where it measures nothing at all, that is what models are shown. Beside other pollutants that are measured the
models know the gap, and are shown none of it; but what they say then begins at the neighbours, or at the air
that they learned from, and is made to begin at the station's own estimate.
"""

from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from forecast.hours import HeardWindow, HourlyMeans, StationHours, empty_hours
from forecast.panel import QUANTILES
from schemas.arrays import Float32, Int64
from schemas.base import to_ms
from schemas.estimate import Estimate
from schemas.parameters import POLLUTANTS
from schemas.times import HOUR_MS

_P: Final = len(POLLUTANTS)
#: Hours whose intervals tell how far off the values are.
_LATELY: Final = 24
#: Hours in which an estimate is of the present.
_PRESENT: Final = 3
#: How far the quantiles of a normal distribution lie from its median, in the distance of the outermost.
_ALONG: Final = np.array([-1.0, -0.7791, -0.4101, 0.0, 0.4101, 0.7791, 1.0], np.float32)


def _nothing() -> Float32:
    return empty_hours(3 * _P)


@dataclass
class GuessedHours(HourlyMeans):
    """Imputed values and the ends of their 90 % intervals, ug/m3: (LOOKBACK, 3 * pollutants)."""

    means: Float32 = field(default_factory=_nothing)

    def _heard(self, estimate: Estimate, end: int) -> HeardWindow:
        pollutants = estimate.pollutants
        size, hour = (end - to_ms(estimate.window.start)) // 1000, (end - 1) // HOUR_MS
        values = np.full((3, _P), np.nan)
        for place, name in enumerate(POLLUTANTS):
            if (one := pollutants.get(name)) is not None and one.kind == "imputed":
                values[:, place] = one.value, *(one.value if end is None else end for end in (one.lo, one.hi))
        known = np.isfinite(values).ravel()
        return HeardWindow(
            estimate.revision,
            tuple(np.where(known, hour, 0).tolist()),
            tuple(np.nan_to_num(values).ravel().tolist()),
            tuple(np.where(known, max(size, 1), 0).tolist()),
        )

    @property
    def values(self) -> Float32:
        """(LOOKBACK, pollutants)."""
        found: Float32 = np.maximum(self.means[:, :_P], np.float32(0.0))
        return found

    def present(self) -> Float32:
        """(pollutants,): of the last hour of the last three that is known; NaN: none is."""
        found: Float32 = self.values[-1]
        for hours in range(2, _PRESENT + 1):
            found = np.where(np.isnan(found), self.values[-hours], found).astype(np.float32)
        return found

    def off(self) -> Float32:
        """(pollutants, 2): how far below and above the values the ends of their intervals lay lately."""
        some = self.means[-_LATELY:]
        value, low, high = some[:, :_P], some[:, _P : 2 * _P], some[:, 2 * _P :]
        known = np.isfinite(value)
        count = np.maximum(known.sum(axis=0), 1)
        sides = (np.where(known, side, 0.0).sum(axis=0) / count for side in (value - low, high - value))
        found: Float32 = np.maximum(np.stack(list(sides), axis=-1), 0.0).astype(np.float32)
        return found


def input_of(measured: StationHours, guessed: GuessedHours) -> Float32:
    """(LOOKBACK, pollutants): what was measured; where nothing was for a week, what is guessed."""
    return guessed.values if stands_in(measured).all() else measured.means


def continued(said: Float32, last: Float32, measured: StationHours, guessed: GuessedHours) -> Float32:
    """`said` (hours, pollutants, 8), which was made from `last` values (pollutants,), going on from the
    station's own present estimate of what it does not measure.

    Further up all of it is as much higher, further down it is as many times less: never below nothing.
    """
    present, out = guessed.present(), said.copy()
    for pollutant in np.flatnonzero(stands_in(measured) & np.isfinite(present)).tolist():
        apart = present[pollutant] - last[pollutant]
        here = said[:, pollutant]
        # Where neither is anything there is nothing to go on from: nought beside nought is no factor.
        out[:, pollutant] = here + apart if apart >= 0 else here * (present[pollutant] / last[pollutant])
    return out


def widened(said: Float32, measured: StationHours, guessed: GuessedHours) -> Float32:
    """`said` (hours, pollutants, 8), as wide as it has to be where its input itself is a guess.

    The two are taken to err independently of each other.
    """
    off = np.where(stands_in(measured)[:, None], guessed.off(), np.float32(0.0))
    middle = said[..., QUANTILES.index(0.5), None]
    apart = said[..., :-1] - middle
    side = np.where(_ALONG < 0, off[:, :1], off[:, 1:])
    wider = middle + np.sign(_ALONG) * np.hypot(apart, _ALONG * side)
    out = said.copy()
    out[..., :-1] = np.where(side > 0, np.maximum(wider, np.float32(0.0)), said[..., :-1])
    return out


def stands_in(measured: StationHours) -> NDArray[np.bool_]:
    """(pollutants,): those of which no hour was measured."""
    known: Int64 = np.isfinite(measured.means).sum(axis=0)
    return np.equal(known, 0)
