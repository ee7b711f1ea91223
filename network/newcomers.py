"""What is new in a cell: a sensor known for hours among those known for months.

Of a new sensor the others let expect a mean and weights, by the places. What it reads itself shows two
things: how far it lasts from that mean, most of it in a day, and whom it moves with, in weeks. Both are
learned from its difference to what is expected, for that is known much sooner than the weather is. What is
expected itself moves with those that it is expected from.
"""

from typing import Final, NamedTuple

import numpy as np

from network.conditioning import BIAS, bias_of
from network.intervals import ALPHA
from network.members import Members
from schemas.arrays import Bool, Float64

#: How much more the near ones count for the mean of a place never heard: power of their prior correlation.
LEVEL_POWER: Final = 4
#: Part of all weight that others must have for their mean to be one.
_FEW: Final = 1e-6
#: Sensors that what is believed of lasting differences counts for beside those seen, and hours after which a
#: sensor is one of these.
_BIASES: Final = 2.0
_SETTLED_HOURS: Final = 48.0
#: Hours heard after which half of a new one's lasting difference is known, where such differences are as
#: large as the noise of an hour: it is much the same for hours. And the fewest and the most of them.
DOUBT_HOURS: Final = 20.0
_DOUBT_BOUNDS: Final = (4.0, 240.0)
#: Deviations of a normal distribution within which nine of ten lie, and the halvings by which such a reach is
#: found (to a thousandth of the largest that it may be).
_NINE_OF_TEN: Final = 1.6449
_HALVINGS: Final = 14
#: Part of the variance of lasting differences that is no more lasting than days.
_WANDERING: Final = 0.1
#: Part of a new one's lasting difference that outlasts the seasons, and days of silence over which the rest
#: goes to 1/e. What a week shows of a sensor at eight stations of Beijing foretells its day 7, 30 and 90 to
#: 240 days later by 0.87, 0.7 and 0.5 of what it foretells of the next one (PM2.5 0.3, NO2 0.8 in the end);
#: PM2.5 of 15 stations in Taiwan by 0.95, 0.87 and 0.65 to 0.75.
_OVER_SEASONS: Final = 0.45
_SEASON_DAYS: Final = 45.0
#: Hours heard from which a sensor is new no more.
_YOUNG_HOURS: Final = 30 * 24.0
#: Hours that what the places let expect of a new one's weights counts for, for each variable of the cell.
_WEIGHT_HOURS: Final = 1.5


def means_of_others(members: Members, level: Float64) -> Float64:
    """(d, d) how much the mean of each counts for another of its pollutant, near ones most; rows sum to 1.

    `level`: (d,) log scale, NaN where it is not known.
    """
    same = (members.pollutants[:, None] == members.pollutants) & ~np.isnan(level)
    weights = np.where(same, np.maximum(members.nearness, 1e-9) ** LEVEL_POWER, 0.0)
    total = weights.sum(axis=1)
    result: Float64 = weights / np.where(total > 0.0, total, 1.0)[:, None]
    return result


def _differences(members: Members, level: Float64) -> tuple[Float64, Bool]:
    """(d,) how far the mean of each is from that of the others of its pollutant, near ones most; and whether
    there are any."""
    near = means_of_others(members, level)
    np.fill_diagonal(near, 0.0)
    rows = near.sum(axis=1)
    there = (rows > _FEW) & ~np.isnan(level)
    told = np.einsum("ij,j->i", near, np.where(np.isnan(level), 0.0, level))
    return np.where(there, level - told / np.where(there, rows, 1.0), 0.0), there


class LastingDifference(NamedTuple):
    """(d,) of each new one; 0 of the others.

    Attributes:
        doubted: part of its difference from its neighbours that is not yet taken for lasting, log scale.
        beyond: by how much the variance of what is not known of it is more than conditioning takes it for.
    """

    doubted: Float64
    beyond: Float64


def lasting_difference(
    members: Members,
    level: Float64,
    heard: Float64,
    noise: Float64,
    silent_hours: Float64,
    silent: Bool,
) -> LastingDifference:
    """What is believed of how far new ones stand apart from their neighbours.

    Lasting differences are as large as those of the pollutant's known sensors; some of the size that is
    believed in count beside them. Where they are small beside what a sensor is off by from hour to hour, it
    takes longer to see its own. What was seen in few days is of their season: of a silent one less and less
    is believed. A few stand far apart: that makes the variance of all large, but not the interval in which
    nine of ten lie, so the doubt is as large as makes that one.

    Args:
        members: of the cell.
        level: (d,) means on the log scale, NaN where they are not known.
        heard: (d,) hours.
        noise: (d,) variance of each around what is expected of it, but for its lasting difference.
        silent_hours: (d,) since each was heard last; of one never heard it does not count.
        silent: (d,) whose doubt is asked for; `beyond` is 0 of the others.
    """
    eldest = max(1.0, float(heard.max(initial=0.0)))
    new = np.maximum(1.0 - heard / _YOUNG_HOURS, 0.0)
    if not new.any():
        return LastingDifference(np.zeros(len(members)), new)
    apart, there = _differences(members, level)
    known = there & (heard >= _SETTLED_HOURS)
    same = ((members.pollutants[:, None] == members.pollutants) & known).astype(np.float64)
    squares = np.einsum("ij,j->i", same, apart**2)
    variance = (BIAS**2 * _BIASES + squares) / (_BIASES + same.sum(axis=1))
    half = np.clip(DOUBT_HOURS * noise / variance, *_DOUBT_BOUNDS)
    gone = (1.0 - _OVER_SEASONS) * (1.0 - np.exp(-silent_hours / (24.0 * _SEASON_DAYS)))
    doubt = 1.0 - heard / (heard + half) * (1.0 - new * gone)
    young = (heard > 0.0) & (heard < _YOUNG_HOURS)
    left = doubt + _WANDERING * (1.0 - doubt)
    asked = np.flatnonzero(silent & (new > 0.0))
    beyond = np.zeros(len(members))
    beyond[asked] = (
        _within(apart, same[asked], left[asked], noise[asked]) - noise[asked] - bias_of(heard[asked])
    )
    return LastingDifference(
        np.where(young, doubt * apart, 0.0), new * (1.0 - (heard / eldest) ** 2) * beyond
    )


def _within(apart: Float64, same: Float64, left: Float64, noise: Float64) -> Float64:
    """(n,) variance of the normal distribution nine tenths of which reach as far as those of what is off
    by any of some lasting differences, all as likely, and by noise.

    Args:
        apart: (d,) lasting differences; among them are `_BIASES` of a variance that is believed.
        same: (n, d) 1 where they count, else 0.
        left: (n,) part of their squares that is left.
        noise: (n,) variance.
    """
    root = np.sqrt(left)[:, None]
    none = np.zeros((len(left), 1))
    centers = np.concatenate([root * np.abs(apart), none], axis=1)
    believed = np.sqrt(noise + left * BIAS**2)[:, None]
    spread = np.concatenate([np.repeat(np.sqrt(noise)[:, None], len(apart), axis=1), believed], axis=1)
    weights = np.concatenate([same, none + _BIASES], axis=1)
    weights /= weights.sum(axis=1, keepdims=True)
    nearest, farthest = (
        np.zeros(len(left)),
        (centers * (weights > 0.0) + 4.0 * spread).max(axis=1, initial=0.0),
    )
    for _ in range(_HALVINGS):
        reach = 0.5 * (nearest + farthest)
        far, near = (reach[:, None] + centers) / spread, (reach[:, None] - centers) / spread
        is_short = (weights * (_above(far) + _above(near))).sum(axis=1) > ALPHA
        nearest, farthest = np.where(is_short, reach, nearest), np.where(is_short, farthest, reach)
    result: Float64 = (0.5 * (nearest + farthest) / _NINE_OF_TEN) ** 2
    return result


def _above(z: Float64) -> Float64:
    """(n, d) part of a normal distribution above so many deviations, to 2e-4 (Bowling, Khasawneh, Kaewkuekool
    and Cho 2009)."""
    z = np.clip(z, -8.0, 8.0)
    result: Float64 = 1.0 / (1.0 + np.exp(z * (1.5976 + 0.070566 * z * z)))
    return result


def with_neighbours(
    members: Members, level: Float64, heard: Float64, shift: Float64, silent: Bool
) -> Float64:
    """(d,) by how much the means move in an hour, those of young ones that are silent with their neighbours'.

    A season moves pollutants apart: by weights that were learned in days, of all that is heard, a mean would
    not go where its pollutant goes.

    Args:
        members: of the cell.
        level: (d,) the means before.
        heard: (d,) hours in which each was heard.
        shift: (d,) how they move by what is heard and expected.
        silent: (d,) who is not heard.
    """
    young = np.where(silent & (heard > 0.0), np.maximum(1.0 - heard / _YOUNG_HOURS, 0.0), 0.0)
    if not young.any():
        return shift
    near = means_of_others(members, np.where(young > 0.0, np.nan, level))
    young = np.where(near.sum(axis=1) > _FEW, young, 0.0)
    moved = np.einsum("ij,j->i", near, np.where(np.isnan(shift), 0.0, shift))
    result: Float64 = young * moved + (1.0 - young) * shift
    return result


class MovedHour(NamedTuple):
    """An hour as a covariance takes it in; all (d,) on the log scale less the mean of the hour.

    Attributes:
        alone: what the others let expect of each.
        taught: what it reads, or is expected to.
        shift: by how much its mean has moved.
        silent: who was not heard.
        beside: (d, d) covariance of those that are silent, given what is heard.
        around: variance of each around what is expected, less what its lasting difference is in doubt by.
        unusual: squared size of what is heard beside each, in deviations, times the hours for which weights
            are the same.
    """

    alone: Float64
    taught: Float64
    shift: Float64
    silent: Bool
    beside: Float64
    around: Float64
    unusual: Float64


def moved_covariance(
    covariance: Float64, since: Float64, hour: MovedHour, prior_hours: float, forgotten: float
) -> Float64:
    """(d, d) the covariance after an hour.

    All but new ones are taken in with one weight, whatever was silent: only so the result is a covariance.

    Args:
        covariance: before.
        since: (d,) hours since each was heard first, this one included; 0: never.
        hour: the hour.
        prior_hours: hours that what is believed at first counts for.
        forgotten: part of the covariance that is forgotten in an hour.
    """
    younger = np.minimum(since[:, None], since)
    eldest = max(1.0, float(since.max(initial=0.0)))
    new_part = 1.0 - younger / eldest
    # What is expected of a new one keeps its weights as they are; what moves them is how far it was from
    # that, along the elder; slowly, for all weights are moved at once.
    left = hour.taught - hour.alone - (1.0 - since / eldest) * hour.shift
    is_younger = 0.5 * (1.0 + np.sign(since - since[:, None]))

    def of_younger(one: Float64) -> Float64:
        product = one[:, None] * hour.taught
        result: Float64 = is_younger * product + (1.0 - is_younger) * product.T
        return result

    kept, moving = of_younger(hour.alone), of_younger(left)
    # An hour moves what is said in it by no more than what was off: its own size counts among the hours.
    slow = prior_hours + np.maximum(_WEIGHT_HOURS * len(since), hour.unusual)
    slow = is_younger * slow[:, None] + (1.0 - is_younger) * slow
    own = np.arange(len(since))
    kept[own, own] = hour.alone**2 + hour.around
    moving[own, own] = np.where(hour.silent, 0.0, hour.taught**2 - hour.alone**2 - hour.around)
    beside = hour.beside.copy()
    beside[own, own] = 0.0
    gain = np.maximum(1.0 / (younger + 1.0 + slow * new_part), forgotten)
    of_elder = max(1.0 / (eldest + 1.0), forgotten)
    there = younger > 0.0
    return covariance + np.where(there, of_elder * (kept + beside - covariance) + gain * moving, 0.0)


def moved_mean(
    mean: Float64, since: Float64, hour: MovedHour, prior_hours: float, forgotten: float
) -> Float64:
    """(d,) the mean of the same weeks as `moved_covariance`, after an hour; arguments as there."""
    eldest = max(1.0, float(since.max(initial=0.0)))
    slow = (prior_hours + _WEIGHT_HOURS * len(since)) * (1.0 - since / eldest)
    gain = np.maximum(1.0 / (since + 1.0 + slow), forgotten)
    of_eldest = max(1.0 / (eldest + 1.0), forgotten)
    moved = of_eldest * (hour.alone - mean) + gain * (hour.taught - hour.alone)
    return mean + np.where(since > 0.0, moved, 0.0)
