"""The drift watch beside a plain CUSUM, on slides that are laid on afterwards.

A CUSUM (Page 1954, Biometrika 41:100) of the daily differences between a sensor and what the others let
expect, in units of the sensor's usual one, with an allowance of half a deviation, is what is commonly done.
Slides are laid on the differences of a replay without faults, so nobody has learned from them: that tells
the two rules apart and leaves out the region, which `model.evaluation.drift` has in. The bar of each rule is
the lowest with so many false alarms in these very days, so it says which rule is the better one and nothing
of what the bars in force do.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Final, NamedTuple

import numpy as np

from model.evaluation.progress import Progress
from network.drift import DriftWatch, day_kept, score_of, watching
from network.drift_sums import LEAST_HOURS, Sum
from network.members import Variable
from schemas.arrays import Float32, Float64
from schemas.parameters import POLLUTANTS, Pollutant

#: Slides by which share a day, up and down by turns, and the days that each goes on.
RATES: Final = ((0.01, 45), (0.02, 30))
#: Deviations that a CUSUM leaves out of each day.
ALLOWANCE: Final = 0.5
#: Days between beginnings.
_SPACING: Final = 15
_DAYS_A_YEAR: Final = 365.25
#: Part of the bar below which, and days after which, a rule may say the same again.
_CALM: Final = 0.6
_AGAIN: Final = 45
#: From median absolute to standard deviation, of a Gaussian.
_OF_MEDIAN: Final = 1.4826
_STEPS: Final = 40


class SlidesFound(NamedTuple):
    """How a rule found slides of a pollutant's sensors that were laid on afterwards.

    Attributes:
        rule: "watch" or "cusum".
        pollutant: whose.
        per_day: of the slides, as a share.
        alarms: false alarms a year of a sensor, by which the bar was set.
        slides: how many.
        median: days until half of them stood out; None: fewer did.
    """

    rule: str
    pollutant: Pollutant
    per_day: float
    alarms: float
    slides: int
    median: float | None

    def to_plain(self) -> dict[str, Any]:
        """As JSON can say it."""
        return {**self._asdict(), "fault": f"{self.per_day:.0%} a day, laid on"}


class _Traces(NamedTuple):
    """What a rule says of one pollutant: `calm` (days, sensors) of the replay; of each slide how fast it is,
    and what the rule says of its days."""

    calm: Float64
    slides: Sequence[tuple[float, Float64]]


def beside_cusum(
    variables: tuple[Variable, ...],
    first: int,
    sums: Float32,
    learning: int,
    progress: Progress = lambda *_: None,
) -> list[SlidesFound]:
    """Judge both rules by the days of a replay without faults.

    Args:
        variables: (d,) whose.
        first: number of the first day, from the epoch.
        sums: (days, sums, d) what the watch kept of each (`network.drift_sums`).
        learning: days before those that count.
        progress: told (what, done, in all).
    """
    days = len(sums)
    stands: list[tuple[int, DriftWatch]] = []
    calm = np.zeros((days, len(variables)))
    for day, watch in _through(watching(DriftWatch(), variables), first, sums):
        calm[day - 1] = score_of(watch)
        if day >= learning and (day - learning) % _SPACING == 0:
            stands.append((day, watch))
    by_watch: dict[Pollutant, list[tuple[float, Float64]]] = {}
    by_cusum: dict[Pollutant, list[tuple[float, Float64]]] = {}
    unit = _usual(sums[learning:])
    for number, (day, stand) in enumerate(stands):
        progress("beside a CUSUM", number, len(stands))
        for rate, span in RATES:
            if day + span > days:
                continue
            sign = 1 if number % 2 else -1
            chosen = _one_of_each(variables, number)
            spoilt = _laid_on(sums[day : day + span], chosen, sign * rate)
            said = np.array([score_of(one) for _, one in _through(stand, first + day, spoilt)])
            summed = _cusum(_standard(spoilt, unit))
            for column in chosen:
                key = variables[column].pollutant
                by_watch.setdefault(key, []).append((rate, said[:, column]))
                by_cusum.setdefault(key, []).append((rate, summed[:, column]))
    standard = _standard(sums[learning:], unit)
    found: list[SlidesFound] = []
    several = len({one.pollutant for one in variables})
    for pollutant in POLLUTANTS:
        own = [index for index, one in enumerate(variables) if one.pollutant == pollutant]
        if pollutant not in by_watch:
            continue
        cusum = _Traces(standard[:, own], by_cusum[pollutant])
        watched = _Traces(calm[learning:][:, own], by_watch[pollutant])
        for allowed in dict.fromkeys((1.0, 1.0 / several)):
            found += _judged("cusum", pollutant, cusum, allowed, _resets)
            found += _judged("watch", pollutant, watched, allowed, _crossings)
    return found


def _through(watch: DriftWatch, first: int, sums: Float32) -> Iterator[tuple[int, DriftWatch]]:
    """(days since the first of these, watch) after each of the days of these sums; nobody is named."""
    watch = replace(watch, day=first)
    for number, today in enumerate(sums.astype(np.float64), 1):
        watch = day_kept(replace(watch, today=today), first + number)
        yield number, watch


def _one_of_each(variables: tuple[Variable, ...], number: int) -> list[int]:
    """A sensor of each pollutant, at another station each time."""
    chosen = []
    for place, pollutant in enumerate(POLLUTANTS):
        own = [index for index, one in enumerate(variables) if one.pollutant == pollutant]
        if own:
            chosen.append(own[(3 * number + place) % len(own)])
    return chosen


def _laid_on(sums: Float32, columns: Sequence[int], rate: float) -> Float32:
    """(days, sums, d) with a slide at these sensors."""
    spoilt = sums.copy()
    gain = np.log1p(rate) * (np.arange(len(sums)) + 0.5)[:, None]
    pull, lever, hours = (sums[:, one][:, columns] for one in (Sum.PULL, Sum.LEVER, Sum.HOURS))
    spoilt[:, Sum.PULL, columns] = pull + gain * lever
    spoilt[:, Sum.APART, columns] += gain * np.sqrt(lever * hours)
    spoilt[:, Sum.SQUARES, columns] += 2.0 * gain * pull + gain**2 * lever
    return spoilt


def _usual(sums: Float32) -> Float64:
    """(d,) standard deviation of a day's difference."""
    middle = np.nanmedian(np.abs(_difference(sums)), axis=0)
    return np.where(middle > 0.0, _OF_MEDIAN * middle, np.nan)


def _difference(sums: Float32) -> Float64:
    """(days, d) mean difference of a day's hours; NaN: too few."""
    hours = sums[:, Sum.HOURS].astype(np.float64)
    return np.where(hours >= LEAST_HOURS, sums[:, Sum.APART] / np.maximum(hours, 1.0), np.nan)


def _standard(sums: Float32, unit: Float64) -> Float64:
    """(days, d) in units of the usual one; 0 where nothing is known."""
    return np.nan_to_num(_difference(sums) / unit)


def _cusum(standard: Float64) -> Float64:
    """(days, d) the larger of both sums, that goes up and that goes down, from nothing."""
    up = down = np.zeros(standard.shape[1])
    said = np.zeros(standard.shape)
    for day, one in enumerate(standard):
        up, down = np.maximum(up + one - ALLOWANCE, 0.0), np.maximum(down - one - ALLOWANCE, 0.0)
        said[day] = np.maximum(up, down)
    return said


def _resets(standard: Float64, bar: float) -> int:
    """How often a CUSUM reaches a bar, from nothing each time; (days, sensors)."""
    up = down = np.zeros(standard.shape[1])
    count = 0
    for one in standard:
        up, down = np.maximum(up + one - ALLOWANCE, 0.0), np.maximum(down - one - ALLOWANCE, 0.0)
        over = np.maximum(up, down) >= bar
        count += int(over.sum())
        up, down = np.where(over, 0.0, up), np.where(over, 0.0, down)
    return count


def _crossings(score: Float64, bar: float) -> int:
    """How often a score reaches a bar, once calm or long ago; (days, sensors)."""
    since = np.full(score.shape[1], _AGAIN + 1)
    count = 0
    for one in score:
        over = (one >= bar) & (since > _AGAIN)
        count += int(over.sum())
        since = np.where(over, 0, np.where(one < _CALM * bar, _AGAIN + 1, since + 1))
    return count


def _judged(
    rule: str, pollutant: Pollutant, traces: _Traces, allowed: float, count: Callable[[Float64, float], int]
) -> list[SlidesFound]:
    """How the slides stand out over the lowest bar with so many alarms."""
    years = max(traces.calm.size / _DAYS_A_YEAR, 1e-9)
    low, high = 0.0, float(traces.calm.max(initial=1.0)) * len(traces.calm)
    for _ in range(_STEPS):
        middle = (low + high) / 2.0
        low, high = (low, middle) if count(traces.calm, middle) <= allowed * years else (middle, high)
    found = []
    for rate, _ in RATES:
        said = [days for of, days in traces.slides if of == rate]
        waits = [float(np.argmax(days >= high)) + 1.0 if (days >= high).any() else np.inf for days in said]
        if waits:
            median = sorted(waits)[len(waits) // 2]
            found.append(
                SlidesFound(
                    rule, pollutant, rate, allowed, len(waits), median if math.isfinite(median) else None
                )
            )
    return found
