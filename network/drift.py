"""The drift watch: sensors that leave their neighbours, by what the others let expect of them day by day.

Each hour that a sensor is heard stands beside what all others let expect of it (`network.cell`, without its
own past). A day of these is summed up, and `DAYS` of such days are kept per sensor: of what is needed to see
that it moves (`gains`), and of what is needed to say how (`network.drift_kinds`).

A *slide* of a per cent a day is smaller than the noise of a day for weeks, so all days since it may have
begun are weighed together, as a growing departure (a generalised likelihood ratio for a ramp of unknown
beginning; Willsky and Jones 1976, IEEE Trans. Automatic Control 21:108; a window of beginnings as in Lai
1995, J. R. Statist. Soc. B 57:613) rather than as a shifted mean, which is what a CUSUM looks for. The same
is done for a sudden change. A day counts by how loud its noise is: that of the others, and of its own hours.

What a whole region does together cannot be seen here, and a day on which few others are heard judges nobody.
"""

import math
from collections.abc import Mapping, Set
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from network.drift_kinds import Fit, fit_of, is_stuck, kind_of, moves_again
from network.drift_scores import AGES, ALL_AGES, DAYS, FIRST_DAY, LASTING, LONE, days_of, scores_of
from network.drift_sums import LEAST_HOURS, Sum, sums_of
from network.members import Variable
from network.scale import offsets_of
from schemas.arrays import Bool, Float32, Float64
from schemas.estimate import DriftKind
from schemas.parameters import POLLUTANTS, Pollutant
from schemas.times import DAY_MS

#: Days of a sensor until it is judged.
LEARNING_DAYS: Final = 30
#: Others of its pollutant that have to be heard on the day.
JUDGES: Final = 3
#: Deviations from which a departure is named, by pollutant: those of one false alarm in a year of a particle
#: sensor, and of one in two years of a gas (docs/network.md).
NAMED: Final[dict[Pollutant, float]] = {
    "pm25": 4.1, "pm10": 4.7, "no2": 5.0, "so2": 5.3, "co": 4.9, "o3": 5.3,
}  # fmt: skip
_BY_INDEX: Final = np.array([NAMED[name] for name in POLLUTANTS])
#: Days up to which a departure is young, and from which it is old. A young one needs more, for what leaves
#: for some days and is back is weather. So does an old one: sensors part and meet again with the seasons,
#: several at once, and who slides by a per cent a day is found before.
_YOUNG: Final = 8
_OLD: Final = 20
_BY_AGE: Final = (
    np.maximum(1.0, _YOUNG / np.array(AGES)) ** 0.6 * np.maximum(1.0, np.array(AGES) / _OLD) ** 0.5
)
#: By how much more deviations a change at once needs than one that grows: weather comes at once, too.
_SUDDEN: Final = 1.3
#: Least departure that is named, as a share.
LEAST: Final = 0.12
#: Deviations of an hour beyond which it counts no more.
_FAR: Final = 5.0
#: Noise of a day before any was seen, and what is left of it after a day: half is forgotten in two months.
_FIRST_NOISE: Final = 0.08
_NOISE_KEPT: Final = 0.5 ** (1.0 / 60.0)
#: Days that say that a departure is over, and the share it is below then.
_CLEARING: Final = 7
_CLEARED: Final = 0.06
#: Days after it was named until which its kind may still become another.
_SETTLING: Final = 21
#: Part of a pollutant's sensors that may be named at once: where more leave, nobody knows who does.
_NAMED_PART: Final = 0.5
#: Days that a departure stands; who is not gone far, and is not put right by then, begins anew as it is.
_STANDING: Final = 45
#: Share from which a sensor is gone far: its values are untrue whatever the weather does.
_FAR_GONE: Final = 0.5


class Departure(NamedTuple):
    """A sensor that has left its neighbours.

    Attributes:
        kind: how.
        since: number of the day (from the epoch) on which it began, as far as the days tell.
        named: number of the day on which it was named.
        score: deviations, when it was named.
        share: by how much it reads too much (below 0: too little) now, as a share; 0 where it is stuck.
        per_day: of a slide, how much of that is added a day; else 0.
        offset: of an offset, ug/m3; else 0.
    """

    kind: DriftKind
    since: int
    named: int
    score: float
    share: float
    per_day: float
    offset: float

    @property
    def far(self) -> bool:
        """Whether it has gone so far that nobody has to wonder. Who is a little off may be right: of those
        that are named for less, some are not at fault (docs/network.md)."""
        return self.kind in ("unit", "stuck") or abs(self.share) >= _FAR_GONE


@dataclass(frozen=True, eq=False)
class DriftWatch:
    """What is kept of the sensors of a region; immutable.

    Attributes:
        variables: whose.
        day: number of the day that is being summed up, from the epoch; 0: none yet.
        today: (sums, d) of it.
        days: (DAYS, sums, d) of those before it, the newest first.
        noise: (d,) standard deviation of what a day adds to the difference of the one before it.
        within: (d,) usual standard deviation of a day's hours.
        judged: (d,) days that taught these.
        departures: by `key_of` a variable.
    """

    variables: tuple[Variable, ...] = ()
    day: int = 0
    today: Float64 = field(default_factory=lambda: np.zeros((len(Sum), 0)))
    days: Float32 = field(default_factory=lambda: np.zeros((DAYS, len(Sum), 0), dtype=np.float32))
    noise: Float64 = field(default_factory=lambda: np.zeros(0))
    within: Float64 = field(default_factory=lambda: np.zeros(0))
    judged: Float64 = field(default_factory=lambda: np.zeros(0))
    departures: Mapping[str, Departure] = field(default_factory=dict)

    @property
    def pollutants(self) -> NDArray[np.int64]:
        """(d,) of each variable, the place of its pollutant in `POLLUTANTS`."""
        return np.array([POLLUTANTS.index(one.pollutant) for one in self.variables], dtype=np.int64)


def key_of(variable: Variable) -> str:
    """Name of a variable among departures."""
    return f"{variable.station}|{variable.pollutant}"


def departed(watch: DriftWatch, station: str) -> dict[Pollutant, Departure]:
    """The sensors of a station that have left, by pollutant."""
    return {
        name: watch.departures[f"{station}|{name}"]
        for name in POLLUTANTS
        if f"{station}|{name}" in watch.departures
    }


def listened(watch: DriftWatch, values: Float64) -> Float64:
    """(d,) what is heard of an hour: who has left is not listened to, and teaches nothing."""
    left = np.array([key_of(one) in watch.departures for one in watch.variables], dtype=np.bool_)
    return np.where(left, np.nan, values)


def outstood(watch: DriftWatch) -> frozenset[Variable]:
    """Sensors that have left for so long, and not far, that they are taken as they are: they begin anew."""
    return frozenset(
        variable
        for variable in watch.variables
        if (known := watch.departures.get(key_of(variable))) is not None
        and watch.day - known.named > _STANDING
        and not known.far
    )


def watching(watch: DriftWatch, variables: tuple[Variable, ...]) -> DriftWatch:
    """The watch over these variables: what is known of those it had stays, the others begin anew, and so do
    those of them that are `outstood`."""
    out = outstood(watch)
    if variables == watch.variables and not out:
        return watch
    had = {one: index for index, one in enumerate(watch.variables) if one not in out}
    taken = np.array([had.get(one, -1) for one in variables], dtype=np.int64)
    known = taken >= 0

    def of_each(array: Float64, otherwise: float) -> Float64:
        result = np.full((*array.shape[:-1], len(variables)), otherwise, dtype=array.dtype)
        result[..., known] = array[..., taken[known]]
        return result

    keys = {key_of(one) for one in variables if one not in out}
    return replace(
        watch,
        variables=variables,
        today=of_each(watch.today, 0.0),
        days=of_each(watch.days, 0.0),  # type: ignore[arg-type]
        noise=of_each(watch.noise, _FIRST_NOISE),
        within=of_each(watch.within, 0.0),
        judged=of_each(watch.judged, 0.0),
        departures={key: one for key, one in watch.departures.items() if key in keys},
    )


def watched(
    watch: DriftWatch,
    end: int,
    values: Float64,
    others: Float64,
    spread: Float64,
    exempt: Set[str] = frozenset(),
) -> DriftWatch:
    """Take in the hour that ends at `end` (ms), not before that of the last call.

    Args:
        watch: before.
        end: of the hour.
        values: (d,) what was read, ug/m3, NaN where nothing was.
        others, spread: (d,) what the others let expect (`network.cell.Estimates`).
        exempt: stations that are never named.
    """
    day = (end - 1) // DAY_MS
    if watch.day and day > watch.day:
        watch = _closed(watch, day, exempt)
    if not watch.day:
        watch = replace(watch, day=day)
    offset = offsets_of(watch.pollutants)
    there = ~(np.isnan(values) | np.isnan(others) | np.isnan(spread))
    x = np.where(there, others, 0.0)
    y = np.where(there, np.maximum(values, 0.0), 0.0)
    sums = sums_of(x, y, offset, _FAR * np.where(there, spread, 0.0))
    watch = replace(watch, today=watch.today + np.where(there, sums, 0.0))
    return watch if end % DAY_MS else _closed(watch, day + 1, exempt)


def _closed(watch: DriftWatch, day: int, exempt: Set[str]) -> DriftWatch:
    """The day is over, and `day` is next: it is kept, and who has left is named."""
    heard = watch.today[Sum.HOURS] >= LEAST_HOURS
    return _named(day_kept(watch, day), day - 1, heard, exempt)


def day_kept(watch: DriftWatch, day: int) -> DriftWatch:
    """The watch with the day that is over, `day` is next, among those it knows; nobody is named yet."""
    d = len(watch.variables)
    today = watch.today.copy()
    heard = today[Sum.HOURS] >= LEAST_HOURS
    within = _within(today)
    today[Sum.LOUD] = _loudness(watch, today, heard, within)
    gap = day - watch.day
    days = np.zeros((DAYS, len(Sum), d), dtype=np.float32)
    days[min(gap - 1, DAYS) :] = np.concatenate([today[None].astype(np.float32), watch.days])[
        : DAYS - min(gap - 1, DAYS)
    ]
    kept = replace(watch, day=day, today=np.zeros((len(Sum), d)), days=days)
    return _taught(kept, heard, within)


def _within(today: Float64) -> Float64:
    """(d,) standard deviation of the hours of a day."""
    hours = np.maximum(today[Sum.HOURS], 1.0)
    mean = today[Sum.APART] / hours
    deviation: Float64 = np.sqrt(np.maximum(today[Sum.SQUARES] / hours - mean**2, 0.0))
    return deviation


def _loudness(watch: DriftWatch, today: Float64, heard: Bool, within: Float64) -> Float64:
    """(d,) how loud the noise of the day is: of the others' differences, and of the own hours."""
    difference = today[Sum.PULL] / np.sqrt(np.maximum(today[Sum.LEVER] * today[Sum.HOURS], 1e-12))
    strange = (
        np.minimum(np.abs(difference) / np.where(watch.noise > 0.0, watch.noise, _FIRST_NOISE), 4.0) ** 2
    )
    usable = heard & (watch.judged > 0.0)
    usable &= np.array([key_of(one) not in watch.departures for one in watch.variables], dtype=np.bool_)
    result = np.ones(len(heard))
    for pollutant in range(len(POLLUTANTS)):
        same = watch.pollutants == pollutant
        told = np.where(same & usable, strange, 0.0)
        count = (told.sum() - told, (same & usable).sum() - (same & usable))
        mean = np.where(count[1] > 0, count[0] / np.maximum(count[1], 1), 1.6) / 1.6
        result = np.where(same, np.sqrt((mean + 1.0) / 2.0), result)
    usual = np.where(watch.within > 0.0, watch.within, np.maximum(within, 1e-9))
    return result * np.sqrt(np.clip(within / usual, 0.5, 3.0))


def _taught(watch: DriftWatch, heard: Bool, within: Float64) -> DriftWatch:
    """The noise that the newest day shows; of a sensor that has left nothing is learned."""
    days = watch.days[:2].astype(np.float64)
    scale = np.sqrt(np.maximum(days[:, Sum.LEVER] * days[:, Sum.HOURS], 1e-12)) * np.maximum(
        days[:, Sum.LOUD], 1e-9
    )
    one, before = np.where(days[:, Sum.HOURS] >= LEAST_HOURS, days[:, Sum.PULL] / scale, 0.0)
    usable = heard & np.array(
        [key_of(variable) not in watch.departures for variable in watch.variables], dtype=np.bool_
    )
    gain = np.where(usable, np.maximum(1.0 / (watch.judged + 5.0), 1.0 - _NOISE_KEPT), 0.0)
    added = 1.25 * np.minimum(np.abs(one - LASTING * before), 3.0 * watch.noise)
    usual = np.where(watch.within > 0.0, watch.within, within)
    return replace(
        watch,
        noise=watch.noise + gain * (added - watch.noise),
        within=np.where(usable, usual + gain * (np.minimum(within, 3.0 * usual) - usual), watch.within),
        judged=watch.judged + usable,
    )


def noise_of(watch: DriftWatch) -> Float64:
    """(d,) standard deviation (log) of what a day adds to a sensor's difference."""
    return np.where(watch.noise > 0.0, watch.noise, _FIRST_NOISE)


def score_of(watch: DriftWatch) -> Float64:
    """(d,) by how many deviations the kept days speak for a departure, of the best age and form."""
    noise = noise_of(watch)
    days = days_of(watch.days, noise, LONE)
    grown, sudden = (np.abs(scores_of(days, noise, AGES, growing=growing).score) for growing in (True, False))
    score: Float64 = (np.maximum(grown, sudden / _SUDDEN) / _BY_AGE[:, None]).max(axis=0)
    return score


def _named(watch: DriftWatch, day: int, heard: Bool, exempt: Set[str]) -> DriftWatch:
    """The watch with those named that have left by the end of `day`, and those cleared that are back."""
    if not watch.variables:
        return watch
    noise = noise_of(watch)
    score = score_of(watch)
    bar = _BY_INDEX[watch.pollutants]
    stuck = is_stuck(watch.days.astype(np.float64))
    departures: dict[str, Departure] = {}
    back = set()
    for index, variable in enumerate(watch.variables):
        known = watch.departures.get(key_of(variable))
        if known is not None:
            if _is_back(watch, index, known, day):
                back.add(index)
            else:
                departures[key_of(variable)] = known
    judged = heard & (_judges(watch, heard) >= JUDGES) & (watch.judged >= LEARNING_DAYS)
    judged &= np.array([one.station not in exempt for one in watch.variables], dtype=np.bool_)
    judged &= (score >= bar) | stuck
    for index in np.argsort(-score / bar, kind="stable").tolist():
        variable = watch.variables[index]
        key = key_of(variable)
        known = departures.get(key)
        if known is not None and (known.kind == "stuck" or day - known.named > _SETTLING):
            departures[key] = _continued(watch, index, known)
            continue
        if index in back or not (heard[index] if known is not None else judged[index]):
            continue
        fit = _fit(watch, index, noise, stuck=bool(stuck[index]))
        if known is not None:
            departures[key] = _departure(fit, variable, day, known.named, known.score)
        elif (fit.stuck or abs(fit.share) >= LEAST) and not _full(watch, departures, variable):
            departures[key] = _departure(fit, variable, day, day, float(score[index]))
    watch = replace(watch, departures=departures)
    if not back:
        return watch
    # Of one that is back, what was before does not count any more.
    kept = watch.days.copy()
    kept[:, :, sorted(back)] = 0.0
    return replace(watch, days=kept)


def _fit(watch: DriftWatch, index: int, noise: Float64, *, stuck: bool) -> Fit:
    """What the days of a sensor say of its departure."""
    own = watch.days[:, :, [index]]
    days = days_of(own, noise[[index]], FIRST_DAY)
    ramp, step = (
        scores_of(days, noise[[index]], ALL_AGES, growing=growing).best() for growing in (True, False)
    )
    return fit_of(own[:, :, 0].astype(np.float64), ramp, step, stuck=stuck)


def _departure(fit: Fit, variable: Variable, day: int, named: int, score: float) -> Departure:
    kind = kind_of(fit, variable.pollutant)
    slides = kind == "slide"
    return Departure(
        kind=kind,
        since=day + 1 - fit.age_of(kind),
        named=named,
        score=score,
        share=0.0 if kind == "stuck" else fit.share_of(kind),
        per_day=math.expm1(fit.ramp.gain) if slides else 0.0,
        offset=fit.offset if kind == "offset" else 0.0,
    )


def _continued(watch: DriftWatch, index: int, known: Departure) -> Departure:
    """A departure of a settled kind, with how far it is by now."""
    if known.kind == "stuck":
        return known
    gain = _recent(watch, index)
    return known if gain is None else known._replace(share=float(np.expm1(gain)))


def _recent(watch: DriftWatch, index: int) -> float | None:
    """Gain (log) of the last days that were heard; None: there are too few."""
    days = watch.days[:, :, index].astype(np.float64)
    days = days[days[:, Sum.HOURS] >= LEAST_HOURS][:_CLEARING]
    lever = days[:, Sum.LEVER].sum()
    return float(days[:, Sum.PULL].sum() / lever) if len(days) == _CLEARING and lever > 0.0 else None


def _is_back(watch: DriftWatch, index: int, known: Departure, day: int) -> bool:
    """Whether a sensor that had left is with its neighbours again."""
    if known.kind == "stuck":
        return bool(moves_again(watch.days[:, :, [index]].astype(np.float64))[0])
    if day - known.named < _CLEARING:
        return False
    gain = _recent(watch, index)
    return gain is not None and abs(gain) < min(_CLEARED, max(abs(known.share), LEAST) / 2.0)


def _judges(watch: DriftWatch, heard: Bool) -> NDArray[np.int64]:
    """(d,) others of the pollutant that are heard and have not left."""
    good = heard & np.array([key_of(one) not in watch.departures for one in watch.variables], dtype=np.bool_)
    pollutants = watch.pollutants
    counts = np.bincount(pollutants[good], minlength=len(POLLUTANTS))
    result: NDArray[np.int64] = counts[pollutants] - good
    return result


def _full(watch: DriftWatch, departures: Mapping[str, Departure], variable: Variable) -> bool:
    """Whether as many of a pollutant are named as may be at once."""
    same = [key_of(one) for one in watch.variables if one.pollutant == variable.pollutant]
    return sum(key in departures for key in same) >= max(1, int(_NAMED_PART * len(same)))
