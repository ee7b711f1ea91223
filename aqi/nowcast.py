"""NowCast: what the 24-hour (particles) or 8-hour (ozone) mean would say if it could follow the last hours.

Particles: EPA-454/B-24-002. With c1 the newest of twelve hourly values, w = max(min/max, 1/2) over those
present, NowCast = sum(w^(i-1) c_i) / sum(w^(i-1)); valid when two of the newest three hours are there.
With max = 0 all values are zero and any weight gives zero; w is then 1. Monitors drift a little below zero in
clean air; such hours enter as they are and a NowCast below zero is zero, as AirNow publishes it. (AirNow also
repeats its last NowCast for some hours when data are missing; that is not in the document and not done here.)

Ozone: EPA's method of 2019 (white paper and the R code of USEPA/O3-Nowcast). Over the last 336 hours the mean
of the eight hours around an hour (four before it to three after) is regressed on the 96 hours up to it, and
that regression is asked about the current hour, whose mean lies half in the future. The R code fits partial
least squares with as many components as predictors, which is ordinary least squares; it is solved as such
here. Where the series is too thin, a fixed line through the current hour is the surrogate.
"""

from functools import lru_cache
from typing import Final, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from schemas.arrays import Bool, Float64

PM_HOURS: Final = 12
PM_NEWEST: Final = 3
PM_NEWEST_NEEDED: Final = 2
LEAST_WEIGHT: Final = 0.5

#: Ozone, hours: series regressed, predictors, neighbours each side of a gap that is filled.
OZONE_HOURS: Final = 336
OZONE_PREDICTORS: Final = 96
GAP_NEIGHBOURS: Final = 4
#: Hours before and after an hour whose mean is the target (itself included), and how many must be there.
TARGET: Final = (4, 3)
TARGET_NEEDED: Final = 6
#: Hours present from which the regression is used, unless more than this many in a row are missing (the R
#: code's limit; its white paper says 8 in one place and 7 in another), and the share of targets that must
#: exist.
REGRESSION_NEEDED: Final = 252
LONGEST_GAP: Final = 7
TARGETS_NEEDED: Final = 0.75
#: Surrogate, ppb: slope and offset on the current hour.
SURROGATE: Final = (0.85, 4.5)
#: How many hours back an earlier NowCast may stand in for a missing current hour.
OZONE_BACK: Final = 2


class PmNowCast(NamedTuple):
    """NowCasts of S series, NaN where not defined; whether two of the newest three hours exist; their w.

    `weights`: (S, 12), the hours' shares in the value. The interval of a NowCast is made with these of the
    values: they stand for how fast the air changes, and errors that scale all hours alike leave min/max, and
    so w, as it is.
    """

    value: Float64
    valid: Bool
    weight: Float64
    weights: Float64


def particles(newest_first: npt.ArrayLike) -> PmNowCast:
    """NowCast of (S, 12) hourly concentrations, newest first, NaN where missing; same unit, not truncated.

    `value` is NaN where fewer than two of the newest three hours are present: it is then not defined.
    """
    hours = np.asarray(newest_first, dtype=np.float64)
    present = ~np.isnan(hours)
    valid = present[:, :PM_NEWEST].sum(axis=1) >= PM_NEWEST_NEEDED
    highest = np.where(present, hours, -np.inf).max(axis=1)
    lowest = np.where(present, hours, np.inf).min(axis=1)
    rising = valid & (highest > 0)
    weight = np.ones(len(hours))
    weight[rising] = np.maximum(lowest[rising] / highest[rising], LEAST_WEIGHT)
    power = np.ones(len(hours))
    powers, total, divisor = np.zeros(hours.shape), np.zeros(len(hours)), np.zeros(len(hours))
    for hour in range(hours.shape[1]):  # fixed order of summation
        powers[:, hour] = np.where(present[:, hour], power, 0.0)
        total += np.where(present[:, hour], power * hours[:, hour], 0.0)
        divisor += powers[:, hour]
        power = power * weight
    divisor = np.where(divisor > 0.0, divisor, 1.0)
    value = np.where(valid, np.maximum(total / divisor, 0.0), np.nan)
    return PmNowCast(value, valid, weight, powers / divisor[:, None])


class OzoneNowCast(NamedTuple):
    """Ozone NowCast in ppb, how it came about, and how many hours before the newest one it is from."""

    value: float
    method: Literal["regression", "surrogate"]
    hours_back: int


def ozone(oldest_first: npt.ArrayLike) -> OzoneNowCast | None:
    """Ozone NowCast of hourly ppb, oldest first, NaN where missing; None with the newest three hours missing.

    With fewer than 336 hours given the surrogate is used. A missing newest hour takes the NowCast of the hour
    before it, or of the one before that. Never below zero.
    """
    series = np.asarray(oldest_first, dtype=np.float64)
    for back in range(min(OZONE_BACK + 1, len(series))):
        until = series[: len(series) - back]
        if not np.isnan(until[-1]):
            enough = len(until) >= OZONE_HOURS
            predicted = _remembered(until[-OZONE_HOURS:].tobytes()) if enough else None
            if predicted is not None:
                return OzoneNowCast(max(predicted, 0.0), "regression", back)
            return OzoneNowCast(max(float(surrogate(until[-1])), 0.0), "surrogate", back)
    return None


def surrogate(ppb: Float64) -> Float64:
    """Ozone NowCast from the current hour alone, ppb."""
    slope, offset = SURROGATE
    return slope * ppb + offset


@lru_cache(maxsize=4096)
def _remembered(series: bytes) -> float | None:
    # The regression costs milliseconds and is asked for in every window of an hour with the same series.
    return _regression(np.frombuffer(series))


def _regression(series: Float64) -> float | None:
    """What the series' own regression predicts as target of its newest hour, ppb; None if it is too thin."""
    missing = np.isnan(series)
    if OZONE_HOURS - int(missing.sum()) < REGRESSION_NEEDED or _longest_run(missing) > LONGEST_GAP:
        return None
    if not np.nansum(series):
        return 0.0  # an instrument at zero throughout: nothing to regress
    before, after = TARGET
    padded = np.concatenate([np.full(before, np.nan), series, np.full(after, np.nan)])
    around = np.lib.stride_tricks.sliding_window_view(padded, before + after + 1)
    present = (~np.isnan(around)).sum(axis=1)
    whole = np.zeros(OZONE_HOURS, dtype=bool)
    whole[before : OZONE_HOURS - after] = True  # a target reaching over the ends of the series is not one
    usable = whole & (present >= TARGET_NEEDED)
    usable[: OZONE_PREDICTORS - 1] = False
    if usable.sum() < TARGETS_NEEDED * (OZONE_HOURS - OZONE_PREDICTORS + 1):
        return None
    target = np.nansum(around[usable], axis=1) / present[usable]
    filled = _fill(series)
    predictors = np.lib.stride_tricks.sliding_window_view(filled, OZONE_PREDICTORS)
    rows = predictors[np.flatnonzero(usable) - (OZONE_PREDICTORS - 1)]
    centre, level = rows.mean(axis=0), target.mean()
    slopes = np.linalg.lstsq(rows - centre, target - level, rcond=None)[0]
    return float(level + (predictors[-1] - centre) @ slopes)


def _fill(series: Float64) -> Float64:
    """Gaps filled with the mean of up to four neighbours each side, weight halving per hour (imputeTS)."""
    missing = np.isnan(series)
    filled = series.copy()
    for gap in np.flatnonzero(missing):
        reach = GAP_NEIGHBOURS
        while True:
            near = np.arange(max(int(gap) - reach, 0), min(int(gap) + reach + 1, len(series)))
            near = near[~missing[near]]
            if len(near) >= 2:
                break
            reach += 1
        weight = 0.5 ** np.abs(near - gap)
        filled[gap] = (weight * series[near]).sum() / weight.sum()
    return filled


def _longest_run(flags: Bool) -> int:
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8)))
    return int((edges[1::2] - edges[::2]).max(initial=0))
