"""Kinds of silence: which witnesses an estimate lacks. Errors are learned, and intervals kept, for each kind.

What a kind's errors are is seen while everything is heard: every sensor that speaks is compared with what
the others would have said of it, had it been silent in that way.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from network.members import PARTICLES, Members, Silence
from network.sweep import inverse
from schemas.arrays import Bool, Float64
from schemas.times import DAY_MS

Given = Callable[[Bool], Float64]


class Expected(NamedTuple):
    """(kinds, d) what the others say of each heard variable under each kind, on the log scale less the mean
    of the hour, and the variance of it; NaN where it is not heard, or the kind was not looked at.
    """

    mean: Float64
    variance: Float64


def kinds_of(members: Members, heard: Bool) -> NDArray[np.int64]:
    """(d,) the kind of silence each variable would be in, were it silent, given what else is heard."""
    table = members.table
    there = np.append(heard, False)[table]  # (stations, pollutants); -1 is the False at the end
    exists = table >= 0
    own = there[members.owners].copy()
    rows = np.arange(len(members))
    own[rows, members.pollutants] = False
    beside = exists[members.owners].copy()
    beside[rows, members.pollutants] = False
    same = there.sum(axis=0)[members.pollutants] - heard
    others = exists.sum(axis=0)[members.pollutants] - 1
    anywhere = heard.sum() - heard
    particles = np.isin(members.pollutants, PARTICLES)
    partner = own[:, list(PARTICLES)].any(axis=1)
    partnered = beside[:, list(PARTICLES)].any(axis=1)
    kind = np.full(len(members), int(Silence.HALF))
    much = 4 * same >= 3 * others
    kind[much & (2 * own.sum(axis=1) >= beside.sum(axis=1))] = Silence.SENSOR
    kind[much & particles & partnered & ~partner & own.any(axis=1)] = Silence.PARTICLES
    kind[much & ~own.any(axis=1) & beside.any(axis=1) & (others > 0)] = Silence.STATION
    kind[(same == 0) & (others > 0) & (anywhere > 0)] = Silence.POLLUTANT
    kind[anywhere == 0] = Silence.ALL
    return kind


def expected(
    members: Members, given: Given, deviation: Float64, marginal: Float64, heard: Bool, time_ms: int
) -> Expected:
    """What the others say of every variable that is heard.

    Args:
        members: of the cell.
        given: the covariance swept on a set of variables.
        deviation: (d,) log scale less the mean of the hour; where it is not heard, anything finite.
        marginal: (d,) variance of each with nothing heard.
        heard: (d,).
        time_ms: end of the hour.
    """
    d = len(members)
    conditioned = given(heard)
    mean = np.full((len(Silence), d), np.nan)
    variance = np.full((len(Silence), d), np.nan)
    precision = np.where(heard[:, None] & heard, -conditioned, 0.0)
    precision[~heard, ~heard] = 1.0
    told = np.where(heard, deviation, 0.0)
    pull = np.einsum("ij,j->i", precision, told)
    own = np.diagonal(precision)
    mean[Silence.SENSOR] = told - pull / own
    variance[Silence.SENSOR] = 1.0 / own
    mean[Silence.ALL] = 0.0
    variance[Silence.ALL] = marginal
    for kind, groups in members.groups.items():
        _without(mean[kind], variance[kind], precision, told, pull, groups)
    if len(members.stations) == d:  # one pollutant each: no sensor has others beside it
        mean[Silence.STATION], variance[Silence.STATION] = mean[Silence.SENSOR], variance[Silence.SENSOR]
    for half in _halves(d, time_ms):
        without = given(heard & ~half)
        rest = np.where(heard & ~half, told, 0.0)
        said = np.einsum("ij,j->i", without, rest)
        mean[Silence.HALF, half] = said[half]
        variance[Silence.HALF, half] = np.diagonal(without)[half]
    mean[:, ~heard] = np.nan
    variance[:, ~heard] = np.nan
    return Expected(mean, variance)


def _halves(d: int, time_ms: int) -> tuple[Bool, Bool]:
    """Two halves of `d` variables, drawn anew each day: a re-read draws the same."""
    drawn = np.random.default_rng(time_ms // DAY_MS).random(d) < 0.5
    return drawn, ~drawn


def _without(
    mean: Float64,
    variance: Float64,
    precision: Float64,
    told: Float64,
    pull: Float64,
    groups: NDArray[np.int64],
) -> None:
    """Fill in what is said of each group (a row of variables, -1: none) by all outside of it."""
    there = groups >= 0
    block = precision[groups[:, :, None], groups[:, None, :]]
    block = np.where(there[:, :, None] & there[:, None, :], block, np.eye(groups.shape[1]))
    spread = inverse(block)
    moved = np.einsum("gij,gj->gi", spread, np.where(there, pull[groups], 0.0))
    mean[groups[there]] = told[groups[there]] - moved[there]
    variance[groups[there]] = np.einsum("gii->gi", spread)[there]
