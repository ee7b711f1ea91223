"""How a station's forecasts came out: each is scored, and learned from, when its hour has come.

What was said for an hour is kept until then at the horizons `ANCHORS` alone. A horizon of n hours has n + 1
places, used in turn, so that the one that comes true and the one that is made stand beside each other.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from forecast.calibration import HALF, Calibration, as_published, rates
from forecast.models import ANCHORS
from forecast.panel import QUANTILES, crps
from schemas.arrays import Float32, Float64, Int64
from schemas.forecast import RunningScore
from schemas.parameters import POLLUTANTS, Pollutant

_P: Final = len(POLLUTANTS)
_A: Final = len(ANCHORS)
_Q: Final = len(QUANTILES)
#: Places in which what was said is kept.
PLACES: Final = sum(anchor + 1 for anchor in ANCHORS)
_BASES: Final = tuple(sum(before + 1 for before in ANCHORS[:place]) for place in range(_A))
#: What is left of an hour's weight after another one: a third after a month.
FADES: Final = math.exp(-1 / 720)
#: By the places of an anchor and a pollutant the mean absolute error of each model, ug/m3.
ModelErrors = Callable[[int, int], Mapping[str, float]]
#: Horizons whose scores are published, in hours.
SCORED: Final = (1, 3, 6, 12, 24, 48, 72)


def place_of_hour(place: int, hour: int) -> int:
    """Where it is kept what was said at the end of `hour` for the anchor at `place`."""
    return _BASES[place] + hour % (ANCHORS[place] + 1)


@dataclass
class RunningRecord:
    """Of one station.

    Attributes:
        offsets: (anchors, pollutants, 7) of the calibration.
        made: (places,) hour (since 1970) at whose end it was said; 0: never.
        raw: (places, pollutants, 8) before calibration.
        published: (places, pollutants, 8) the quantiles after it, and persistence.
        sums: (anchors, pollutants, 6) faded sums: hours, |error|, error squared, CRPS, inside, persistence's.
        scored: (pollutants,) hour of the last outcome.
    """

    offsets: Float32 = field(default_factory=lambda: np.zeros((_A, _P, _Q), np.float32))
    made: Int64 = field(default_factory=lambda: np.zeros(PLACES, np.int64))
    raw: Float32 = field(default_factory=lambda: np.zeros((PLACES, _P, 8), np.float32))
    published: NDArray[np.float16] = field(default_factory=lambda: np.zeros((PLACES, _P, 8), np.float16))
    sums: Float64 = field(default_factory=lambda: np.zeros((_A, _P, 6)))
    scored: Int64 = field(default_factory=lambda: np.zeros(_P, np.int64))

    def come(self, hour: int, outcome: Float32) -> None:
        """`hour` has passed with `outcome` (pollutants,), NaN where nothing was measured. It counts once."""
        fresh = np.isfinite(outcome) & (self.scored != hour)
        if not fresh.any():
            return
        known = np.where(fresh, outcome, np.float32(np.nan)).astype(np.float32)
        self.scored[fresh] = hour
        learned = Calibration(self.offsets[None])
        for place, anchor in enumerate(ANCHORS):
            at = place_of_hour(place, hour - anchor)
            if self.made[at] == hour - anchor:
                learned.learn(
                    place, self.raw[None, at], self.published[None, at, :, :_Q], known[None], rates(anchor)
                )
                self._score(place, at, known)
        self.offsets = learned.offsets[0]

    def _score(self, place: int, at: int, outcome: Float32) -> None:
        said, y = self.published[at].astype(np.float64), outcome.astype(np.float64)
        quantiles, persistent = said[:, :_Q], said[:, _Q]
        miss = y[:, None] - quantiles
        new = np.stack(
            [
                np.ones(_P), np.abs(miss[:, 3]), (y - self.raw[at, :, _Q]) ** 2, crps(quantiles, y),
                (y >= quantiles[:, 0]) & (y <= quantiles[:, -1]), np.abs(y - persistent),
            ],
            axis=1,
        )  # fmt: skip
        known = np.isfinite(y)[:, None]
        self.sums[place] = np.where(known, self.sums[place] * FADES + new, self.sums[place])

    def say(self, hour: int, raw: Float32, published: Float32, persistence: Float32) -> None:
        """Keep what was said at the end of `hour`: (anchors, pollutants, 8) twice, and (pollutants,)."""
        for place in range(_A):
            at = place_of_hour(place, hour)
            self.made[at] = hour
            self.raw[at] = raw[place]
            self.published[at, :, :_Q] = as_published(published[place])
            self.published[at, :, _Q] = np.minimum(persistence, HALF)

    def scores(self, of_models: ModelErrors) -> dict[Pollutant, dict[str, RunningScore]]:
        """Of pollutants and horizons of which something has come true; `of_models`: how each model did."""
        found: dict[Pollutant, dict[str, RunningScore]] = {}
        for column, name in enumerate(POLLUTANTS):
            for horizon in SCORED:
                count, *sums = self.sums[ANCHORS.index(horizon), column].tolist()
                if count:
                    absolute, square, crps, inside, floor = (total / count for total in sums)
                    found.setdefault(name, {})[str(horizon)] = RunningScore(
                        count=round(count, 3), mae=_short(absolute), rmse=_short(math.sqrt(square)),
                        crps=_short(crps), coverage=_short(inside),
                        skill=_short(1 - absolute / floor) if floor > 0 else 0.0,
                        models={
                            model: _short(error)
                            for model, error in of_models(ANCHORS.index(horizon), column).items()
                        },
                    )  # fmt: skip
        return found


def _short(value: float) -> float:
    return float(f"{value:.6g}")
