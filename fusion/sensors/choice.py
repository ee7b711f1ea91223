"""Which of two values that disagree is kept, and on what ground."""

import math
from collections.abc import Mapping
from typing import Final, NamedTuple

from aqi.comparisons import ChannelRule, channels
from aqi.flags import FAIL, SUSPECT
from fusion.sensors.means import SensorMean

#: Of two values that disagree, one is supported where its logarithmic distance from what is known is smaller
#: by this (a factor of 1.5), and at most that (a factor of 2).
NEARER: Final = math.log(1.5)
NEAR: Final = math.log(2.0)
#: ug/m3 added before distances are taken, so that noise around zero is not a matter of factors.
_FLOOR: Final = 5.0


class ChosenValue(NamedTuple):
    """Which of two values is kept (0, 1; None: nothing tells), on what ground, whether that proves it."""

    kept: int | None
    ground: str = ""
    proven: bool = False


def better(one: SensorMean, other: SensorMean, known: float | None) -> ChosenValue:
    """Which of two means that disagree to keep.

    Args:
        known: what the pollutant was lately, before they disagreed, ug/m3.
    """
    near = None if known is None else nearer(one.value, other.value, known)
    still, dead = [[mean.still for mean in (one, other)], [mean.raw == 0.0 for mean in (one, other)]]
    if still[0] != still[1]:
        # Although the past, which it may have made itself, is on its side.
        return ChosenValue(int(still[0]), "it does not move", proven=near in (None, int(still[0])))
    if dead[0] != dead[1]:
        if near in (None, int(dead[0])):
            return ChosenValue(int(dead[0]), "it shows nothing at all", proven=True)
        return ChosenValue(None)  # clean air, or a sensor that died in it
    if near is not None and known is not None:
        return ChosenValue(near, f"that one is nearer to the {rounded(known)} ug/m3 of before they disagreed")
    doubted = [mean.verdict.flag == SUSPECT for mean in (one, other)]
    if doubted[0] != doubted[1]:
        return ChosenValue(int(doubted[0]), "quality control doubts it")
    return ChosenValue(None)


def rounded(value: float) -> str:
    """A concentration (ug/m3) as reasons say it: no sensor tells more than three digits.

    Examples:
        >>> rounded(107.064), rounded(5.25), rounded(1204.4)
        ('107', '5.25', '1204')
    """
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def agreeing_most(means: Mapping[str, SensorMean], rule: ChannelRule) -> frozenset[str]:
    """The names of the most that agree with one of them (of two such groups, the one of the first name)."""
    groups = [
        frozenset(other for other, its in means.items() if channels(mean.value, its.value, rule).flag != FAIL)
        for _, mean in sorted(means.items())
    ]
    return max(groups, key=len)


def nearer(one: float, other: float, known: float) -> int | None:
    """Which of two values (0, 1) is clearly the nearer to what is known, all ug/m3; None: neither.

    Examples:
        >>> nearer(12.0, 80.0, known=15.0)
        0
        >>> nearer(12.0, 14.0, known=13.0) is None  # both are
        True
        >>> nearer(40.0, 80.0, known=3.0) is None  # both are far away
        True
    """
    away = [abs(math.log((max(value, 0.0) + _FLOOR) / (max(known, 0.0) + _FLOOR))) for value in (one, other)]
    choice = 0 if away[0] <= away[1] else 1
    if away[choice] <= NEAR and away[1 - choice] - away[choice] >= NEARER:
        return choice
    return None
