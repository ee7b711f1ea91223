"""What an imputed value keeps: the limits of a measurement, and PM2.5 within the PM10 beside it. Pure."""

import math
from collections.abc import Mapping
from typing import Final, NamedTuple

from schemas.parameters import Pollutant
from schemas.reading import LIMITS

_PM25: Final = "pm25"
_PM10: Final = "pm10"


class Interval(NamedTuple):
    """An estimate with its interval, ug/m3."""

    value: float
    lo: float
    hi: float


def bounded(
    imputed: Mapping[Pollutant, Interval], measured: Mapping[str, float]
) -> dict[Pollutant, Interval]:
    """Imputed values that could be true together, and beside what is measured (ug/m3).

    Each lies within what a measurement of its pollutant may be and is not negative. PM2.5 is a part of PM10:
    a measured PM10 caps PM2.5, a measured PM2.5 lifts PM10. Where both are imputed and contradict each other,
    both become the likeliest pair that does not: one value, their mean on the log scale, each weighing as its
    interval is narrow. A value that is moved takes its interval along, so that a cap does not make it sure.

    Examples:
        >>> bounded({"pm25": Interval(30.0, 20.0, 45.0)}, measured={"pm10": 25.0})["pm25"].value
        25.0
        >>> bounded({"no2": Interval(3.0, -2.0, 9.0)}, measured={})["no2"]
        Interval(value=3.0, lo=0.0, hi=9.0)
    """
    kept = {name: _within(name, interval) for name, interval in imputed.items()}
    fine, coarse = kept.get(_PM25), kept.get(_PM10)
    if fine is not None and _PM10 in measured:
        cap = max(0.0, measured[_PM10])
        value, lo, hi = _moved(fine, min(fine.value, cap))
        fine = Interval(value, lo, min(hi, cap))
    if coarse is not None and _PM25 in measured:
        floor = max(0.0, measured[_PM25])
        value, lo, hi = _moved(coarse, max(coarse.value, floor))
        coarse = Interval(value, max(lo, floor), hi)
    if fine is not None and coarse is not None:
        if fine.value > coarse.value:
            both = _mean(fine, coarse)
            fine, coarse = _moved(fine, both), _moved(coarse, both)
        fine = Interval(fine.value, fine.lo, min(fine.hi, coarse.hi))
        coarse = Interval(coarse.value, max(coarse.lo, fine.lo), coarse.hi)
    if fine is not None:
        kept[_PM25] = _within(_PM25, fine)
    if coarse is not None:
        kept[_PM10] = _within(_PM10, coarse)
    return kept


def _within(name: Pollutant, interval: Interval) -> Interval:
    highest = LIMITS[name][1]
    value, lo, hi = (min(max(0.0, end), highest) for end in interval)
    return Interval(value, min(lo, value), max(hi, value))


def _moved(interval: Interval, value: float) -> Interval:
    """The same interval, on the log scale, about another value."""
    if value == interval.value:
        return interval
    step = math.log1p(value) - math.log1p(interval.value)
    lo, hi = (max(0.0, math.expm1(math.log1p(end) + step)) for end in (interval.lo, interval.hi))
    return Interval(value, min(lo, value), max(hi, value))


def _mean(one: Interval, other: Interval) -> float:
    """Precision-weighted mean on the log scale; `one` is the higher."""
    narrow, wide = (math.log1p(each.hi) - math.log1p(each.lo) for each in (one, other))
    total = narrow * narrow + wide * wide
    share = wide * wide / total if total > 0.0 else 0.5
    mean = math.expm1(share * math.log1p(one.value) + (1.0 - share) * math.log1p(other.value))
    return min(max(mean, other.value), one.value)  # rounding must not leave them
