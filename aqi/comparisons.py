"""Tests of a reading that need another one: of the twin, of the other particles, of the stations around."""

import math
from collections.abc import Iterable
from typing import NamedTuple

from aqi.flags import (
    CHANNELS,
    FAIL,
    GOOD,
    MISSING,
    NEIGHBOURS,
    NOT_EVALUATED,
    PARTICLES,
    SUSPECT,
    Verdict,
)


class ChannelRule(NamedTuple):
    """Two channels disagree when they differ by more than `absolute` (ug/m3) *and* `relative`."""

    absolute: float
    relative: float


def channels(a: float | None, b: float | None, rule: ChannelRule) -> Verdict:
    """Whether the two channels of one sensor agree (ug/m3); without both there is nothing to compare."""
    if a is None or b is None or a != a or b != b:
        return Verdict(NOT_EVALUATED, 0)
    difference, mean = abs(a - b), (a + b) / 2.0
    if difference > rule.absolute and difference > rule.relative * abs(mean):
        return Verdict(FAIL, CHANNELS)
    return Verdict(GOOD, 0)


class ParticleRule(NamedTuple):
    """PM2.5 is part of PM10: more of it by `relative` and `absolute` (ug/m3) is impossible."""

    relative: float
    absolute: float


def particles(pm25: float, pm10: float, rule: ParticleRule) -> Verdict:
    """Whether PM2.5 lies above the PM10 beside it (ug/m3); which of the two is wrong cannot be told."""
    if pm25 > pm10 * (1.0 + rule.relative) + rule.absolute:
        return Verdict(SUSPECT, PARTICLES)
    return Verdict(GOOD, 0)


class NeighbourRule(NamedTuple):
    """When a station stands out from those around it (AirGradient's published rule). Values in ug/m3."""

    stations: int
    radius_km: float
    age_s: float
    low_mean: float
    absolute: float
    deviations: float


class Neighbour(NamedTuple):
    """A reading of another station: how far away (km), how old (s) and its value (ug/m3)."""

    distance_km: float
    age_s: float
    value: float


def neighbours(value: float | None, around: Iterable[Neighbour], rule: NeighbourRule) -> Verdict:
    """Whether `value` stands out from the stations around; suspect at most, as a local source is real too."""
    if value is None or value != value:
        return Verdict(MISSING, 0)
    near = [
        other.value
        for other in around
        if other.distance_km <= rule.radius_km
        and 0 <= other.age_s <= rule.age_s
        and other.value == other.value
    ]
    if len(near) < rule.stations:
        return Verdict(NOT_EVALUATED, 0)
    mean = math.fsum(near) / len(near)
    if mean < rule.low_mean:
        out = abs(value - mean) > rule.absolute
    else:
        spread = math.sqrt(math.fsum((x - mean) ** 2 for x in near) / (len(near) - 1))
        # Neighbours that agree to the last digit must not make everyone else an outlier.
        out = abs(value - mean) > max(rule.deviations * spread, rule.absolute)
    return Verdict(SUSPECT, NEIGHBOURS) if out else Verdict(GOOD, 0)
