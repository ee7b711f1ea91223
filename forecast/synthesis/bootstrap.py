"""Years put together from pieces of measured ones: the moving block bootstrap, with joints that fit.

All stations and the weather are taken together, some days at a time, from the same season and the same hour
of the day (Politis and Romano 1994 for blocks of random length; Lall and Sharma 1996 for joints between
hours that are alike). So levels, rhythms, gaps and how stations go together are those that were measured;
nothing comes that never was.
"""

from typing import Final

import numpy as np

from forecast.panel import Panel
from schemas.arrays import Float32, Int64
from schemas.parameters import POLLUTANTS

_P: Final = len(POLLUTANTS)
#: Hours of a block on average, and at least.
_BLOCK: Final = 96
_LEAST: Final = 24
#: Days by which the season may be off.
_SEASON_DAYS: Final = 25
_YEAR_HOURS: Final = 365.2425 * 24
#: Beginnings that are looked at, and the best of them, of which one is taken.
_LOOKED_AT: Final = 60
_BEST: Final = 3


def bootstrapped(panel: Panel, hours: int, seed: int) -> Panel:
    """`hours` hours from the panel's first on: (stations, hours, channels) of its own values."""
    taken = blocks(panel, hours, np.random.default_rng(seed))
    return Panel(panel.stations, panel.begins, panel.offsets, panel.values[:, taken], panel.regions)


def blocks(panel: Panel, hours: int, random: np.random.Generator) -> Int64:
    """Which hour of the panel each made hour is."""
    with np.errstate(invalid="ignore"):
        level = np.log1p(np.maximum(panel.values[..., :_P], 0.0)).reshape(
            len(panel.stations), panel.hours, _P
        )
    taken = np.empty(hours, np.int64)
    made = 0
    while made < hours:
        at = made if not made else _next(panel, level, made, int(taken[made - 1]), random)
        length = min(_LEAST + int(random.exponential(_BLOCK - _LEAST)), panel.hours - at, hours - made)
        taken[made : made + length] = np.arange(at, at + length)
        made += length
    return taken


def _next(panel: Panel, level: Float32, made: int, before: int, random: np.random.Generator) -> int:
    """The first hour of the next block: of the same hour and season, after an hour like the last one."""
    candidates = np.arange(made % 24, panel.hours - _LEAST, 24)
    candidates = candidates[candidates > 0]
    if not len(candidates):
        return 0
    apart = np.abs((candidates - made + _YEAR_HOURS / 2) % _YEAR_HOURS - _YEAR_HOURS / 2)
    near = candidates[apart <= _SEASON_DAYS * 24]
    # A history that is shorter than a year has but its own seasons.
    near = near if len(near) else candidates[np.argsort(apart, kind="stable")[:_LOOKED_AT]]
    # To go on where the last block ended would be no new piece.
    fresh = near[near != before + 1]
    near = fresh if len(fresh) else near
    some = random.choice(near, min(_LOOKED_AT, len(near)), replace=False)
    off = np.abs(level[:, some - 1] - level[:, before : before + 1])
    known = np.isfinite(off)
    total = np.where(known, off, 0.0).sum((0, 2)) / np.maximum(known.sum((0, 2)), 1)
    total = np.where(known.any((0, 2)), total, np.inf)
    best = some[np.argsort(total, kind="stable")[:_BEST]]
    return int(random.choice(best))
