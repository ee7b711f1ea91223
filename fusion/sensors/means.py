"""Means over the readings of one channel, of one sensor, of several."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from aqi.flags import CHANNELS, GOOD, MISSING, NOT_EVALUATED, SUSPECT, Verdict, combine
from aqi.units import to_canonical
from fusion.weighing import EVENLY, TimeWeights
from streams.join import Item


class ChannelReading(NamedTuple):
    """One reading, usable or not."""

    value: float
    verdict: Verdict
    item: Item


class SensorMean(NamedTuple):
    """Of one channel, or of one sensor."""

    value: float
    raw: float
    verdict: Verdict
    n: int
    since: int
    method: str
    #: ms of the window.
    covered: int
    #: Whether it has not moved for longer than air stands still.
    still: bool = False
    #: Whether the log knows of another that measures the same.
    twinned: bool = False


def mean_of(readings: Sequence[ChannelReading], since: int, weights: TimeWeights = EVENLY) -> SensorMean:
    """The mean of judged readings. `since`: see `Measured`."""
    if len(set(weights.each)) < 2:
        mean = math.fsum(reading.value for reading in readings) / len(readings)
    else:
        mean = math.fsum(
            reading.value * weight for reading, weight in zip(readings, weights.each, strict=True)
        ) / sum(weights.each)
    verdict = combine(*(reading.verdict for reading in readings))
    return SensorMean(mean, mean, verdict, len(readings), since, "mean", weights.covered)


def together(means: Sequence[SensorMean]) -> SensorMean:
    """One mean of several, which weigh the same: a sensor that speaks more often does not know more."""
    since = {mean.since for mean in means}
    return SensorMean(
        math.fsum(mean.value for mean in means) / len(means),
        math.fsum(mean.raw for mean in means) / len(means),
        combine(*(mean.verdict for mean in means)),
        max(mean.n for mean in means),
        since.pop() if len(since) == 1 else 0,
        " + ".join(sorted({mean.method for mean in means})),
        max(mean.covered for mean in means),
        all(mean.still for mean in means),
        any(mean.twinned for mean in means),
    )


def chosen(mean: SensorMean, proven: bool) -> SensorMean:
    """One of several that disagree. Without a proof it is published, but nothing is learned from it."""
    if proven:
        return with_tests(mean, CHANNELS)
    return mean._replace(verdict=combine(mean.verdict, Verdict(SUSPECT, CHANNELS)))


def with_tests(mean: SensorMean, bits: int) -> SensorMean:
    """The mean, with tests that objected to what it was compared with; not for that in doubt."""
    flag = GOOD if mean.verdict.flag == NOT_EVALUATED else mean.verdict.flag
    return mean._replace(verdict=Verdict(flag, mean.verdict.tests | bits))


def unjudged(parameter: str, by_channel: Mapping[str, Sequence[Item]], reference: float) -> SensorMean:
    """The mean of readings that nobody judges."""
    readings = [
        ChannelReading(
            to_canonical(parameter, item.payload.value, item.payload.unit, reference),
            Verdict(MISSING, 0),
            item,
        )
        for items in by_channel.values()
        for item in items
    ]
    return mean_of(readings, 0)
