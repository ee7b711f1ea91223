"""What is learned from: a folder's hours, as they are and with made gaps, and which of them check the
learning.
"""

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from forecast.evaluation import erring
from forecast.features import Normalisation, OriginFeatures, weather_ahead
from forecast.panel import HORIZON, Panel
from schemas.arrays import Float32
from schemas.parameters import POLLUTANTS

_P = len(POLLUTANTS)
#: Every seventh week of the training time only checks: when to stop, how to mix, how wide to be.
CHECKED_WEEK = 7
#: How large errors of the weather to come are, beside those that an evaluation makes, and which ones these
#: are: not the evaluation's.
_ERRING = 0.7
_DRAWN = 1


@dataclass(frozen=True)
class Copy:
    """One view of the same hours: what a model is shown, and which rows of the truth belong to it.

    `share`: of all rows that trees are shown, those of this view. `whole`: it has no gaps but its own.
    """

    shown: Panel
    rows: NDArray[np.int64]
    share: float
    whole: bool = False


@dataclass(frozen=True)
class Material:
    """`truth` (stations, hours + 72, pollutants) with NaN after the end, and the origins that learn and that
    check.
    """

    panel: Panel
    copies: tuple[Copy, ...]
    truth: Float32
    learns: NDArray[np.int64]
    checks: NDArray[np.int64]
    normalisation: Normalisation
    spread: Float32

    def target(
        self, rows: NDArray[np.int64], origins: NDArray[np.int64], horizon: int, pollutant: int
    ) -> Float32:
        """What was measured `horizon` hours after each origin: (rows, origins)."""
        return self.truth[rows][:, origins + horizon, pollutant]


def material(panel: Panel, seed: int) -> Material:
    """Everything that trees, ridge and networks are fitted to."""
    random = np.random.default_rng(seed)
    everybody = np.arange(len(panel.stations))
    halves = [np.sort(half) for half in np.array_split(random.permutation(everybody), 2) if len(half)]
    copies = [Copy(panel, everybody, 0.45, whole=True), Copy(_with_gaps(panel, random), everybody, 0.15)]
    holed = _with_gaps(panel, random)
    copies += [
        Copy(_some(holed, everybody[row : row + 1]), everybody[row : row + 1], 0.1 / len(everybody))
        for row in range(len(everybody))
    ]
    # As many neighbours as half the network: what a smaller one has.
    copies += [
        Copy(_some(panel, half), half, 0.3 * len(half) / len(everybody), whole=True) for half in halves
    ]
    nothing = np.full((len(panel.stations), HORIZON, _P), np.nan, np.float32)
    truth = np.concatenate([panel.values[..., :_P], nothing], axis=1)
    week = (panel.begins + np.arange(panel.hours)) // 168
    checked = week % CHECKED_WEEK == 0
    origins = np.arange(24, panel.hours)
    # An origin learns where none of the hours that it foretells lies in a week that checks.
    soon = np.concatenate([checked, np.zeros(HORIZON, bool)])
    clean = np.array([not soon[hour + 1 : hour + 1 + HORIZON].any() for hour in origins])
    # What checks has its outcomes in the same week, of which nothing was learned.
    checks = origins[checked[origins] & ((panel.begins + origins) % 168 < 168 - HORIZON)]
    with warnings.catch_warnings():  # of what nobody measured there is no mean
        warnings.simplefilter("ignore", RuntimeWarning)
        typical = np.nan_to_num(np.nanstd(panel.values[..., :_P], axis=(0, 1)), nan=1.0) + 1e-3
        weather = panel.values[..., _P:]
        mean = np.nan_to_num(np.nanmean(weather, axis=(0, 1)), nan=0.0)
        std = np.nan_to_num(np.nanstd(weather, axis=(0, 1)), nan=1.0) + 1e-3
    by = Normalisation(*(tuple(float(x) for x in part) for part in (typical, mean, std)))
    features = OriginFeatures(panel)
    spread = np.ones((HORIZON, _P), np.float32)
    for pollutant in range(_P):
        last = features.last(pollutant, 0.0)
        for horizon in range(1, HORIZON + 1):
            miss = truth[:, horizon : horizon + panel.hours, pollutant] - last
            if np.isfinite(miss).any():
                spread[horizon - 1, pollutant] = max(float(np.nanstd(miss)), 1e-3)
    return Material(panel, tuple(copies), truth, origins[clean], checks, by, spread)


def _some(panel: Panel, rows: NDArray[np.int64]) -> Panel:
    return panel.only([panel.stations[row] for row in rows])


def _with_gaps(panel: Panel, random: np.random.Generator) -> Panel:
    """What a network loses: single sensors for hours or months, whole stations for days, the wind, all
    weather.
    """
    values = panel.values.copy()
    stations, hours, channels = values.shape

    def lose(rows: slice | int, which: slice | int, share: float, lengths: tuple[int, int]) -> None:
        lost = 0
        while lost < share * hours:
            length = int(np.exp(random.uniform(*np.log(lengths))))
            start = int(random.integers(0, hours))
            values[rows, start : start + length, which] = np.nan
            lost += length

    for row in range(stations):
        for pollutant in range(_P):
            lose(row, pollutant, 0.10, (1, 240))
            lose(row, pollutant, 0.15, (500, 2000))
        lose(row, slice(None), 0.10, (6, 340))
        lose(row, slice(_P, channels), 0.20, (24, 1500))
    lose(slice(None), slice(_P + 3, channels), 0.35, (300, 2000))
    lose(slice(None), slice(_P, channels), 0.15, (300, 2000))
    return Panel(panel.stations, panel.begins, panel.offsets, values)


def known_weather(copy: Copy, truth: Panel) -> Float32:
    """The weather to come of a copy: in full, for gaps of a station's own sensors are no gaps of a forecast,
    and with some of the errors of one: who learned from perfect forecasts believes real ones too much.
    """
    whole = Panel(copy.shown.stations, truth.begins, copy.shown.offsets, truth.values[copy.rows])
    observed = weather_ahead(whole)
    # Those of an evaluation are from the first hour on as large as a real one's are a day or two ahead.
    return observed + np.float32(_ERRING) * (erring(observed, _DRAWN) - observed)
