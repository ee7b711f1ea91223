"""Years that never were: a Gaussian copula over stations, channels and time.

Each series becomes normal scores by its own distribution in that season and part of the day; a vector
autoregression (lags of 1, 2 and 24 hours, ridge) is fitted to the scores of all series together and run
with random shocks as they were correlated; what comes out goes back through the same distributions. Gaps are
laid over it as they lay in the history. No hour is a copy of one that was measured, and none is higher than
the highest.
"""

from typing import Final

import numpy as np

from forecast.panel import Panel
from forecast.synthesis.bootstrap import blocks
from schemas.arrays import Float64, Int64

_LAGS: Final = (1, 2, 24)
#: Parts of the year and of the day with a distribution of their own.
_SEASONS: Final = 6
_PARTS: Final = 8
#: Values that a distribution is kept by, and from which on a part of it is one of its own.
_KEPT: Final = 400
_FEW: Final = 60
#: Hours over which a gap is bridged where the recurrence is fitted.
_BRIDGED: Final = 6
_RIDGE: Final = 1e-2
#: The recurrence forgets at least so fast: its largest root.
_ROOT: Final = 0.997
_FAR: Final = 4.0


def simulated(panel: Panel, hours: int, seed: int) -> Panel:
    """`hours` hours from the panel's first on: (stations, hours, channels)."""
    random = np.random.default_rng(seed)
    stations, length, channels = panel.values.shape
    series = panel.values.transpose(1, 0, 2).reshape(length, stations * channels).astype(np.float64)
    has = np.isfinite(series).sum(0) >= _FEW
    cells = _cells(panel, length)
    tables = _Distributions(series[:, has], cells)
    scores = tables.scores(series[:, has], cells)
    weights, shocks = _recurrence(scores)
    made = _run(weights, shocks, hours, random)
    # The recurrence is fitted with error: its spread is brought back to that of scores.
    made = (made - made.mean(0)) / np.maximum(made.std(0), 1e-6)
    values = np.full((hours, stations * channels), np.nan)
    values[:, has] = tables.values(made, _cells(panel, hours))
    gaps = ~np.isfinite(series)[blocks(panel, hours, random)]
    values[gaps] = np.nan
    shaped = values.reshape(hours, stations, channels).transpose(1, 0, 2).astype(np.float32)
    return Panel(panel.stations, panel.begins, panel.offsets, np.ascontiguousarray(shaped), panel.regions)


def _cells(panel: Panel, hours: int) -> Int64:
    """The season and part of the day of each hour, by the first station's sun."""
    hour = panel.begins + np.arange(hours) + round(panel.offsets[0])
    season = ((hour / 24 % 365.2425) / 365.2425 * _SEASONS).astype(np.int64) % _SEASONS
    return season * _PARTS + hour % 24 * _PARTS // 24


class _Distributions:
    """What each series has in each cell: sorted values (cells, series, `_KEPT`)."""

    def __init__(self, series: Float64, cells: Int64) -> None:
        self._levels = (np.arange(_KEPT) + 0.5) / _KEPT
        self._table = np.empty((_SEASONS * _PARTS, series.shape[1], _KEPT))
        for column in range(series.shape[1]):
            every = series[:, column][np.isfinite(series[:, column])]
            for cell in range(_SEASONS * _PARTS):
                own = series[cells == cell, column]
                own = own[np.isfinite(own)]
                self._table[cell, column] = np.quantile(own if len(own) >= _FEW else every, self._levels)

    def scores(self, series: Float64, cells: Int64) -> Float64:
        """Normal scores of values."""
        out = np.full(series.shape, np.nan)
        for cell in np.unique(cells):
            rows = np.flatnonzero(cells == cell)
            for column in range(series.shape[1]):
                own, table = series[rows, column], self._table[cell, column]
                # Of equal values (zero, as often as not) each has the middle rank.
                low, high = np.searchsorted(table, own, "left"), np.searchsorted(table, own, "right")
                rank = ((low + high) / 2).clip(0.5, _KEPT - 0.5) / _KEPT
                out[rows, column] = np.where(np.isfinite(own), normal_score(rank), np.nan)
        return out

    def values(self, scores: Float64, cells: Int64) -> Float64:
        """The values that have these scores."""
        out = np.empty(scores.shape)
        rank = share_below_score(np.clip(scores, -_FAR, _FAR))
        for cell in np.unique(cells):
            rows = np.flatnonzero(cells == cell)
            for column in range(scores.shape[1]):
                out[rows, column] = np.interp(rank[rows, column], self._levels, self._table[cell, column])
        return out


def share_below_score(score: Float64) -> Float64:
    """The normal distribution's share below a score (logistic form of Bowling et al. 2009, to 1.4e-4)."""
    return 1 / (1 + np.exp(-(0.07056 * score**3 + 1.5976 * score)))


_GRID: Final = np.linspace(-_FAR, _FAR, 4001)


def normal_score(share: Float64) -> Float64:
    """What `share_below_score` comes from."""
    return np.interp(share, share_below_score(_GRID), _GRID)


def _recurrence(scores: Float64) -> tuple[Float64, Float64]:
    """Weights (lags, series, series) and shocks' spread (series, series): next = sum of weights @ lag."""
    filled = _bridged(scores)
    most, width = max(_LAGS), scores.shape[1]
    rows = np.concatenate([filled[most - lag : len(filled) - lag] for lag in _LAGS], axis=1)
    target = filled[most:]
    known = np.isfinite(rows).mean(1) > 0.5
    rows, target = np.nan_to_num(rows[known]), np.nan_to_num(target[known])
    penalty = _RIDGE * len(rows) * np.eye(rows.shape[1])
    weights = np.linalg.solve(rows.T @ rows + penalty, rows.T @ target)
    miss = target - rows @ weights
    spread = np.linalg.cholesky(miss.T @ miss / max(len(miss), 1) + 1e-6 * np.eye(width))
    shaped = weights.reshape(len(_LAGS), width, width).transpose(0, 2, 1)
    return _calmed(shaped), spread


def _bridged(scores: Float64) -> Float64:
    filled = scores.copy()
    for back in range(1, _BRIDGED + 1):
        holes = np.isnan(filled[back:])
        filled[back:][holes] = (0.9**back * scores[:-back])[holes]
    return filled


def _calmed(weights: Float64) -> Float64:
    """Weights whose recurrence does not grow: scaled where its largest root is beyond `_ROOT`."""
    state = np.random.default_rng(0).standard_normal((max(_LAGS), weights.shape[1]))
    for _ in range(10):
        grown = 0.0
        for _step in range(240):
            new = sum(weights[place] @ state[-lag] for place, lag in enumerate(_LAGS))
            size = float(np.linalg.norm(new))
            grown += np.log(max(size, 1e-12) / max(float(np.linalg.norm(state[-1])), 1e-12))
            state = np.concatenate([state[1:], new[None]]) / max(size, 1e-12)
        if grown / 240 <= np.log(_ROOT):
            break
        weights = weights * (_ROOT / np.exp(grown / 240)) ** np.array(_LAGS)[:, None, None]
    return weights


def _run(weights: Float64, shocks: Float64, hours: int, random: np.random.Generator) -> Float64:
    """(hours, series), after two weeks that are thrown away."""
    first, most, width = 14 * 24, max(_LAGS), weights.shape[1]
    state = np.zeros((most + first + hours, width))
    noise = random.standard_normal((first + hours, width)) @ shocks.T
    for step in range(first + hours):
        at = most + step
        state[at] = noise[step]
        for place, lag in enumerate(_LAGS):
            state[at] += weights[place] @ state[at - lag]
    return state[most + first :]
