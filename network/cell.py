"""A cell: the variables of some stations as one Gaussian that forgets, hour by hour.

On the log scale (`network.scale`), less the mean of the hour of the day, all (station, pollutant) of a cell
have one covariance, forgotten with a half-life of a month. An hour in which some are silent enters as what is
expected of them given the rest, and the covariance of that (the E-step of Dempster, Laird and Rubin 1977). A
silent set is the conditional Gaussian given what is heard, moved by what lasts of its own past difference
from it (`network.past`), with an interval from recent errors of its kind (`network.intervals`).

Conditioning goes by the covariance as it was *settled* at most a day ago: an hour then cannot flatter itself,
and its inverse is computed once a day.
"""

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from network.conditioning import (
    FIRST_SPREAD,
    PRIOR_HOURS,
    Conditioning,
    bias_of,
    shares_of,
    strangeness_of,
    unusual,
    with_bias,
    with_places,
)
from network.intervals import OF_REAL_SILENCE, Intervals, checked
from network.kin import among_kin, by_others
from network.members import Members, Silence
from network.newcomers import (
    MovedHour,
    lasting_difference,
    means_of_others,
    moved_covariance,
    moved_mean,
    with_neighbours,
)
from network.past import Past, age_class, observed
from network.scale import from_log, to_log
from network.silence import expected, kinds_of
from network.sweep import LEAST, reconciled
from network.winsorized import level_of_others, robust_mean
from schemas.arrays import Bool, Float64
from schemas.errors import ArrayError
from schemas.parameters import POLLUTANTS
from schemas.times import HOUR_MS

#: Hours after which half of the covariance, and of the means, is forgotten.
COVARIANCE_HOURS: Final = 30 * 24.0
MEAN_HOURS: Final = 60 * 24.0
_FORGOTTEN: Final = 1.0 - 0.5 ** (1.0 / COVARIANCE_HOURS)
_MEAN_FORGOTTEN: Final = 1.0 - 0.5 ** (1.0 / MEAN_HOURS)
_DAILY_FORGOTTEN: Final = 1.0 - 0.5 ** (24.0 / MEAN_HOURS)
#: Days that the mean of an hour of the day is slow to leave the mean of the day.
_DAILY_PRIOR: Final = 5.0
#: Deviations from what the others expect beyond which a value is not listened to.
DISTRUST: Final = 5.0
#: Median of what a Gaussian's score is.
_MEDIAN: Final = 0.6745
#: Deviations beyond which a value teaches no more.
CLIP: Final = 3.5
#: Variables heard of which one moves no median.
_MANY: Final = 12
#: Part of a cell that may be distrusted at once.
_DISTRUSTED_PART: Final = 0.25


class Estimates(NamedTuple):
    """(d,) of every variable of a cell; NaN where the cell cannot say anything. Values in ug/m3.

    Attributes:
        value, lo, hi: estimate and 90 % interval of what the sensor would read.
        kind: `Silence` of each.
        trusted: whether the variable was heard and listened to.
        coverage: share of intervals of this kind and age that held lately; NaN while too few were checked.
        neighbours, own, past: of what is silent, shares of who explains it: other stations, the station's
            other pollutants, its own past. They sum to 1; all 0 where nobody tells anything.
        others: what the others of its kind (`network.kin`) let expect of it, silent or heard, without its own
        past, ug/m3.
        spread: standard deviation of that on the log scale.
    """

    value: Float64
    lo: Float64
    hi: Float64
    kind: NDArray[np.int64]
    trusted: Bool
    coverage: Float64
    neighbours: Float64
    own: Float64
    past: Float64
    others: Float64
    spread: Float64


@dataclass(frozen=True, eq=False)
class Cell:
    """State of a cell as of the end of an hour; immutable.

    Attributes:
        members: whose variables it has.
        t_ms: end of the last hour taken in; 0: none.
        heard: (d,) hours in which each was heard.
        since: (d,) hours taken in since each was heard first.
        level: (d,) mean on the log scale.
        daily: (24, d) mean of each hour (UTC) of the day less that.
        covariance: (d, d) of what is heard and expected, without the prior.
        settled_covariance: (d, d) with the prior, as of `settled_ms`: what conditioning goes by.
        order: (d,) the variables as they are swept, the old ones first: what is known of a new one gives way
        where the two contradict each other.
        settled_ms: 0: not yet.
        last: (d, d) in row i, the whole cell's deviations (heard or expected) when i was heard last.
        day: (d, d) in row i, the mean of those over the last day in which i was heard.
        last_ms: (d,) when that was, 0: never.
        past, intervals: what was learned of differences and errors.
        lately: (d,) mean of the deviations, heard or expected, forgotten like the covariance. Empty: not yet.
        settled_lately: (d,) the same as of `settled_ms`, as far as `settled_covariance` has it.
    """

    members: Members
    t_ms: int
    heard: Float64
    since: Float64
    level: Float64
    daily: Float64
    covariance: Float64
    settled_covariance: Float64
    order: NDArray[np.int64]
    settled_ms: int
    last: Float64
    day: Float64
    last_ms: NDArray[np.int64]
    past: Past
    intervals: Intervals
    lately: Float64 = field(default_factory=lambda: np.zeros(0))
    settled_lately: Float64 = field(default_factory=lambda: np.zeros(0))

    @cached_property
    def settled(self) -> Conditioning:
        """Follows from `settled_covariance`, so it is not stored."""
        return Conditioning(self.settled_covariance, self.order.tolist())

    @cached_property
    def kin(self) -> Conditioning:
        """The same among sensors of one kind."""
        stood = self.settled_lately if self.settled_lately.size else np.zeros(len(self.members))
        return among_kin(self.settled_covariance, stood, self.members.pollutants, self.order)


def fresh(members: Members) -> Cell:
    """A cell that has heard nothing."""
    d = len(members)
    start = members.prior * FIRST_SPREAD**2
    return Cell(
        members=members,
        t_ms=0,
        heard=np.zeros(d),
        since=np.zeros(d),
        level=np.full(d, np.nan),
        daily=np.zeros((24, d)),
        covariance=start,
        settled_covariance=with_bias(start, np.zeros(d)),
        order=np.arange(d),
        settled_ms=0,
        last=np.zeros((d, d)),
        day=np.zeros((d, d)),
        last_ms=np.zeros(d, dtype=np.int64),
        past=Past.fresh(d),
        intervals=Intervals.fresh(d),
    )


class _ListenedHour(NamedTuple):
    """An hour as the cell hears it."""

    deviation: Float64  # (d,) log scale less the mean of the hour, 0 where not heard
    heard: Bool
    trusted: Bool
    conditioned: Float64  # settled covariance swept on what is trusted
    center: Float64  # (d,) mean of the hour, log scale; NaN: nobody knows


def estimate(cell: Cell, t_ms: int, values: Float64) -> Estimates:
    """What every sensor of the cell reads in the hour that ends at `t_ms`, or would.

    Args:
        cell: as of an earlier hour.
        t_ms: end of the hour.
        values: (d,) ug/m3, NaN where silent. Those that are heard get an estimate from the others, too.
    """
    cell = _begun(cell, t_ms, values)
    hour = _listened(cell, t_ms, values)
    d = len(cell.members)
    silent = ~hour.trusted
    mean = robust_mean(
        cell.members, hour.conditioned, cell.settled.covariance, cell.heard, hour.deviation, hour.trusted
    )
    variance = np.diagonal(hour.conditioned).copy()
    kinds = kinds_of(cell.members, hour.trusted)
    age = (t_ms - cell.last_ms) / HOUR_MS
    ages = age_class(np.maximum(age, 1.0))
    # What lasts of the own past: the difference that the sensor, when it was heard last, had from what the
    # sensors that are heard now let expect.
    weights = np.where(silent[:, None] & hour.trusted, hour.conditioned, 0.0)
    rows = np.arange(d)
    once = silent & (cell.last_ms > 0)
    pollutants = cell.members.pollutants
    lasting = cell.past.lasting
    # A pollutant that nobody measured then and somebody does now is taken to have been as it is now: what was
    # expected of it went by the sensor itself, and would hide what that differed by.
    newest = np.zeros(len(POLLUTANTS), dtype=np.int64)
    np.maximum.at(newest, pollutants, cell.last_ms)
    returned = newest[pollutants] < cell.last_ms[:, None]
    told_last = np.einsum("ij,ij->i", weights, np.where(returned, hour.deviation, cell.last))
    turned = np.where(once, told_last - mean, 0.0)
    by_last = np.where(once, cell.last[rows, rows] - told_last, 0.0)
    by_day = np.where(once, cell.day[rows, rows] - np.einsum("ij,ij->i", weights, cell.day), 0.0)
    # What a new one's mean stands apart by counts in part, as a difference of its past.
    noise = np.maximum(variance - bias_of(cell.heard), LEAST * variance)
    difference = lasting_difference(cell.members, cell.level, cell.heard, noise, age, silent)
    not_lasting = np.where(silent, difference.doubted, 0.0)
    by_last, by_day = by_last + not_lasting, by_day + not_lasting
    mean = mean - not_lasting + lasting.left((pollutants, kinds, ages), by_last, by_day, turned)
    shares = shares_of(
        cell.settled.covariance,
        cell.members.owners,
        weights,
        np.where(once, 1.0 - lasting.remains[pollutants, kinds, ages], 0.0),
    )
    # The size of its errors tells of a new one's doubt, too, once there are some.
    beyond = difference.beyond * cell.intervals.believed[kinds, rows]
    variance = np.maximum(variance + beyond, LEAST * variance)
    variance = variance * np.where(once, lasting.remains[pollutants, kinds, ages], 1.0)
    # What is heard: what the others say of it.
    alone, left_alone = by_others(hour.conditioned, hour.deviation, hour.trusted)
    mean = np.where(hour.trusted, alone, mean)
    variance = np.where(hour.trusted, left_alone, variance)
    by_kin, left_by_kin = by_others(cell.kin.given(hour.trusted), hour.deviation, hour.trusted)
    deviation = np.sqrt(variance * cell.intervals.size[kinds, rows])
    reach = cell.intervals.reach[pollutants, kinds, ages] * deviation
    reach = reach * np.where(once, OF_REAL_SILENCE[kinds, ages], 1.0)
    center = hour.center + mean
    return Estimates(
        value=from_log(center, pollutants),
        lo=from_log(center - reach, pollutants),
        hi=from_log(center + reach, pollutants),
        kind=kinds,
        trusted=hour.trusted,
        coverage=cell.intervals.held[pollutants, kinds, ages],
        neighbours=shares[0],
        own=shares[1],
        past=shares[2],
        others=from_log(hour.center + by_kin, pollutants),
        spread=np.sqrt(left_by_kin),
    )


def learned(cell: Cell, t_ms: int, values: Float64) -> Cell:
    """Take in the hour that ends at `t_ms`; `values`: (d,) ug/m3, NaN where silent.

    Raises ArrayError for an hour that is not later than the last one.
    """
    if t_ms <= cell.t_ms or t_ms % HOUR_MS:
        raise ArrayError(f"a cell takes in whole hours in order: {t_ms} after {cell.t_ms}")
    cell = _begun(cell, t_ms, values)
    hour = _listened(cell, t_ms, values)
    members, _d = cell.members, len(cell.members)
    pollutants = members.pollutants
    said = expected(
        members, cell.settled.given, hour.deviation, np.diagonal(cell.settled.covariance), hour.trusted, t_ms
    )
    spread = np.sqrt(said.variance)
    difference = hour.deviation - said.mean
    past, asked = observed(cell.past, t_ms // HOUR_MS, said.mean, difference, spread, pollutants)
    lasting = cell.past.lasting
    judged = []
    for age, _, left in asked:
        kind_age = int(age_class(np.array(float(age))))
        judged.append((kind_age, left, spread * np.sqrt(lasting.remains[pollutants, :, kind_age].T)))
    intervals = checked(cell.intervals, judged, pollutants)

    # What teaches: what is heard, cut where it is far from all others; of the rest what is expected.
    filled = np.einsum("ij,j->i", hour.conditioned, np.where(hour.trusted, hour.deviation, 0.0))
    unknown = np.where(hour.trusted, 0.0, np.diagonal(hour.conditioned))
    alone = np.where(hour.trusted, said.mean[Silence.SENSOR], filled)
    limit = CLIP * np.where(hour.trusted, spread[Silence.SENSOR], np.sqrt(unknown))
    taught = np.where(hour.heard, alone + np.clip(hour.deviation - alone, -limit, limit), filled)
    silent = ~hour.heard
    beside = np.where(silent[:, None] & silent, hour.conditioned, 0.0)
    count = cell.heard + hour.heard
    # Means: what is expected moves with those that it is expected from, as slowly as the eldest of them; how
    # far the sensor is from that is known much sooner.
    known = ~np.isnan(cell.level) & (count > 0)
    eldest = float(count.max(initial=0.0))
    apart = np.where(hour.heard, taught - alone, 0.0)
    level_gain = np.maximum(1.0 / (count + 1.0), _MEAN_FORGOTTEN)
    of_eldest = max(1.0 / (eldest + 1.0), _MEAN_FORGOTTEN)
    shift = np.where(known, of_eldest * alone + level_gain * apart, 0.0)
    shift = with_neighbours(members, cell.level, cell.heard, shift, ~hour.heard)
    level = cell.level + shift
    daily = cell.daily.copy()
    of_day = (t_ms // HOUR_MS) % 24
    daily_gain = np.maximum(1.0 / (count / 24.0 + _DAILY_PRIOR), _DAILY_FORGOTTEN)
    daily_of_eldest = max(1.0 / (eldest / 24.0 + _DAILY_PRIOR), _DAILY_FORGOTTEN)
    moved = daily_of_eldest * (1.0 - of_eldest) * alone + daily_gain * (1.0 - level_gain) * apart
    daily[of_day] += np.where(known, moved, 0.0)

    since = cell.since + ((cell.since > 0.0) | hour.heard)
    stated = np.where(
        silent, np.diagonal(beside), np.where(hour.trusted, spread[Silence.SENSOR] ** 2, unknown)
    )
    around = np.maximum(stated - bias_of(cell.heard), 0.0)
    moved_hour = MovedHour(
        alone,
        taught,
        shift,
        ~hour.heard,
        beside,
        around,
        _settling_hours(cell) * unusual(hour.conditioned, hour.deviation, hour.trusted),
    )
    covariance = moved_covariance(cell.covariance, since, moved_hour, PRIOR_HOURS, _FORGOTTEN)
    lately = cell.lately if cell.lately.size else np.zeros(len(members))
    lately = moved_mean(lately, since, moved_hour, PRIOR_HOURS, _FORGOTTEN)

    whole = np.where(hour.heard, hour.deviation, filled)
    last = np.where(hour.heard[:, None], whole, cell.last) - shift
    met = np.where((cell.last_ms > 0)[:, None], cell.day, whole)
    day = np.where(hour.heard[:, None], met + (whole - met) / 24.0, cell.day) - shift
    after = replace(
        cell,
        t_ms=t_ms,
        heard=count,
        since=since,
        level=level,
        daily=daily,
        covariance=covariance,
        last=last,
        day=day,
        last_ms=np.where(hour.heard, t_ms, cell.last_ms),
        past=past,
        intervals=intervals,
        lately=lately,
    )
    return settled_now(after) if _is_due(cell, t_ms) else _settled_as(after, cell)


def _settled_as(after: Cell, before: Cell) -> Cell:
    """`after`, which has the same settled covariance: its inverses need not be computed again."""
    for name in ("settled", "kin"):
        if name in before.__dict__:
            after.__dict__[name] = before.__dict__[name]
    return after


def _is_due(cell: Cell, t_ms: int) -> bool:
    """Whether the covariance settles: every day, more often while it is young."""
    return t_ms - cell.settled_ms >= HOUR_MS * _settling_hours(cell)


def _settling_hours(cell: Cell) -> float:
    """Hours after which the covariance settles: the fewer, the younger somebody is who is heard.

    A new sensor's weights are moved by what it is off from what they let expect. Were they the same for a
    day, each hour of it would move them by all of that.
    """
    eldest = float(cell.heard.max(initial=0.0)) // 12.0
    heard = (cell.last_ms == cell.t_ms) & (cell.heard > 0.0)
    youngest = float(cell.heard[heard].min(initial=np.inf)) // 48.0
    return min(24.0, max(1.0, min(eldest, youngest)))


def settled_now(cell: Cell) -> Cell:
    """The cell with its covariance settled: with what the places let expect, less of it as it grows old."""
    completed, mixed, believed = with_places(cell.members, cell.covariance, cell.since, COVARIANCE_HOURS)
    order = np.argsort(-cell.since, kind="stable")
    ages = np.floor(np.log2(cell.since + 1.0)).astype(np.int64)
    return replace(
        cell,
        covariance=completed,
        settled_covariance=reconciled(with_bias(mixed, cell.heard), order.tolist(), ages),
        order=order,
        settled_ms=cell.t_ms,
        settled_lately=np.sqrt(1.0 - believed) * np.where(cell.since > 0.0, cell.lately, 0.0)
        if cell.lately.size
        else cell.lately,
    )


def _begun(cell: Cell, t_ms: int, values: Float64) -> Cell:
    """The cell with a mean for those that are heard for the first time: that of the others, if any."""
    if values.shape != (len(cell.members),):
        raise ArrayError(f"values of a cell have shape ({len(cell.members)},), got {values.shape}")
    starting = np.isnan(cell.level) & ~np.isnan(values)
    if not starting.any():
        return cell
    of_day = (t_ms // HOUR_MS) % 24
    near = means_of_others(cell.members, cell.level)
    daily = np.where(starting, np.einsum("ij,hj->hi", near, cell.daily), cell.daily)
    first = level_of_others(cell.members, near, cell.level)
    alone = near.sum(axis=1) == 0.0
    first = np.where(alone, to_log(values, cell.members.pollutants) - daily[of_day], first)
    return _settled_as(replace(cell, level=np.where(starting, first, cell.level), daily=daily), cell)


def _center(cell: Cell, t_ms: int) -> Float64:
    """(d,) the mean of the hour; of one never heard that of its pollutant elsewhere, NaN: nowhere."""
    center: Float64 = cell.level + cell.daily[(t_ms // HOUR_MS) % 24]
    unheard = np.isnan(center)
    if not unheard.any():
        return center
    near = means_of_others(cell.members, cell.level)
    others = level_of_others(cell.members, near, center)
    return np.where(unheard, np.where(near.sum(axis=1) > 0.0, others, np.nan), center)


def _listened(cell: Cell, t_ms: int, values: Float64) -> _ListenedHour:
    """The hour, with those left out that the others contradict."""
    members = cell.members
    center = _center(cell, t_ms)
    deviation = to_log(values, members.pollutants) - center
    heard = ~np.isnan(deviation)
    deviation = np.where(heard, deviation, 0.0)
    conditioned = cell.settled.given(heard)
    trusted = heard.copy()
    size = np.maximum(cell.intervals.size, 1.0)
    allowed = int(_DISTRUSTED_PART * heard.sum())
    while allowed > 0:
        strangeness = strangeness_of(conditioned, deviation, trusted, size)
        worst = int(np.argmax(strangeness))
        if strangeness[worst] <= DISTRUST:
            break
        without = trusted.copy()
        without[worst] = False
        rest = cell.settled.given(without)
        # Where all are beyond what is usual, a fire say, it is not the sensors that are strange. Among few,
        # one that lies makes the others look strange: what is usual is then seen without it.
        few = int(trusted.sum()) < _MANY
        seen = strangeness_of(rest, deviation, without, size)[without] if few else strangeness[trusted]
        usual = max(1.0, float(np.median(seen)) / _MEDIAN)
        if strangeness[worst] <= DISTRUST * usual:
            break
        allowed -= 1
        trusted, conditioned = without, rest
    return _ListenedHour(deviation, heard, trusted, conditioned, center)
